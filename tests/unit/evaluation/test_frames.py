"""Data frames of results: every number once, with its interval; and what notebooks show."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from forethought.errors import ConfigError
from forethought.evaluation.compare import compare
from forethought.evaluation.statistics import holm

QUICK = {"resamples": 100, "permutations": 199}


@pytest.fixture(scope="module")
def three(evaluate):
    return {"plain": evaluate(seed=1), "better": evaluate(seed=2, better=4.0), "<b>": evaluate(seed=3)}


def test_an_evaluation_lists_all_cases_and_every_group(evaluate):
    evaluation = evaluate(seed=1)
    frame = evaluation.to_frame()
    whole = frame.filter(pl.col("by").is_null())
    assert whole["metric"].to_list() == list(evaluation.metrics)
    assert whole["cases"].to_list() == [evaluation.cases.height] * len(evaluation.metrics)
    for by, group, cases, metric, mean, low, high in frame.filter(pl.col("by").is_not_null()).rows():
        known = evaluation.groups[by][group]
        assert (cases, mean, (low, high)) == (known.cases, known.metrics[metric].mean, known.metrics[metric].ci95)
    groups = sum(len(each) for each in evaluation.groups.values())
    assert frame.height == len(evaluation.metrics) * (1 + groups)


def test_a_comparison_lists_every_difference_and_the_baselines_own_numbers(three):
    comparison = compare(three, **QUICK)
    frame = comparison.to_frame()
    assert frame.height == 3 * len(comparison.methods["plain"].metrics)
    base = frame.filter(pl.col("against").is_null())
    assert set(base["method"]) == {"plain"}
    better = frame.filter(method="better", metric="ndcg@10")
    difference = three["better"].metrics["ndcg@10"].mean - three["plain"].metrics["ndcg@10"].mean
    assert better["difference"].item() == pytest.approx(difference, abs=1e-12)


def test_all_pairs_are_each_compared_once_under_one_correction(three):
    comparison = compare(three, all_pairs=True, **QUICK)
    pairs = {frozenset((gain.method, gain.against)) for gain in comparison.differences}
    assert pairs == {frozenset(pair) for pair in itertools.combinations(three, 2)}
    assert len(comparison.differences) == 3 * len(comparison.methods["plain"].metrics)
    p = np.array([gain.p for gain in comparison.differences])
    assert [gain.p_holm for gain in comparison.differences] == pytest.approx(holm(p).tolist())
    (between,) = [g for g in comparison.differences if g.against == "better" and g.metric == "recall@10"]
    means = {name: each.metrics["recall@10"].mean for name, each in three.items()}
    assert between.absolute.mean == pytest.approx(means["<b>"] - means["better"], abs=1e-12)
    assert between.relative.mean == pytest.approx(means["<b>"] / means["better"] - 1, abs=1e-12)
    assert "of the other pairs" in str(comparison)
    assert "<b> − better" not in compare(three, **QUICK).document().text()


def test_differences_to_the_baseline_are_the_same_with_and_without_other_pairs(three):
    alone, all_of_them = compare(three, **QUICK), compare(three, all_pairs=True, **QUICK)
    for one in alone.differences:
        (same,) = [
            g for g in all_of_them.differences if (g.method, g.metric, g.against) == (one.method, one.metric, "plain")
        ]
        assert (same.absolute, same.relative, same.p) == (one.absolute, one.relative, one.p)


def test_notebooks_show_tables_with_names_escaped(three):
    shown = compare(three, **QUICK)._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "<table>" in three["plain"]._repr_html_()


def test_all_pairs_is_yes_or_no(three):
    with pytest.raises(ConfigError, match="all_pairs"):
        compare(three, all_pairs="yes", **QUICK)
