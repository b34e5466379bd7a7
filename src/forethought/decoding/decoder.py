"""What beams ask of a method: log-probabilities of all tokens on each path, and to decide one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from torch import Tensor


class DecoderState(Protocol):
    """Where paths stand: a value, which nothing that follows changes."""

    def select(self, paths_BP: Tensor) -> Any:
        """Some of the paths of each row, in this order, some perhaps more than once."""
        ...


class Chain(Protocol):
    """What is remembered behind the paths of each row, as the chains of `nn/` are."""

    def branch(self, from_BP: Tensor) -> Self:
        """Path p goes on from what path `from_BP[:, p]` of its row has come to."""
        ...


AnyChain = TypeVar("AnyChain", bound=Chain)


@dataclass(frozen=True, eq=False)
class ChainState(Generic[AnyChain]):
    """A `DecoderState`: the states behind the last tokens, and the chain that the next ones will look back at."""

    states_BPD: Tensor
    chain: AnyChain

    def select(self, paths_BP: Tensor) -> ChainState[AnyChain]:
        at_BPD = paths_BP[..., None].expand(-1, -1, self.states_BPD.shape[-1])
        return ChainState(self.states_BPD.gather(1, at_BPD), self.chain.branch(paths_BP))


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

    def log_probs(self, state: Any) -> Tensor:
        """The log-softmax of every book, [B, P, M, C]."""
        ...

    def category_log_probs(self, state: Any) -> Tensor | None:
        """The log-softmax of the categories [B, P, G], where there are any; it costs little beside the books."""
        ...

    def advance(self, state: Any, books_BP: Tensor, tokens_BP: Tensor) -> Any:
        """The `DecoderState` after one more token on each path."""
        ...
