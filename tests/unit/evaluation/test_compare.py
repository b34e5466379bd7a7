"""Comparisons: the same cases, the same protocol, paired intervals, and the same table in every form."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.dom.minidom import parseString

import numpy as np
import polars as pl
import pytest

from forethought.data.splits import leave_last_out
from forethought.errors import DataError
from forethought.evaluation.compare import compare
from forethought.evaluation.report import summarise
from forethought.evaluation.sampled import Sample
from forethought.evaluation.statistics import holm
from forethought.evaluation.tables import interval_cell
from forethought.reports import html

QUICK = {"resamples": 300, "permutations": 999}


@pytest.fixture(scope="module")
def compared(evaluate):
    methods = {
        "plain": [evaluate(seed=s) for s in (1, 2, 3)],
        "far better": [evaluate(seed=s, better=8.0) for s in (4, 5)],
        "<other> | [b]": evaluate(seed=6),
    }
    return methods, compare(methods, **QUICK)


def test_differences_are_those_of_the_seed_means(compared):
    methods, comparison = compared
    for gain in comparison.differences:
        seeds = methods[gain.method] if isinstance(methods[gain.method], list) else [methods[gain.method]]
        mine = np.mean([e.metrics[gain.metric].mean for e in seeds])
        base = np.mean([e.metrics[gain.metric].mean for e in methods["plain"]])
        assert gain.absolute.mean == pytest.approx(mine - base, abs=1e-12)
        assert gain.relative.mean == pytest.approx(mine / base - 1, abs=1e-12)
        assert gain.absolute.ci95[0] < gain.absolute.mean < gain.absolute.ci95[1]


def test_a_clear_gain_is_found_and_noise_is_not(compared):
    _, comparison = compared
    by_method = {(gain.method, gain.metric): gain for gain in comparison.differences}
    clear, noise = by_method["far better", "ndcg@10"], by_method["<other> | [b]", "ndcg@10"]
    assert clear.p_holm < 0.05
    assert clear.absolute.ci95[0] > 0
    assert noise.p_holm > 0.05
    assert noise.absolute.ci95[0] < 0 < noise.absolute.ci95[1]


def test_holm_counts_every_difference(compared):
    _, comparison = compared
    p_values = np.array([gain.p for gain in comparison.differences])
    assert len(p_values) == 2 * 9
    assert [gain.p_holm for gain in comparison.differences] == holm(p_values).tolist()


def test_seeds_and_their_spread_are_reported(compared):
    methods, comparison = compared
    plain = comparison.methods["plain"]
    means = [e.metrics["ndcg@10"].mean for e in methods["plain"]]
    assert plain.seeds == 3
    assert plain.seed_means["ndcg@10"] == pytest.approx(means)
    assert plain.seed_std["ndcg@10"] == pytest.approx(np.std(means, ddof=1))
    assert comparison.methods["<other> | [b]"].seed_std["ndcg@10"] is None


def test_pairing_sharpens_the_interval(evaluate):
    first = evaluate(seed=1)
    nearly = replace(first, cases=first.cases.with_columns(pl.col("ndcg@10") * 0.9))
    [gain] = compare({"a": first, "b": nearly}, metrics=["ndcg@10"], **QUICK).differences
    low, high = first.metrics["ndcg@10"].ci95
    assert gain.absolute.ci95[1] - gain.absolute.ci95[0] < 0.2 * (high - low)
    assert gain.relative.ci95 == pytest.approx((-0.1, -0.1))


def test_a_method_against_itself_differs_by_nothing(evaluate):
    gains = compare({"a": evaluate(), "b": evaluate()}, **QUICK).differences
    assert all((gain.absolute.mean, *gain.absolute.ci95, gain.p, gain.p_holm) == (0, 0, 0, 1, 1) for gain in gains)


def test_the_order_of_cases_does_not_matter(evaluate):
    first, second = evaluate(seed=1), evaluate(seed=2)
    shuffled = replace(second, cases=second.cases.sample(fraction=1.0, shuffle=True, seed=0))
    assert compare({"a": first, "b": shuffled}, **QUICK) == compare({"a": first, "b": second}, **QUICK)


def test_other_protocols_are_refused_by_the_keys_that_differ(evaluate, make_data, make_ranking):
    ours = evaluate()
    other = leave_last_out(make_data(seed=9))
    settings = {"window": 50, "history_excluded": True, "resamples": 10}
    strangers = {
        "history_excluded": evaluate(history_excluded=False),
        "candidates": evaluate(sample=Sample().protocol()),
        "part": evaluate(part="valid"),
        "ties": replace(ours, protocol=ours.protocol | {"ties": "shuffle", "tie_seed": 1}),
        "data_hash": summarise(make_ranking(other), other.test, other, **settings),
        "depth": evaluate(extras={"depth": "fixed"}),
    }
    for key, stranger in strangers.items():
        with pytest.raises(DataError, match=rf"different protocols: .*{key} \(.* differ, so"):
            compare({"ours": ours, "theirs": stranger}, **QUICK)


def test_another_split_is_told_without_what_follows_from_it(evaluate):
    ours = evaluate()
    parts = {"split": "column", "targets": None, "valid": {"cases": 3, "without_history": 0}}
    theirs = replace(ours, protocol=ours.protocol | parts)
    with pytest.raises(DataError, match=r"protocols: split \('leave_last_out' and 'column'\) differ, so"):
        compare({"ours": ours, "theirs": theirs}, **QUICK)


def test_the_name_of_the_data_and_the_window_may_differ(evaluate):
    other = evaluate(seed=2, window=20)
    other = replace(other, protocol=other.protocol | {"data": "a copy"})
    comparison = compare({"a": evaluate(), "b": other}, **QUICK)
    assert "window" not in comparison.protocol
    assert [standing.window for standing in comparison.methods.values()] == [50, 20]


def test_other_cases_are_refused(evaluate):
    ours = evaluate()
    moved = replace(ours, cases=ours.cases.with_columns(target_id=pl.col("target_id").shift(1, fill_value=0)))
    with pytest.raises(DataError, match="of 200 cases"):
        compare({"ours": ours, "theirs": moved}, **QUICK)


def test_what_cannot_be_compared_is_told(evaluate):
    both = {"sasrec": evaluate(), "dtrec": evaluate()}
    with pytest.raises(DataError, match="at least two"):
        compare({"sasrec": evaluate()})
    with pytest.raises(DataError, match="no evaluation"):
        compare({"sasrec": evaluate(), "dtrec": []})
    with pytest.raises(DataError, match="Did you mean 'sasrec'"):
        compare(both, baseline="sasrc")
    with pytest.raises(DataError, match="Did you mean 'ndcg@10'"):
        compare(both, metrics=["ndcg@100"])


def test_a_baseline_of_zero_has_no_relative_gain(evaluate):
    zero = evaluate()
    zero = replace(zero, cases=zero.cases.with_columns(pl.lit(0.0).alias("mrr@5")))
    comparison = compare({"zero": zero, "some": evaluate(seed=2)}, metrics=["mrr@5"], **QUICK)
    assert comparison.to_json()["differences"][0]["relative"] == {"mean": None, "ci95": [None, None]}
    assert "no relative gain" in html.comparison_page(comparison)
    assert "–" in str(comparison)


def test_every_form_says_the_same(compared):
    _, comparison = compared
    shown = [gain for gain in comparison.differences if gain.metric == "ndcg@10"]
    forms = {"text": str(comparison), "markdown": comparison.document().markdown()}
    forms["page"] = html.comparison_page(comparison, title="A < B")
    json.dumps(comparison.to_json(), allow_nan=False)
    for form, text in forms.items():
        assert "full ranking of 400 items" in text, form
        assert all(interval_cell(gain.relative, "+.1%") in text for gain in shown), form
        assert all(f"{gain.p_holm:.4f}" in text for gain in shown), form


def test_the_page_is_whole_and_needs_nothing_else(compared):
    _, comparison = compared
    page = html.comparison_page(comparison, title="A < B")
    assert not re.search(r"<script|<link|<img|@import|url\(", page)
    assert "<other>" not in page
    assert "prefers-color-scheme: dark" in page
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) == 9
    for plot in plots:
        circles = parseString(plot).getElementsByTagName("circle")
        assert [200 <= float(circle.getAttribute("cx")) <= 720 for circle in circles] == [True, True]


def test_markdown_tables_are_rectangular(compared, evaluate):
    _, comparison = compared
    for text in (comparison.document().markdown(), evaluate().document().markdown()):
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
