"""Every accuracy metric against a loop over the list, and against other people's code."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import reference
from forethought.errors import ConfigError
from forethought.evaluation.metrics import CUTS, METRICS, named, per_case

half_ranks = st.one_of(st.integers(2, 200).map(lambda twice: twice / 2), st.just(math.inf))


@example([4.5, 5.0, 5.5, 10.0, 10.5, 20.0, 20.5])  # the borders, which chance may miss
@given(st.lists(half_ranks, min_size=1, max_size=30))
def test_metrics_equal_brute_force(ranks):
    found = per_case(np.array(ranks))
    assert list(found) == [f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (5, 10, 20)]
    for key, values in found.items():
        name, _, k = key.partition("@")
        np.testing.assert_allclose(values, [reference.metric(name, rank, int(k)) for rank in ranks], atol=1e-15)


@given(st.lists(half_ranks, min_size=1, max_size=30))
def test_metrics_lie_between_0_and_1_and_grow_with_the_cut(ranks):
    for metric in METRICS.values():
        values = [metric(np.array(ranks), k) for k in CUTS]
        assert all((v >= 0).all() and (v <= 1).all() for v in values)
        assert all((shorter <= longer).all() for shorter, longer in itertools.pairwise(values))


def test_ndcg_of_the_first_place_is_1_and_a_target_that_cannot_be_recommended_scores_0():
    found = per_case(np.array([1.0, np.inf]))
    assert all(values.tolist() == [1.0, 0.0] for values in found.values())


@pytest.fixture(scope="module")
def integer_ranks() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 31, 60).astype(float)


RANX = """
import json, sys, ranx
ranks = json.load(sys.stdin)
wanted = {str(q): {f"i{rank}": 1} for q, rank in enumerate(ranks)}
listed = {str(q): {f"i{place}": 1 / place for place in range(1, 31)} for q in range(len(ranks))}
found = ranx.evaluate(ranx.Qrels(wanted), ranx.Run(listed), json.loads(sys.argv[1]))
print(json.dumps({name: float(value) for name, value in found.items()}))
"""


def test_metrics_equal_ranx(integer_ranks):
    if importlib.util.find_spec("ranx") is None:
        pytest.skip("ranx is not installed")
    found = per_case(integer_ranks)
    # In a process of its own with the compiler off: compiling takes 40 seconds, these 60 lists a blink.
    peer = subprocess.run(
        [sys.executable, "-c", RANX, json.dumps(list(found))],
        input=json.dumps([int(rank) for rank in integer_ranks]),
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = json.loads(peer.stdout.splitlines()[-1])
    assert theirs.keys() == found.keys()
    for name, expected in theirs.items():
        assert found[name].mean() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", ["recall", "ndcg", "mrr"])
def test_a_metric_by_its_name(kind: str) -> None:
    ranks = np.array([1, 2.5, 7, 8, np.inf])
    wanted = [reference.metric(kind, rank, 7) for rank in ranks]
    np.testing.assert_allclose(named(f"{kind}@7")(ranks), wanted, rtol=1e-12)


@pytest.mark.parametrize("name", ["ndcg", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg@x", "ndcg@³", "map@10", ""])
def test_a_metric_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match="There is no metric"):
        named(name)
