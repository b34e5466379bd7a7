"""Tokens of all items: what a method reads an item as, and how many items share a tuple of them.

Shapes: N items, M codebooks, C codes a book.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

INT64_BITS = 63


@dataclass(frozen=True, eq=False)
class TokenTable:
    """The tokens of all items.

    Attributes:
        codes_NM: int64, from 0 to C - 1 in each book.
        size: codes a book (C).
        ordered: a prefix says more than what follows it (residual codes); else they are a set.
    """

    codes_NM: Tensor
    size: int
    ordered: bool

    @property
    def n_items(self) -> int:
        return self.codes_NM.shape[0]

    @property
    def codebooks(self) -> int:
        return self.codes_NM.shape[1]

    def keys_N(self) -> np.ndarray:
        """One key a tuple: an int64 with the first book in the highest digits, or bytes where that would not fit."""
        codes_NM = self.codes_NM.cpu().numpy()
        if self.codebooks * max(1, (self.size - 1).bit_length()) <= INT64_BITS:
            key_N = np.zeros(self.n_items, np.int64)
            for codes_N in codes_NM.T:
                key_N = key_N * self.size + codes_N
            return key_N
        digits = np.ascontiguousarray(codes_NM, dtype=">u4")
        return digits.view(np.dtype((np.void, digits.itemsize * self.codebooks)))[:, 0]

    @cached_property
    def _groups(self) -> tuple[np.ndarray, np.ndarray]:
        _, group_N, sizes = np.unique(self.keys_N(), return_inverse=True, return_counts=True)
        return group_N.reshape(-1), sizes

    def groups_N(self) -> Tensor:
        """The number of each item's collision group, int64: items of one group share their tuple."""
        return torch.from_numpy(self._groups[0].astype(np.int64))

    def group_sizes(self) -> Tensor:
        """How many items share each tuple that occurs, int64, in order of the groups' numbers."""
        return torch.from_numpy(self._groups[1].astype(np.int64))

    def idle_books(self) -> int:
        """How many books give all items the same token, and so tell nothing of them."""
        same_M = (self.codes_NM == self.codes_NM[:1]).all(0)
        return int(same_M.sum()) if self.n_items > 1 else 0

    def collisions(self) -> float:
        """Share of the items that share their tuple with another one."""
        group_N, sizes = self._groups
        return float((sizes[group_N] > 1).mean()) if self.n_items else 0.0
