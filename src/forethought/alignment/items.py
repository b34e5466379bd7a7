"""Where items stand among all others by what training says of them, for rewards that look beyond the next item."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from forethought.alignment.rewards import ItemRanks
from forethought.data.splits import Split


def item_ranks(split: Split) -> ItemRanks:
    """Of the training part alone."""
    train = split.train
    histories, n_items = train.histories, split.data.n_items
    real = np.concatenate([np.arange(start, end) for start, end in zip(train.starts, train.ends, strict=True)])
    items = histories.items[real].astype(np.int64)
    counts = np.bincount(items, minlength=n_items)
    late_N = None
    if histories.times is not None:
        first = np.full(n_items, np.iinfo(np.int64).max)
        np.minimum.at(first, items, histories.times[real])
        late_N = _share_below(first)
    return ItemRanks(_share_below(-counts), late_N)


def _share_below(values_N: np.ndarray) -> Tensor:
    """For each the share of all that are smaller, [N]."""
    ordered = np.sort(values_N)
    return torch.from_numpy(np.searchsorted(ordered, values_N) / max(len(values_N), 1)).float()
