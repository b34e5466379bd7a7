"""The learned reward that a run is aligned by: fitted to half of the validation users, or taken from another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from forethought.alignment.held_out import halves
from forethought.alignment.items import item_ranks
from forethought.alignment.learned_reward import LearnedReward, fit, told_apart
from forethought.alignment.parts import GivenReward
from forethought.alignment.reward_file import read_reward, reward_sum
from forethought.alignment.reward_fitting import judged_paths
from forethought.alignment.settings import Alignment
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.path_policy import PathPolicy
from forethought.recommender import Recommender
from forethought.run_folder import check_unchanged

if TYPE_CHECKING:  # importing it takes longer than importing torch
    from lightning_fabric import Fabric

OWN = "of paths of users it was not fitted to"
FITTED, TAKEN = "reward", "reward_from"  # among what a run refers to


def learned_reward(
    run: Recommender, split: Split, taken: str | Path | None, fabric: Fabric, *, resume: bool
) -> GivenReward | None:
    """The reward that is learned, noted in the run with how well it tells paths apart; None where none has a weight.

    A run that is resumed goes on with the one in its folder, which is not fitted again.

    Args:
        taken: an aligned run of other data whose reward is taken as it is.

    Raises:
        ConfigError: it would change nothing, or there is none to take, or it reads what this run does not have.
        DataError: there are too few validation cases, or nothing to learn from them.
        RunError: it is damaged.
    """
    alignment = run.config.alignment
    if alignment is None or not alignment.path_rewards.learned:
        if taken is not None:
            raise ConfigError(
                "path_rewards.learned is 0, so that reward_from would change nothing: give it a weight, or leave "
                "reward_from out."
            )
        return None
    policy = run.method.rl_policy()
    if not isinstance(policy, PathPolicy):
        return None  # whoever aligns it refuses its weight
    _check(alignment, fitted=taken is None, processes=fabric.world_size)
    going_on = resume and taken is None
    if going_on:
        assert run.folder is not None
        check_unchanged(run.folder, run.config)
        reward = read_reward(run.folder)
    else:
        run.method.to(fabric.device).eval()
        reward = _made(replace(policy, action=alignment.action), split, alignment, run, taken, fabric.device)
    run.about["references"][FITTED if taken is None else TAKEN] = reward_sum(reward)
    run.about["learned_reward"] = dict(reward.figures)
    return GivenReward(reward, taken is not None)


def sentence(given: GivenReward) -> str:
    """How well it tells paths apart."""
    figures = given.reward.figures
    named = {"correlation": "correlation", "within": "within a history", "auc": "AUC of hits"}
    told = [f"{said} {figures[name]:.3f}" for name, said in named.items() if name in figures]
    of = "learned elsewhere, of paths of half of the validation users here" if given.taken else OWN
    return f"The learned reward, {of}: {', '.join(told)}."


def _made(
    policy: PathPolicy,
    split: Split,
    alignment: Alignment,
    run: Recommender,
    taken: str | Path | None,
    device: torch.device,
) -> LearnedReward:
    seed, wanted = run.config.seed, alignment.path_rewards
    rows, _ = halves(split, run.method.window, seed)
    read = None if taken is None else read_reward(Path(taken))
    if read is not None and (read.gain, read.top) != (wanted.path_gain, wanted.top):
        raise ConfigError(
            f"The reward in {str(taken)!r} learned what a rank is worth by {read.gain} within {read.top}, but "
            f"path_gain is {wanted.path_gain} and top {wanted.top}: give those."
        )
    paths = judged_paths(policy, rows, item_ranks(split).rare_N, alignment, seed, device)
    if read is None:
        return fit(paths, wanted.path_gain, wanted.top)
    if other := sorted(set(read.names) ^ set(paths.names)):
        lacks = "this run does not have" if other[0] in read.names else "it does not know"
        raise ConfigError(
            f"The reward in {str(taken)!r} is of other signs of paths ({', '.join(other)}, which {lacks}, as only one "
            "of the two runs names categories): give one of a run like this."
        )
    return replace(read, figures=told_apart(read.says(paths.signs_UGF), paths.worth_UG))


def _check(alignment: Alignment, *, fitted: bool, processes: int) -> None:
    if fitted and alignment.cases == "held_out":
        raise ConfigError(
            "With a learned reward cases are those of training, but cases is held_out: the users set apart say what "
            "paths are worth, so they must not earn any; leave one of the two out, or take a reward from another run."
        )
    if fitted and processes > 1:
        raise ConfigError(
            f"A reward is learned in one process, but there are {processes}: take one from another run (reward_from), "
            "or align without torchrun."
        )
