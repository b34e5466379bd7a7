"""Time of a history: what is timed, over which batches, and which of the repetitions counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from forethought.data.histories import Cases, Histories
from forethought.evaluation import ranking
from forethought.evaluation.timing import BATCHES, REPEATS, ms_per_history
from forethought.methods.interface import DenseStates, Method


class Slow(Method):
    """Reads for 2 s a row and ranks for 1 s a row, by a clock of its own; repetitions but the second are held up."""

    window = 50

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches, self.asked, self.now, self.seen = batches, 0, 0.0, []

    def user_states(self, batch: Any, halting: Any = None, *, trace: bool = False) -> DenseStates:
        self.asked += 1
        self.seen.append(batch.items_BL.shape[1])
        held_up = (self.asked - 1) // self.batches != 1
        self.now += len(batch.lengths_B) * (6.0 if held_up else 2.0)
        return DenseStates.unreasoned(torch.zeros(len(batch.lengths_B), 1))

    def rank_of(self, represented: Any, targets_B: Any, excluded: Any = None) -> Any:
        self.now += len(targets_B)


def timed(monkeypatch: pytest.MonkeyPatch, n: int, batch: int, method: Slow, **choices: Any) -> dict[str, float]:
    histories = Histories.from_lists([np.arange(length + 1) for length in range(n)])
    monkeypatch.setattr(ranking, "time", SimpleNamespace(perf_counter=lambda: method.now))
    return ms_per_history(method, Cases(histories.all(), np.zeros(n, np.int32)), batch=batch, **choices)


@pytest.mark.parametrize("exclude", [True, False])
def test_the_best_repetition_counts(monkeypatch: pytest.MonkeyPatch, exclude: bool) -> None:
    method = Slow(batches=3)
    assert timed(monkeypatch, 11, 5, method, exclude_history=exclude) == {"encode": 2000.0, "rank": 1000.0}
    assert method.asked == 3 * REPEATS


def test_batches_are_spread_from_short_to_long(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Slow(batches=BATCHES)
    timed(monkeypatch, 40, 2, method, exclude_history=False)
    assert method.seen == [6, 16, 26, 36] * REPEATS  # the longest of batches 2, 7, 12 and 17 of twenty
