"""The simulated shops that a study makes for itself, written once and read from their folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.shop.shop import SETTINGS_FILE
from forethought.data.sources import read_parquet
from forethought.data.splits import Split, leave_last_out
from forethought.data.texts import VECTORS, write_texts

WORD_WIDTH, WORD_SEED = 64, 0

FEW_CUSTOMERS = {"shop-paths": Shop(users=3_000, items=400, intents=24, interactions_per_user=10.0)}
"""Of studies of REG4Rec, which trains for two minutes there."""
MANY_CUSTOMERS = {"shop-8000": Shop(users=8_000)}
"""Of studies whose differences are small: an interval over so many is narrow."""
HALF_AIMLESS = {"shop-8000-aimless": Shop(users=8_000, aimless_users=0.5, popularity=0.0)}
"""Half of the users follow nothing, and nothing is popular: no step helps them, and their histories show it."""


def shop_split(name: str, shop: Shop, folder: Path, *, texts: bool = False) -> Split:
    """The last item of each customer held out of a shop, which is made in `folder` unless it lies there already.

    Args:
        name: of the shop's own folder, and of its data.
        texts: whether vectors of the titles' words lie beside it.

    Raises:
        DataError: something else lies there.
    """
    place = folder / name
    if not _is_written(shop, place):
        (place / VECTORS).unlink(missing_ok=True)
        shop.write(place, overwrite=True)
    if texts and not (place / VECTORS).is_file():
        write_texts(place / VECTORS, word_vectors(read_parquet(place / "items.parquet")["title"].to_list()))
    return leave_last_out(read(place, name=name))  # a folder's own name would end at its dot


def word_vectors(titles: Sequence[str]) -> np.ndarray:
    """A vector a title, of length 1: the sum of a random direction for each of its words, float32 [N, E].

    It stands for what a sentence encoder makes of titles, which cannot be had without a download.
    """
    words = [title.lower().replace(",", " ").split() for title in titles]
    names = sorted({word for of in words for word in of})
    row_of = {name: row for row, name in enumerate(names)}
    directions = np.random.default_rng(WORD_SEED).standard_normal((len(names), WORD_WIDTH))
    sums = np.stack([directions[[row_of[word] for word in of]].sum(0) for of in words])
    return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)


def _is_written(shop: Shop, place: Path) -> bool:
    """Whether the folder holds this very shop; one of other settings is made anew."""
    try:
        return json.loads((place / SETTINGS_FILE).read_text(encoding="utf-8")) == asdict(shop)
    except (OSError, ValueError, RecursionError):
        return False
