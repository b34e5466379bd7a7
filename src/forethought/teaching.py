"""What a trained run, perhaps an ensemble, says follows each position of the training part: soft targets for another.

Each position is asked as the end of a history of its own, as it would be when recommending. Evidence beside the teacher
knows the targets, because they were counted with all others; what a history added itself is taken off what is said
after its own items, as in training (`ItemEvidence.in_training`).

The teacher's own weights were trained on these targets and know many of them by heart, as in every distillation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from forethought.catalogue.ranking import StateScorer, best
from forethought.data.batches import history_batch, training_batch, windows
from forethought.data.histories import Spans
from forethought.memory import check_room
from forethought.methods.ensemble import EnsembleModel, member_states
from forethought.methods.interface import DenseStates, Method, dense_states
from forethought.methods.outside import SoftTargets

PREFIXES = 1024  # histories that are read together
LONGEST = 2000  # positions of a history whose own pairs are known together
BYTES = 6  # of an item and its share


@torch.inference_mode()
def soft_targets(teacher: Method, train: Spans, k: int) -> SoftTargets:
    """The teacher's k best items after each training position, as shares of these k.

    Memory: 6 k bytes for each interaction, 120 MB for 200,000 of them at k = 100. Time: that of reading a history for
    each position, and a product.

    Args:
        teacher: in evaluation.
        train: the training part, one row a user.

    Raises:
        ShortOfMemoryError: the machine has not that much.
    """
    total, n_items = len(train.histories.items), len(teacher.catalogue())
    k = min(k, n_items)
    check_room(BYTES * k * total, "What the teacher says", "lower teacher_items")
    items_TK = torch.zeros(total, k, dtype=torch.int32)
    shares_TK = torch.zeros(total, k, dtype=torch.float16)
    first_U = np.zeros(len(train.histories), np.int64)
    first_U[train.users] = train.starts
    for rows in _some(windows(train, LONGEST)):
        made, catalogue = after_each(teacher, rows, first_U), teacher.catalogue()
        items_PK, scores_PK = best(StateScorer(made.states_BD, catalogue, made.added), k)
        places = torch.from_numpy(_places(rows))
        items_TK[places] = items_PK.int().cpu()
        shares_TK[places] = (scores_PK / catalogue.temperature).softmax(-1).half().cpu()
    return SoftTargets(items_TK, shares_TK)


def _some(rows: Spans) -> Iterator[Spans]:
    """A few rows at a time: of so many positions together, if there is more than one."""
    order, start = np.argsort(rows.lengths, kind="stable"), 0
    lengths = rows.lengths[order] - 1
    while start < len(order):
        padded = lengths[start:] * np.arange(1, len(order) - start + 1)
        count = max(1, int(np.searchsorted(padded, PREFIXES, side="right")))
        yield rows.take(order[start : start + count])
        start += count


def _places(rows: Spans) -> np.ndarray:
    """Where the positions that are trained stand in the flat array, row after row."""
    inputs = rows.lengths - 1
    return np.arange(inputs.sum()) + np.repeat(rows.starts - np.cumsum(inputs) + inputs, inputs)


def after_each(method: Method, rows: Spans, first_U: np.ndarray) -> DenseStates:
    """What each position of some training rows came to, as the end of its history, evidence included.

    Args:
        first_U: where the training part of each user begins.
    """
    if isinstance(method, EnsembleModel):
        members = [(member, after_each(member, rows, first_U)) for member in method.methods()]
        return method.weighed([member_states(member, made) for member, made in members])
    places, users = _places(rows), np.repeat(rows.users, rows.lengths - 1)
    prefixes = Spans(rows.histories, users, first_U[users], places + 1)
    parts = []
    for start in range(0, len(places), PREFIXES):
        batch = history_batch(prefixes.take(np.arange(start, min(start + PREFIXES, len(places)))), method.window)
        made = method.user_states(batch.to(method.device), method.resolve_halting(None))
        parts.append(dense_states(made, "A teacher"))
    states_PD = torch.cat([part.states_BD for part in parts])
    made = DenseStates(torch.cat([part.steps_B for part in parts]), states_PD)
    if method.evidence is None or method.evidence.silent():
        return made
    return replace(made, added=method.evidence.in_training(training_batch(rows).to(method.device), states_PD))
