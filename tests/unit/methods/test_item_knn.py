"""ItemKNN counted by hand: pairs of a history, powers of counts, the most valued neighbours, sums over a history."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from forethought.catalogue import ranking
from forethought.data.batches import lists_batch
from forethought.data.histories import Histories
from forethought.data.interactions import DataSizes
from forethought.data.neighbours import FROM_POWER, LAG_DECAY, TO_POWER
from forethought.data.splits import Split
from forethought.evaluation.ranking import rank_cases
from forethought.methods.item_knn import ItemKNN, ItemKNNModel


def fitted(config: ItemKNN, lists: list[list[int]], n_items: int) -> ItemKNNModel:
    model = config.build(DataSizes(n_items))
    model.fit_closed_form(Histories.from_lists([np.array(row) for row in lists]).all())
    return model


def by_hand(config: ItemKNN, lists: list[list[int]], n_items: int) -> np.ndarray:
    """c [N, N]."""
    pairs: defaultdict[tuple[int, int], float] = defaultdict(float)
    for items in lists:
        for place, one in enumerate(items):
            for apart, other in enumerate(items[place + 1 : place + 1 + config.near]):
                if one != other:
                    pairs[one, other] += LAG_DECAY**apart
                    pairs[other, one] += 0 if config.directed else LAG_DECAY**apart
    counts, c_NN = Counter(item for items in lists for item in items), np.zeros((n_items, n_items))
    for (one, other), count in pairs.items():
        c_NN[one, other] = count / (counts[one] ** FROM_POWER * counts[other] ** TO_POWER)
    for row in c_NN:
        row[np.argsort(-row, kind="stable")[config.neighbours :]] = 0
    return c_NN


@pytest.mark.parametrize(
    "config",
    [
        ItemKNN(neighbours=40),
        ItemKNN(neighbours=3, recency=0.5),
        ItemKNN(neighbours=40, near=2, directed=True, recency=1.0, window=4),
    ],
)
def test_scores_and_ranks(config: ItemKNN, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that nothing speaks for share the middle of their places; the history is excluded."""
    n_items, cases = split.data.n_items, split.test
    lists = [split.train[user].tolist() for user in range(len(split.train))]
    model, c_NN = fitted(config, lists, n_items), by_hand(config, lists, n_items)
    whole = rank_cases(model, cases, exclude_history=True).ranks
    monkeypatch.setattr(ranking, "SHARD", 7)
    assert np.array_equal(rank_cases(model, cases, exclude_history=True).ranks, whole)
    every_N, untold = torch.arange(n_items)[None], 0
    for row in range(len(cases)):
        history, weights_N = cases.history[row], np.zeros(n_items)
        for place, item in enumerate(history[-config.window :]):
            weights_N[item] = config.recency ** (len(history[-config.window :]) - 1 - place)
        read = model.user_states(lists_batch([history], model.window))
        wanted = weights_N @ c_NN
        got = model.scores_of(read, every_N)[0].numpy()
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)
        assert ((got == 0) == (wanted == 0)).all()
        rivals, own = np.delete(wanted, np.unique(history)), wanted[cases.targets[row]]
        equal = np.isclose(rivals, own, rtol=1e-6, atol=0)
        assert whole[row] == 1 + (rivals[~equal] > own).sum() + (equal.sum() - 1) / 2
        untold += own == 0
    assert config.neighbours > 3 or untold


def test_an_item_with_fewer_neighbours_says_nothing_of_the_first_one() -> None:
    """What fills up its row is no neighbour."""
    model = fitted(ItemKNN(neighbours=4), [[1, 2], [3], [4, 0, 1]], 6)
    read = model.user_states(lists_batch([np.array([3]), np.array([2])], model.window))
    scores = model.scores_of(read, torch.arange(6).expand(2, -1))
    assert scores[0].tolist() == [0.0] * 6
    assert scores[1].nonzero()[:, 0].tolist() == [1]
    assert model.rank_of(read, torch.tensor([5, 1])).tolist() == [3.5, 1.0]


def test_what_nobody_met_together() -> None:
    model = fitted(ItemKNN(neighbours=2), [[0], [1]], 3)
    read = model.user_states(lists_batch([np.array([0])], model.window))
    assert model.scores_of(read, torch.tensor([[0, 1, 2]])).tolist() == [[0.0, 0.0, 0.0]]
    assert model.contributions(read, torch.tensor([1])).tolist() == [[0.0]]
