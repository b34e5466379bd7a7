"""Losses of steps: left on the device until some are read together, and added up over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor

from forethought.errors import RunError

if TYPE_CHECKING:  # importing it takes longer than importing torch
    from lightning_fabric import Fabric

READ_EVERY = 8  # steps between two readings of the loss, where reading means waiting


class Diverged(RunError):
    """A loss that is no number any more, or far from all before it."""


class StepLosses(NamedTuple):
    """This process's share of a step's loss parts, not yet copied, and the positions they are a mean of."""

    parts: dict[str, Tensor]
    weight: int


class Reading(NamedTuple):
    """What all processes are told.

    Attributes:
        losses: of each step, by the names of their parts.
        stop, save: whether any process wished it.
    """

    losses: list[dict[str, float]]
    stop: bool
    save: bool


def reads_every(fabric: Fabric) -> int:
    """One process on a CPU reads its losses for nothing; others wait for a device or for each other."""
    return 1 if fabric.device.type == "cpu" and fabric.world_size == 1 else READ_EVERY


def read(fabric: Fabric, unread: list[StepLosses], *, stop: bool, save: bool) -> Reading:
    """Copy the loss parts of some steps, with the wishes of this process; all processes read at the same step."""
    names = list(unread[0].parts)
    wishes = torch.tensor([stop, save], dtype=torch.float64)
    parts = torch.stack([torch.stack([each.parts[name] for name in names]) for each in unread]).double().cpu()
    totals = cast("Tensor", fabric.all_reduce(torch.cat([parts.flatten(), wishes]), reduce_op="sum"))
    *_, stops, saves = totals.tolist()
    losses = [dict(zip(names, sums, strict=True)) for sums in totals[:-2].view(len(unread), -1).tolist()]
    return Reading(losses, stops > 0, saves > 0)
