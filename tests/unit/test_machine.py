"""A run knows what it was trained on, and says so when it goes on elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from forethought import machine
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.runs import train
from forethought.training.progress import Quiet
from forethought.training.settings import Training


class Stop(Quiet):
    """Presses Ctrl-C after the first epoch, and keeps what it is warned of."""

    def __init__(self, stop: bool = False) -> None:
        self.stop, self.warned = stop, list[str]()

    def end_epoch(self, epoch: int, figures: dict[str, float], improved: bool) -> None:
        if self.stop:
            raise KeyboardInterrupt

    def warn(self, sentence: str) -> None:
        self.warned.append(sentence)


@pytest.fixture
def stopped(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        train(Recipe(method=sasrec, training=quick_saved(quick)), split, tmp_path / "run", observer=Stop(stop=True))
    return tmp_path / "run"


def quick_saved(quick: Training) -> Training:
    from dataclasses import replace

    return replace(quick, checkpoint_every_s=1e-9)


def test_a_run_records_processor_threads_and_torch(stopped: Path) -> None:
    told = json.loads((stopped / "config.json").read_text())["about"]["trained_on"]
    assert told["threads"] == torch.get_num_threads()
    assert told["torch"] == torch.__version__
    assert told["processor"]
    assert told["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert told["precision"] in ("32", "bf16")


def test_a_resume_under_the_same_says_nothing(stopped: Path, sasrec: SASRec, split: Split, quick: Training) -> None:
    watcher = Stop()
    train(Recipe(method=sasrec, training=quick_saved(quick)), split, stopped, resume=True, observer=watcher)
    assert not [said for said in watcher.warned if "begun on another machine" in said]


def test_a_resume_with_other_threads_says_so(
    stopped: Path, sasrec: SASRec, split: Split, quick: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine.described(torch.device("cpu"))
    monkeypatch.setattr(machine, "described", lambda device: here | {"threads": 7})
    watcher = Stop()
    train(Recipe(method=sasrec, training=quick_saved(quick)), split, stopped, resume=True, observer=watcher)
    (said,) = [said for said in watcher.warned if "begun on another machine" in said]
    assert f"threads {torch.get_num_threads()} then, 7 now" in said
    assert "processor" not in said


def test_without_an_observer_it_is_a_warning(
    stopped: Path, sasrec: SASRec, split: Split, quick: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = machine.described(torch.device("cpu"))
    monkeypatch.setattr(machine, "described", lambda device: here | {"torch": "9.9"})
    with pytest.warns(UserWarning, match=r"torch .* then, '9\.9' now"):
        train(Recipe(method=sasrec, training=quick_saved(quick)), split, stopped, resume=True)
