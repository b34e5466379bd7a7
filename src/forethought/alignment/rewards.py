"""Rewards as plain functions: of what was chosen and of what came next.

A reward of paths is a function `PathFacts -> [B, G, T]` (what each choice earned) or `[B, G]` (what the whole path
did); whoever has another one hands it to `ft.align(rewards={"name": (weight, function)})`. PARS is REG4Rec's (arXiv
2508.15308; the formulas are our reading of its summary). With later items of the same user (MSRA) a reward is the mean
of those for each of them, w^j as the weight of the j-th, over those there are.

Shapes: B histories, G rollouts, T steps, H items that follow, Q categories.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from forethought.alignment.settings import HaltingRewards, LatentRewards, PathRewards
from forethought.decoding.corp import jensen_shannon
from forethought.decoding.path_facts import PathFacts
from forethought.reasoning.grpo import reward_of
from forethought.reasoning.halting_rollouts import HaltingFacts
from forethought.reasoning.latent_rollouts import LatentFacts

PathReward = Callable[[PathFacts], Tensor]
PARS = ("step_hit", "category_hit", "consistency", "path")
OF_CATEGORIES = ("category_hit", "consistency")  # which a run that names no categories cannot earn


class ItemRanks(NamedTuple):
    """Where items stand among all others by what training says of them, as shares of the items below.

    Attributes:
        rare_N: 1 is the item that was met least.
        late_N: 1 is the item that was met first after all others; None where there are no times.
    """

    rare_N: Tensor
    late_N: Tensor | None


@dataclass(frozen=True)
class Window:
    """The items that follow, each with its weight (MSRA)."""

    decay: float

    def mean(self, each_XH: Tensor, facts: PathFacts) -> Tensor:
        """The weighted mean over those items that there are."""
        real_BH = facts.future.real_BH
        weights_BH = real_BH * self.decay ** torch.arange(real_BH.shape[1], device=real_BH.device)
        weights_BH = weights_BH / weights_BH.sum(1, keepdim=True)
        shape = (len(weights_BH), *(1 for _ in each_XH.shape[1:-1]), -1)
        return (each_XH * weights_BH.to(each_XH.dtype).view(shape)).sum(-1)


def path_rewards(settings: PathRewards, items: ItemRanks) -> dict[str, PathReward]:
    """The rewards that have a weight, by name."""
    window = Window(settings.decay)
    known: dict[str, PathReward] = {
        "step_hit": lambda facts: step_hit(facts, window),
        "category_hit": lambda facts: category_hit(facts, window),
        "consistency": consistency,
        "path": lambda facts: path(facts, window, settings),
        "coverage": lambda facts: items.rare_N.to(facts.best_BG.device)[facts.best_BG],
        "freshness": lambda facts: items.late_N.to(facts.best_BG.device)[facts.best_BG],  # type: ignore[union-attr]
        "diversity": diversity,
        "margin": lambda facts: facts.margins_BG.sigmoid(),
    }
    return {name: reward for name, reward in known.items() if getattr(settings, name)}


def step_hit(facts: PathFacts, window: Window) -> Tensor:
    """R_step(t) = 1 if the token is one of the next item's."""
    return window.mean(facts.hits_BGTH.to(facts.table_BGMC.dtype), facts)


def category_hit(facts: PathFacts, window: Window) -> Tensor:
    """R_cat(t) = 1 if the category that is most believed in after the token is the next item's."""
    beliefs = facts.paths.categories_BGTQ
    assert beliefs is not None
    of_BH = facts.category_N[facts.future.items_BH]
    hits_BGTH = beliefs[:, :, 1:].argmax(-1)[..., None] == of_BH[:, None, None]
    return window.mean(hits_BGTH.to(beliefs.dtype), facts)


def consistency(facts: PathFacts) -> Tensor:
    """R_con(t) = 1 - JS(p_{t-1}, p_t) / ln 2. Alone it is won by a belief that never moves."""
    beliefs = facts.paths.categories_BGTQ
    assert beliefs is not None
    return 1 - jensen_shannon(beliefs[:, :, :-1], beliefs[:, :, 1:]) / math.log(2)


def path(facts: PathFacts, window: Window, settings: PathRewards) -> Tensor:
    """R_path: what the rank is worth that the finished path gives to the next item, [B, G]."""
    gains_BGH = reward_of(facts.ranks_BGH, settings.path_gain, settings.top)
    return window.mean(gains_BGH.to(facts.table_BGMC.dtype), facts)


def diversity(facts: PathFacts) -> Tensor:
    """The share of the group's other paths whose best item is another one, [B, G]."""
    best_BG = facts.best_BG
    other_BGG = best_BG[:, :, None] != best_BG[:, None]
    return other_BGG.to(facts.table_BGMC.dtype).sum(-1) / (best_BG.shape[1] - 1)


def halting_rewards(settings: HaltingRewards) -> Mapping[str, Callable[[HaltingFacts], Tensor]]:
    """What the rank is worth where a row stopped, and what its steps cost, [B, G] each."""
    return {
        "gain": lambda facts: reward_of(facts.ranks_BG, settings.gain, settings.top).float(),
        "price": lambda facts: -settings.step_price * facts.steps_BG.float(),
    }


def latent_rewards(settings: LatentRewards) -> Mapping[str, Callable[[LatentFacts], Tensor]]:
    """What the rank is worth that a trajectory came to, [B, G]."""
    return {"gain": lambda facts: reward_of(facts.ranks_BG, settings.gain, settings.top).float()}


def to_go(rewards_BGT: Tensor) -> Tensor:
    """What each choice and those behind it earned."""
    return rewards_BGT.flip(-1).cumsum(-1).flip(-1)


def spread(reward: Tensor, steps: int) -> Tensor:
    """[B, G, T] of what each choice earned; what a whole path earned comes with its last choice."""
    if reward.ndim == 3:
        return reward
    return torch.nn.functional.pad(reward[..., None], (steps - 1, 0))
