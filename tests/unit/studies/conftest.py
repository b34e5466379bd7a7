"""A tiny shop for studies, and variants that train in a second."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_studies import TINY

from forethought.data.splits import Split
from forethought.studies import runner, variants
from forethought.studies.runner import StudyContext
from forethought.training.progress import Quiet


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variants that train in a second; the third is the first under another name."""
    few = {name: (lambda recipe=recipe: recipe) for name, recipe in TINY.items()}
    few["dtrec-again"] = few["dtrec"]
    for module in (variants, runner):
        monkeypatch.setattr(module, "VARIANTS", few)


@pytest.fixture
def context(split: Split, tmp_path: Path, request: pytest.FixtureRequest) -> StudyContext:
    said: list[str] = []
    device = getattr(request, "param", "auto")
    return StudyContext(
        split, tmp_path / "results", tmp_path / "runs", said.append, Quiet, "forethought study x --data shop", device
    )
