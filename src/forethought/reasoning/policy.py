"""What can be aligned: something that makes choices about a history, keeps them, and says how likely it finds them.

A rollout is drawn once and then replayed: whoever learns from it asks for the log-probabilities of the very choices
that were made, because what a model would choose by now may be another matter.

Shapes: B histories, G rollouts of each, T choices of a rollout, C what could be chosen, H items that follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn


class Future(NamedTuple):
    """What came after each history.

    Attributes:
        items_BH: the next item, and those that followed it.
        real_BH: which of them there are; the first always is.
    """

    items_BH: Tensor
    real_BH: Tensor


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Choices that were made.

    Attributes:
        log_probs_BGT: of each choice when it was made.
        real_BGT: which there are: rollouts that end early have fewer.
        made: what `Policy.replay` needs to come to the same choices.
    """

    log_probs_BGT: Tensor
    real_BGT: Tensor
    made: Any


class Replayed(NamedTuple):
    """What a policy says now of choices that were made.

    Attributes:
        log_probs_BGT: of those choices.
        all_BGTC: of all that could have been chosen; None where they cannot be listed.
    """

    log_probs_BGT: Tensor
    all_BGTC: Tensor | None


class Policy(Protocol):
    """A method as one that chooses."""

    kind: ClassVar[str]
    """What its rewards are of: "paths" or "halting"."""

    def trained(self) -> Iterable[nn.Parameter]:
        """What alignment may change; all else is left as it is."""
        ...

    def roll_out(self, batch: Any, group: int, temperature: float) -> Rollouts:
        """Draw, without gradients and without dropout."""
        ...

    def replay(self, batch: Any, rollouts: Rollouts) -> Replayed:
        """The same choices once more, with gradients."""
        ...

    def facts(self, batch: Any, rollouts: Rollouts, future: Future) -> Any:
        """What rewards are made of, as their kind has it."""
        ...
