"""A shell to say verbs in, and a run to say them of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from shell import Shell

from forethought.recommender import Recommender


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def run(trained: Recommender, tmp_path: Path) -> Path:
    """A run folder of one's own."""
    assert trained.folder is not None
    return Path(shutil.copytree(trained.folder, tmp_path / "run"))
