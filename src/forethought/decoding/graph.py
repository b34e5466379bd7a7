"""Decoding along a graph of items (RPG): from some items to what has like tokens, over and over; an option.

Items are neighbours where the embeddings of their tokens are alike, summed over the books. A search scores the
neighbours of its best items and keeps the best of all, so that it looks at a share of the catalogue. It is approximate;
`TokenScorer` over all items is exact, and was ten times faster for one row of 12,101 drawn items on a CPU, with the
settings below, by which a search looks at as many items as there are there. Larger catalogues were not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from forethought.catalogue.ranking import FilteredItems, best
from forethought.decoding.token_scores import TokenScorer
from forethought.settings import Between, Seed, Settings

BLOCK = 256  # items whose neighbours are sought together
SAMPLE = 8  # times as many items as beams are looked at for the best ones to start from


@dataclass(frozen=True, kw_only=True)
class GraphSettings(Settings):
    """How the graph is searched."""

    edges: Annotated[int, Between(1, 10_000)] = 50
    """Neighbours of an item."""
    beams: Annotated[int, Between(1, 10_000)] = 100
    """Items that are kept."""
    rounds: Annotated[int, Between(1, 100)] = 3
    """How often their neighbours are looked at."""
    start: Literal["random", "best"] = "best"
    """Begin with random items, or with the best ones of a random sample."""
    seed: Seed = 0
    """Of the random items."""


@dataclass(frozen=True, eq=False)
class ItemGraph:
    """The neighbours of each item, [N, E], the likest first; -1 fills up."""

    neighbours_NE: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, codes_NM: Tensor, embeddings_MCD: Tensor, edges: int) -> ItemGraph:
        """By the cosine of the tokens' embeddings: one table of M books an item, and all items scored by it."""
        unit_MCD = embeddings_MCD / embeddings_MCD.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        likeness_MCC = unit_MCD @ unit_MCD.transpose(1, 2)
        books_M = torch.arange(codes_NM.shape[1], device=codes_NM.device)
        parts = []
        for start in range(0, len(codes_NM), BLOCK):
            table_RMC = likeness_MCC[books_M, codes_NM[start : start + BLOCK].long()]
            rows_R = torch.arange(len(table_RMC), device=codes_NM.device)
            itself = FilteredItems(rows_R, rows_R + start)
            scorer = TokenScorer(table_RMC[:, None], table_RMC.new_zeros(len(table_RMC), 1), codes_NM)
            parts.append(best(scorer, edges, itself)[0])
        return cls(torch.cat(parts) if parts else codes_NM.new_empty(0, edges, dtype=torch.int64))


@dataclass(frozen=True, eq=False)
class GraphLists:
    """The k best items that a search met, the best first; -1, -inf where a row runs out.

    Attributes:
        scored_B: how many items were looked at, some perhaps in several rounds.
    """

    items_BK: Tensor
    scores_BK: Tensor
    scored_B: Tensor

    def ranks_of(self, targets_B: Tensor) -> Tensor:
        """Mid-rank of each target in its list, float64 [B]; infinity where it is not in it.

        Items of equal scores count as far as they are listed: ask for longer lists than metrics read.
        """
        here_BK = (self.items_BK == targets_B[:, None]) & (self.items_BK >= 0)
        own_B1 = torch.where(here_BK, self.scores_BK, -torch.inf).amax(1, keepdim=True)
        better_B, equal_B = (self.scores_BK > own_B1).sum(1), (self.scores_BK == own_B1).sum(1)
        return torch.where(here_BK.any(1), better_B + (equal_B + 1) / 2, torch.inf).double()


@torch.no_grad()
def search_graph(
    scorer: TokenScorer,
    graph: ItemGraph,
    k: int,
    settings: GraphSettings,
    excluded: FilteredItems | None = None,
    allowed_N: Tensor | None = None,
) -> GraphLists:
    """The k best candidates that are met on the way; rows that meet fewer than k are ranked by all items."""
    N, B = scorer.n_items, len(scorer.like_BX)
    most = 0 if excluded is None or not len(excluded.rows) else int(torch.bincount(excluded.rows).max())
    beams = min(N, max(settings.beams, k + most))
    held_BQ, scores_BQ = _start(scorer, beams, settings)
    scored_B = torch.full((B,), held_BQ.shape[1], device=held_BQ.device)
    held_BQ, scores_BQ = _kept(held_BQ, scores_BQ, beams)
    for _ in range(settings.rounds):
        near_BX = graph.neighbours_NE[held_BQ].flatten(1)
        fresh_BX = _fresh(near_BX, held_BQ, N)
        scored_B += fresh_BX.sum(1)
        near_scores_BX = scorer.scores_of(near_BX.clamp(min=0)).masked_fill(~fresh_BX, -torch.inf)
        items_BX, all_BX = torch.cat([held_BQ, near_BX.clamp(min=0)], 1), torch.cat([scores_BQ, near_scores_BX], 1)
        held_BQ, scores_BQ = _kept(items_BX, all_BX, beams)
    gone_BQ = scores_BQ == -torch.inf
    if allowed_N is not None:
        gone_BQ = gone_BQ | ~allowed_N[held_BQ]
    if excluded is not None:
        keys_BQ = torch.arange(B, device=held_BQ.device)[:, None] * N + held_BQ
        gone_BQ = gone_BQ | torch.isin(keys_BQ, excluded.rows * N + excluded.items)
    items_BK, scores_BK = _kept(held_BQ, scores_BQ.masked_fill(gone_BQ, -torch.inf), k)
    items_BK = items_BK.masked_fill(scores_BK == -torch.inf, -1)
    items_BK, scores_BK = (_widened(each, k, fill) for each, fill in ((items_BK, -1), (scores_BK, -torch.inf)))
    lacking = (items_BK < 0).any(1).nonzero()[:, 0]
    if len(lacking):
        again = None if excluded is None else excluded.take(lacking, B)
        items_BK[lacking], scores_BK[lacking] = best(scorer.take(lacking), k, again, allowed_N)
        scored_B[lacking] += N
    return GraphLists(items_BK, scores_BK, scored_B)


def _start(scorer: TokenScorer, beams: int, settings: GraphSettings) -> tuple[Tensor, Tensor]:
    """The same drawn items for all rows, so that none depends on its batch, and their scores."""
    generator = torch.Generator().manual_seed(settings.seed)
    n = min(scorer.n_items, beams * (SAMPLE if settings.start == "best" else 1))
    items_X = torch.randperm(scorer.n_items, generator=generator)[:n].to(scorer.like_BX.device)
    items_BX = items_X.expand(len(scorer.like_BX), -1)
    return items_BX, scorer.scores_of(items_BX)


def _fresh(near_BX: Tensor, held_BQ: Tensor, n_items: int) -> Tensor:
    """Which of the neighbours are items that are not held yet, each counted once."""
    order_BX = near_BX.argsort(dim=1, stable=True)
    sorted_BX = near_BX.gather(1, order_BX)
    once_BX = torch.ones_like(near_BX, dtype=torch.bool)
    once_BX[:, 1:] = sorted_BX[:, 1:] != sorted_BX[:, :-1]
    once_BX = torch.zeros_like(once_BX).scatter(1, order_BX, once_BX)
    rows_B1 = torch.arange(len(near_BX), device=near_BX.device)[:, None] * n_items
    return once_BX & (near_BX >= 0) & ~torch.isin(rows_B1 + near_BX, rows_B1 + held_BQ)


def _kept(items_BX: Tensor, scores_BX: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n best, of equal ones the item of the lower row first."""
    items_BX, order_BX = items_BX.sort(dim=1, stable=True)
    scores_BX, best_BX = scores_BX.gather(1, order_BX).sort(dim=1, descending=True, stable=True)
    return items_BX.gather(1, best_BX)[:, :n], scores_BX[:, :n]


def _widened(values_BX: Tensor, k: int, fill: float) -> Tensor:
    """With k columns."""
    return torch.nn.functional.pad(values_BX, (0, k - values_BX.shape[1]), value=fill)
