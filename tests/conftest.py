"""What many tests train on: a tiny simulated shop, a tiny recipe, and a run trained once."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from warm_python import POSSIBLE, WarmPython

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.training.settings import Training

torch.set_num_threads(1)
settings.register_profile("busy", deadline=None)  # a busy machine is no failure
settings.load_profile("busy")


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 80 users and 40 items."""
    return Shop(users=80, items=40, interactions_per_user=10.0, seed=3).write(tmp_path_factory.mktemp("data") / "shop")


@pytest.fixture(scope="session")
def split(shop: Path) -> Split:
    return leave_last_out(read(shop))


@pytest.fixture(scope="session")
def sasrec(split: Split) -> SASRec:
    """A small backbone with dropout, so that random generators matter."""
    return SASRec(width=16, layers=1, heads=2, window=8, ffn_width=32, dropout=0.2)


@pytest.fixture(scope="session")
def quick() -> Training:
    """Two epochs of a few batches."""
    return Training(epochs=2, batch_positions=128, learning_rate=5e-3, warmup_steps=5, checkpoint_every_s=0)


@pytest.fixture(scope="session")
def trained(
    sasrec: SASRec, split: Split, quick: Training, shop: Path, tmp_path_factory: pytest.TempPathFactory
) -> Recommender:
    """A run that several tests read; copy its folder before you change anything in it."""
    return train(Recipe(method=sasrec, training=quick), split, tmp_path_factory.mktemp("runs") / "sasrec")


@pytest.fixture(scope="session")
def processes() -> Iterator[dict[str, str]]:
    """The environment of commands that documents have: `python` and `forethought` are ours, with their imports done."""
    with tempfile.TemporaryDirectory() as short:  # the name of a socket has a hundred letters at most
        warm = WarmPython(Path(short)) if POSSIBLE else None
        folders = [short, str(Path(sys.executable).parent), os.environ["PATH"]]
        yield {**os.environ, "PATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}
        if warm is not None:
            warm.close()
