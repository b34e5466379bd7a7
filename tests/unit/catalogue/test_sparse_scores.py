"""Sparse scores added inside the walks, held against whole matrices of logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from forethought.catalogue import blocks, losses, moments, narrow, ranking
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.ranking import FilteredItems
from forethought.catalogue.sparse_scores import SparseScores

P, N, D = 23, 37, 6


def _added(generator: torch.Generator, dtype: torch.dtype = torch.float64) -> tuple[SparseScores, Tensor]:
    """Some rows have none; values of both signs; and the same as a whole matrix."""
    chosen = []
    for share in (0.2, 0.3):  # two parts, some of whose pairs are the same
        chosen_PN = torch.rand(P, N, generator=generator) < share
        chosen_PN[3] = chosen_PN[17] = False
        chosen.append(chosen_PN.nonzero())
    rows_T, items_T = torch.cat(chosen).T
    values_T = torch.randn(len(rows_T), generator=generator, dtype=dtype).requires_grad_()
    whole_PN = torch.zeros(P, N, dtype=dtype).index_put((rows_T, items_T), values_T, accumulate=True)
    return SparseScores(rows_T, items_T, values_T, P, tuple(map(len, chosen))), whole_PN


def _setting(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(P, D, generator=generator, dtype=dtype).requires_grad_()
    items = torch.randn(N, D, generator=generator, dtype=dtype).requires_grad_()
    targets = torch.randint(N, (P,), generator=generator)
    return states, items, targets, torch.rand(P, generator=generator, dtype=dtype), generator


@pytest.fixture(params=["whole", "in blocks", "in shards"])
def walked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "whole":
        monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", 1)
        monkeypatch.setattr(blocks, "MIN_ROWS", 5)
    if request.param == "in shards":
        cut = lambda n, width=11: (slice(a, min(a + width, n)) for a in range(0, n, width))  # noqa: E731
        monkeypatch.setattr(moments, "item_shards", cut)
        monkeypatch.setattr(narrow, "item_shards", cut)
        monkeypatch.setattr(ranking, "SHARD", 11)
    return request.param


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_and_its_gradients_are_those_of_whole_matrices(
    walked: str, smoothing: float, beside: bool
) -> None:
    """With two items beside the target of each row as well, in parts of their own."""
    states, items, targets, weights, generator = _setting()
    added, whole = _added(generator)
    few = losses.FewTargets(
        torch.randint(N, (P, 2), generator=generator),
        torch.tensor([0.7, 0.3], dtype=torch.float64).expand(P, 2),
        torch.rand(P, 1, generator=generator, dtype=torch.float64) if beside else 0.0,
    )
    total = losses.cross_entropy(
        states, Catalogue(items), targets, weights, smoothing=smoothing, added=added, soft=few if beside else None
    )
    log_p = (states @ items.T + whole).log_softmax(-1)
    soft = torch.full((P, N), smoothing / N, dtype=torch.float64)
    for row in range(P):
        part = float(few.weight[row]) if isinstance(few.weight, Tensor) else 0.0
        soft[row, targets[row]] += (1 - smoothing) * (1 - part)
        for item, share in zip(few.items_PK[row], few.shares_PK[row], strict=True):
            soft[row, item] += (1 - smoothing) * part * share
    expected = (-(soft * log_p).sum(-1) * weights).sum()
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(total, [states, items, added.values_T])
    theirs = torch.autograd.grad(expected, [states, items, added.values_T])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_the_narrow_walk_is_near(walked: str) -> None:
    states, items, targets, weights, generator = _setting(torch.float32)
    added, whole = _added(generator, torch.float32)
    with narrow.narrow_products():
        total = losses.cross_entropy(states, Catalogue(items), targets, weights, added=added)
    ours = torch.autograd.grad(total, [states, items, added.values_T])
    expected = (-(states @ items.T + whole).log_softmax(-1)[torch.arange(P), targets] * weights).sum()
    theirs = torch.autograd.grad(expected, [states, items, added.values_T])
    torch.testing.assert_close(total, expected, rtol=1e-2, atol=1e-2)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("filtered", [False, True])
def test_ranks_and_lists_are_those_of_whole_matrices(walked: str, cosine: bool, filtered: bool) -> None:
    states, items, targets, _, generator = _setting()
    added, whole = _added(generator)
    catalogue = Catalogue(items.detach(), torch.randn(N, generator=generator).double(), 0.3, cosine)
    compared = catalogue.comparable(states.detach())
    logits = catalogue.scaled(states.detach()) @ catalogue.scaled_ND.T + whole.detach()
    excluded = None
    if filtered:
        rows = torch.arange(P).repeat_interleave(2)
        excluded = FilteredItems(rows, (targets.repeat_interleave(2) + torch.tensor([1, 5]).repeat(P)) % N)
        logits[excluded.rows, excluded.items] = -torch.inf
    ranks = ranking.rank_of(compared, catalogue, targets, excluded, added)
    own = logits[torch.arange(P), targets, None]
    expected = 1 + (logits > own).sum(-1) + ((logits == own).sum(-1) - 1) / 2
    torch.testing.assert_close(ranks, expected.double())
    chosen, scores = ranking.top_k(compared, catalogue, 5, excluded, added=added)
    best = logits.topk(5)
    torch.testing.assert_close(chosen, best.indices)
    torch.testing.assert_close(scores, best.values * 0.3)


def test_single_values_sums_and_rows() -> None:
    _, _, targets, _, generator = _setting()
    added, whole = _added(generator)
    torch.testing.assert_close(added.of(targets), whole[torch.arange(P), targets])
    several = torch.randint(N, (P, 4), generator=generator)
    torch.testing.assert_close(added.of_each(several), whole.gather(1, several))
    torch.testing.assert_close(added.sums(), whole.sum(1))
    some = torch.tensor([7, 3, 0, 22])
    taken = added.take(some)
    assert all((rows.diff() >= 0).all() for rows in taken.rows_T.split(taken.sizes))
    torch.testing.assert_close(taken.of_each(torch.arange(N).expand(4, N)), whole[some])
    one = added.take(torch.tensor([7])).repeated(3)
    torch.testing.assert_close(one.of_each(torch.arange(N).expand(3, N)), whole[[7, 7, 7]])


def test_ties_between_items_with_and_without_values_count_half() -> None:
    catalogue = Catalogue(torch.zeros(4, 2))
    added = SparseScores(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([1.0, 1.0]), 1)
    ranks = [ranking.rank_of(torch.ones(1, 2), catalogue, torch.tensor([i]), added=added).item() for i in range(4)]
    assert ranks == [3.5, 1.5, 1.5, 3.5]
