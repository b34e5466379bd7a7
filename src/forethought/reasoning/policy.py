"""What can be aligned: something that makes choices about a history, keeps them, and says how likely it finds them.

A rollout is drawn once and then replayed: whoever learns from it asks for the log-probabilities of the very choices
that were made, because what a model would choose by now may be another matter.

Shapes: B histories, G rollouts of each, T choices of a rollout, C what could be chosen, H items that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.divergence import divergence


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


class AllItems(NamedTuple):
    """All items as what could have been chosen: too many to be listed a choice, so they are walked.

    Attributes:
        states_PD: scaled, of each choice there is.
        catalogue: the items.
        placed: [P] as [B, G, T].
    """

    states_PD: Tensor
    catalogue: Catalogue
    placed: Callable[[Tensor], Tensor]

    def kl(self, reference: AllItems) -> Tensor:
        """KL(self || reference) of each choice, [B, G, T]; 0 where there is none."""
        return self.placed(divergence(self.states_PD, self.catalogue, reference.states_PD, reference.catalogue))


class Replayed(NamedTuple):
    """What a policy says now of choices that were made.

    Attributes:
        log_probs_BGT: of those choices.
        all_BGTC: of all that could have been chosen; None where they cannot be listed.
        items: the same where that is every item.
    """

    log_probs_BGT: Tensor
    all_BGTC: Tensor | None
    items: AllItems | None = None


class Policy(Protocol):
    """A method as one that chooses."""

    kind: ClassVar[str]
    """What its rewards are of: "paths", "halting" or "latent"."""

    def trained(self) -> Iterable[nn.Parameter]:
        """What alignment may change; all else is left as it is."""
        ...

    def roll_out(self, batch: Any, group: int, temperature: float, future: Future | None = None) -> Rollouts:
        """Draw, without gradients and without dropout.

        Args:
            future: what came next, for a policy whose choice it is to name that; others do not read it.
        """
        ...

    def replay(self, batch: Any, rollouts: Rollouts) -> Replayed:
        """The same choices once more, with gradients."""
        ...

    def facts(self, batch: Any, rollouts: Rollouts, future: Future) -> Any:
        """What rewards are made of, as their kind has it."""
        ...
