"""A training of several stages: what each begins with, what is kept in the end, and that no stop shows."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from forethought import files
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.errors import RunError
from forethought.methods.interface import Stage
from forethought.methods.lares import LARES, Reinforcement
from forethought.methods.next_item import NextItemModel
from forethought.runs import train
from forethought.training import loop, validation
from forethought.training.interrupt import Interrupted
from forethought.training.progress import Quiet, Watch
from forethought.training.settings import Training

LOSS = NextItemModel.loss
FIRST, SECOND = Stage(name="first"), Stage(name="second", epochs=2, rate=0.5)


class Begun:
    """Gives SASRec the stages of a test, freezes its items in the second, and notes what each began with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *stages: Stage) -> None:
        self.weights: list[tuple[str, dict[str, torch.Tensor]]] = []

        def begin_stage(method: NextItemModel, name: str) -> None:
            weights = {key: tensor.clone() for key, tensor in method.state_dict().items()}
            self.weights.append((name, weights))
            method.items.requires_grad_(name != "second")

        monkeypatch.setattr(NextItemModel, "stages", lambda method: stages)
        monkeypatch.setattr(NextItemModel, "begin_stage", begin_stage)


def validated(monkeypatch: pytest.MonkeyPatch, *qualities: float) -> None:
    """Validation NDCG@10 of each epoch."""
    told = iter(qualities)
    monkeypatch.setattr(validation, "ndcg", lambda ranks, k: np.full(1, next(told)))


def same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    assert got.keys() == wanted.keys()
    return all(torch.equal(got[name], tensor) for name, tensor in wanted.items())


def lines(folder: Path) -> list[dict[str, float]]:
    told = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if not name.endswith("_s")} for line in told]


def everything(folder: Path) -> dict[str, torch.Tensor]:
    (last,) = (folder / "state").glob("state-*")
    kept = {path.name: load_file(path) for path in (folder / "state").glob("[!s]*.safetensors")}
    kept |= {"model": load_file(folder / "model.safetensors"), "state": load_file(last)}
    return {f"{file}/{name}": tensor for file, tensors in kept.items() for name, tensor in tensors.items()}


# ---- what a stage begins with, and what is kept


def test_a_stage_begins_with_the_best_of_the_one_before(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated(monkeypatch, 0.1, 0.3)
    two = train(
        Recipe(method=sasrec, training=replace(quick, schedule="constant")), split, tmp_path / "two"
    ).method.state_dict()
    begun = Begun(monkeypatch, FIRST, SECOND, Stage(name="third", epochs=1))
    validated(monkeypatch, 0.1, 0.3, 0.2, 0.05, 0.04, 0.2)
    settings = replace(quick, schedule="constant", epochs=3)
    run = train(Recipe(method=sasrec, training=settings), split, tmp_path / "run")
    (_, fresh), (second, after_first), (third, after_second) = begun.weights
    assert (second, third) == ("second", "third")
    assert not same(fresh, after_first)
    assert same(after_first, dict(two))
    assert same(after_first, load_file(tmp_path / "run/state/first.safetensors"))
    assert same(after_second, load_file(tmp_path / "run/state/second.safetensors"))
    assert not same(after_second, after_first)  # the best of the second stage, worse than that of the first
    assert same(dict(run.method.state_dict()), after_first)
    assert run.outcome() | {"trained_s": 0} == {"epochs": 6, "best_epoch": 2, "valid_ndcg@10": 0.3, "trained_s": 0}
    assert [line["stage"] for line in lines(tmp_path / "run")] == [1, 1, 1, 2, 2, 3]
    assert [line["epoch"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


def test_a_later_stage_that_is_better_is_kept(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Begun(monkeypatch, FIRST, SECOND)
    validated(monkeypatch, 0.1, 0.3, 0.4, 0.2)
    run = train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    assert run.outcome()["best_epoch"] == 3
    kept = dict(run.method.state_dict())
    start = begun.weights[1][1]
    assert not same(kept, start)
    assert torch.equal(kept["items.weight"], start["items.weight"])  # frozen
    assert not (tmp_path / "run/state/second.safetensors").exists()  # nothing follows that would start from it


def test_a_stage_may_be_no_candidate(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pre-training of a part, however good it looks."""
    begun = Begun(monkeypatch, replace(FIRST, candidate=False), SECOND)
    validated(monkeypatch, 0.8, 0.9, 0.2, 0.3)
    out = io.StringIO()
    run = train(
        Recipe(method=sasrec, training=quick), split, tmp_path / "run", observer=Watch(Console(file=out, width=200))
    )
    assert run.outcome() | {"trained_s": 0} == {"epochs": 4, "best_epoch": 4, "valid_ndcg@10": 0.3, "trained_s": 0}
    assert same(begun.weights[1][1], load_file(tmp_path / "run/state/first.safetensors"))
    said = out.getvalue().splitlines()
    assert said[0] == "Stage first: up to epoch 2."
    assert said[3] == "Stage second: up to epoch 4."
    assert ["*" in line for line in said] == [False, True, True, False, True, True, False]
    assert "stage" not in said[1]
    assert "all epochs done); the best was epoch 4 with valid ndcg@10 0.3000" in said[-1]


@pytest.mark.parametrize(
    ("patience", "figures", "said"),
    [(5, (0.1, 0.3), "2 epochs in 0 s (all epochs done)"), (1, (0.1, 0.05), "2 epochs in 0 s (no gain for 1 epoch)")],
)
def test_epochs_of_a_stage_alone_are_those_that_are_told(
    sasrec: SASRec,
    split: Split,
    quick: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    patience: int,
    figures: tuple[float, ...],
    said: str,
) -> None:
    """An alignment's are not those of the training whose other settings it has."""
    Begun(monkeypatch, Stage(name="only", epochs=2 if patience == 5 else 7, patience=patience))
    validated(monkeypatch, *figures)
    out = io.StringIO()
    long = replace(quick, epochs=50)
    watch = Watch(Console(file=out, width=200))
    train(Recipe(method=sasrec, training=long), split, tmp_path / "run", observer=watch)
    last = out.getvalue().splitlines()[-1]
    assert said.partition(" in ")[0] in last
    assert said.partition(" s ")[2] in last
    assert ("more --epochs may be worth their time" in last) == (patience == 5)


def test_each_stage_stops_early_by_itself(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Begun(monkeypatch, FIRST, replace(SECOND, epochs=9))
    validated(monkeypatch, 0.3, 0.2, 0.2, 0.1, 0.15, 0.12, 0.11, 0.9)
    train(Recipe(method=sasrec, training=replace(quick, epochs=9, patience=2)), split, tmp_path / "run")
    assert [line["stage"] for line in lines(tmp_path / "run")] == [1, 1, 1, 2, 2, 2, 2]


def test_optimiser_and_schedule_begin_anew(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Begun(monkeypatch, FIRST, SECOND)
    asked: list[tuple[int, int]] = []
    rate, epochs, applied = loop.learning_rate, [], []

    def noted(step: int, steps: int, settings: Training) -> float:
        asked.append((step, steps))
        return rate(step, steps, settings)

    class Optimiser(torch.optim.AdamW):
        def step(self, closure: Any = None) -> None:
            applied.append((self.param_groups[0]["lr"], sum(len(g["params"]) for g in self.param_groups)))
            super().step(closure)

    monkeypatch.setattr(loop, "learning_rate", noted)
    monkeypatch.setattr(torch.optim, "AdamW", Optimiser)
    monkeypatch.setattr(NextItemModel, "begin_epoch", lambda method, epoch: epochs.append(epoch))
    train(Recipe(method=sasrec, training=replace(quick, epochs=3)), split, tmp_path / "run")
    n = len(asked) // 5
    assert asked == [(step, 3 * n) for step in range(3 * n)] + [(step, 2 * n) for step in range(2 * n)]
    assert epochs == [0, 1, 2, 0, 1]
    all_, fewer = {count for _, count in applied[: 3 * n]}, {count for _, count in applied[3 * n :]}
    assert len(all_) == len(fewer) == 1
    assert all_.pop() == fewer.pop() + 1  # the items are frozen
    first, second = ([rate(step, total, quick) for step in range(total)] for total in (3 * n, 2 * n))
    assert [lr for lr, _ in applied] == pytest.approx(first + [lr / 2 for lr in second])
    (last,) = (tmp_path / "run/state").glob("state-*")
    moments = [key for key in load_file(last) if key.startswith("optimiser/") and key.endswith("/step")]
    assert len(moments) == applied[-1][1]


# ---- stopped and resumed


class After(Quiet):
    """Somebody who stops the run when so many steps are saved."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, losses: dict[str, float], positions: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise Interrupted


CONFIG = LARES(
    width=16, pre_layers=1, core_layers=1, window=8, ffn_width=32, dropout=0.2, reinforcement=Reinforcement(epochs=2)
)


@pytest.fixture(scope="module")
def uninterrupted(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(Recipe(method=CONFIG, training=replace(quick, checkpoint_every_s=1e-9)), split, folder)
    return folder


def test_both_stages_of_lares(uninterrupted: Path) -> None:
    told = lines(uninterrupted)
    assert [line["stage"] for line in told] == [1, 1, 2, 2]
    assert [{"named", "tla", "sla"} <= line.keys() for line in told] == [True, True, False, False]
    assert [{"reward", "kl", "kept"} <= line.keys() for line in told] == [False, False, True, True]
    assert 0 < told[2]["kl"] < told[3]["kl"]
    state = json.loads((uninterrupted / "state/state.json").read_text())
    assert state["best"] == max(line["valid_ndcg@10"] for line in told)
    assert state["stage_best"] == max(line["valid_ndcg@10"] for line in told[2:])


@pytest.mark.parametrize("place", ["first stage", "end of it", "its last state", "second stage", "its second epoch"])
def test_interrupted_in_any_stage(
    split: Split, quick: Training, uninterrupted: Path, tmp_path: Path, place: str
) -> None:
    n = int(lines(uninterrupted)[0]["step"])
    step = {"first stage": n + 1, "end of it": 2 * n - 1, "its last state": 2 * n, "second stage": 2 * n + 2}
    settings = replace(quick, checkpoint_every_s=1e-9)
    with pytest.raises(Interrupted):
        train(
            Recipe(method=CONFIG, training=settings),
            split,
            tmp_path / "run",
            observer=After(step.get(place, 3 * n + 1)),
        )
    stages = json.loads((tmp_path / "run/state/state.json").read_text())["stages"]
    assert stages == ([0] if place in ("first stage", "end of it") else [0, 2])
    torch.rand(7)  # generators have moved on meanwhile
    train(Recipe(method=CONFIG, training=settings), split, tmp_path / "run", resume=True)
    assert same(everything(tmp_path / "run"), everything(uninterrupted))
    assert lines(tmp_path / "run") == lines(uninterrupted)


class Killed(BaseException):
    """As near as a test comes to a kill."""


def test_killed_before_any_file_appears(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best weights of a stage among them."""
    settings, rename = replace(quick, epochs=1), files.os.replace
    Begun(monkeypatch, FIRST, replace(SECOND, epochs=1), Stage(name="third", epochs=1))
    train(Recipe(method=sasrec, training=settings), split, tmp_path / "whole")

    def killing(calls: Iterator[int], last: int) -> Callable[[Any, Any], None]:
        def replace_or_die(source: Any, target: Any) -> None:
            if next(calls) == last:
                raise Killed
            rename(source, target)

        return replace_or_die

    for last in range(1, 30):
        run = tmp_path / str(last)
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "replace", killing(itertools.count(1), last))
            try:
                train(Recipe(method=sasrec, training=settings), split, run)
            except Killed:
                pass
            else:
                break
        begun = (run / "state/state.json").is_file()
        train(Recipe(method=sasrec, training=settings), split, run, resume=begun, overwrite=not begun)
        assert same(everything(run), everything(tmp_path / "whole")), last
        assert lines(run) == lines(tmp_path / "whole")
    assert last > 12  # the run went through and was killed before each of its files


def test_weights_of_a_stage_that_are_gone(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Begun(monkeypatch, FIRST, SECOND)
    train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    first = tmp_path / "run/state/first.safetensors"
    for break_it in (lambda: first.write_bytes(first.read_bytes()[:99]), first.unlink):
        break_it()
        with pytest.raises(RunError, match=r"The saved state in .* is damaged") as told:
            train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", resume=True)
        assert "\n" not in str(told.value)


# ---- methods of one stage do not notice


def test_one_stage_leaves_no_trace(trained: Any, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "run")
    assert [path.suffix for path in sorted((tmp_path / "run/state").iterdir())] == [".safetensors", ".json"]
    assert all("stage" not in line for line in lines(tmp_path / "run"))
