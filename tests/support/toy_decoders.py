"""Token decoders small enough to be enumerated: one that hears nothing of what is decided, one that hears all of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ToyState:
    """A vector a path, [B, P, D]."""

    hidden_BPD: Tensor

    def select(self, paths_BP: Tensor) -> ToyState:
        return ToyState(self.hidden_BPD.gather(1, paths_BP[..., None].expand(-1, -1, self.hidden_BPD.shape[2])))


class ToyDecoder:
    """h' = tanh(h / 2 + e[book, token]), so that the order counts; logits are linear in h, as are categories'."""

    def __init__(
        self,
        rows: int,
        codebooks: int = 3,
        size: int = 4,
        categories: int | None = None,
        *,
        blind: bool = False,
        seed: int = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.codebooks, self.size, width = codebooks, size, 5
        self.first_BD, self.tokens_MCD = drawn(rows, width), drawn(codebooks, size, width)
        self.heads_DMC = drawn(width, codebooks, size)
        self.categories_DG = None if categories is None else drawn(width, categories)
        self.blind, self.asked = blind, 0

    def begin(self, rows: int) -> ToyState:
        assert rows == len(self.first_BD)
        return ToyState(self.first_BD[:, None])

    def log_probs(self, state: ToyState) -> Tensor:
        self.asked += 1
        return torch.einsum("bpd,dmc->bpmc", state.hidden_BPD, self.heads_DMC).log_softmax(-1)

    def category_log_probs(self, state: ToyState) -> Tensor | None:
        return None if self.categories_DG is None else (state.hidden_BPD @ self.categories_DG).log_softmax(-1)

    def advance(self, state: ToyState, books_BP: Tensor, tokens_BP: Tensor) -> ToyState:
        if self.blind:
            return state
        return ToyState((state.hidden_BPD / 2 + self.tokens_MCD[books_BP, tokens_BP]).tanh())

    def after(self, row: int, prefix: list[tuple[int, int]]) -> tuple[Tensor, Tensor | None]:
        """What is said on one path, [M, C] and [G], step by step and by itself."""
        hidden_D = self.first_BD[row]
        for book, token in [] if self.blind else prefix:
            hidden_D = torch.tanh(hidden_D / 2 + self.tokens_MCD[book, token])
        logits = torch.einsum("d,dmc->mc", hidden_D, self.heads_DMC)
        beliefs = None if self.categories_DG is None else (hidden_D @ self.categories_DG).log_softmax(-1)
        return logits.log_softmax(-1), beliefs


def scores_of_all(decoder: ToyDecoder, row: int, codes: Tensor) -> list[float]:
    """The log-probability of each tuple, token by token."""
    scores = []
    for code in codes.tolist():
        path = list(enumerate(code))
        scores.append(sum(decoder.after(row, path[:step])[0][step, token].item() for step, token in path))
    return scores
