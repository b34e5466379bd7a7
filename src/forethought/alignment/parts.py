"""What the one training loop gets where a run is aligned: the method as an `Aligner`, and the data it learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from forethought.alignment.aligner import Aligner
from forethought.alignment.feedback import Feedback
from forethought.alignment.held_out import halves, shared_out
from forethought.alignment.items import item_ranks
from forethought.alignment.learned_reward import LearnedReward
from forethought.alignment.own_rewards import Rewards
from forethought.alignment.settings import Alignment
from forethought.data.splits import Split
from forethought.methods.interface import Method


@dataclass(frozen=True, eq=False)
class GivenReward:
    """A learned reward as an alignment has it.

    Attributes:
        taken: it was learned on other data, so that nobody here is set apart for it.
    """

    reward: LearnedReward
    taken: bool


def to_align(
    method: Method,
    settings: Alignment,
    split: Split,
    seed: int,
    rewards: Rewards | None = None,
    feedback: Feedback | None = None,
    learned: GivenReward | None = None,
) -> tuple[Method, Split]:
    """The method as it is aligned, and the split without the validation users that it learns from.

    Raises:
        ConfigError: it cannot be aligned so.
        DataError: there are too few validation cases.
    """
    apart = settings.learn_weights or (learned is not None and not learned.taken)
    rows, chosen_by = halves(split, method.window, seed) if apart else (None, split.valid)
    reward = None if learned is None else learned.reward
    aligner = Aligner(method, settings, item_ranks(split), rewards, rows, feedback, reward)
    if apart:
        return aligner, replace(split, valid=chosen_by)
    return aligner, shared_out(split, method.window, seed) if aligner.cases == "held_out" else split
