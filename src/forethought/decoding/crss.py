"""The order of books: which one each path decides next, and with which tokens it may go on.

The most confident one (CRSS in REG4Rec) is that whose best token is most probable; of equal ones the first. Paths that
decide a book each by themselves never come to the same set of tokens: where two of them part, they decide one book by
two tokens. With `joint` a path goes on with any token of any open book, and then they do; such paths are merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Order = Literal["confident", "fixed", "random", "joint"]


@dataclass(frozen=True)
class Children:
    """The best ways of going on from each of P paths, the most probable first; -inf is none.

    Attributes:
        log_probs_BPK: of the whole path with the new token.
        books_BPK, tokens_BPK: what is decided.
    """

    log_probs_BPK: Tensor
    books_BPK: Tensor
    tokens_BPK: Tensor


def children(
    log_probs_BPMC: Tensor, paths_BP: Tensor, open_BPM: Tensor, order: Order, ranks_BM: Tensor, width: int
) -> Children:
    """The `width` best ways of going on from each path, or as many as there are.

    Args:
        paths_BP: log-probabilities of the paths so far.
        open_BPM: True for the books that are not decided; one at least on each path.
        ranks_BM: for a random order: when each book's turn comes.
    """
    C = log_probs_BPMC.shape[3]
    if order == "joint":  # books are normalised one by one, so that as many are open, so much mass there is
        doors_BP = open_BPM.sum(-1).to(paths_BP.dtype).log()
        rows_BPX = log_probs_BPMC.masked_fill(~open_BPM[..., None], -torch.inf).flatten(2) - doors_BP[..., None]
        best_BPK, at_BPK = rows_BPX.topk(min(width, rows_BPX.shape[2]), dim=-1)
        return Children(paths_BP[..., None] + best_BPK, at_BPK // C, at_BPK % C)
    books_BP = next_books(log_probs_BPMC, open_BPM, order, ranks_BM)
    rows_BPC = log_probs_BPMC.gather(2, books_BP[:, :, None, None].expand(-1, -1, 1, C))[:, :, 0]
    best_BPK, tokens_BPK = rows_BPC.topk(min(width, C), dim=-1)
    return Children(paths_BP[..., None] + best_BPK, books_BP[..., None].expand_as(tokens_BPK), tokens_BPK)


def next_books(log_probs_BPMC: Tensor, open_BPM: Tensor, order: Order, ranks_BM: Tensor) -> Tensor:
    """The book that each path decides by itself, [B, P]."""
    if order == "confident":
        worth_BPM = log_probs_BPMC.amax(-1).clamp(min=-torch.finfo(log_probs_BPMC.dtype).max)
    elif order == "random":
        worth_BPM = -ranks_BM[:, None].to(log_probs_BPMC.dtype).expand(open_BPM.shape)
    else:
        worth_BPM = -torch.arange(open_BPM.shape[2], device=open_BPM.device).to(log_probs_BPMC).expand(open_BPM.shape)
    return worth_BPM.masked_fill(~open_BPM, -torch.inf).argmax(-1)


def drawn_ranks(log_probs_BMC: Tensor, seed: int) -> Tensor:
    """When each book's turn comes, int64 [B, M]: a permutation that hangs on the seed and on what a row expects.

    It is hashed and not drawn one row after the other, so that no row's order depends on its batch.
    """
    M, C = log_probs_BMC.shape[1:]
    books_M = torch.arange(1, M + 1, device=log_probs_BMC.device)
    key_B = _mixed(log_probs_BMC.argmax(-1) + books_M * C + seed % 2**31 * (M + 1) * C).sum(-1)
    return _mixed(key_B[:, None] + _mixed(books_M)).argsort(-1).argsort(-1)


def _mixed(numbers: Tensor) -> Tensor:
    """Whole numbers whose every bit hangs on all of theirs; they overflow on purpose."""
    for factor in (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15):
        numbers = numbers * factor
        numbers = numbers ^ ((numbers >> 29) & (2**35 - 1))
    return numbers


def token_keys(books: int, size: int, device: torch.device) -> Tensor:
    """A number a token, [M, C], whose sums tell sets apart: two of a million sets are alike once in 10^7 times."""
    return _mixed(torch.arange(1, books * size + 1, device=device).view(books, size))


def merge_equal_sets(ways: Children, keys_BP: Tensor, keys_MC: Tensor) -> Children:
    """Ways that come to the same set of tokens count as one: the most probable has the mass of all, the others none.

    Args:
        keys_BP: sums of the keys of the tokens on each path.
    """
    shape = ways.log_probs_BPK.shape
    keys_BQ = (keys_BP[..., None] + keys_MC[ways.books_BPK, ways.tokens_BPK]).flatten(1)
    scores_BQ = ways.log_probs_BPK.flatten(1)
    order_BQ = scores_BQ.argsort(dim=1, descending=True, stable=True)
    order_BQ = order_BQ.gather(1, keys_BQ.gather(1, order_BQ).argsort(dim=1, stable=True))
    scores_BQ, keys_BQ = scores_BQ.gather(1, order_BQ), keys_BQ.gather(1, order_BQ)
    first_BQ = torch.ones_like(keys_BQ, dtype=torch.bool)
    first_BQ[:, 1:] = keys_BQ[:, 1:] != keys_BQ[:, :-1]
    group_BQ = first_BQ.cumsum(1) - 1
    most_BG = torch.zeros_like(scores_BQ).scatter_add(1, group_BQ, scores_BQ.masked_fill(~first_BQ, 0.0))
    most_BQ = most_BG.gather(1, group_BQ).clamp(min=-torch.finfo(scores_BQ.dtype).max)
    mass_BG = torch.zeros_like(scores_BQ).scatter_add(1, group_BQ, (scores_BQ - most_BQ).exp())
    merged_BQ = (most_BQ + mass_BG.gather(1, group_BQ).log()).masked_fill(~first_BQ, -torch.inf)
    merged_BPK = torch.empty_like(merged_BQ).scatter(1, order_BQ, merged_BQ).view(shape)
    merged_BPK, order_BPK = merged_BPK.sort(dim=-1, descending=True, stable=True)
    return Children(merged_BPK, ways.books_BPK.gather(2, order_BPK), ways.tokens_BPK.gather(2, order_BPK))
