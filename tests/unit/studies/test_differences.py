"""Differences of a study against `compare`, and against numpy where seeds are missing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from forethought.evaluation.compare import compare
from forethought.evaluation.report import Evaluation
from forethought.evaluation.statistics import holm
from forethought.evaluation.storage import plain
from forethought.recommender import Recommender
from forethought.runs import evaluate
from forethought.studies.differences import COMPARED, paired


@pytest.fixture(scope="module")
def runs(trained: Recommender, split) -> dict[str, dict[int, Evaluation]]:
    """Made up: a real evaluation whose metrics are drawn anew."""
    real, random = evaluate(trained, split), np.random.default_rng(0)

    def drawn() -> Evaluation:
        values = {name: random.random(real.cases.height) for name in COMPARED}
        cases = real.cases.with_columns(**{name: pl.Series(value) for name, value in values.items()})
        return Evaluation(**{**vars(real), "cases": cases})

    seeds = {"first": (0, 1, 2), "all": (0, 1, 2), "one": (1,), "other": (1,), "more": (2, 7), "none": (5,)}
    return {name: {seed: drawn() for seed in of} for name, of in seeds.items()}


def test_each_is_held_against_the_same_seeds(runs: dict[str, dict[int, Evaluation]]) -> None:
    told = paired(runs)
    assert told is not None
    found = {(d["method"], d["metric"]): d for d in told["differences"]}
    assert [d["method"] for d in told["differences"]] == [n for n in ("all", "one", "other", "more") for _ in COMPARED]
    for variant, seeds in {"all": [0, 1, 2], "one": [1], "other": [1], "more": [2]}.items():
        for metric in COMPARED:
            got = found[variant, metric]
            mine, theirs = ([runs[name][seed].cases[metric].mean() for seed in seeds] for name in (variant, "first"))
            assert got["seeds"] == seeds
            assert got["absolute"]["mean"] == pytest.approx(np.mean(mine) - np.mean(theirs), abs=1e-12)
    p_holm = holm(np.array([d["p"] for d in told["differences"]]))
    assert [d["p_holm"] for d in told["differences"]] == pytest.approx(p_holm.tolist())


def test_with_the_same_seeds_everywhere_it_is_one_comparison(runs: dict[str, dict[int, Evaluation]]) -> None:
    same = {name: {1: runs[name][1]} for name in ("first", "one", "other")}
    told = paired(same)
    assert told is not None
    wanted = compare({name: list(of.values()) for name, of in same.items()}, "first", metrics=COMPARED)
    assert [{**d, "seeds": None} for d in told["differences"]] == [
        {**d, "seeds": None} for d in plain(wanted.to_json())["differences"]
    ]


def test_where_no_seed_is_shared(runs: dict[str, dict[int, Evaluation]]) -> None:
    assert paired({name: runs[name] for name in ("first", "none")}) is None
    assert paired({"first": runs["first"]}) is None
