"""Items held out of training, so that how a model serves items that it never met can be measured.

Which items is drawn evenly from all. What users did with them before their targets stays in the histories that are read
at evaluation, as it would in service; training has none of it.
"""

from __future__ import annotations

import numpy as np

from forethought.data.histories import Histories, Spans
from forethought.data.interactions import Interactions
from forethought.errors import ConfigError, DataError
from forethought.settings import Seed, ShareBelowOne, check_all


def check_hold_out(share: float, seed: int) -> None:
    """Whether share and seed are such.

    Raises:
        ConfigError: one of them is not, or the seed would change nothing.
    """
    check_all(hold_out_items=(share, ShareBelowOne), hold_out_seed=(seed, Seed))
    if seed and not share:
        raise ConfigError(
            f"hold_out_seed={seed} would change nothing where no items are held out of training: leave it out, or say "
            "hold_out_items."
        )


def drawn_items(n_items: int, share: float, seed: int) -> np.ndarray:
    """A share of the items, drawn evenly, bool [N]; one at least."""
    drawn_N = np.zeros(n_items, bool)
    drawn_N[np.random.default_rng(seed).choice(n_items, max(1, round(share * n_items)), replace=False)] = True
    return drawn_N


def hold_out(data: Interactions, train: Spans, share: float, seed: int) -> Spans:
    """The training rows without the interactions of a share of the items; one item at least.

    What stands outside of the rows stays in the histories behind them.

    Raises:
        DataError: nothing is left to train on.
    """
    held_N = drawn_items(data.n_items, share, seed)
    whole = train.histories
    keep = ~(train.inside() & held_N[whole.items])
    before = np.concatenate([[0], np.cumsum(keep)])
    times = None if whole.times is None else whole.times[keep]
    left = Histories(whole.items[keep], before[whole.offsets], times)
    rows = Spans(left, train.users, before[train.starts], before[train.ends])
    if not rows.lengths.any():
        raise DataError(
            f"Without {held_N.sum():,} of {data.n_items:,} items nothing is left to train on: hold fewer out "
            "(hold_out_items)."
        )
    return rows


def held_protocol(share: float, seed: int) -> dict[str, float | int]:
    """What a protocol says of it; nothing where nothing is held out."""
    return {"hold_out_items": share, "hold_out_seed": seed} if share else {}
