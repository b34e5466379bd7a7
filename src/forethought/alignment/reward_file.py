"""`reward.safetensors` in the folder of an aligned run: the reward that was learned, for other runs to take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor

from forethought.alignment.learned_reward import LearnedReward
from forethought.errors import ConfigError, RunError
from forethought.files import first_line
from forethought.reasoning.grpo import Reward
from forethought.run_files import MEND, REWARD_FILE, Sums, check_sums
from forethought.tensor_files import checksum, load_tensors, save_tensors

FIGURES = "figures"  # which a reward that is taken over has anew, and its checksum is without


def write_reward(folder: Path, reward: LearnedReward, sums: Sums) -> None:
    """Bound to the files of these sums."""
    save_tensors(folder / REWARD_FILE, reward.tensors(), sums | _about(reward) | {FIGURES: json.dumps(reward.figures)})


def reward_sum(reward: LearnedReward) -> str:
    """Its checksum, wherever it lies."""
    return checksum(reward.tensors(), _about(reward))


def read_reward(folder: Path) -> LearnedReward:
    """That of an aligned run.

    Raises:
        ConfigError: the run has none.
        RunError: it is damaged, or the files beside it are others.
    """
    path = folder / REWARD_FILE
    if not path.exists():
        raise ConfigError(
            f"The run in {str(folder)!r} has no learned reward ({REWARD_FILE}): give one that was aligned with "
            "--path-rewards.learned."
        )
    try:
        tensors, about = load_tensors(path)
        made = _made(tensors, about)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({first_line(error)}): {MEND}.") from error
    check_sums(folder, about)
    return made


def _about(reward: LearnedReward) -> dict[str, str]:
    return {"signs": json.dumps(reward.names), "gain": reward.gain, "top": str(reward.top)}


def _made(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> LearnedReward:
    names: Any = json.loads(about["signs"])
    shapes = {"means": (len(names),), "stds": (len(names),), "weights": (len(names),), "bias": ()}
    fits = {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shapes
    if not fits or not all(t.dtype == torch.float64 and bool(t.isfinite().all()) for t in tensors.values()):
        raise ValueError("its tensors are not those of a learned reward")
    return LearnedReward(
        tuple(map(str, names)),
        tensors["means"],
        tensors["stds"],
        tensors["weights"],
        tensors["bias"],
        cast("Reward", about["gain"]),
        int(about["top"]),
        {str(name): float(value) for name, value in json.loads(about[FIGURES]).items()},
    )
