"""A split whose validation part is shared out: one half of its users to learn from, the other half to choose by.

What pays after a deeper thought must not be read off cases that the thoughts were trained on: there each further step
names the target better, because it was trained to (docs/results/halting.md), and everybody would think to the end. Nor
must what a reward should weigh, which is to say what helps those whom training never saw.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forethought.data.histories import Cases, Spans
from forethought.data.splits import Split
from forethought.errors import DataError

LEAST = 2  # cases in a half


def shared_out(split: Split, window: int, seed: int) -> Split:
    """The training part becomes what is to be learned from: `halves`."""
    rows, chosen_by = halves(split, window, seed)
    return replace(split, train=rows, valid=chosen_by)


def halves(split: Split, window: int, seed: int) -> tuple[Spans, Cases]:
    """One row a case of half of the validation users, its last item what is to be named, and the other half's cases.

    Raises:
        DataError: there are too few cases.
    """
    history = split.valid.history
    inside = history.ends < len(history.histories.items)
    follows = np.zeros(len(inside), bool)
    follows[inside] = history.histories.items[history.ends[inside]] == split.valid.targets[inside]
    users = np.unique(history.users)
    chosen = np.random.default_rng((seed, len(users))).permutation(users)[: len(users) // 2]
    mine = np.isin(history.users, chosen)
    learned, rest = np.flatnonzero(mine & follows & (history.lengths > 0)), np.flatnonzero(~mine)
    if min(len(learned), len(rest)) < LEAST:
        raise DataError(
            f"Alignment learns from one half of the validation users and chooses by the other, but there are "
            f"{len(split.valid):,} validation cases: give data with more of them."
        )
    cases = history.take(learned)
    rows = Spans(cases.histories, cases.users, cases.starts, cases.ends + 1).last(window + 1)
    return rows, split.valid.take(rest)
