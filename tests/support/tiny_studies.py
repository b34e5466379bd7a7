"""Studies of recipes that train in a second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.methods.dtrec import DTRec
from forethought.methods.next_item import NextItem
from forethought.studies.catalogue import STUDIES
from forethought.studies.runner import StudyContext
from forethought.training.settings import Training

SMALL = SASRec(width=16, heads=2, window=8, ffn_width=32)
QUICK = Training(epochs=2, batch_positions=128, learning_rate=5e-3, warmup_steps=5)
TINY = {
    "sasrec": Recipe(method=NextItem(backbone=SMALL), training=QUICK),
    "dtrec": Recipe(
        method=DTRec(backbone=replace(SMALL, input_norm=True), first_clusters=4, most_clusters=12), training=QUICK
    ),
}


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine shows no CUDA device")
on_every_device = pytest.mark.parametrize("context", ["cpu", pytest.param("cuda", marks=NO_GPU)], indirect=True)


def study(*names: str, of: str = "latent-reasoning", **changed: Any) -> Any:
    return replace(STUDIES[of], variants=names, **changed)


def said(context: StudyContext) -> list[str]:
    return context.say.__self__  # type: ignore[attr-defined]
