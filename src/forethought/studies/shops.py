"""The simulated shops that a study makes for itself, written once and read from their folders."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.shop.shop import SETTINGS_FILE
from forethought.data.splits import Split, leave_last_out

FEW_CUSTOMERS = {"shop-paths": Shop(users=3_000, items=400, intents=24, interactions_per_user=10.0)}
"""Of studies of REG4Rec, which trains for two minutes there."""
MANY_CUSTOMERS = {"shop-8000": Shop(users=8_000)}
"""Of studies whose differences are small: an interval over so many is narrow."""


def shop_split(name: str, shop: Shop, folder: Path) -> Split:
    """The last item of each customer held out of a shop, which is made in `folder` unless it lies there already.

    Args:
        name: of the shop's own folder, and of its data.

    Raises:
        DataError: something else lies there.
    """
    place = folder / name
    if not _is_written(shop, place):
        shop.write(place, overwrite=True)
    return leave_last_out(read(place, name=name))  # a folder's own name would end at its dot


def _is_written(shop: Shop, place: Path) -> bool:
    """Whether the folder holds this very shop; one of other settings is made anew."""
    try:
        return json.loads((place / SETTINGS_FILE).read_text(encoding="utf-8")) == asdict(shop)
    except (OSError, ValueError, RecursionError):
        return False
