"""What an explanation knows of the items: their ids, titles and categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from forethought.data.titles import titles
from forethought.data.vocabulary import UNKNOWN, Vocabulary
from forethought.errors import DataError
from forethought.explaining.categories import Categories
from forethought.explaining.parts import ItemRef


@dataclass(frozen=True)
class ItemMetadata:
    """What is known of the items: ids, titles, categories."""

    ids: Vocabulary
    titles: list[str | None] | None
    categories: Categories | None

    @classmethod
    def read(cls, ids: Vocabulary, table: pl.DataFrame) -> ItemMetadata:
        return cls(ids, titles(table), Categories.read(table))

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
        return ItemRef(self.ids.id_list([row])[0], None if self.titles is None else self.titles[row])
