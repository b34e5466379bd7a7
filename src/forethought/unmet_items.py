"""How far items that training never met are to be held back: fitted on the validation part.

A vector of features alone has none of the doubts that an id learns, so that unmet items would take too many places. The
nats that are taken off their logits are the ones with which the validation part, unmet items among its candidates, is
ranked best, while the others lose next to nothing by them. Where the split holds no items out, some that were met are
shown without their ids instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.evaluation.metrics import ndcg, recall
from forethought.evaluation.ranking import rank_cases
from forethought.methods.interface import Method
from forethought.methods.items import hold_back, know_trained

GRID = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0)  # nats
BARRED = 40.0  # nats that keep an item out of every list
MOST_LOST = 0.01  # of recall@10 of met targets, against lists without unmet items
SHOWN_WITHOUT = 0.05  # share of the items that stand in for unmet ones
MOST_CASES = 5_000
CUT = 10


def fit_unmet(method: Method, split: Split, *, exclude_history: bool, seed: int = 0) -> float:
    """The nats, which the method then has; 0 where no case tells.

    Args:
        method: trained, with features.
        split: the one it was trained on.
        seed: of the cases and the items that stand in.
    """
    counts_N, random = split.train.item_counts(split.data.n_items), np.random.default_rng(seed)
    unmet_N = counts_N == 0
    if not split.config.hold_out_items:
        met = np.flatnonzero(counts_N)
        unmet_N[random.choice(met, round(SHOWN_WITHOUT * len(met)), replace=False)] = True
    cases = split.valid.take(np.sort(random.permutation(len(split.valid))[:MOST_CASES]))
    unmet = unmet_N[cases.targets]
    best = 0.0
    with _without_ids(method, counts_N, unmet_N):
        if unmet.any() and not unmet.all():
            ranks = {nats: _ranks(method, cases, nats, exclude_history) for nats in (*GRID, BARRED)}
            least = (1 - MOST_LOST) * recall(ranks.pop(BARRED)[~unmet], CUT).mean()
            fair = [nats for nats in GRID if recall(ranks[nats][~unmet], CUT).mean() >= least] or [GRID[-1]]
            best = max(fair, key=lambda nats: float(ndcg(ranks[nats], CUT).mean()))
    hold_back(method, best)
    return best


def _ranks(method: Method, cases: Cases, nats: float, exclude_history: bool) -> np.ndarray:
    hold_back(method, nats)
    return rank_cases(method, cases, exclude_history=exclude_history).ranks


@contextmanager
def _without_ids(method: Method, counts_N: np.ndarray, unmet_N: np.ndarray) -> Iterator[None]:
    """Meanwhile these items are their features alone."""
    know_trained(method, torch.from_numpy(np.where(unmet_N, 0, counts_N)).to(method.device))
    try:
        yield
    finally:
        know_trained(method, torch.from_numpy(counts_N).to(method.device))
