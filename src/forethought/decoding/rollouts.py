"""Paths over tokens that are drawn, not sought: what a policy is aligned with.

The book that a step decides follows from the path so far (CRSS), and its token is drawn. What was decided is kept and
replayed; a book that is chosen anew by changed weights would score another choice. With `order="joint"` book and token
are drawn together, from one softmax over all open ones.

Shapes: B rows, G paths of each, T steps, M codebooks, C codes, Q categories, X choices (C, or M * C drawn together).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from forethought.decoding.decoder import TokenDecoder

Action = Literal["token", "joint"]


class BookDecoder(TokenDecoder, Protocol):
    """A `TokenDecoder` that can be asked for one book of each path alone."""

    def log_probs_of(self, state: Any, books_BP: Tensor) -> Tensor:
        """The log-softmax of these books, [B, P, C]."""
        ...


@dataclass(frozen=True, eq=False)
class DrawnPaths:
    """Paths as they were drawn.

    Attributes:
        books_BGT, tokens_BGT: what was decided, in this order.
        log_probs_BGT: of each choice, when it was made.
        table_BGMC: the whole row of each book as it stood when it was decided, after the last token for others.
        categories_BGTQ: log-probabilities of the categories before each token and after the last one, T + 1 of them.
    """

    books_BGT: Tensor
    tokens_BGT: Tensor
    log_probs_BGT: Tensor
    table_BGMC: Tensor
    categories_BGTQ: Tensor | None


@torch.no_grad()
def draw_paths(
    decoder: BookDecoder, rows: int, group: int, steps: int, *, temperature: float = 1.0, action: Action = "token"
) -> DrawnPaths:
    """`group` paths of each row; the history behind them is encoded once.

    Args:
        temperature: log-probabilities are divided by it before a token is drawn, and are told without it.
    """
    state = decoder.begin(rows)
    said_BGMC = decoder.log_probs(state).expand(-1, group, -1, -1)  # before the first token a row's paths are one
    device = said_BGMC.device
    state = state.select(torch.zeros(rows, group, dtype=torch.int64, device=device))
    open_BGM = torch.ones(rows, group, decoder.codebooks, dtype=torch.bool, device=device)
    books, tokens, log_probs, decided = [], [], [], []
    beliefs = [decoder.category_log_probs(state)]
    for _ in range(steps):
        book_BG, token_BG, log_prob_BG = _drawn(said_BGMC, open_BGM, temperature, action)
        at_BG1C = book_BG[..., None, None].expand(-1, -1, 1, said_BGMC.shape[-1])
        decided.append(said_BGMC.gather(2, at_BG1C)[:, :, 0])
        for part, value in zip((books, tokens, log_probs), (book_BG, token_BG, log_prob_BG), strict=True):
            part.append(value)
        open_BGM = open_BGM.scatter(2, book_BG[..., None], value=False)
        state = decoder.advance(state, book_BG, token_BG)
        said_BGMC = decoder.log_probs(state)
        beliefs.append(decoder.category_log_probs(state))
    books_BGT, rows_BGTC = torch.stack(books, dim=2), torch.stack(decided, dim=2)
    table_BGMC = said_BGMC.scatter(2, books_BGT[..., None].expand_as(rows_BGTC), rows_BGTC)
    named = [each for each in beliefs if each is not None]
    known_BGTQ = torch.stack(named, dim=2) if named else None
    return DrawnPaths(books_BGT, torch.stack(tokens, dim=2), torch.stack(log_probs, dim=2), table_BGMC, known_BGTQ)


def replay_paths(decoder: BookDecoder, drawn: DrawnPaths, action: Action = "token") -> tuple[Tensor, Tensor]:
    """What the decoder says now of the same choices [B, G, T], and of all there were [B, G, T, X]."""
    B, G, T = drawn.books_BGT.shape
    state = decoder.begin(B)
    state = state.select(torch.zeros(B, G, dtype=torch.int64, device=drawn.books_BGT.device))
    open_BGM = torch.ones(B, G, decoder.codebooks, dtype=torch.bool, device=drawn.books_BGT.device)
    every = []
    for step in range(T):
        book_BG, token_BG = drawn.books_BGT[..., step], drawn.tokens_BGT[..., step]
        if action == "token":
            every.append(decoder.log_probs_of(state, book_BG))
        else:
            every.append(_joint(decoder.log_probs(state), open_BGM))
            open_BGM = open_BGM.scatter(2, book_BG[..., None], value=False)
        if step + 1 < T:
            state = decoder.advance(state, book_BG, token_BG)
    every_BGTX = torch.stack(every, dim=2)
    chosen_BGT = drawn.tokens_BGT if action == "token" else drawn.books_BGT * decoder.size + drawn.tokens_BGT
    return every_BGTX.gather(3, chosen_BGT[..., None])[..., 0], every_BGTX


def _drawn(said_BGMC: Tensor, open_BGM: Tensor, temperature: float, action: Action) -> tuple[Tensor, Tensor, Tensor]:
    """A book and a token of each path, and the log-probability of that choice."""
    C = said_BGMC.shape[-1]
    if action == "joint":
        all_BGX = _joint(said_BGMC, open_BGM)
        choice_BG = _sampled(all_BGX, temperature)
        return choice_BG // C, choice_BG % C, all_BGX.gather(2, choice_BG[..., None])[..., 0]
    book_BG = said_BGMC.amax(-1).masked_fill(~open_BGM, -torch.inf).argmax(-1)  # of equal ones the first
    row_BGC = said_BGMC.gather(2, book_BG[..., None, None].expand(-1, -1, 1, C))[:, :, 0]
    token_BG = _sampled(row_BGC, temperature)
    return book_BG, token_BG, row_BGC.gather(2, token_BG[..., None])[..., 0]


def _joint(said_BGMC: Tensor, open_BGM: Tensor) -> Tensor:
    """One log-softmax over all tokens of all open books, [B, G, M * C]."""
    return said_BGMC.masked_fill(~open_BGM[..., None], -torch.inf).flatten(2).log_softmax(-1)


def _sampled(log_probs_BGX: Tensor, temperature: float) -> Tensor:
    """One choice of each row, by the largest of what is added to Gumbel noise."""
    noise = torch.empty_like(log_probs_BGX).exponential_().log_()
    return (log_probs_BGX / temperature - noise).argmax(-1)
