"""What an explanation knows of the items: their ids, titles and categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from forethought.data.titles import titles
from forethought.data.vocabulary import UNKNOWN, Vocabulary
from forethought.errors import DataError
from forethought.explaining.categories import Categories
from forethought.explaining.parts import ItemRef

BRANDS = ("brand", "brands")


@dataclass(frozen=True)
class ItemMetadata:
    """What is known of the items.

    Attributes:
        brands: labels of the column `brand`.
        met_N: how often training met each.
    """

    ids: Vocabulary
    titles: list[str | None] | None
    categories: Categories | None
    brands: Categories | None = None
    met_N: np.ndarray | None = None

    @classmethod
    def read(cls, ids: Vocabulary, table: pl.DataFrame, counts: str | None = None) -> ItemMetadata:
        """Of the item table; `counts` names its column of training interactions, where it has one."""
        met_N = table[counts].fill_null(0).to_numpy() if counts in table.columns else None
        return cls(ids, titles(table), Categories.read(table), Categories.read(table, BRANDS), met_N)

    def row_of(self, target: Any) -> int:
        """The row of an item.

        Raises:
            DataError: there is no such item.
        """
        row = int(self.ids.index_of([target])[0])
        if row == UNKNOWN:
            example = self.ids.id_list([0])[0]
            raise DataError(
                f"The target {target!r} is no item that the model knows; ids look like {example!r}: correct it."
            )
        return row

    def named(self, row: int) -> ItemRef:
        title = None if self.titles is None else self.titles[row]
        return ItemRef(self.ids.id_list([row])[0], title or self._known_by(row))

    def _known_by(self, row: int) -> str | None:
        """Brand and category, which say more than a bare id."""
        parts = [None if labels is None else labels.of(row) for labels in (self.brands, self.categories)]
        return " · ".join(part for part in parts if part) or None
