"""EASE against its definition in dense float64 algebra, and against the constrained regression that it solves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forethought import memory
from forethought.catalogue import ranking
from forethought.config import Recipe
from forethought.data import linear
from forethought.data.batches import lists_batch
from forethought.data.histories import Histories
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.ranking import rank_cases
from forethought.memory import ShortOfMemoryError
from forethought.methods.ease import EASE, EASEModel
from forethought.runs import train

HISTORIES = [[0, 1, 2, 1], [1, 2, 3], [4, 0], [2, 3, 4, 0, 1], [3, 3], [1]]
N = 6  # nobody met the last one


def fitted(config: EASE, lists: list[list[int]] = HISTORIES, n_items: int = N) -> EASEModel:
    model = config.build(DataSizes(n_items)).double()
    model.fit_closed_form(Histories.from_lists([np.array(row) for row in lists]).all())
    return model


def met(lists: list[list[int]] = HISTORIES, n_items: int = N) -> np.ndarray:
    X_UN = np.zeros((len(lists), n_items))
    for user, items in enumerate(lists):
        X_UN[user, items] = 1
    return X_UN


def test_weights_are_those_of_the_paper() -> None:
    X_UN, regularisation = met(), 1.7
    P_NN = np.linalg.inv(X_UN.T @ X_UN + regularisation * np.eye(N))
    B_NN = np.eye(N) - P_NN @ np.diag(1 / np.diag(P_NN))
    got = fitted(EASE(regularisation=regularisation)).weights_NN.numpy()
    np.testing.assert_allclose(got, B_NN, atol=1e-12)
    assert (np.diag(got) == 0).all()


def test_each_column_is_a_ridge_regression_on_the_other_items() -> None:
    X_UN, regularisation = met(), 0.3
    got = fitted(EASE(regularisation=regularisation)).weights_NN.numpy()
    for item in range(N):
        others = np.delete(np.arange(N), item)
        X = X_UN[:, others]
        wanted = np.linalg.solve(X.T @ X + regularisation * np.eye(N - 1), X.T @ X_UN[:, item])
        np.testing.assert_allclose(got[others, item], wanted, atol=1e-12)


def test_stripes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = fitted(EASE()).weights_NN
    monkeypatch.setattr(linear, "STRIPE", 2 * N)
    assert torch.equal(fitted(EASE()).weights_NN, wanted)


@pytest.mark.parametrize("recency", [1.0, 0.5])
def test_scores_are_the_history_times_the_weights(recency: float) -> None:
    """An item that was met twice counts once, where it was met last; padding never does."""
    model = fitted(EASE(regularisation=1.0, recency=recency, window=4))
    histories = [[5, 5, 0, 1, 0, 3], [2], [4, 4, 4]]
    read = model.user_states(lists_batch([np.array(row) for row in histories], model.window))
    every = torch.arange(N).expand(3, -1)
    for row, history in enumerate(histories):
        x_N = np.zeros(N)
        for place, item in enumerate(history[-4:]):
            x_N[item] = recency ** (len(history[-4:]) - 1 - place)
        wanted = x_N @ model.weights_NN.numpy()
        np.testing.assert_allclose(model.scores_of(read, every)[row], wanted, atol=1e-12)
        items, scores = model.recommend(read, N)
        np.testing.assert_allclose(scores[row], wanted[items[row]], atol=1e-12)
        assert scores[row].tolist() == sorted(scores[row].tolist(), reverse=True)


def test_ranks_are_those_of_the_scores_over_many_shards(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Histories excluded; blocks of items and the order of rows change nothing, ties among them."""
    n_items, cases = split.data.n_items, split.test
    model = EASE(regularisation=20.0, recency=0.7).build(DataSizes(n_items)).double()
    model.fit_closed_form(split.train)
    model.weights_NN[:, 7] = model.weights_NN[:, 9]  # twins
    whole = rank_cases(model, cases, exclude_history=True).ranks
    monkeypatch.setattr(ranking, "SHARD", 16)
    assert np.array_equal(rank_cases(model, cases, exclude_history=True).ranks, whole)
    for row in range(len(cases)):
        history, x_N = cases.history[row], np.zeros(n_items)
        for place, item in enumerate(history):
            x_N[item] = 0.7 ** (len(history) - 1 - place)
        scores = np.delete(x_N @ model.weights_NN.numpy(), np.unique(history))
        own = (x_N @ model.weights_NN.numpy())[cases.targets[row]]
        equal = np.isclose(scores, own, rtol=0, atol=1e-13)
        assert whole[row] == 1 + (scores[~equal] > own).sum() + (equal.sum() - 1) / 2
    assert (whole % 1 == 0.5).any()


def test_what_is_too_large_is_refused_before_memory_is_asked_for(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ShortOfMemoryError, match=r"EASE of 10,000,000 items needs about 400,000\.0 GB .*itemknn"):
        EASE().build(DataSizes(10_000_000))
    n_bytes = 4 * split.data.n_items**2
    monkeypatch.setattr(memory, "machine_memory", lambda: 3 * n_bytes - 1)
    with pytest.raises(ShortOfMemoryError, match="Fitting EASE to 40 items needs about"):
        train(Recipe(method=EASE()), split, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    EASE().build(split.data.sizes)  # loading needs less


def test_too_little_regularisation_is_said() -> None:
    """Two items that always come together cannot be told apart without any."""
    model = EASE(regularisation=1e-300).build(DataSizes(3))
    with pytest.raises(ConfigError, match="regularisation is 1e-300, which is too little"):
        model.fit_closed_form(Histories.from_lists([np.array([0, 1])] * 4).all())
    with pytest.raises(ConfigError, match="EASE's regularisation is 0"):
        EASE(regularisation=0)
