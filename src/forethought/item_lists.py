"""Lists of items that recommendations are to come from, or never to name: `allow` and `deny`.

What is in stock is known to a shop and not to a model, so that such lists usually hold ids that no training saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from forethought.data.vocabulary import UNKNOWN, Vocabulary
from forethought.errors import DataError, shown, some

MOST_NAMED = 5


class KnownItems(NamedTuple):
    """The items of a list that the model knows.

    Attributes:
        rows: of them, in order of the list; None where there is no list.
        note: how many it does not know, in a sentence; None where it knows all.
    """

    rows: np.ndarray | None
    note: str | None = None


def known_items(
    items: Vocabulary, asked: Iterable[Any] | None, name: Literal["allow", "deny"], *, strict: bool = False
) -> KnownItems:
    """Those that the model knows of a list.

    Args:
        strict: refuse ids that it does not know, instead of leaving them out.

    Raises:
        DataError: no list; with `strict` an unknown id; no known id at all in a list of what alone is allowed.
    """
    if asked is None:
        return KnownItems(None)
    if not isinstance(asked, Iterable) or isinstance(asked, str | bytes):
        raise DataError(f"{name} is {shown(asked)}, but must be a list of item ids.")
    ids = list(asked)
    rows = items.index_of(ids)
    missing = [ids[n] for n in np.flatnonzero(rows == UNKNOWN)]
    if missing and strict:
        raise DataError(f"The {name} list has items that the model does not know: {some(missing, MOST_NAMED)}.")
    if name == "allow" and missing and len(missing) == len(ids):
        raise DataError(
            f"The allow list has no item that the model knows, so nothing could be recommended: it has "
            f'{some(missing, MOST_NAMED)}; ids look like {items.id_list([0])[0]!r} (and 7 is not "7").'
        )
    return KnownItems(rows[rows != UNKNOWN], _note(missing, len(ids), name) if missing else None)


def _note(missing: Sequence[Any], asked: int, name: str) -> str:
    return (
        f"Of {asked:,} items in the {name} list {len(missing):,} are not known to the model and are left out: "
        f"{some(missing, MOST_NAMED)}."
    )


def candidates(n_items: int, allowed: np.ndarray | None, denied: np.ndarray | None) -> Tensor | None:
    """True for the items that may be recommended, [N]; None: all may."""
    if allowed is None and denied is None:
        return None
    allowed_N = torch.full((n_items,), allowed is None)
    for rows, value in ((allowed, True), (denied, False)):
        if rows is not None:
            allowed_N[torch.from_numpy(rows)] = value
    return allowed_N
