"""An explanation of scores that are sums over the history: what each of its items adds to each item of the answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forethought.catalogue.ranking import FilteredItems
from forethought.data.batches import Batch
from forethought.explaining.explanation import Explanation
from forethought.explaining.metadata import ItemMetadata
from forethought.explaining.parts import Candidate, Contribution, RankChange
from forethought.methods.interface import Method, UserRepresentation


def explain_sum(
    method: Method,
    represented: UserRepresentation,
    batch: Batch,
    metadata: ItemMetadata,
    *,
    history: np.ndarray,
    dropped: list[Any],
    k: int,
    target: int | None,
    excluded: np.ndarray | None,
) -> Explanation | None:
    """One history's answer, the target's rank, and their reasons; None where the method's scores are no such sums."""
    left_out = None if excluded is None else FilteredItems.alike(excluded, 1, method.device)
    found = zip(*(each[0].tolist() for each in method.recommend(represented, k, left_out)), strict=True)
    answer = [(item, score) for item, score in found if item >= 0]
    tracked = list(dict.fromkeys([item for item, _ in answer] + ([] if target is None else [target])))
    items_K = torch.tensor(tracked, dtype=torch.int64, device=method.device)
    if (contributions_KL := method.contributions(represented, items_K)) is None:
        return None
    left_out = None if excluded is None else FilteredItems.alike(excluded, len(tracked), method.device)
    first = represented.select(torch.zeros(len(tracked), dtype=torch.int64, device=method.device))
    ranks = method.rank_of(first, items_K, left_out).tolist()
    named = [metadata.named(row) for row in tracked]
    return Explanation(
        history=[metadata.named(row) for row in history.tolist()],
        dropped=dropped,
        read=contributions_KL.shape[1],
        history_excluded=excluded is not None,
        halting=None,
        centroid=None,
        answer=[Candidate(n.item, n.title, score, None) for n, (_, score) in zip(named, answer, strict=False)],
        answer_step=None,
        steps=[],
        movements=[
            RankChange(n.item, n.title, [], rank if math.isfinite(rank) else None)
            for n, rank in zip(named, ranks, strict=True)
        ],
        target=None if target is None else metadata.named(target),
        plane=None,
        contributions=[_contributions(row, batch.items_BL[0], metadata) for row in contributions_KL],
    )


def _contributions(added_L: Tensor, items_L: Tensor, metadata: ItemMetadata) -> list[Contribution]:
    """What adds anything, most first."""
    pairs = [(item, score) for item, score in zip(items_L.tolist(), added_L.tolist(), strict=False) if score]
    named = [(metadata.named(item), score) for item, score in sorted(pairs, key=lambda pair: -abs(pair[1]))]
    return [Contribution(n.item, n.title, score) for n, score in named]
