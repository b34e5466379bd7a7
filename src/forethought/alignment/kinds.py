"""What a kind of policy brings with it: its rewards, and what stands where nothing is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from forethought.alignment.learned_reward import LEARNED, LearnedReward
from forethought.alignment.rewards import OF_CATEGORIES, ItemRanks, halting_rewards, latent_rewards, path_rewards
from forethought.alignment.settings import Alignment, CasesOf, PathRewards
from forethought.errors import ConfigError
from forethought.methods.interface import Method
from forethought.methods.path_policy import PathPolicy
from forethought.reasoning.policy import Policy


class Filled(NamedTuple):
    """Settings that mean something else for each kind where nothing is asked for."""

    cases: CasesOf
    anchor: float
    kl_weight: float
    rate: float


PLAIN = {
    "paths": Filled("training", 0.5, 0.05, 0.3),
    # When to stop is not to be read off cases that the thoughts were trained on. What a step more is worth, some
    # thousandths, moves ln p / (1 - p) by no more than that over kl_weight; and a net of some weights has far to go.
    "halting": Filled("held_out", 0.0, 0.0, 3.0),
    "latent": Filled("training", 0.5, 0.05, 0.3),
}
MISSING = {"paths": "has no paths", "halting": "does not halt", "latent": "draws no latent trajectories"}
OWN = {"paths": "path_rewards", "halting": "halting_rewards", "latent": "latent_rewards"}


def filled(kind: str, settings: Alignment) -> Filled:
    """What was asked for, else what is plain for this kind.

    Raises:
        ConfigError: a kind of KL where there is none.
    """
    asked = {name: getattr(settings, name) for name in Filled._fields}
    found = PLAIN[kind]._replace(**{name: value for name, value in asked.items() if value is not None})
    if not found.kl_weight and settings.kl != Alignment.kl:
        raise ConfigError("kl would change nothing, because kl_weight is 0: leave that out.")
    return found


def policy_of(method: Method, settings: Alignment) -> Policy:
    """The method as one that chooses, in the way that was asked for.

    Raises:
        ConfigError: it makes no choices, or not in that way.
    """
    policy = method.rl_policy()
    unread = [name for name in ("delta", "delta_within") if getattr(settings, name) is not None]
    if policy.kind != "halting" and unread:
        raise ConfigError(f"This method {MISSING['halting']}, so that {unread[0]} would change nothing: leave it out.")
    if isinstance(policy, PathPolicy):
        return replace(policy, action=settings.action)
    if settings.action != "token":
        raise ConfigError("action is of paths, and this method has none: leave it out.")
    if policy.kind == "latent" and settings.kl == "k1":
        raise ConfigError(
            "What this method's trajectories choose is the next item, and kl k1 would teach them not to name it: take "
            "exact or k3."
        )
    return policy


def rewards_of(
    policy: Policy, settings: Alignment, items: ItemRanks, learned: LearnedReward | None
) -> dict[str, tuple[float, Callable[[Any], Tensor]]]:
    """Those of the policy's kind, each with its weight.

    Raises:
        ConfigError: settings that this kind does not read, or rewards of what is not known.
    """
    _refuse_others(policy.kind, settings)
    if policy.kind == "halting":
        return {name: (1.0, reward) for name, reward in halting_rewards(settings.halting_rewards).items()}
    if policy.kind == "latent":
        return {name: (1.0, reward) for name, reward in latent_rewards(settings.latent_rewards).items()}
    made = path_rewards(settings.path_rewards, items)
    if isinstance(policy, PathPolicy) and policy.tokens.categories is None:
        asked = [name for name in OF_CATEGORIES if getattr(settings.path_rewards, name)]
        plain = [name for name in asked if getattr(settings.path_rewards, name) != getattr(PathRewards, name)]
        if plain:
            raise ConfigError(
                f"The run names no categories, so that {' and '.join(plain)} cannot be rewarded: leave it out."
            )
        for name in asked:
            made.pop(name)
    if "freshness" in made and items.late_N is None:
        raise ConfigError("The data has no times, so that freshness cannot be rewarded: leave it out.")
    if settings.path_rewards.learned:
        assert learned is not None
        made[LEARNED] = partial(learned.earned, rare_N=items.rare_N)
    return {name: (getattr(settings.path_rewards, name), reward) for name, reward in made.items()}


def _refuse_others(kind: str, settings: Alignment) -> None:
    """Refuse rewards of a kind that this policy is not of.

    Raises:
        ConfigError: such were set.
    """
    plain = Alignment()
    for other, name in OWN.items():
        if other != kind and getattr(settings, name) != getattr(plain, name):
            raise ConfigError(f"This method {MISSING[other]}, so that {name} would change nothing: leave them out.")
