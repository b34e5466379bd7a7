"""What is known of items and cases from outside a model: categories, brands, prices, what is new to a history.

And in a simulated shop, whose intents they are.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from forethought.data.histories import Cases
from forethought.data.sources import folder_of, scan
from forethought.data.splits import Split

NONE = ""  # the label of what has none
FIFTHS = 5


def category_levels(items: pl.DataFrame) -> dict[str, np.ndarray]:
    """The category of each item at each depth of its path, "" where the path is shorter; empty without categories.

    A level that has one category only (a root that all items share) says nothing and is left out.
    """
    if "categories" not in items.columns or items.schema["categories"] != pl.List(pl.String):
        return {}
    depth = int(items["categories"].list.len().max() or 0)  # type: ignore[arg-type]
    levels = {}
    for at in range(min(depth, 4)):
        path = items["categories"].list.head(at + 1).list.join(" > ").fill_null(NONE)
        whole = (items["categories"].list.len() > at).fill_null(value=False)
        of = path.zip_with(whole, pl.Series([NONE])).to_numpy()
        if len(set(of[of != NONE])) > 1:
            levels[f"level {at + 1}"] = of
    return levels


def brands(items: pl.DataFrame) -> np.ndarray | None:
    """The brand of each item, "" where it has none; None where the table has no brands."""
    if "brand" not in items.columns:
        return None
    of = items["brand"].cast(pl.String).fill_null(NONE).to_numpy()
    return of if len(set(of[of != NONE])) > 1 else None


def price_fifths(items: pl.DataFrame) -> np.ndarray | None:
    """Which fifth of the prices each item's is in, "1" the lowest, "" where it has none; None without prices."""
    if "price" not in items.columns or not items.schema["price"].is_numeric():
        return None
    price = items["price"].cast(pl.Float64).to_numpy()
    known = np.isfinite(price)
    if len(np.unique(price[known])) < FIFTHS:
        return None
    edges = np.quantile(price[known], np.arange(1, FIFTHS) / FIFTHS)
    return np.where(known, (np.searchsorted(edges, price) + 1).astype(str), NONE)


def explored(of: np.ndarray, cases: Cases) -> np.ndarray:
    """Whether each case's target is of a label that is "new" to its history, or "met" there; "" where it has none.

    Args:
        of: the label of each item.
    """
    target, history = of[cases.targets], cases.history
    met = [label in of[history[at]] for at, label in enumerate(target)]
    return np.where(target == NONE, NONE, np.where(met, "met", "new"))


def true_intents(source: str | None, split: Split, cases: Cases) -> np.ndarray | None:
    """The intent that a simulated shop's user followed when the target was chosen; None where no truth is at hand.

    Interactions that the shop made up as noise follow no intent and have no label.

    Args:
        source: the folder that the data was read from.
    """
    folder = folder_of(source)
    files = [] if folder is None else [at / "interactions.parquet" for at in (folder, folder / "truth")]
    if not files or not all(file.is_file() for file in files):
        return None
    seen = scan(files[0]).select("user_id", "item_id")
    intents = scan(files[1]).select("intent_id", "noise")
    meeting = pl.int_range(pl.len()).over("user_id", "item_id")  # the first with this item, the second, ...
    rows = pl.concat([seen, intents], how="horizontal").with_columns(meeting=meeting).collect()
    history = cases.history
    before = [int((history[at] == target).sum()) for at, target in enumerate(cases.targets)]
    wanted = pl.DataFrame(
        {
            "user_id": split.data.users.ids.gather(history.users),
            "item_id": split.data.items.ids.gather(cases.targets),
            "meeting": pl.Series(before, dtype=pl.Int64),
        }
    )
    labels = wanted.join(rows, on=["user_id", "item_id", "meeting"], how="left", maintain_order="left")
    labels = labels.select(pl.when(~pl.col("noise")).then("intent_id")).to_series()
    return labels.cast(pl.String).fill_null(NONE).to_numpy()


def information(of: np.ndarray, group: np.ndarray) -> float:
    """Adjusted mutual information: 0 by chance, 1 where each tells all about the other."""
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(of, group))
