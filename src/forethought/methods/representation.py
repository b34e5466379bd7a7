"""What a batch of histories came to, before it is held against items."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from forethought.catalogue.sparse_scores import SparseScores
from forethought.errors import ConfigError
from forethought.reasoning.halting import Trace


@dataclass
class UserRepresentation:
    """What a batch of histories came to. The method that made it ranks and recommends from it; nobody else looks in.

    Attributes:
        steps_B: reasoning steps used, 0 for a method that does not reason.
        added: to the logits, by evidence beside the method.
    """

    steps_B: Tensor
    added: SparseScores | None = field(default=None, kw_only=True)

    @property
    def look_ups(self) -> int:
        """Numbers of a table that are looked up for each item, where it is scored by its tokens; otherwise none."""
        return 0

    def __len__(self) -> int:
        return len(self.steps_B)

    def select(self, rows: Tensor) -> Self:
        """That of some rows only."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self)}
        added = None if self.added is None else self.added.take(torch.arange(len(self), device=rows.device)[rows])
        taken = {name: x[rows] if isinstance(x, Tensor) else x for name, x in chosen.items()}
        return replace(self, **{**taken, "added": added})


@dataclass
class DenseStates(UserRepresentation):
    """One vector a user, whose inner product with an item's is the score: what most methods come to.

    Attributes:
        states_BD: final states, ready for the product with the item matrix.
        trace: how it came to that, if it was asked for and the method reasons.
    """

    states_BD: Tensor
    trace: Trace | None = None

    @classmethod
    def unreasoned(cls, states_BD: Tensor) -> DenseStates:
        """Of a method that takes no step."""
        return cls(torch.zeros(states_BD.shape[0], dtype=torch.int64, device=states_BD.device), states_BD)

    def select(self, rows: Tensor) -> Self:
        trace = None if self.trace is None else Trace(*(part[rows] for part in self.trace))
        return replace(super().select(rows), trace=trace)


def dense_states(represented: UserRepresentation, purpose: str) -> DenseStates:
    """The representation as one vector a user, for what can be done with nothing else.

    Raises:
        ConfigError: the method has no such vector; the text names the purpose.
    """
    if not isinstance(represented, DenseStates):
        raise ConfigError(f"{purpose} needs a model that comes to one vector a user, and this one does not.")
    return represented
