"""The softmax over all items whose logits are sums over their tokens: the full cross-entropy of a token table.

    z(i) = sum_m T[m, c_im]        lse = log sum_i exp z(i)        d lse / d T[m, c] = sum of p(i), i of code c

As with vectors (`moments.py`), no tensor of [positions, items] outlives a block, and gradients are made in the same
walk: items fetch their tokens' rows, one exponential is taken, and probabilities are added up to the tokens again.
Fetching and adding up are bags of rows of many positions side by side, M additions an item each, where a catalogue of
vectors takes D multiplications. The gradient is worth knowing too: it says how probable each token of each book is.

Shapes: P positions, N items, M codebooks, C codes a book, X = M * C.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue.blocks import accumulator

CPU_COLUMNS, CUDA_COLUMNS = 64, 1024  # positions walked together: their table stays in a core's second-level cache
CPU_BLOCK, CUDA_BLOCK = 2**25, 2**27  # numbers of a block [items, positions], at most: few columns are slow
WALK = 1 / 32  # of all items: to look up more of them for a position takes longer than to walk over all


@dataclass(frozen=True, eq=False)
class TokenBags:
    """Which tokens each item has, and which items each token has.

    Attributes:
        places_NM: rows of the table [X], int32: m * C + c_im.
        size: codes a book (C).
    """

    places_NM: Tensor
    size: int

    @classmethod
    def of(cls, codes_NM: Tensor, size: int) -> TokenBags:
        """Of the tokens of all items."""
        books_M = torch.arange(codes_NM.shape[1], device=codes_NM.device) * size
        return cls((codes_NM + books_M).int(), size)

    @property
    def table_rows(self) -> int:
        """X."""
        return self.places_NM.shape[1] * self.size

    @cached_property
    def items_of_tokens(self) -> tuple[Tensor, Tensor]:
        """Items sorted by token, and where those of each token begin."""
        flat_Y = self.places_NM.long().flatten()
        order_Y = flat_Y.argsort(stable=True)
        counts_X = torch.bincount(flat_Y, minlength=self.table_rows)
        return (order_Y // self.places_NM.shape[1]).int(), (counts_X.cumsum(0) - counts_X).int()


def token_lse(table_PX: Tensor, bags: TokenBags) -> Tensor:
    """lse of each position, [P], summed in float32 for 16-bit tables; differentiable in the table.

    Args:
        table_PX: what each token adds to the logits of the items that have it, book after book.
    """
    return _TokenLSE.apply(table_PX.to(accumulator(table_PX.dtype)), bags)  # type: ignore[no-any-return]


def token_probabilities(table_PX: Tensor, bags: TokenBags) -> Tensor:
    """How probable each token is, [P, X]: the sum of the probabilities of the items that have it, 1 in each book."""
    return _walk(table_PX, bags)[1]


def lse_among(table_PX: Tensor, bags: TokenBags, items_P: Tensor, open_PM: Tensor) -> Tensor:
    """lse of each position over the items that share an item's tokens of all books but the open ones, [P].

    The items of the rarest of these tokens are looked up, and nothing is done for all others: M numbers for each pair
    of a position and such an item, all held at once, about N / C items a position. Where even the rarest token is that
    of a large share of the items (`WALK`), as those of a book that has collapsed are, all items are walked over
    instead, with the tokens that were not decided at minus infinity. Differentiable in the table; summed in float32 for
    16-bit tables.

    Args:
        items_P: an item each, of which at least one book is not open.
        open_PM: the books in which the others may differ.
    """
    table_PX = table_PX.to(accumulator(table_PX.dtype))
    own_PM = bags.places_NM[items_P].long()
    items_Y, begins_X = bags.items_of_tokens
    counts_X = torch.diff(begins_X, append=begins_X.new_full((1,), len(items_Y)))
    counts_P, book_P = counts_X[own_PM].masked_fill(open_PM, len(items_Y)).min(1)
    many_P = counts_P > WALK * len(bags.places_NM)
    few, many = (~many_P).nonzero()[:, 0], many_P.nonzero()[:, 0]
    lse_P = table_PX.new_empty(len(table_PX))
    if len(few):
        begins = begins_X[own_PM[few].gather(1, book_P[few, None])[:, 0]]
        looked_up = _lse_looked_up(table_PX[few], bags, own_PM[few], open_PM[few], counts_P[few], begins)
        lse_P = lse_P.index_put((few,), looked_up)
    if len(many):
        kept_RX = open_PM[many].repeat_interleave(bags.size, dim=1).scatter(1, own_PM[many], value=True)
        lse_P = lse_P.index_put((many,), token_lse(table_PX[many].masked_fill(~kept_RX, -torch.inf), bags))
    return lse_P


def _lse_looked_up(
    table_PX: Tensor, bags: TokenBags, own_PM: Tensor, open_PM: Tensor, counts_P: Tensor, begins_P: Tensor
) -> Tensor:
    """Of the pairs of a position and each of the items from `begins` on, those that share all that is decided."""
    P, X = table_PX.shape
    items_Y, _ = bags.items_of_tokens
    rows_E = torch.repeat_interleave(torch.arange(P, device=own_PM.device), counts_P)
    since_P = counts_P.cumsum(0) - counts_P
    at_E = torch.arange(len(rows_E), device=rows_E.device) + (begins_P - since_P)[rows_E]
    items_E = items_Y[at_E].long()
    kept_E = ((bags.places_NM[items_E] == own_PM[rows_E]) | open_PM[rows_E]).all(1)
    rows_E, items_E = rows_E[kept_E], items_E[kept_E]
    at_EM = rows_E[:, None] * X + bags.places_NM[items_E]
    z_E = table_PX.flatten().gather(0, at_EM.flatten()).view(at_EM.shape).sum(1)
    most_P = z_E.detach().new_full((P,), -torch.inf).scatter_reduce(0, rows_E, z_E.detach(), "amax")
    total_P = z_E.new_zeros(P).index_add(0, rows_E, (z_E - most_P[rows_E]).exp())
    return total_P.log() + most_P


class _TokenLSE(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table_PX: Tensor, bags: TokenBags) -> Tensor:  # type: ignore[override]
        lse_P, p_PX = _walk(table_PX.detach(), bags)
        ctx.save_for_backward(p_PX)
        return lse_P

    @staticmethod
    def backward(ctx, grad_P: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (p_PX,) = ctx.saved_tensors
        return p_PX * grad_P[:, None], None


def _walk(table_PX: Tensor, bags: TokenBags) -> tuple[Tensor, Tensor]:
    """lse and probabilities of tokens, block by block of positions."""
    N, cuda = len(bags.places_NM), table_PX.is_cuda
    most = CUDA_COLUMNS if cuda else CPU_COLUMNS
    together = max(1, min(most, (CUDA_BLOCK if cuda else CPU_BLOCK) // max(N, 1)))
    items_Y, begins_X = bags.items_of_tokens
    lse, tokens = [], []
    for part_SX in table_PX.split(together):
        z_NS = F.embedding_bag(bags.places_NM, part_SX.T.contiguous(), mode="sum")
        most_S = z_NS.amax(0)
        z_NS.sub_(most_S).exp_()
        total_S = z_NS.sum(0)
        sums_XS = F.embedding_bag(items_Y, z_NS, begins_X, mode="sum")
        lse.append(total_S.log() + most_S)
        tokens.append((sums_XS / total_S).T)
    if not lse:
        return table_PX.new_zeros(0), table_PX
    return torch.cat(lse), torch.cat(tokens)
