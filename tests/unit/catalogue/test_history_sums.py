"""Sums over histories against plain loops: order, padding, ties, and what is left of a history that repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forethought.catalogue import blocks, ranking
from forethought.catalogue.history_sums import DenseSimilarities, HistoryScorer, latest_weights
from forethought.catalogue.ranking import FilteredItems

N = 23


@pytest.fixture
def scorer() -> HistoryScorer:
    """Few different numbers, so that sums are equal; weights of 0 in the middle of rows too."""
    random = np.random.default_rng(0)
    S_NN = torch.from_numpy(random.integers(-1, 3, (N, N)) * 0.1).float()
    items_BL = torch.from_numpy(random.integers(0, N, (40, 6)))
    weights_BL = torch.from_numpy(random.choice([0.0, 0.3, 1.0], (40, 6))).float()
    return HistoryScorer(items_BL, weights_BL, DenseSimilarities(S_NN))


def by_hand(scorer: HistoryScorer) -> np.ndarray:
    assert isinstance(scorer.similarities, DenseSimilarities)
    S_NN, scores_BN = scorer.similarities.weights_NN.numpy(), np.zeros((len(scorer.items_BL), N), np.float32)
    for row, (items, weights) in enumerate(zip(scorer.items_BL.tolist(), scorer.weights_BL.numpy(), strict=True)):
        for item, weight in zip(items, weights, strict=True):
            if weight:
                scores_BN[row] += weight * S_NN[item]
    return scores_BN


@pytest.mark.parametrize("shard", [2**14, 5])
def test_ranks_and_lists(scorer: HistoryScorer, shard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit those of sums from first to last, so that ties are ties, with few rows in a block and many."""
    monkeypatch.setattr(ranking, "SHARD", shard)
    monkeypatch.setattr(blocks, "MIN_ROWS", 7)
    monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", 100)
    scores_BN = by_hand(scorer)
    targets_B = torch.arange(40) % N
    left_out = FilteredItems.from_histories(scorer.items_BL, torch.full((40,), 2))
    ranks = ranking.ranks(scorer, targets_B, left_out)
    items, scores = ranking.best(scorer, 4, left_out, torch.arange(N) != 3)
    for row in range(40):
        candidate_N = np.ones(N, bool)
        candidate_N[scorer.items_BL[row, :2]] = False
        own, rivals = scores_BN[row, targets_B[row]], scores_BN[row, candidate_N]
        wanted = 1 + (rivals > own).sum() + ((rivals == own).sum() - 1) / 2
        assert ranks[row] == (wanted if candidate_N[targets_B[row]] else np.inf)
        candidate_N[3] = False
        assert scores[row].tolist() == sorted(scores_BN[row, candidate_N].tolist(), reverse=True)[:4]
        order = [item for item in np.argsort(-scores_BN[row], kind="stable").tolist() if candidate_N[item]]
        assert items[row].tolist() == order[:4]  # of equal ones the first, whatever the blocks
    assert (ranks % 1 == 0.5).any()


def test_scores_of_some_items_and_what_adds_up_to_them(scorer: HistoryScorer) -> None:
    items_BM = torch.from_numpy(np.random.default_rng(1).integers(0, N, (40, 3)))
    wanted = np.take_along_axis(by_hand(scorer), items_BM.numpy(), axis=1)
    np.testing.assert_allclose(scorer.scores_of(items_BM), wanted, atol=1e-6)
    parts = scorer.contributions(items_BM[0])
    assert parts.shape == (3, 6)
    np.testing.assert_allclose(parts.sum(1), wanted[0], atol=1e-6)
    assert (parts[:, scorer.weights_BL[0] == 0] == 0).all()


def test_only_the_latest_of_an_item_counts() -> None:
    items_BL = torch.tensor([[4, 2, 4, 4, 0], [0, 0, 7, 0, 0], [3, 3, 3, 3, 3]])
    weights_BL = latest_weights(items_BL, torch.tensor([4, 3, 1]), 0.5, torch.float64)
    assert weights_BL.tolist() == [[0, 0.25, 0, 1, 0], [0, 0.5, 1, 0, 0], [1, 0, 0, 0, 0]]
