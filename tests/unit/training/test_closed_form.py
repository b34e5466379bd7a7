"""What is fitted in closed form: once, by the first process, from the training part alone, and nothing half-written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forethought.config import Recipe
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.noise import Noise
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.methods.ease import EASE, EASEModel
from forethought.methods.lares import LARES
from forethought.methods.popular import Popular
from forethought.reports.model_card import model_card
from forethought.runs import train
from forethought.training.progress import Quiet
from forethought.training.settings import Training


class Notes(Quiet):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, sentence: str) -> None:
        self.said.append(sentence)


def test_it_is_validated_and_told_like_all_others(split: Split, tmp_path: Path) -> None:
    notes = Notes()
    run = train(EASE(regularisation=10.0), split, tmp_path / "run", observer=notes)
    quality = float(ndcg(rank_cases(run.method, split.valid, exclude_history=True).ranks, 10).mean())
    outcome = run.outcome()
    assert outcome == {"epochs": 0, "best_epoch": 0, "valid_ndcg@10": quality, "trained_s": outcome["trained_s"]}
    assert notes.said == [f"Fitted in closed form in {outcome['trained_s']:.1f} s: valid ndcg@10 {quality:.4f}."]
    assert run.about["precision"] == "32"
    assert run.n_parameters == split.data.n_items**2
    assert run.progress()["done"]


def test_only_the_training_part_is_seen(split: Split, tmp_path: Path) -> None:
    """What is held out may be anything."""
    items = split.train.histories.items.copy()
    items[~split.train.inside()] = 0
    other = replace(split, train=replace(split.train, histories=replace(split.train.histories, items=items)))
    for config in (Popular(), EASE()):
        one, two = (config.build(split.data.sizes) for _ in range(2))
        one.fit_closed_form(split.train)
        two.fit_closed_form(other.train)
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_noise_of_training_is_fitted_to(split: Split, tmp_path: Path) -> None:
    noise = Noise(kind="replace", share=0.5)
    run = train(Recipe(method=Popular(), noise=noise), split, tmp_path / "run")
    counts_N = split.with_noise(noise).train.item_counts(split.data.n_items)
    assert np.array_equal(run.method.counts_N.cpu().numpy(), counts_N)
    assert not np.array_equal(counts_N, split.train.item_counts(split.data.n_items))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"training": Training(epochs=3)}, "training.epochs would change nothing: leave that out"),
        (
            {"training": Training(learning_rate=1e-4, precision="bf16")},
            "training.learning_rate, training.precision would",
        ),
        ({"training": Training(split_catalogue=True)}, "training.split_catalogue would"),
        ({"features": Features(use="categories")}, "features would change nothing"),
        ({"evidence": Evidence(use="co_occurrence")}, "evidence would change nothing"),
    ],
)
def test_what_would_change_nothing_is_refused(split: Split, tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"EASE is fitted in closed form to what was met, so {said}"):
        train(Recipe(method=EASE(), **changed), split, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(Recipe(method=EASE(), training=Training(device="cpu")), split, tmp_path / "run")


def test_stopped_while_it_fits_nothing_is_left(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: EASEModel, train_part: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EASEModel, "fit_closed_form", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(EASE(), split, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resumed_with_another_setting_it_is_refused(split: Split, tmp_path: Path) -> None:
    train(EASE(), split, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"configured otherwise .*method.regularisation: "):
        train(EASE(regularisation=7.0), split, tmp_path / "run", resume=True)


def test_the_state_holds_no_second_copy_of_the_weights(split: Split, tmp_path: Path) -> None:
    train(EASE(), split, tmp_path / "run")
    (tensors,) = (tmp_path / "run/state").glob("*.safetensors")
    assert tensors.stat().st_size < 20_000
    assert (tmp_path / "run/model.safetensors").stat().st_size > 4 * split.data.n_items**2
    assert json.loads((tmp_path / "run/state/state.json").read_text())["done"]


def test_a_card_names_no_backbone_where_there_is_none() -> None:
    about = {
        **{"data": "x", "users": 1, "items": 1, "interactions": 1, "data_hash": "h", "protocol": {}},
        "exclude_history": True,
    }
    for config, kind in ((Popular(), "popular"), (LARES(), "lares")):
        name = type(config).__module__.rpartition(".")[2]
        card = model_card("run", {"method": {"type": name}, "seed": 0}, about)
        assert f"A **{kind}** that recommends" in card
    assert "A **sasrec** that" in model_card(
        "run", {"method": {"type": "next_item", "backbone": {"type": "sasrec"}}, "seed": 0}, about
    )
    assert "A **dtrec** around a **sasrec** that" in model_card(
        "run", {"method": {"type": "dtrec", "backbone": {"type": "sasrec"}}, "seed": 0}, about
    )
