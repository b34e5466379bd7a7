"""A program held against the library: how far its scores and lists are from what `recommend` says, and how fast."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.catalogue.ranking import FilteredItems, best
from forethought.data.batches import Batch
from forethought.exporting.histories import Trial, inputs_of
from forethought.methods.interface import Method

TOLERANCE = 1e-5  # of scores up to 1 in size, and of larger ones in proportion: they have no more digits
TOP = 10
CALLS = 100

Program = Callable[[dict[str, Tensor]], tuple[Tensor, ...]]
"""Inputs by name to outputs in their order."""


@dataclass(frozen=True)
class Agreement:
    """What a trial showed.

    Attributes:
        max_abs_difference: between scores of the program and of the library.
        tolerance: what it may be at most.
        same_lists: of how many histories the best items are the same, in the same order.
        swapped_lists: of how many items whose scores differ by less than the tolerance stand in another order.
        different_lists: all others.
    """

    histories: int
    real_histories: bool
    max_abs_difference: float
    tolerance: float
    same_lists: int
    swapped_lists: int
    different_lists: int

    @property
    def holds(self) -> bool:
        return self.max_abs_difference <= self.tolerance and not self.different_lists


@torch.inference_mode()
def library_scores(method: Method, batch: Batch) -> Tensor:
    """The scores of all items as ranking compares them, [B, N]."""
    scorer = method.scorer(method.represent(batch, method.resolve_halting(None)), "An export")
    n_rows, n_items = batch.lengths_B.shape[0], scorer.n_items
    room = scorer.like_BX.new_empty(n_rows * n_items)
    return scorer.scores(slice(0, n_rows), slice(0, n_items), room).clone()


def agreement(program: Program, method: Method, trial: Trial, k: int | None, *, exclude_history: bool) -> Agreement:
    """The program on the trial's histories.

    Args:
        k, exclude_history: of a program that lists items; k None: it gives all scores.
    """
    worst, largest, lists = 0.0, 1.0, {"same": 0, "swapped": 0, "different": 0}
    for batch in trial.batches:
        wanted_BN, outputs = library_scores(method, batch), program(inputs_of(batch))
        if k is None:
            rows_BK, scores = torch.topk(outputs[0], min(TOP, wanted_BN.shape[1])).indices, wanted_BN
            worst = max(worst, _apart(outputs[0], wanted_BN))
        else:
            rows_BK, scores = outputs[0], _candidates(wanted_BN, batch) if exclude_history else wanted_BN
            worst = max(worst, _apart(outputs[1].clamp(min=-1e30), scores.gather(1, rows_BK).clamp(min=-1e30)))
        largest = max(largest, wanted_BN.abs().max().item())
        best_BK = _listed(method, batch, rows_BK.shape[1], exclude_history=k is not None and exclude_history)
        for kind, count in _compared(rows_BK, best_BK, scores, TOLERANCE * largest).items():
            lists[kind] += count
    return Agreement(len(trial), trial.real, worst, TOLERANCE * largest, *lists.values())


def _apart(got: Tensor, wanted: Tensor) -> float:
    return (got.double() - wanted.double()).abs().nan_to_num(nan=torch.inf).max().item()  # no number agrees with none


def _candidates(scores_BN: Tensor, batch: Batch) -> Tensor:
    """Scores without those of a row's own history."""
    own = FilteredItems.from_histories(batch.items_BL, batch.lengths_B)
    return scores_BN.index_put((own.rows, own.items), scores_BN.new_tensor(-torch.inf))


@torch.inference_mode()
def _listed(method: Method, batch: Batch, k: int, *, exclude_history: bool) -> Tensor:
    """The library's own lists, [B, K]."""
    represented = method.represent(batch, method.resolve_halting(None))
    own = FilteredItems.from_histories(batch.items_BL, batch.lengths_B) if exclude_history else None
    return best(method.scorer(represented, "An export"), k, own)[0]


def _compared(rows_BK: Tensor, best_BK: Tensor, scores_BN: Tensor, tolerance: float) -> dict[str, int]:
    """How many lists are the same, and how many but for items that are as good as equal."""
    kept = min(TOP, rows_BK.shape[1])
    counts = {"same": 0, "swapped": 0, "different": 0}
    for got_K, wanted_K, scores_N in zip(rows_BK[:, :kept], best_BK[:, :kept], scores_BN, strict=True):
        got_K, wanted_K = got_K[wanted_K >= 0], wanted_K[wanted_K >= 0]  # noqa: PLW2901  candidates may run out
        apart = (scores_N[got_K] - scores_N[wanted_K]).abs().max().item() if len(got_K) else 0.0
        counts["same" if torch.equal(got_K, wanted_K) else "swapped" if apart <= tolerance else "different"] += 1
    return counts


def latency_ms(call: Callable[[Batch], object], trial: Trial, calls: int = CALLS) -> float:
    """The median of single-history calls, in milliseconds, after a few that warm up."""
    batches = trial.single()
    taken_s = []
    for n in range(-min(10, calls), calls):
        start = time.perf_counter()
        call(batches[n % len(batches)])
        if n >= 0:
            taken_s.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken_s)
