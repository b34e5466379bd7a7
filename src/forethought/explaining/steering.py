"""What a user wants to be recommended and what not: categories of items, and tokens that items are made of.

Categories narrow the candidates of every method. Methods over tokens also seek their paths among what is left, so that
no path is spent on what nobody wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forethought.decoding.constraints import Constraints
from forethought.errors import ConfigError, nearest, shown
from forethought.explaining.categories import Categories
from forethought.explaining.metadata import ItemMetadata
from forethought.explaining.parts import Steering
from forethought.methods.interface import Method


@dataclass(frozen=True, eq=False)
class Steered:
    """A steering that has been checked.

    Attributes:
        allowed_N: True for the items that may be listed; on the CPU.
        constraints: for the paths of methods over tokens.
        steering: what was asked for, and how many items are left.
    """

    allowed_N: Tensor
    constraints: Constraints | None
    steering: Steering

    def within(self, candidates_N: Tensor | None) -> Tensor:
        """Those of some candidates, all when None.

        Raises:
            ConfigError: none is left.
        """
        left_N = self.allowed_N if candidates_N is None else self.allowed_N & candidates_N
        if not bool(left_N.any()):
            raise ConfigError(
                "No item is left to recommend: what the lists allow is nothing of what the categories and tokens do."
            )
        return left_N

    def left_out(self, excluded: np.ndarray | None) -> np.ndarray:
        """The item rows that are no candidates, some excluded ones among them."""
        gone = np.flatnonzero(~self.allowed_N.numpy())
        return gone if excluded is None else np.union1d(gone, excluded)


def steer(
    method: Method,
    metadata: ItemMetadata,
    *,
    only_category: str | Iterable[str] | None = None,
    never_category: str | Iterable[str] | None = None,
    forbid_tokens: Iterable[tuple[int, int]] = (),
    only_tokens: Iterable[tuple[int, int]] = (),
) -> Steered:
    """The items and paths that are left.

    Raises:
        ConfigError: an unknown category or token, tokens of a method that has none, or no item is left.
    """
    only, never = _labels(only_category, "only_category"), _labels(never_category, "never_category")
    if only_category is not None and not only:
        raise ConfigError("only_category names no category: give one, or leave it out.")
    forbidden, wanted = _tokens(forbid_tokens, "forbid"), _tokens(only_tokens, "only")
    allowed_N = np.ones(len(metadata.ids), dtype=bool)
    if only or never:
        categories = _categories(metadata)
        if only:
            allowed_N = _carrying(categories, only, len(allowed_N))
        allowed_N &= ~_carrying(categories, never, len(allowed_N))
    if not allowed_N.any():
        raise ConfigError("No item is left to recommend: those of the categories asked for are of the others too.")
    left_N = torch.from_numpy(allowed_N)
    constraints = method.constraints(forbidden, wanted, left_N.to(method.device))
    if constraints is not None:
        left_N = constraints.allowed_N.cpu()
    return Steered(left_N, constraints, Steering(only, never, forbidden, wanted, int(left_N.sum())))


def _labels(asked: str | Iterable[str] | None, name: str) -> list[str]:
    labels: Any = [] if asked is None else [asked] if isinstance(asked, str) else asked
    labels = list(labels) if isinstance(labels, Iterable) else [labels]
    if not all(isinstance(label, str) for label in labels):
        raise ConfigError(f"{name} is {shown(asked)}, but must be the name of a category, or a list of names.")
    return list(dict.fromkeys(labels))


def _tokens(asked: Any, what: str) -> list[tuple[int, int]]:
    pairs = list(asked) if isinstance(asked, Iterable) and not isinstance(asked, str | bytes) else [asked]
    if not all(map(_is_token, pairs)):
        raise ConfigError(
            f"{what}_tokens is {shown(asked)}, but must be a list of pairs (codebook, token), such as [(3, 17)] (on "
            f"the command line --{what}-token 3:17)."
        )
    return list(dict.fromkeys((int(book), int(token)) for book, token in pairs))


def _is_token(pair: Any) -> bool:
    if not isinstance(pair, Sequence) or isinstance(pair, str | bytes) or len(pair) != 2:
        return False
    return all(hasattr(number, "__index__") and not isinstance(number, bool) for number in pair)


def _categories(metadata: ItemMetadata) -> Categories:
    if metadata.categories is None:
        raise ConfigError(
            "The items of this run have no categories to choose from: train it on data whose items have a column "
            "categories, or give lists of items (allow and deny)."
        )
    return metadata.categories


def _carrying(categories: Categories, labels: list[str], n_items: int) -> np.ndarray:
    """Which items carry one of some labels, at any level."""
    row_of = {name: row for row, name in enumerate(categories.names)}
    for label in labels:
        if label not in row_of:
            few = ", ".join(map(shown, sorted(row_of)[:3]))
            hint = nearest(label, row_of) or f" There are {len(row_of):,}, such as {few}."
            raise ConfigError(f"There is no category {shown(label)}.{hint}")
    carrying_N = np.zeros(n_items, dtype=bool)
    carrying_N[categories.items[np.isin(categories.labels, [row_of[label] for label in labels])]] = True
    return carrying_N
