"""Cases meet a model: the rank of every target among all items, and the lists that users would see."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from forethought.catalogue.ranking import FilteredItems
from forethought.data.batches import case_batches, history_batch
from forethought.data.histories import Cases, Spans
from forethought.evaluation.sampled import Sample, sampled_ranks
from forethought.methods.interface import Method
from forethought.reasoning.halting import Halting

BATCH = 1024
Report = Callable[[int, int], None]  # told of cases done and their total


@dataclass(frozen=True)
class Ranked:
    """What a model made of the cases.

    Attributes:
        ranks: float64 [n], mid-rank of each target, 1 is best; infinity where it could not be recommended.
        lists: int32 [n, K], the best items, -1 fills; None if not asked for.
        steps: float32 [n], reasoning steps used, 0 for a method that does not reason.
        seconds: wall clock of "encode", "rank" and "lists".
    """

    ranks: np.ndarray
    lists: np.ndarray | None
    steps: np.ndarray
    seconds: dict[str, float]


@torch.inference_mode()
def rank_cases(
    method: Method,
    cases: Cases,
    *,
    exclude_history: bool,
    halting: Halting | None = None,
    k: int | None = None,
    batch: int = BATCH,
    report: Report | None = None,
) -> Ranked:
    """Rank every case's target among all items.

    Args:
        exclude_history: whether items of the (whole, clean) history are no candidates.
        halting: when to stop thinking; None: as the method is configured.
        k: length of the lists to make as well; None makes none.
        batch: cases encoded together; results depend on it by rounding alone, unless rows halt at random.
        report: called with cases done and their total.
    """
    device, was_training = method.device, method.training
    method.eval()
    ranks, steps = np.empty(len(cases)), np.empty(len(cases), np.float32)
    lists = None if k is None else np.empty((len(cases), k), np.int32)
    seconds: dict[str, float] = dict.fromkeys(("encode", "rank") + (() if k is None else ("lists",)), 0.0)
    for done, (rows, histories) in enumerate(case_batches(cases, method.window, batch)):
        with clock(seconds, "encode", device):
            represented = method.represent(histories.to(device), halting)
        with clock(seconds, "rank", device):
            excluded = filtered_items(cases.met.take(rows), device) if exclude_history else None
            targets = torch.from_numpy(cases.targets[rows].astype(np.int64)).to(device)
            ranks[rows] = method.rank_of(represented, targets, excluded).cpu().numpy()
            steps[rows] = represented.steps_B.float().cpu().numpy()
        if lists is not None and k is not None:
            with clock(seconds, "lists", device):
                lists[rows] = method.recommend(represented, k, excluded)[0].cpu().numpy()
        if report is not None:
            report(min((done + 1) * batch, len(cases)), len(cases))
    method.train(was_training)
    return Ranked(ranks, lists, steps, seconds)


def among_negatives(
    method: Method,
    cases: Cases,
    popularity: np.ndarray,
    full: Ranked,
    sample: Sample,
    *,
    exclude_history: bool,
    halting: Halting | None = None,
) -> Ranked:
    """The same cases ranked among drawn items only, by the same scores; steps and seconds stay those of `full`.

    Args:
        popularity: int [N], training interactions of each item.
        exclude_history, halting: as in `rank_cases`.
    """

    @torch.inference_mode()
    def scores_of(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        batch = history_batch(cases.history.take(rows), method.window).to(method.device)
        represented = method.represent(batch, halting)
        return method.scores_of(represented, torch.from_numpy(items).to(method.device)).cpu().numpy()

    ranks = sampled_ranks(scores_of, cases, popularity, sample, history_excluded=exclude_history)
    return Ranked(ranks, None, full.steps, full.seconds)


def filtered_items(history: Spans, device: torch.device) -> FilteredItems:
    """Every item of each row's whole history, as often as it was met: sorting them out costs more than it saves."""
    lengths = history.lengths
    rows = np.repeat(np.arange(len(history)), lengths)
    index = np.arange(len(rows)) + np.repeat(history.starts - np.cumsum(lengths) + lengths, lengths)
    items = history.histories.items[index].astype(np.int64)
    return FilteredItems(torch.from_numpy(rows).to(device), torch.from_numpy(items).to(device))


def in_turn(report: Report | None, at: int, times: int) -> Report | None:
    """What to report to in the `at`-th of several rankings of the same cases, so that all count as one."""
    return None if report is None else lambda done, total: report(at * total + done, times * total)


class clock:
    """Adds the time spent inside to one entry of a dictionary."""

    def __init__(self, seconds: dict[str, float], name: str, device: torch.device) -> None:
        self.seconds, self.name, self.device = seconds, name, device

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def __enter__(self) -> None:
        self.begin = self._now()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.name] += self._now() - self.begin
