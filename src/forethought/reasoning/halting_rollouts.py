"""When to stop as a policy: after each reasoning step but the last a row goes on or stops, and rewards say which paid.

Thoughts do not depend on when somebody will stop. So a history is reasoned about once, to the last step, and all its
rollouts are draws of exits over the same states; only the halting net is trained.

Shapes: B histories, G rollouts, T reasoning steps, T - 1 choices, H items that follow, D width.
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
    if max_steps < 2 or halting.rule != "arh":
        raise ConfigError(
            "What is aligned of a DTRec is its halting net, but this one takes a single step at most, or halts by "
            f"{halting.rule!r}: align one of two steps or more that halts by 'arh'."
        )
    if halting.min_steps == 0:
        raise ConfigError(
            "What is aligned of a DTRec chooses after each step, and this one may stop before the first: align one "
            "whose halting.min_steps is 1."
        )
    if readout == "weighted":
        raise ConfigError(
            "Aligning the halting net would also change what a weighted readout recommends: align a DTRec whose "
            "readout is mean or last."
        )


class Exits(NamedTuple):
    """When rollouts ended, and what they had to choose by.

    Attributes:
        steps_BG: reasoning steps taken, 1 .. T.
        indicators_BT3: after each step, as the halting net reads them.
        states_BTD: what is recommended from, if a row stops there.
    """

    steps_BG: Tensor
    indicators_BT3: Tensor
    states_BTD: Tensor


class HaltingFacts(NamedTuple):
    """What rewards of halting are made of.

    Attributes:
        steps_BG: steps taken.
        most: T.
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
        indicators_BT3 = traced.indicators_PT3
        logits_BT = self.head.logits(indicators_BT3[:, :-1])
        halts_BGT = (logits_BT / temperature).sigmoid()[:, None].expand(-1, group, -1)
        stops_BGT = torch.rand_like(halts_BGT) < halts_BGT
        T = indicators_BT3.shape[1]
        ends_BGT = F.pad(stops_BGT, (0, 1), value=True)  # the last step always ends
        steps_BG = ends_BGT.int().argmax(-1) + 1
        real_BGT = torch.arange(1, T, device=steps_BG.device) <= steps_BG[..., None]
        made = Exits(steps_BG, indicators_BT3, traced.states_PSD[:, 1:])
        return Rollouts(_said(logits_BT, made)[0].detach(), real_BGT, made)

    def replay(self, batch: Any, rollouts: Rollouts) -> Replayed:
        made: Exits = rollouts.made
        return Replayed(*_said(self.head.logits(made.indicators_BT3[:, :-1]), made))

    @torch.no_grad()
    def facts(self, batch: Any, rollouts: Rollouts, future: Future) -> HaltingFacts:
        made: Exits = rollouts.made
        T, catalogue = made.states_BTD.shape[1], self.catalogue()
        states = catalogue.comparable(made.states_BTD.flatten(0, 1))
        ranks_BT = rank_of(states, catalogue, future.items_BH[:, 0].repeat_interleave(T)).view(-1, T)
        return HaltingFacts(made.steps_BG, T, ranks_BT.gather(1, made.steps_BG - 1))


def _said(logits_BT: Tensor, made: Exits) -> tuple[Tensor, Tensor]:
    """ln p of what was chosen after each step but the last, [B, G, T - 1], and of going on and of stopping."""
    all_BTC = torch.stack([F.logsigmoid(-logits_BT), F.logsigmoid(logits_BT)], dim=-1)
    all_BGTC = all_BTC[:, None].expand(-1, made.steps_BG.shape[1], -1, -1)
    at_T = torch.arange(1, made.indicators_BT3.shape[1], device=logits_BT.device)
    stops_BGT = (at_T == made.steps_BG[..., None]).long()
    return all_BGTC.gather(3, stops_BGT[..., None])[..., 0], all_BGTC
