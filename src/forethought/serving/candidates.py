"""What may be recommended, as one mask for all requests that ask for the same, so that they are ranked together."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from forethought.data.vocabulary import UNKNOWN, Vocabulary
from forethought.decoding.constraints import Constraints
from forethought.errors import some
from forethought.explaining.metadata import ItemMetadata
from forethought.explaining.parts import Steering
from forethought.explaining.steering import Steered, steer
from forethought.methods.interface import Method
from forethought.serving.failures import RequestError
from forethought.serving.item_filters import fitting
from forethought.serving.item_lists import ItemLists
from forethought.serving.requests import Id, Narrowing

MOST_KEPT = 256


@dataclass(frozen=True, eq=False)
class Candidates:
    """What is left of the items.

    Attributes:
        allowed_N: True for those that may be listed; None: all may.
        constraints: for the paths of methods over tokens.
        unknown: how many ids of the lists the model does not know; they are left out.
    """

    allowed_N: Tensor | None = None
    constraints: Constraints | None = None
    steering: Steering | None = None
    unknown: int = 0

    def steered(self) -> Steered | None:
        """As explanations take it; None where neither categories nor tokens were named."""
        if self.allowed_N is None or self.steering is None:
            return None
        return Steered(self.allowed_N, self.constraints, self.steering)


EVERYTHING = Candidates()


class CandidateSets:
    """The candidates of one version of a model; any thread may ask."""

    def __init__(self, method: Method, ids: Vocabulary, table: pl.DataFrame, metadata: ItemMetadata) -> None:
        self.method, self.ids, self.table, self.metadata = method, ids, table, metadata
        self._kept: OrderedDict[Hashable, Candidates] = OrderedDict()
        self._alone = threading.Lock()

    def of(self, narrowing: Narrowing, lists: ItemLists) -> Candidates:
        """What a request leaves of the items. What holds no ids of its own is worked out once.

        Raises:
            RequestError: nothing is left, or a list, column, category or token is not known.
            ConfigError: likewise, of categories and tokens.
        """
        if narrowing == Narrowing():
            return EVERYTHING
        named = [None if name is None else lists.named(name) for name in (narrowing.allow_list, narrowing.deny_list)]
        key: Hashable = None
        if narrowing.allow is None and narrowing.deny is None:
            asked = _steering(narrowing)
            key = (*asked, json.dumps(narrowing.where, sort_keys=True), *[each and each[:2] for each in named])
            with self._alone:
                if (kept := self._kept.get(key)) is not None:
                    self._kept.move_to_end(key)
                    return kept
        allows = {"allow": narrowing.allow} | {f"The list {each.name!r}": each.ids for each in named[:1] if each}
        denies = [narrowing.deny, None if named[1] is None else named[1].ids]
        candidates = self._left(narrowing, allows, denies)
        if key is not None:
            with self._alone:
                self._kept[key] = candidates
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
        return candidates

    def _left(self, narrowing: Narrowing, allows: dict[str, Any], denies: list[Any]) -> Candidates:
        allowed_N, unknown = np.ones(len(self.ids), dtype=bool), 0
        for name, ids in allows.items():
            if ids is not None:
                listed_N, missing = self._listed(ids)
                if not listed_N.any():
                    raise RequestError(self._nothing_in(name, ids))
                allowed_N &= listed_N
                unknown += missing
        for ids in denies:
            if ids is not None:
                listed_N, missing = self._listed(ids)
                allowed_N &= ~listed_N
                unknown += missing
        if narrowing.where is not None:
            allowed_N &= fitting(self.table, narrowing.where)
        steered = None
        if any(_steering(narrowing)):
            steered = steer(
                self.method,
                self.metadata,
                only_category=narrowing.only_category or None,
                never_category=narrowing.never_category or None,
                forbid_tokens=narrowing.forbid_tokens,
                only_tokens=narrowing.only_tokens,
            )
            allowed_N &= steered.allowed_N.numpy()
        if not allowed_N.any():
            raise RequestError(
                "No item is left to recommend: none meets all lists and conditions, so leave one of them out."
            )
        constraints, steering = (None, None) if steered is None else (steered.constraints, steered.steering)
        return Candidates(torch.from_numpy(allowed_N), constraints, steering, unknown)

    def _nothing_in(self, name: str, ids: list[Id]) -> str:
        if not ids:
            return f"{name} is empty, so no item is left to recommend: put ids into it, or leave it out."
        return (
            f"{name} has no item that the model knows, so none is left to recommend: it has {some(ids, 3)}; ids look "
            f'like {self.ids.id_list([0])[0]!r} (and 7 is not "7").'
        )

    def _listed(self, ids: list[Id]) -> tuple[np.ndarray, int]:
        """True for the items that a list names, and how many of its ids are not known."""
        rows = self.ids.index_of(ids)
        listed_N = np.zeros(len(self.ids), dtype=bool)
        listed_N[rows[rows != UNKNOWN]] = True
        return listed_N, int((rows == UNKNOWN).sum())


def _steering(narrowing: Narrowing) -> tuple[tuple[object, ...], ...]:
    """What is asked of categories and tokens."""
    return narrowing.only_category, narrowing.never_category, narrowing.forbid_tokens, narrowing.only_tokens
