"""Equal times: the order among interactions of one user that have the same second."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from forethought.data.histories import Histories
from forethought.data.interactions import Interactions
from forethought.errors import ConfigError, DataError
from forethought.settings import Seed, check

Ties = Literal["file", "shuffle"]


def order_ties(data: Interactions, ties: Ties, seed: int) -> Histories:
    """The histories as the file has them, or with equal times in a drawn order."""
    check(ties, Ties, "ties")
    if ties == "file" and seed:
        raise ConfigError(f'seed={seed} would change nothing with ties="file", which draws nothing: leave it out.')
    return data.histories if ties == "file" else shuffle_ties(data.histories, seed)


def shuffle_ties(histories: Histories, seed: int) -> Histories:
    """The same histories with the order inside every group of equal times drawn anew.

    The draw starts from the order of item rows, not from the given order, so that it is the same for any order of
    the source, and shuffling twice with one seed changes nothing more.

    Raises:
        DataError: the histories have no times, hence no ties that are known.
    """
    check(seed, Seed, "seed")
    if histories.times is None:
        raise DataError('This data has an order but no times, so it has no ties to shuffle: use ties="file".')
    random = np.random.default_rng(seed)
    items = np.empty(len(histories.items), np.int32)
    for users in histories.blocks():
        part, owner = histories.rows(users), histories.owners(users)
        plain = np.lexsort((histories.items[part], histories.times[part], owner))
        # Within a user times already ascend, so sorting by item within a tie moves neither owners nor times.
        order = np.lexsort((random.random(len(plain)), histories.times[part], owner))
        items[part] = histories.items[part][plain][order]
    return replace(histories, items=items)
