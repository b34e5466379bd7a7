"""Neighbour tables, counted again pair by pair."""

from __future__ import annotations

import numpy as np
import pytest

from forethought.data.histories import Histories
from forethought.data.neighbours import FROM_POWER, LAG_DECAY, LIKENESS_POWER, TO_POWER, alike, co_occurrence

LISTS = [[0, 1, 2, 1, 3], [2, 0], [4], [1, 0, 3, 3, 2, 1], [5, 1, 5]]
N = 7


def _counted(lists: list[list[int]], window: int, directed: bool) -> tuple[np.ndarray, np.ndarray]:
    weighted, plain = np.zeros((N, N)), np.zeros((N, N), int)
    for row in lists:
        for a, j in enumerate(row):
            for b in range(a + 1, min(a + window, len(row) - 1) + 1):
                i = row[b]
                if i == j:
                    continue
                for x, y in [(j, i)] if directed else [(j, i), (i, j)]:
                    weighted[x, y] += LAG_DECAY ** (b - a - 1)
                    plain[x, y] += 1
    return weighted, plain


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("window", [1, 3, 20])
def test_co_occurrence_counts_every_pair(window: int, directed: bool) -> None:
    train = Histories.from_lists(LISTS).all()
    weighted, plain = _counted(LISTS, window, directed)
    n = np.maximum(np.bincount(np.concatenate(LISTS), minlength=N), 1)
    expected = weighted / (n[:, None] ** FROM_POWER * n[None, :] ** TO_POWER)
    table = co_occurrence(train, N, window=window, directed=directed)
    np.testing.assert_allclose(table.matrix().toarray(), expected, rtol=1e-6)
    assert table.pairs_NK is not None
    for j in range(N):
        for i, value, pairs in zip(table.items_NK[j], table.values_NK[j], table.pairs_NK[j], strict=True):
            assert pairs == (plain[j, i] if value > 0 else 0)
    assert (np.diff(table.values_NK, axis=1) <= 0).all()


def test_in_parts_the_counts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train = Histories.from_lists(LISTS).all()
    whole = co_occurrence(train, N)
    monkeypatch.setattr("forethought.data.neighbours.AT_ONCE", 4)
    np.testing.assert_allclose(co_occurrence(train, N).values_NK, whole.values_NK)


def test_only_the_best_are_kept() -> None:
    train = Histories.from_lists(LISTS).all()
    whole, two = co_occurrence(train, N), co_occurrence(train, N, most=2)
    assert two.items_NK.shape == (N, 2)
    np.testing.assert_array_equal(two.values_NK, whole.values_NK[:, :2])


def test_alike_is_the_cosine_to_a_power(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    vectors[3] = 0
    lengths = np.linalg.norm(vectors, axis=1)
    cosines = (vectors @ vectors.T) / np.maximum(np.outer(lengths, lengths), 1e-12)
    np.fill_diagonal(cosines, 0)
    monkeypatch.setattr("forethought.data.neighbours.SCORED", 20)
    whole = alike(vectors, most=8)
    np.testing.assert_allclose(whole.matrix().toarray(), np.maximum(cosines, 0) ** LIKENESS_POWER, atol=1e-6)
    assert not whole.values_NK[3].any()
    assert whole.pairs_NK is None
    few = alike(vectors, most=3)
    np.testing.assert_array_equal(few.values_NK, whole.values_NK[:, :3])
