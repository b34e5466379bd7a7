"""When to stop as a policy: after each reasoning step but the last a row goes on or stops, and rewards say which paid.

Where a row may stop before its first step, that is a choice, too. Thoughts do not depend on when somebody will stop.
So a history is reasoned about once, to the last step, and all its rollouts are draws of exits over the same states;
only the halting net is trained.

Shapes: B histories, G rollouts, E exits (the steps 0 or 1 to the last), C = E - 1 choices, H items that follow,
D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.ranking import rank_of
from forethought.errors import ConfigError
from forethought.reasoning.halting import Halting, Trace
from forethought.reasoning.halting_head import HaltingHead
from forethought.reasoning.policy import Future, Replayed, Rollouts
from forethought.reasoning.readouts import Readout


def check_exits(halting: Halting, max_steps: int, readout: Readout) -> None:
    """Refuse a DTRec in which its halting net has nothing to choose, or decides more than when to stop.

    Raises:
        ConfigError: says which setting it would take.
    """
    if max_steps <= halting.min_steps or halting.rule != "arh":
        why = f"halts by {halting.rule!r}" if halting.rule != "arh" else f"takes {max_steps} step whoever it is"
        raise ConfigError(
            f"What is aligned of a DTRec is its halting net, but this one {why}: align one that halts by 'arh' and has "
            "more max_steps than halting.min_steps."
        )
    if readout == "weighted":
        raise ConfigError(
            "Aligning the halting net would also change what a weighted readout recommends: align a DTRec whose "
            "readout is mean or last."
        )


class Exits(NamedTuple):
    """When rollouts ended, and what they had to choose by.

    Attributes:
        steps_BG: reasoning steps taken, `first` .. the last.
        indicators_BE3: where they may stop, as the halting net reads them.
        states_BED: what is recommended from, if a row stops there.
        first: steps that everybody takes, 0 or 1.
    """

    steps_BG: Tensor
    indicators_BE3: Tensor
    states_BED: Tensor
    first: int

    def met(self) -> Tensor:
        """Which choices a rollout came to, [B, G, C]."""
        return self._steps_C() <= self.steps_BG[..., None]

    def said(self, logits_BC: Tensor) -> tuple[Tensor, Tensor]:
        """ln p of what was chosen, [B, G, C], and of going on and of stopping, [B, G, C, 2]."""
        all_BC2 = torch.stack([F.logsigmoid(-logits_BC), F.logsigmoid(logits_BC)], dim=-1)
        all_BGC2 = all_BC2[:, None].expand(-1, self.steps_BG.shape[1], -1, -1)
        stops_BGC = (self._steps_C() == self.steps_BG[..., None]).long()
        return all_BGC2.gather(3, stops_BGC[..., None])[..., 0], all_BGC2

    def _steps_C(self) -> Tensor:
        """The steps after which there is a choice."""
        return self.first + torch.arange(self.indicators_BE3.shape[1] - 1, device=self.steps_BG.device)


class HaltingFacts(NamedTuple):
    """What rewards of halting are made of.

    Attributes:
        steps_BG: steps taken.
        most: of them.
        ranks_BG: of the next item among all, where a rollout stopped.
    """

    steps_BG: Tensor
    most: int
    ranks_BG: Tensor


@dataclass(frozen=True)
class ExitPolicy:
    """A `reasoning.policy.Policy` of halting.

    Attributes:
        head: the halting net.
        traced: every step of each history of a batch, whoever would have stopped.
        catalogue: the items as they are now.
    """

    head: HaltingHead
    traced: Callable[[Any], Trace]
    catalogue: Callable[[], Catalogue]
    kind: ClassVar[str] = "halting"

    def trained(self) -> Iterable[nn.Parameter]:
        return self.head.parameters()

    @torch.no_grad()
    def roll_out(self, batch: Any, group: int, temperature: float, future: Future | None = None) -> Rollouts:
        traced = self.traced(batch)
        first, logits_BC = traced.first, _logits(self.head, traced.indicators_PT3, traced.first)
        halts_BGC = (logits_BC / temperature).sigmoid()[:, None].expand(-1, group, -1)
        ends_BGE = F.pad(torch.rand_like(halts_BGC) < halts_BGC, (0, 1), value=True)  # the last step always ends
        steps_BG = ends_BGE.int().argmax(-1) + first
        made = Exits(steps_BG, traced.indicators_PT3, traced.states_PSD[:, first:], first)
        return Rollouts(made.said(logits_BC)[0].detach(), made.met(), made)

    def replay(self, batch: Any, rollouts: Rollouts) -> Replayed:
        made: Exits = rollouts.made
        return Replayed(*made.said(_logits(self.head, made.indicators_BE3, made.first)))

    @torch.no_grad()
    def facts(self, batch: Any, rollouts: Rollouts, future: Future) -> HaltingFacts:
        made: Exits = rollouts.made
        E, catalogue = made.states_BED.shape[1], self.catalogue()
        states = catalogue.comparable(made.states_BED.flatten(0, 1))
        ranks_BE = rank_of(states, catalogue, future.items_BH[:, 0].repeat_interleave(E)).view(-1, E)
        ranks_BG = ranks_BE.gather(1, made.steps_BG - made.first)
        return HaltingFacts(made.steps_BG, made.first + E - 1, ranks_BG)


def _logits(head: HaltingHead, indicators_BE3: Tensor, first: int) -> Tensor:
    """ln p / (1 - p) of stopping, wherever a row may go on, [B, C]."""
    if first:
        return head.logits(indicators_BE3[:, :-1])
    start_B1 = head.logits_at_start(indicators_BE3[:, :1]).flatten(1)
    return torch.cat([start_B1, head.logits(indicators_BE3[:, 1:-1])], dim=1)
