"""Variants whose tokens are made of another variant's item vectors: that run is trained first, and is theirs alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.methods.rpg import RPG
from forethought.recommender import load
from forethought.semantic_ids.opq import OPQ
from forethought.studies import runner, variants
from forethought.studies.catalogue import STUDIES
from forethought.studies.runner import StudyContext, carry_out
from forethought.training.progress import Quiet
from forethought.training.settings import Training

FROM = "rpg-from-sasrec"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, sasrec: SASRec, quick: Training) -> None:
    tokens = RPG(backbone=sasrec, tokenizer=OPQ(codebooks=3, size=8, turns=1))
    rpg = Recipe(method=tokens, training=quick, features=Features(use="categories,brand"))
    few = {"rpg": rpg, "sasrec": Recipe(method=sasrec, training=quick), FROM: rpg}
    for module in (variants, runner):
        monkeypatch.setattr(module, "VARIANTS", {name: lambda recipe=recipe: recipe for name, recipe in few.items()})
        monkeypatch.setattr(module, "MADE_OF", {FROM: ("rpg", "sasrec")})


@pytest.mark.usefixtures("tiny")
def test_tokens_are_of_the_run_of_the_same_seed(split: Split, tmp_path: Path) -> None:
    said: list[str] = []
    context = StudyContext(split, tmp_path / "results", tmp_path / "runs", said.append, Quiet, "forethought study x")
    study = replace(STUDIES["tokens-of-vectors"], variants=("rpg", FROM))
    page = carry_out(study, context, seeds=[1])
    rpg, of, sasrec = (load(tmp_path / "runs" / f"{name}-{split.data.name}-file-1") for name in ("rpg", FROM, "sasrec"))
    assert of.about["references"]["collaborative_from"] == sasrec.weights_sum
    assert sasrec.config.seed == 1
    assert "collaborative_from" not in rpg.about["references"]
    assert not torch.equal(rpg.method.tokens.codes_NM, of.method.tokens.codes_NM)  # type: ignore[union-attr,arg-type]
    assert f"| {FROM} | 1 |" in page.read_text()
    assert sorted(path.stem.split("-shop")[0] for path in (tmp_path / "results" / "runs").iterdir()) == ["rpg", FROM]

    said.clear()
    carry_out(study, context, seeds=[1])
    assert said == []


def test_each_has_a_name_of_its_own() -> None:
    """The recipe is the same, and a page that took it for the same run would show one run's figures twice."""
    for name, (recipe, run) in variants.MADE_OF.items():
        assert variants.VARIANTS[name]() == variants.VARIANTS[recipe]()
        assert variants.canonical([name, recipe])[name] == name != variants.canonical([recipe])[recipe]
        assert run in variants.VARIANTS
        assert name in STUDIES["tokens-of-vectors"].variants
