"""Rewards of one's own: what is refused before anything is written, and what a function must say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_tokens import TOKENIZER

from forethought.aligning import align
from forethought.alignment.own_rewards import earned, own_rewards
from forethought.alignment.settings import Alignment
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.reg4rec import REG4Rec
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.training.settings import Training

SMALL: dict[str, Any] = {"width": 16, "window": 8, "ffn_width": 32}
LIKE = torch.zeros(3, 2, 4, dtype=torch.float64)


@pytest.fixture(scope="module")
def paths_run(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    method = REG4Rec(backbone=SASRec(**SMALL), tokenizer=TOKENIZER, steps=2)
    recipe = Recipe(method=method, training=quick, features=Features(use="categories,brand"))
    return train(recipe, split, tmp_path_factory.mktemp("reg4rec") / "run")


def says(_: Any) -> torch.Tensor:
    return torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([says], "rewards is of the kind list, but must be a dict"),
        ({"few": says}, "'few' must be a name with a weight and a function"),
        ({"few": (says, 0.5)}, "'few' must be a name with a weight and a function"),
        ({"few": (0.5, says, 1)}, "'few' must be a name with a weight and a function"),
        ({3: (0.5, says)}, "3 must be a name with a weight and a function"),
        ({"few": ("a", says)}, "weight of the reward 'few' is 'a', but must be a finite number"),
        ({"few": (True, says)}, "weight of the reward 'few' is True, but must be a finite number"),
        ({"few": (float("nan"), says)}, "weight of the reward 'few' is nan, but must be a finite number"),
        ({"path": (1.0, says)}, "of your own is called path, as one that there is"),
    ],
)
def test_what_is_no_reward_is_refused_and_nothing_is_written(
    given: Any, said: str, paths_run: Recommender, split: Split, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        align(paths_run, split, tmp_path / "run", Alignment(group=2, epochs=1, batches=1), rewards=given)
    assert not (tmp_path / "run").exists()


def test_what_is_given_is_taken_as_it_is() -> None:
    assert own_rewards(None, ()) == {}
    assert own_rewards({"few": (-1, says), "many": [2.5, says]}, ("path",)) == {
        "few": (-1.0, says),
        "many": (2.5, says),
    }


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 4)])
def test_a_number_a_rollout_or_a_choice(shape: tuple[int, ...]) -> None:
    made = earned("few", torch.ones(shape, dtype=torch.bool), LIKE)
    assert made.shape == shape
    assert made.dtype == torch.float64
    assert made.sum() == made.numel()


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (None, "gave a NoneType, but must give a tensor"),
        (torch.zeros(3), r"gave the shape \[3\], but must give \[3, 2\], .* or \[3, 2, 4\]"),
        (torch.zeros(3, 1), r"gave the shape \[3, 1\]"),
        (torch.zeros(2, 3), r"gave the shape \[2, 3\]"),
        (torch.tensor([[0.0, torch.inf]] * 3), "gave NaN or infinity"),
        (torch.tensor([[torch.nan, 0.0]] * 3), "gave NaN or infinity"),
    ],
)
def test_what_says_nothing_usable_is_told_by_its_name(said: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=f"The reward 'few' {match}"):
        earned("few", said, LIKE)


def test_an_alignment_ends_with_that_sentence(paths_run: Recommender, split: Split, tmp_path: Path) -> None:
    settings = Alignment(group=2, epochs=1, batches=1)
    with pytest.raises(ConfigError, match=r"The reward 'few' gave the shape \[7\]"):
        align(paths_run, split, tmp_path / "run", settings, rewards={"few": (1.0, lambda facts: torch.zeros(7))})


def test_a_reward_that_fails_before_anything_was_learned_leaves_no_run(
    paths_run: Recommender, split: Split, tmp_path: Path
) -> None:
    """The weights that an alignment begins with are those of the run that it was to align."""

    def fails(_: Any) -> torch.Tensor:
        assert (tmp_path / "run" / "model.safetensors").exists()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        align(
            paths_run, split, tmp_path / "run", Alignment(group=2, epochs=1, batches=1), rewards={"few": (1.0, fails)}
        )
    assert not (tmp_path / "run" / "model.safetensors").exists()
    made = align(paths_run, split, tmp_path / "run", Alignment(group=2, epochs=1, batches=1))  # nothing is in its way
    assert made.folder == tmp_path / "run"
