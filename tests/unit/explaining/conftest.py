"""A model of each kind that `explained.py` has, trained once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from explained import METHODS

from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.training.settings import Training


@pytest.fixture(scope="session")
def models(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recommender]:
    """One of each kind, its weights made larger, so that probabilities differ and mistakes show."""
    folder, made = tmp_path_factory.mktemp("explained"), {}
    for name, config in METHODS.items():
        made[name] = train(Recipe(method=config, training=replace(quick, epochs=1)), split, folder / name)
        torch.manual_seed(0)
        for parameter in made[name].method.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
        made[name].method.begin_epoch(5)
    return made


@pytest.fixture(params=METHODS)
def model(request: pytest.FixtureRequest, models: dict[str, Recommender]) -> Recommender:
    return models[request.param]


@pytest.fixture
def dtrec(models: dict[str, Recommender]) -> Recommender:
    return models["dtrec"]
