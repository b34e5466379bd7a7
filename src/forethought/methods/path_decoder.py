"""A batch of histories as searches over paths ask it, by heads that name all codebooks at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from forethought.backbones.interface import Chain
from forethought.decoding.decoder import ChainState
from forethought.methods.token_heads import TokenHeads
from forethought.nn.decoder import DecoderChain

PathState = ChainState[Chain | DecoderChain]
"""Where paths stand."""


@dataclass(frozen=True, eq=False)
class PathDecoder:
    """A `TokenDecoder`.

    Attributes:
        tokens: the heads.
        advanced: a state with one more vector [B, P, D] behind each path.
        first: the state before the first token.
    """

    tokens: TokenHeads
    advanced: Callable[[PathState, Tensor], PathState]
    first: PathState

    @property
    def codebooks(self) -> int:
        return self.tokens.codebooks

    @property
    def size(self) -> int:
        return self.tokens.size

    def begin(self, rows: int) -> PathState:
        assert rows == len(self.first.states_BPD)
        return self.first

    def log_probs(self, state: PathState) -> Tensor:
        return self.tokens.log_probs(state.states_BPD)

    def category_log_probs(self, state: PathState) -> Tensor | None:
        return self.tokens.category_log_probs(state.states_BPD)

    def log_probs_of(self, state: PathState, books_BP: Tensor) -> Tensor:
        return self.tokens.log_probs_of(state.states_BPD, books_BP)

    def advance(self, state: PathState, books_BP: Tensor, tokens_BP: Tensor) -> PathState:
        return self.advanced(state, self.tokens.vectors(books_BP, tokens_BP))
