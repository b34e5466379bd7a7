"""What follows the next item as a part of the target, as losses over all items take it."""

from __future__ import annotations

from typing import Any

from forethought.catalogue.losses import FewTargets
from forethought.data.batches import Batch


def soft_targets(batch: Batch, at: Any = None) -> FewTargets | None:
    """Of some positions, or of the real ones in the order of `batch.valid_BL()`; None where nobody asked for them.

    Args:
        at: what picks positions of [B, L].
    """
    if batch.later is None:
        return None
    items_PK, shares_PK, weight_P = (part[batch.valid_BL() if at is None else at] for part in batch.later)
    return FewTargets(items_PK, shares_PK, weight_P[:, None])
