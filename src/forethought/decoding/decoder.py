"""What beams ask of a method: log-probabilities of all tokens on each path, and to decide one of them."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class DecoderState(Protocol):
    """Where paths stand: a value, which nothing that follows changes."""

    def select(self, paths_BP: Tensor) -> Any:
        """Some of the paths of each row, in this order, some perhaps more than once."""
        ...


class TokenDecoder(Protocol):
    """A method for a batch of histories, one token after the other."""

    @property
    def codebooks(self) -> int: ...

    @property
    def size(self) -> int:
        """Codes a book."""
        ...

    def begin(self, rows: int) -> Any:
        """The `DecoderState` before the first token: one path a row."""
        ...

    def log_probs(self, state: Any) -> tuple[Tensor, Tensor | None]:
        """The log-softmax of every book [B, P, M, C], and that of the categories [B, P, G] where there are any."""
        ...

    def advance(self, state: Any, books_BP: Tensor, tokens_BP: Tensor) -> Any:
        """The `DecoderState` after one more token on each path."""
        ...
