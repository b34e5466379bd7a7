"""Items with equal tokens are told apart, by the change that costs least or by one more token.

    greedy    the most popular item of a group keeps its tuple; each of the others, in order of popularity, takes the
              free tuple that one other code leads to and that adds least to its squared error, among the nearest codes
              of every book; where none of them is free, the one that two other codes lead to
    counter   one more book numbers the items of a group by popularity, from 0 (TIGER, arXiv 2305.05065)
    keep      they stay equal

Shapes: N items, M codebooks, C codes a book, A alternatives a book.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from forethought.errors import ConfigError
from forethought.semantic_ids.token_table import TokenTable
from forethought.semantic_ids.tokenizer import Collisions, Tokenizer

ALTERNATIVES = 16  # nearest codes of a book that are tried
AT_ONCE = 256  # items whose alternatives are held at once
PAIRS_AT_MOST = 4096  # of two changes, for an item that one change does not free


def resolve(
    codes_NM: Tensor,
    tokenizer: Tokenizer,
    values_NF: Tensor,
    popularity_N: Tensor,
    how: Collisions,
    *,
    taken: TokenTable | None = None,
) -> Tensor:
    """Codes in which equal ones are told apart, int64 [N, M], or [N, M + 1] with a counter.

    Args:
        values_NF: raw inputs of the items.
        popularity_N: of equal items the one with most keeps its tokens, then the one in the lower row.
        taken: what other items have already, a counter included; it stays as it is.

    Raises:
        ConfigError: more items share their tokens than a counter has codes.
    """
    if how == "keep":
        return codes_NM
    order = np.lexsort((np.arange(len(codes_NM)), -popularity_N.cpu().numpy().astype(np.float64)))
    if how == "counter":
        return _counted(codes_NM, order, tokenizer.size, taken)
    return _repaired(codes_NM, tokenizer, values_NF, order, taken)


def _counted(codes_NM: Tensor, order: np.ndarray, size: int, taken: TokenTable | None) -> Tensor:
    next_of: dict[bytes, int] = {}
    if taken is not None:
        for row in taken.codes_NM.cpu().numpy():
            key = row[:-1].tobytes()
            next_of[key] = max(next_of.get(key, 0), int(row[-1]) + 1)
    codes = codes_NM.cpu().numpy()
    counter_N = np.zeros(len(codes), np.int64)
    for item in order:
        key = codes[item].tobytes()
        counter_N[item] = next_of.get(key, 0)
        next_of[key] = int(counter_N[item]) + 1
    most = max(next_of.values(), default=0)
    if most > size:
        raise ConfigError(
            f"{most:,} items have the same tokens, but a counter of {size:,} codes tells no more than so many apart: "
            "give more codebooks or larger ones, features that tell the items apart, or collisions greedy."
        )
    return torch.cat([codes_NM, torch.from_numpy(counter_N)[:, None].to(codes_NM)], dim=1)


def _repaired(
    codes_NM: Tensor, tokenizer: Tokenizer, values_NF: Tensor, order: np.ndarray, taken: TokenTable | None
) -> Tensor:
    codes = codes_NM.cpu().numpy().copy()
    used = set() if taken is None else {row.tobytes() for row in taken.codes_NM.cpu().numpy()}
    keys = [row.tobytes() for row in codes]
    surplus = []
    for item in order:
        if keys[item] in used:
            surplus.append(int(item))
        used.add(keys[item])
    for start in range(0, len(surplus), AT_ONCE):
        rows = torch.tensor(surplus[start : start + AT_ONCE])
        added, alternatives = _alternatives(tokenizer, values_NF[rows], codes_NM[rows])
        for place, item in enumerate(rows.tolist()):
            free = _free(codes[item], added[place], alternatives[place], used)
            if free is not None:
                codes[item] = free
                used.add(free.tobytes())
    return torch.from_numpy(codes).to(codes_NM.device)


def _alternatives(tokenizer: Tokenizer, values_NF: Tensor, codes_NM: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What the nearest other codes of each book add, and which they are: [N, M, A] each, cheapest first."""
    costs_NMC = tokenizer.costs(values_NF, codes_NM).scatter(2, codes_NM[..., None], torch.inf)
    count = min(ALTERNATIVES, tokenizer.size - 1)
    added, codes = costs_NMC.sort(dim=2, stable=True)
    return added[..., :count].cpu().numpy(), codes[..., :count].cpu().numpy()


def _free(own_M: np.ndarray, added_MA: np.ndarray, codes_MA: np.ndarray, used: set[bytes]) -> np.ndarray | None:
    """The cheapest tuple that nobody has, one code away from the item's own, else two; None: there is none."""
    width = added_MA.shape[1]
    tried = own_M.copy()
    for flat in np.argsort(added_MA, axis=None, kind="stable"):
        book, place = divmod(int(flat), width)
        tried[book] = codes_MA[book, place]
        if tried.tobytes() not in used:
            return tried
        tried[book] = own_M[book]
    for books, places in _pairs(added_MA):
        tried[books] = codes_MA[books, places]
        if tried.tobytes() not in used:
            return tried
        tried[books] = own_M[books]
    return None


def _pairs(added_MA: np.ndarray) -> list[tuple[list[int], list[int]]]:
    """Two books and a place in each, the cheapest pairs first."""
    books, width = added_MA.shape
    both = [(first, second) for first, second in combinations(range(books), 2)]
    if not both:
        return []
    sums = np.stack([added_MA[first][:, None] + added_MA[second][None] for first, second in both])
    pairs = []
    for flat in np.argsort(sums, axis=None, kind="stable")[:PAIRS_AT_MOST]:
        pair, rest = divmod(int(flat), width * width)
        pairs.append((list(both[pair]), list(divmod(rest, width))))
    return pairs
