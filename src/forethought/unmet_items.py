"""How far items that training never met are to be held back, or lifted: fitted on the validation part.

A vector of features alone has none of the doubts that an id learns, so that unmet items would take too many places. The
nats that are taken off their logits are the ones with which the validation part, unmet items among its candidates, is
ranked best, while the others lose next to nothing by them. Where the split holds no items out, some that were met are
shown without their ids instead.

Tokens say either too much of unmet items or too little: their vectors are those of other items, which they are shared
with, and no item was ever told apart by an unmet one. So the nats of a method over tokens may be below 0, which lifts.
Nothing stands in there for items held out, because the tokens of an item that was met were trained on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from forethought.data.batches import case_batches
from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.evaluation.metrics import ndcg, recall
from forethought.evaluation.ranking import BATCH, filtered_items, rank_cases
from forethought.methods.interface import Method
from forethought.methods.item_tokens import reads_tokens
from forethought.methods.items import hold_back, know_trained

GRID = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0)  # nats
TOKEN_GRID = (*GRID, *(-nats for nats in GRID[1:]))
BARRED = 1e4  # nats that keep an item out of every list
MOST_LOST = 0.01  # of recall@10 of met targets, against lists without unmet items
SHOWN_WITHOUT = 0.05  # share of the items that stand in for unmet ones
MOST_CASES = 5_000
CUT = 10


def fit_unmet(method: Method, split: Split, *, exclude_history: bool, seed: int = 0) -> float:
    """The nats that are taken off, which the method then has; 0 where no case tells.

    Args:
        method: trained, with features or over tokens; of the latter the split holds items out, or they stay at 0.
        split: the one it was trained on.
        seed: of the cases and the items that stand in.
    """
    counts_N, random = split.train.item_counts(split.data.n_items), np.random.default_rng(seed)
    unmet_N, tokens = counts_N == 0, reads_tokens(method)
    grid = TOKEN_GRID if tokens else GRID
    if not split.config.hold_out_items:
        if tokens:
            hold_back(method, 0.0)
            return 0.0
        met = np.flatnonzero(counts_N)
        unmet_N[random.choice(met, round(SHOWN_WITHOUT * len(met)), replace=False)] = True
    cases = split.valid.take(np.sort(random.permutation(len(split.valid))[:MOST_CASES]))
    unmet = unmet_N[cases.targets]
    best = 0.0
    with _without_ids(method, counts_N, unmet_N):
        if unmet.any() and not unmet.all():
            ranking = _ranks_of_tokens if tokens else _ranks
            ranks = ranking(method, cases, (*grid, BARRED), exclude_history)
            least = (1 - MOST_LOST) * recall(ranks.pop(BARRED)[~unmet], CUT).mean()
            fair = [nats for nats in grid if recall(ranks[nats][~unmet], CUT).mean() >= least] or [max(grid)]
            best = max(fair, key=lambda nats: float(ndcg(ranks[nats], CUT).mean()))
    hold_back(method, best)
    return best


def _ranks(method: Method, cases: Cases, tried: Sequence[float], exclude_history: bool) -> dict[float, np.ndarray]:
    """Of each case with each of some nats."""
    ranks = {}
    for nats in tried:
        hold_back(method, nats)
        ranks[nats] = rank_cases(method, cases, exclude_history=exclude_history).ranks
    return ranks


@torch.inference_mode()
def _ranks_of_tokens(
    method: Method, cases: Cases, tried: Sequence[float], exclude_history: bool
) -> dict[float, np.ndarray]:
    """The same of a method over tokens: what it says of tokens does not depend on nats, and paths take time, so that
    histories are read once."""
    method.eval()
    ranks = {nats: np.empty(len(cases)) for nats in tried}
    for rows, histories in case_batches(cases, method.window, BATCH):
        represented = method.represent(histories.to(method.device))
        excluded = filtered_items(cases.met.take(rows), method.device) if exclude_history else None
        targets_B = torch.from_numpy(cases.targets[rows].astype(np.int64)).to(method.device)
        for nats in tried:
            hold_back(method, nats)
            ranks[nats][rows] = method.rank_of(represented, targets_B, excluded).cpu().numpy()
    return ranks


@contextmanager
def _without_ids(method: Method, counts_N: np.ndarray, unmet_N: np.ndarray) -> Iterator[None]:
    """Meanwhile these items are their features alone."""
    know_trained(method, torch.from_numpy(np.where(unmet_N, 0, counts_N)).to(method.device))
    try:
        yield
    finally:
        know_trained(method, torch.from_numpy(counts_N).to(method.device))
