"""What a batch of IGR-SR trains on: states behind whole rows, behind each of their prefixes, or behind some."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from forethought.catalogue.losses import FewTargets
from forethought.data.batches import Batch
from forethought.methods.later_targets import soft_targets
from forethought.reasoning.chain import History


class NamedCases(NamedTuple):
    """P states, read off rows of histories, and what each is to name.

    Attributes:
        history: as IDR reads it; whole rows, or one a prefix.
        targets_P, weights_P, users_P: of each state; the weights of a whole batch sum to 1.
        ends_P: True for the last state of each row of the batch.
        soft: later items as targets.
    """

    history: History
    targets_P: Tensor
    weights_P: Tensor
    users_P: Tensor
    ends_P: Tensor
    soft: FewTargets | None


def named_cases(batch: Batch, prefixes: int, dtype: torch.dtype, *, whole: bool) -> NamedCases:
    """Of a training batch.

    Args:
        prefixes: how many of each row are drawn at random, each standing for its share of all; 0: all are taken.
        dtype: of the weights.
        whole: rows are read once, all their positions together; else each prefix is a row.
    """
    assert batch.targets_BL is not None
    assert batch.users_B is not None
    history, lengths_B = History(batch.items_BL, batch.lengths_B, batch.times_BL), batch.lengths_B
    at_BL = torch.arange(batch.items_BL.shape[1], device=lengths_B.device).expand_as(batch.items_BL)
    taken_BL = at_BL < lengths_B[:, None]
    if prefixes:
        drawn_BL = torch.rand(at_BL.shape, device=at_BL.device).masked_fill(~taken_BL, 2.0)
        taken_BL = taken_BL & (drawn_BL.argsort(1).argsort(1) < prefixes)
    row_P, at_P = taken_BL.nonzero(as_tuple=True)
    if not whole:
        history = history.select(row_P)._replace(lengths_B=at_P + 1)
    share_B = lengths_B.to(dtype) / taken_BL.sum(1).clamp_min(1) / batch.weight
    return NamedCases(
        history,
        batch.targets_BL[row_P, at_P],
        share_B[row_P],
        batch.users_B[row_P],
        at_P == at_BL.masked_fill(~taken_BL, -1).amax(1)[row_P],
        soft_targets(batch, (row_P, at_P)),
    )
