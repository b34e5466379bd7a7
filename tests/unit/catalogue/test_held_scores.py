"""Scores that are held rank as the scorer that made them does, whatever is added to a few of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from forethought.catalogue.held_scores import HeldScores
from forethought.catalogue.ranking import FilteredItems, best, ranks
from forethought.catalogue.sparse_scores import SparseScores
from forethought.decoding.token_scores import TokenScorer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_held_scores_rank_as_those_that_are_looked_up(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    B, P, M, C, N = 6, 3, 2, 4, 40
    codes_NM = torch.randint(C, (N, M))  # fewer tokens than items: some are equal
    scorer = TokenScorer(torch.randn(B, P, M, C).to(dtype), torch.randn(B, P).log_softmax(-1).to(dtype), codes_NM)
    rows_T = torch.arange(B).repeat_interleave(3)
    items_T = torch.stack([torch.randperm(N)[:3].sort().values for _ in range(B)]).flatten()
    held = HeldScores.of(scorer)
    excluded = FilteredItems(torch.tensor([0, 2, 2]), torch.tensor([5, 7, 9]))
    targets_B = torch.randint(N, (B,))
    for weight in (0.0, 0.7, 3.0):
        added = SparseScores(rows_T, items_T, weight * (1 + torch.rand(len(rows_T))), B)
        looked_up, at_hand = replace(scorer, added=added), replace(held, added=added)
        assert torch.equal(ranks(at_hand, targets_B, excluded), ranks(looked_up, targets_B, excluded))
        for mine, theirs in zip(best(at_hand, 5), best(looked_up, 5), strict=True):
            assert torch.equal(mine, theirs)
        items_BM = torch.randint(N, (B, 4))
        assert torch.equal(at_hand.scores_of(items_BM), looked_up.scores_of(items_BM))
    assert torch.equal(held.scores_BN, HeldScores.of(scorer).scores_BN)  # nothing was written into it
