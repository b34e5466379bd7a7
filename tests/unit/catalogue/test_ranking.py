"""Ranks and lists against brute force: ties, exclusions, allowed items, shards, batches, order of items."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import reference
from forethought.catalogue import blocks, ranking
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.ranking import FilteredItems, rank_of, top_k


@pytest.fixture(autouse=True, params=["whole", "cut"])
def _cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one block, and in blocks of two rows over shards of four items."""
    if request.param == "cut":
        monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", 1)
        monkeypatch.setattr(blocks, "MIN_ROWS", 2)
        monkeypatch.setattr(ranking, "SHARD", 4)


class Case:
    """A small catalogue of whole numbers, so that scores tie often and are exact."""

    def __init__(self, seed: int, n_users: int, n_items: int, with_bias: bool) -> None:
        random = np.random.default_rng(seed)
        self.n_users, self.n_items = n_users, n_items
        self.states = torch.from_numpy(random.integers(-2, 3, (n_users, 3)).astype(np.float32))
        vectors = torch.from_numpy(random.integers(-2, 3, (n_items, 3)).astype(np.float32))
        bias = torch.from_numpy(random.integers(-1, 2, n_items).astype(np.float32)) if with_bias else None
        self.items = Catalogue(vectors, bias)
        self.targets = torch.from_numpy(random.integers(0, n_items, n_users))
        self.lengths = torch.from_numpy(random.integers(0, 6, n_users))
        self.histories = torch.from_numpy(random.integers(0, n_items, (n_users, 5)))  # repeats, padding that is real
        self.excluded = FilteredItems.from_histories(self.histories, self.lengths)
        self.allowed = torch.from_numpy(random.random(n_items) < 0.6)
        self.scores = self.states @ vectors.T + (0 if bias is None else bias)

    def candidates(self, user: int, allowed: bool = False) -> set[int]:
        seen = set(self.histories[user, : int(self.lengths[user])].tolist())
        return {i for i in range(self.n_items) if i not in seen and (not allowed or self.allowed[i])}

    def rank(self, user: int) -> float:
        return reference.mid_rank(self.scores[user].tolist(), int(self.targets[user]), self.candidates(user))


CASES = st.builds(Case, st.integers(0, 2**32), st.integers(0, 7), st.integers(1, 19), st.booleans())


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_ranks(case: Case) -> None:
    ranks = rank_of(case.states, case.items, case.targets, case.excluded)
    assert ranks.dtype == torch.float64
    assert ranks.tolist() == [case.rank(user) for user in range(case.n_users)]


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(1, 25), st.booleans())
def test_lists(case: Case, k: int, narrowed: bool) -> None:
    items, scores = top_k(case.states, case.items, k, case.excluded, case.allowed if narrowed else None)
    assert items.shape == scores.shape == (case.n_users, k)
    for user in range(case.n_users):
        among = case.candidates(user, narrowed)
        size = min(k, len(among))
        best = sorted((case.scores[user, i].item() for i in among), reverse=True)[:size]
        chosen = items[user].tolist()
        assert scores[user].tolist() == best + [-math.inf] * (k - size)
        assert chosen[size:] == [-1] * (k - size)
        assert len(set(chosen[:size])) == size
        assert set(chosen[:size]) <= among
        assert [case.scores[user, i].item() for i in chosen[:size]] == best


def test_without_exclusions() -> None:
    items = Catalogue(torch.tensor([[1.0], [3.0], [3.0], [3.0], [0.0]]))
    assert rank_of(torch.ones(5, 1), items, torch.arange(5)).tolist() == [4.0, 2.0, 2.0, 2.0, 5.0]
    assert top_k(torch.ones(1, 1), items, 1)[1].item() == 3


def test_an_excluded_target_has_no_rank_and_others_do_not_move() -> None:
    items = Catalogue(torch.tensor([[5.0], [4.0], [3.0]]))
    excluded = FilteredItems.from_histories(torch.tensor([[0, 0], [1, 2]]), torch.tensor([2, 1]))
    assert rank_of(torch.ones(2, 1), items, torch.tensor([1, 1]), excluded).tolist() == [1.0, math.inf]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_diverged_model_ranks_nothing(broken: float) -> None:
    items = Catalogue(torch.tensor([[1.0], [-1.0], [0.0]]))
    assert rank_of(torch.full((3, 1), broken), items, torch.tensor([2, 2, 2])).tolist() == [math.inf] * 3


def test_ranks_need_no_graph() -> None:
    items = Catalogue(torch.eye(3, requires_grad=True), torch.zeros(3, requires_grad=True))
    assert not rank_of(torch.eye(3, requires_grad=True), items, torch.arange(3)).requires_grad
    assert not top_k(torch.eye(3), items, 2)[1].requires_grad


def test_narrow_types_keep_float32_scores() -> None:
    states, vectors = (torch.randn(n, 8, generator=torch.Generator().manual_seed(n)).bfloat16() for n in (6, 30))
    targets = torch.arange(6)
    wide = Catalogue(vectors.float())
    assert rank_of(states, Catalogue(vectors), targets).tolist() == rank_of(states.float(), wide, targets).tolist()
    assert torch.equal(top_k(states, Catalogue(vectors), 5)[1], top_k(states.float(), wide, 5)[1])


class TestInvariance:
    """Metrics of float64 scores agree to 1e-9 whatever the batch and the order of items."""

    @pytest.fixture
    def drawn(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        random = torch.Generator().manual_seed(0)
        states = torch.randn(60, 8, generator=random, dtype=torch.float64)
        vectors = torch.randn(50, 8, generator=random, dtype=torch.float64)
        targets, histories, lengths = (torch.randint(50, shape, generator=random) for shape in ((60,), (60, 9), (60,)))
        return states, vectors, targets, histories, lengths.clamp_max(9)

    @staticmethod
    def gains(ranks: Tensor) -> Tensor:
        return torch.tensor([reference.metric("ndcg", rank, 10) for rank in ranks.tolist()], dtype=torch.float64)

    @pytest.mark.parametrize("batch", [1, 7, 60])
    def test_to_the_split_into_batches(self, drawn: tuple[Tensor, ...], batch: int) -> None:
        states, vectors, targets, histories, lengths = drawn
        whole = rank_of(states, Catalogue(vectors), targets, FilteredItems.from_histories(histories, lengths))
        parts = [
            rank_of(s, Catalogue(vectors), t, FilteredItems.from_histories(h, n))
            for s, t, h, n in zip(*(x.split(batch) for x in (states, targets, histories, lengths)), strict=True)
        ]
        torch.testing.assert_close(self.gains(torch.cat(parts)), self.gains(whole), rtol=0, atol=1e-9)

    def test_to_the_order_of_items(self, drawn: tuple[Tensor, ...]) -> None:
        states, vectors, targets, histories, lengths = drawn
        order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
        place = torch.argsort(order)
        one = rank_of(states, Catalogue(vectors), targets, FilteredItems.from_histories(histories, lengths))
        moved = FilteredItems.from_histories(place[histories], lengths)
        other = rank_of(states, Catalogue(vectors[order]), place[targets], moved)
        torch.testing.assert_close(self.gains(one), self.gains(other), rtol=0, atol=1e-9)
        here, there = top_k(states, Catalogue(vectors), 10)[0], top_k(states, Catalogue(vectors[order]), 10)[0]
        assert torch.equal(here, order[there])
