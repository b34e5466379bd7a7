"""`PrefixTable`: which ordered tokens may follow which, and the items of each prefix; on the device, without a tree.

Items are sorted by their tokens, so that what shares a prefix stands together: a prefix is a number within its level,
its continuations are a range of the next level, its items a range of the sorted items. A range is read at once, as wide
as the widest one of its level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Level:
    """The prefixes of one length, X of them, in the order of their tokens.

    Attributes:
        tokens_X: the last token of each.
        offsets_Y: of the prefixes one shorter, where their continuations begin, and where the last ones end.
        items_X: where the items of each begin among the sorted items, and where the last ones end; one more than X.
        width: the most continuations of one prefix.
    """

    tokens_X: Tensor
    offsets_Y: Tensor
    items_X: Tensor
    width: int


@dataclass(frozen=True, eq=False)
class PrefixTable:
    """All prefixes of the tokens of some items.

    Attributes:
        size: codes a book.
        items_N: rows of the items, sorted by their tokens, of equal ones the lower row first.
    """

    size: int
    levels: tuple[Level, ...]
    items_N: Tensor

    @classmethod
    def of(cls, codes_NM: Tensor, size: int, allowed_N: Tensor | None = None) -> PrefixTable:
        """Of all items, or of those alone that may be listed.

        Raises:
            ConfigError: none may.
        """
        rows_N = torch.arange(len(codes_NM), device=codes_NM.device)
        if allowed_N is not None:
            rows_N = rows_N[allowed_N.to(rows_N.device)]
        if not len(rows_N):
            raise ConfigError("No item is left to recommend: forbid fewer tokens, or allow more items.")
        codes_NM = codes_NM[rows_N].long()
        order_N = torch.arange(len(rows_N), device=rows_N.device)
        for codes_N in codes_NM.T.flip(0):  # the last book first: each sort leaves the order of equal ones
            order_N = order_N[codes_N[order_N].argsort(stable=True)]
        codes_NM, levels = codes_NM[order_N], []
        first_N = torch.zeros(len(rows_N), dtype=torch.bool, device=rows_N.device)
        first_N[0] = True  # whether an item is the first of its prefix
        for codes_N in codes_NM.T:
            shorter_N = first_N.cumsum(0) - 1
            n_shorter = int(shorter_N[-1]) + 1
            first_N = first_N.clone()
            first_N[1:] |= codes_N[1:] != codes_N[:-1]
            starts_X = first_N.nonzero()[:, 0]
            levels.append(_level(codes_N[starts_X], shorter_N[starts_X], n_shorter, starts_X, len(rows_N)))
        return cls(size, tuple(levels), rows_N[order_N])

    @property
    def codebooks(self) -> int:
        return len(self.levels)

    def ranges(self, prefixes_BP: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The continuations of prefixes by book `step`: which they are, their tokens, and what of that is real,
        [B, P, W] each; W is the level's width."""
        level = self.levels[step]
        at_BP = prefixes_BP.clamp(min=0)
        at_BPW = level.offsets_Y[at_BP][..., None] + torch.arange(level.width, device=prefixes_BP.device)
        inside_BPW = (at_BPW < level.offsets_Y[at_BP + 1][..., None]) & (prefixes_BP >= 0)[..., None]
        at_BPW = at_BPW.clamp(max=len(level.tokens_X) - 1)
        return at_BPW, level.tokens_X[at_BPW], inside_BPW

    def following(self, codes_XT: Tensor) -> Tensor:
        """With which codes of the next book an item goes on behind some prefixes, bool [X, C]; with none behind what no
        item begins with."""
        at_X1 = codes_XT.new_zeros(len(codes_XT), 1)
        for step, codes_X in enumerate(codes_XT.T):
            longer_X1W, tokens_X1W, real_X1W = self.ranges(at_X1, step)
            met_XW = ((tokens_X1W == codes_X[:, None, None]) & real_X1W)[:, 0]
            at_X1 = longer_X1W[:, 0].gather(1, met_XW.int().argmax(1, keepdim=True))
            at_X1 = at_X1.masked_fill(~met_XW.any(1, keepdim=True), -1)
        _, tokens_X1W, real_X1W = self.ranges(at_X1, codes_XT.shape[1])
        row_Y, column_Y = real_X1W[:, 0].nonzero(as_tuple=True)
        open_XC = torch.zeros(len(codes_XT), self.size, dtype=torch.bool, device=codes_XT.device)
        open_XC[row_Y, tokens_X1W[row_Y, 0, column_Y]] = True
        return open_XC

    def tuples_of(self, length: int) -> Tensor:
        """How many whole tuples begin with each prefix of some length, [X]."""
        return torch.searchsorted(self.levels[-1].items_X, self.levels[length - 1].items_X).diff()

    def places(self, n_items: int) -> Tensor:
        """Which continuation of its prefix each item is, by each book, as `ranges` lists them, int64 [M, N]; -1 for
        items that are not in the table."""
        places_MN = torch.full((self.codebooks, n_items), -1, dtype=torch.int64, device=self.items_N.device)
        shorter_N = torch.zeros_like(self.items_N)
        for level, places_N in zip(self.levels, places_MN, strict=True):
            prefix_N = torch.arange(len(level.tokens_X), device=places_N.device).repeat_interleave(level.items_X.diff())
            places_N[self.items_N] = prefix_N - level.offsets_Y[shorter_N]
            shorter_N = prefix_N
        return places_MN


def _level(tokens_X: Tensor, shorter_X: Tensor, n_shorter: int, starts_X: Tensor, n_items: int) -> Level:
    counts_Y = torch.bincount(shorter_X, minlength=n_shorter)
    offsets_Y = torch.cat([counts_Y.new_zeros(1), counts_Y.cumsum(0)])
    items_X = torch.cat([starts_X, starts_X.new_tensor([n_items])])
    return Level(tokens_X, offsets_Y, items_X, int(counts_Y.max()))
