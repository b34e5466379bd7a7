"""The people of a simulated shop, asked: what they want now, what they would accept of what a model says, and click."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from forethought.data.shop.shop import SimulatedShop
from forethought.data.sources import read_parquet
from forethought.errors import DataError, shown

MOSTLY = 0.5  # of the items that something stands for


@dataclass(frozen=True)
class ShopPeople:
    """Each wants the kinds of goods on the route of the intent that was followed last.

    Attributes:
        shop: with the truth behind it.
        held_back: interactions at the end of each history that have not happened yet when people are asked, such as
            those of validation and test.
    """

    shop: SimulatedShop
    held_back: int = 2

    @classmethod
    def of(cls, folder: str | Path, held_back: int = 2) -> ShopPeople:
        """Those of a shop that `Shop.write` wrote.

        Raises:
            DataError: no such shop lies there.
        """
        folder = Path(folder)
        names = ("interactions", "items", "truth/interactions", "truth/items", "truth/intents", "truth/users")
        files = [folder / f"{name}.parquet" for name in names]
        if missing := [file for file in files if not file.is_file()]:
            raise DataError(f"{missing[0]} is not there: give the folder of a simulated shop (forethought simulate).")
        return cls(SimulatedShop(*map(read_parquet, files)), held_back)

    def wants(self, user_id: Any) -> np.ndarray:
        """Which of the shop's items are of a kind that the user now looks for, in the order of `shop.items`."""
        if user_id not in self._intents:
            raise DataError(f"Nobody in the shop is called {shown(user_id)}, or nothing is known of them yet.")
        return self._wanted[self._intents[user_id]]

    def judge(self, asked: pl.DataFrame, item_ids: pl.Series, codes_NM: np.ndarray) -> pl.DataFrame:
        """What is asked, and whether people accept it: where most of the items that it stands for are wanted.

        Args:
            asked: user_id, kind (token, path or category) and value, as feedback has them.
            item_ids: of the rows of `codes_NM`, the tokens of all items.

        Returns:
            `asked` with a column accepted. What no item has is rejected.
        """
        row_of = {item: row for row, item in enumerate(self.shop.items["item_id"].to_list())}
        order = np.array([row_of[item] for item in item_ids.to_list()])
        stands: dict[tuple[str, str], np.ndarray] = {}  # many are asked of the same things
        answers = []
        for user_id, kind, value in asked.select("user_id", "kind", "value").iter_rows():
            if (kind, value) not in stands:
                stands_N = self._labelled(value)[order] if kind == "category" else _with_tokens(value, codes_NM)
                stands[kind, value] = order[stands_N]
            at = stands[kind, value]
            answers.append(len(at) > 0 and float(self.wants(user_id)[at].mean()) > MOSTLY)
        return asked.with_columns(accepted=pl.Series(answers, dtype=pl.Boolean))

    def clicks(self, user_ids: list[Any], lists: list[list[Any]]) -> float:
        """The share of recommended items that people would click, for want of a measure online."""
        row_of = {item: row for row, item in enumerate(self.shop.items["item_id"].to_list())}
        shares = [
            float(self.wants(user_id)[[row_of[item] for item in items]].mean())
            for user_id, items in zip(user_ids, lists, strict=True)
            if items
        ]
        return float(np.mean(shares)) if shares else 0.0

    @cached_property
    def _intents(self) -> dict[Any, int]:
        """The intent of each user's last interaction; noise interrupts an intent, and does not end it."""
        met = self.shop.interactions.select("user_id").with_columns(intent_id=self.shop.truth["intent_id"])
        left = pl.int_range(pl.len(), 0, -1).over("user_id")
        met = met.filter(left > self.held_back).group_by("user_id").agg(pl.col("intent_id").last())
        return dict(met.iter_rows())

    @cached_property
    def _wanted(self) -> dict[int, np.ndarray]:
        kinds = self.shop.item_truth["kind"]
        routes = self.shop.intents.select("intent_id", "kinds").iter_rows()
        return {intent: kinds.is_in(list(route)).to_numpy() for intent, route in routes}

    def _labelled(self, label: str) -> np.ndarray:
        return self.shop.items["categories"].list.contains(label).to_numpy()


def _with_tokens(words: str, codes_NM: np.ndarray) -> np.ndarray:
    """The items that share all of these tokens."""
    tokens = [tuple(map(int, word.split(":"))) for word in words.split()]
    return np.logical_and.reduce([codes_NM[:, book] == token for book, token in tokens])
