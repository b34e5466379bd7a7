"""Rewards of one's own: what they must be before alignment begins, and what they must say of a batch.

Shapes: B histories, G rollouts, T choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from forethought.errors import ConfigError

Rewards = Mapping[str, tuple[float, Callable[[Any], Tensor]]]
EXAMPLE = 'such as {"few_words": (0.5, few_words)}'


def own_rewards(given: Any, taken: Collection[str]) -> Rewards:
    """What was given, checked; none where it is None.

    Args:
        taken: names of the rewards beside them.

    Raises:
        ConfigError: no names with a weight and a function each, a weight that is no number, or a name that is taken.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"rewards is of the kind {type(given).__name__}, but must be a dict, {EXAMPLE}.")
    for name, pair in given.items():
        if not isinstance(name, str) or not isinstance(pair, tuple | list) or len(pair) != 2 or not callable(pair[1]):
            raise ConfigError(f"The reward {name!r} must be a name with a weight and a function, {EXAMPLE}.")
        weight = pair[0]
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ConfigError(f"The weight of the reward {name!r} is {weight!r}, but must be a finite number.")
        if name in taken:
            raise ConfigError(f"A reward of your own is called {name}, as one that there is: give it another name.")
    return {name: (float(weight), reward) for name, (weight, reward) in given.items()}


def earned(name: str, said: Any, like_BGT: Tensor) -> Tensor:
    """What a reward said of a batch, [B, G] or [B, G, T], of the type and on the device of `like_BGT`.

    Raises:
        ConfigError: it is no tensor, of another shape, or not all of it is finite.
    """
    if not isinstance(said, Tensor):
        raise ConfigError(f"The reward {name!r} gave a {type(said).__name__}, but must give a tensor.")
    if said.shape not in (like_BGT.shape, like_BGT.shape[:2]):
        rollouts, choices = list(like_BGT.shape[:2]), list(like_BGT.shape)
        raise ConfigError(
            f"The reward {name!r} gave the shape {list(said.shape)}, but must give {rollouts}, a number for each "
            f"rollout of each history, or {choices}, one for each choice."
        )
    made = said.to(like_BGT)
    if not torch.isfinite(made).all():
        raise ConfigError(f"The reward {name!r} gave NaN or infinity: mend its function.")
    return made
