"""Latent trajectories as a policy: thoughts from drawn beginnings and of drawn depths, each worth what it came to.

    z ~ N(0, sigma^2), k ~ depth        T_0 = omega z,  T_1 .. T_k        l_i = ln p(next item | T_i)

This is LARES's second stage (arXiv 2505.16865; the authors' code): what a trajectory chooses at each step is the next
item, and its log-probability after that step is what the reward of the trajectory's end makes likelier or rarer. So the
choice is given and not drawn. Nor could it be: the reward is the rank of the next item, which is the same whichever
item is drawn from a trajectory's softmax, and a gradient over draws that earn the same is 0 on average. Noise and depth
have laws of their own that nothing here changes, so their probabilities do not enter.

Shapes: B histories, L positions, G rollouts, K steps of the longest, P steps of all rollouts, D width, N items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import moments
from forethought.catalogue.ranking import rank_of
from forethought.nn.transformer import at_positions, last_positions
from forethought.reasoning.policy import AllItems, Future, Replayed, Rollouts
from forethought.reasoning.recurrence import Recurrence, draw_depth


class Thoughts(NamedTuple):
    """What trajectories are made from, and what they came to.

    Attributes:
        start_GBLD: T_0.
        depths: k of each rollout, the same for all histories of a batch; the deepest first.
        next_B: the next item.
        ends_GBD: T_k behind each history, as it was when it was drawn.
    """

    start_GBLD: Tensor
    depths: tuple[int, ...]
    next_B: Tensor
    ends_GBD: Tensor


class LatentFacts(NamedTuple):
    """What rewards of latent trajectories are made of.

    Attributes:
        steps_BG: k.
        ranks_BG: of the next item among all, by the trajectory's end.
    """

    steps_BG: Tensor
    ranks_BG: Tensor


@dataclass(frozen=True)
class LatentPolicy:
    """A `reasoning.policy.Policy` of latent trajectories.

    Attributes:
        method: all of which is trained.
        read: H of a batch of histories, [B, L, D].
        start: T_0 drawn for such H.
        recurrence: the step from T_{i-1} to T_i.
        mean_recurrence: m, around which depths are drawn.
        catalogue: the items as they are now.
    """

    method: nn.Module
    read: Callable[[Any], Tensor]
    start: Callable[[Tensor], Tensor]
    recurrence: Recurrence
    mean_recurrence: int
    catalogue: Callable[[], Catalogue]
    kind: ClassVar[str] = "latent"

    def trained(self) -> Iterable[nn.Parameter]:
        return self.method.parameters()

    @torch.no_grad()
    def roll_out(self, batch: Any, group: int, temperature: float, future: Future | None = None) -> Rollouts:
        assert future is not None, "what a trajectory chooses is the next item"
        H_BLD = self.read(batch)
        depths = tuple(sorted((draw_depth(self.mean_recurrence) for _ in range(group)), reverse=True))
        start_GBLD = temperature * torch.stack([self.start(H_BLD) for _ in range(group)])
        steps = self._steps(H_BLD, batch.lengths_B, start_GBLD, depths)
        ends_GBD = torch.stack([steps[k - 1][g] for g, k in enumerate(depths)])
        made = Thoughts(start_GBLD, depths, future.items_BH[:, 0], ends_GBD)
        said = self._said(steps, made).log_probs_BGT
        real_GT = _real(depths, said.device)
        return Rollouts(said, real_GT.expand(len(said), -1, -1), made)

    def replay(self, batch: Any, rollouts: Rollouts) -> Replayed:
        made: Thoughts = rollouts.made
        return self._said(self._steps(self.read(batch), batch.lengths_B, made.start_GBLD, made.depths), made)

    @torch.no_grad()
    def facts(self, batch: Any, rollouts: Rollouts, future: Future) -> LatentFacts:
        made: Thoughts = rollouts.made
        G, catalogue = len(made.depths), self.catalogue()
        states = catalogue.comparable(made.ends_GBD.flatten(0, 1))
        ranks_GB = rank_of(states, catalogue, future.items_BH[:, 0].repeat(G)).view(G, -1)
        steps_G = torch.tensor(made.depths, device=ranks_GB.device)
        return LatentFacts(steps_G.expand(ranks_GB.shape[1], -1), ranks_GB.T)

    def _steps(self, H_BLD: Tensor, lengths_B: Tensor, start_GBLD: Tensor, depths: tuple[int, ...]) -> list[Tensor]:
        """T_i behind each history by the rollouts that are so deep, [G_i, B, D] for each i = 1 .. K."""
        G, B = len(depths), len(lengths_B)
        H, lengths, now = H_BLD.repeat(G, 1, 1), lengths_B.repeat(G), start_GBLD.flatten(0, 1)
        steps = []
        for step in range(1, depths[0] + 1):
            going = B * sum(depth >= step for depth in depths)
            H, lengths = H[:going], lengths[:going]
            now = self.recurrence(now[:going], H, lengths)
            steps.append(at_positions(now, last_positions(lengths))[:, 0].view(-1, B, now.shape[-1]))
        return steps

    def _said(self, steps: list[Tensor], made: Thoughts) -> Replayed:
        """ln p of the next item after each step, 0 behind a rollout's last."""
        catalogue, B = self.catalogue(), len(made.next_B)
        real_TG = _real(made.depths, made.next_B.device).T
        r_PD = catalogue.scaled(torch.cat([states.flatten(0, 1) for states in steps]))
        next_P = made.next_B.repeat(len(r_PD) // B)
        said_P = (r_PD * catalogue.scaled_of(next_P)).sum(-1) - moments(r_PD, catalogue).lse_P

        def placed(values_P: Tensor) -> Tensor:
            values_TGB = values_P.new_zeros(*real_TG.shape, B)
            values_TGB[real_TG] = values_P.view(-1, B)
            return values_TGB.permute(2, 1, 0)

        return Replayed(placed(said_P), None, AllItems(r_PD, catalogue, placed))


def _real(depths: tuple[int, ...], device: torch.device) -> Tensor:
    """Which steps rollouts take, [G, K]."""
    return torch.arange(depths[0], device=device) < torch.tensor(depths, device=device)[:, None]
