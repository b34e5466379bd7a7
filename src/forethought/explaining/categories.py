"""Categories of items, however the table holds them, and the one that sets a group of items apart.

Lists of labels (a path from department to kind, or a set of genres), lists of such lists, and text with a path in it
are all read as labels an item carries. Whether labels form a tree is seen from the data: a label is shown with what
always stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from forethought.explaining.parts import Category

COLUMNS = ("categories", "category", "category_path", "genres", "genre")
BETWEEN = r"[>›»|;]"  # levels of a path written as text; commas and slashes occur inside names


@dataclass(frozen=True)
class Categories:
    """Labels as pairs with the items that carry them.

    Attributes:
        items, labels: one entry a pair; each pair once.
        names: of the labels.
        parents: of each label, the one that always stands right before it, or -1.
        overall: share of all items that carry each label.
    """

    items: np.ndarray
    labels: np.ndarray
    names: list[str]
    parents: np.ndarray
    overall: np.ndarray

    @classmethod
    def read(cls, table: pl.DataFrame, columns: tuple[str, ...] = COLUMNS) -> Categories | None:
        """Of the first column that holds labels, else None.

        Args:
            table: one row an item.
            columns: their names, those that come first looked for first.
        """
        for name in (n for wanted in columns for n in table.columns if n.lower() == wanted):
            pairs = _pairs(table[name])
            if pairs is not None and len(pairs):
                return cls._of(pairs, len(table))
        return None

    @classmethod
    def _of(cls, pairs: pl.DataFrame, n_items: int) -> Categories:
        before = pl.when(pl.col("item") == pl.col("item").shift()).then(pl.col("label").shift())
        pairs = pairs.with_columns(before=before)
        counts = pairs.group_by("label", maintain_order=True).agg(
            items=pl.len(), befores=pl.col("before").n_unique(), before=pl.col("before").first()
        )
        names = counts["label"].to_list()
        row_of = {name: row for row, name in enumerate(names)}
        alone = (counts["befores"] == 1).to_list()
        parents = [row_of.get(b, -1) if one else -1 for b, one in zip(counts["before"], alone, strict=True)]
        labels = np.array([row_of[label] for label in pairs["label"].to_list()], dtype=np.int64)
        overall = counts["items"].to_numpy() / n_items
        return cls(pairs["item"].to_numpy().astype(np.int64), labels, names, np.array(parents), overall)

    def classes(self, n_items: int, least: int) -> tuple[list[str], np.ndarray]:
        """One class an item: the rarest of its labels that so many items carry; the last class is of those without.

        Returns:
            names of the classes, and that of each item.
        """
        counts = np.bincount(self.labels, minlength=len(self.names))
        common = counts[self.labels] >= least
        order = np.argsort(-counts[self.labels[common]], kind="stable")  # of an item's labels the rarest is last
        label_N = np.full(n_items, -1)
        label_N[self.items[common][order]] = self.labels[common][order]
        used = np.unique(label_N[label_N >= 0])
        class_of = np.full(len(self.names) + 1, len(used))  # of -1 the last
        class_of[used] = np.arange(len(used))
        return [*(self.names[label] for label in used), "other"], class_of[label_N]

    def typical(self, member_N: np.ndarray) -> Category | None:
        """The label with the largest share * ln(share / overall share), its part of the divergence from the catalogue.

        Common alone will not do, nor rare alone. None where no label is commoner among the members than elsewhere.

        Args:
            member_N: True for the items of the group.
        """
        counts = np.bincount(self.labels[member_N[self.items]], minlength=len(self.names))
        share = counts / max(int(member_N.sum()), 1)
        apart = share * np.log(np.where(share > 0, share, 1.0) / self.overall)
        best = int(apart.argmax())
        if apart[best] <= 0:
            return None
        return Category(self.names[best], self._path(best), float(share[best]), float(self.overall[best]))

    def of(self, item: int) -> str | None:
        """The rarest label of an item, with the one above it; None where it carries none that tells it from others."""
        first, end = np.searchsorted(self.items, [item, item + 1])
        labels = self.labels[first:end][::-1]  # of a path whose levels are equally rare, the deepest
        path = self._path(int(labels[self.overall[labels].argmin()])) if len(labels) else []
        return " › ".join(path[-2:]) or None

    def _path(self, label: int) -> list[str]:
        """Down to the label; what all items carry says nothing and is left out."""
        path: list[str] = []
        while label >= 0 and self.overall[label] < 1:
            path.insert(0, self.names[label])
            label = int(self.parents[label])
        return path


def _pairs(column: pl.Series) -> pl.DataFrame | None:
    """Rows (item, label) in the order of the table, each once; None where the column holds no words."""
    frame = pl.DataFrame({"item": np.arange(len(column)), "label": column})
    while isinstance(frame.schema["label"], pl.List | pl.Array):
        frame = frame.explode("label")
    if frame.schema["label"] not in (pl.String, pl.Categorical, pl.Enum):
        return None
    levels = pl.col("label").cast(pl.String).str.replace_all(BETWEEN, "\x1f").str.split("\x1f")
    frame = frame.with_columns(label=levels).explode("label").with_columns(pl.col("label").str.strip_chars())
    return frame.filter(pl.col("label") != "").unique(["item", "label"], keep="first", maintain_order=True)
