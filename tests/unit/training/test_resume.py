"""Stopped anywhere, resumed, and nobody can tell: weights, optimiser, generators and log are those of one sitting."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_tools import edit_config
from safetensors.torch import load_file
from torch import nn

from forethought import files
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError, RunError
from forethought.runs import train
from forethought.training import loop, state
from forethought.training.interrupt import Interrupt, Interrupted
from forethought.training.progress import Quiet
from forethought.training.settings import Training

EVERY_STEP = 1e-9  # seconds


class Killed(BaseException):
    """As near as a test comes to a kill without a process of its own."""


class At(Quiet):
    """Does something once, after so many steps."""

    def __init__(self, step: int, do: Callable[[], Any]) -> None:
        self.left, self.do = step, do

    def step(self, losses: dict[str, float], positions: int) -> None:
        self.left -= 1
        if self.left == 0:
            self.do()


def press(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def raise_killed() -> None:
    raise Killed


def everything(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors a run leaves: the best weights, and the state at its end."""
    (last,) = (folder / "state").glob("state-*")
    return {**load_file(folder / "model.safetensors"), **load_file(last)}


def log(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if not name.endswith("_s")} for line in lines]


def same(folder: Path, wanted: Path) -> None:
    got, want = everything(folder), everything(wanted)
    assert got.keys() == want.keys()
    assert [name for name in want if not torch.equal(got[name], want[name])] == []
    assert log(folder) == log(wanted)
    assert [line["epoch"] for line in log(folder)] == [1, 2]
    assert not list(folder.rglob("*.part"))


@pytest.fixture(scope="module")
def quick(quick: Training) -> Training:
    """With more that is drawn."""
    return replace(quick, input_noise=0.1, crop=0.3)


@pytest.fixture(scope="module")
def uninterrupted(sasrec: SASRec, split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(Recipe(method=sasrec, training=replace(quick, checkpoint_every_s=EVERY_STEP)), split, folder)
    return folder


@pytest.fixture(scope="module")
def stopped(sasrec: SASRec, split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Interrupted):
        train(
            Recipe(method=sasrec, training=quick),
            split,
            folder,
            observer=At(steps_an_epoch(split, quick) + 2, press(signal.SIGINT)),
        )
    return folder


def steps_an_epoch(split: Split, quick: Training) -> int:
    rows = loop.windows(split.train, 8)
    return len(loop.plan(rows.lengths - 1, quick.batch_positions, 0, 0))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 4, "last of the epoch", "first of the next"])
def test_interrupted_and_resumed(
    sasrec: SASRec, split: Split, quick: Training, uninterrupted: Path, tmp_path: Path, step: Any, number: Any
) -> None:
    n = steps_an_epoch(split, quick)
    at = {"last of the epoch": n, "first of the next": n + 1}.get(step, step)
    settings = replace(quick, checkpoint_every_s=EVERY_STEP)
    with pytest.raises(Interrupted):  # observers are told between steps, so the step to come is the one in hand
        train(Recipe(method=sasrec, training=settings), split, tmp_path / "run", observer=At(at - 1, press(number)))
    assert json.loads((tmp_path / "run/state/state.json").read_text())["step"] == at
    torch.rand(7)  # generators have moved on meanwhile
    train(Recipe(method=sasrec, training=settings), split, tmp_path / "run", resume=True)
    same(tmp_path / "run", uninterrupted)


def test_killed_before_any_file_appears(
    sasrec: SASRec, split: Split, quick: Training, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is two files and an epoch ends with two or three; a kill may fall before any of them is renamed."""
    settings, rename = replace(quick, checkpoint_every_s=EVERY_STEP), os.replace
    files_of_a_run = 2 + 2 * 2 * steps_an_epoch(split, quick) + 3 + 2
    for at in range(1, files_of_a_run + 1):
        calls, run = itertools.count(1), tmp_path / str(at)

        def killing(source: Any, target: Any, calls: Iterator[int] = calls, at: int = at) -> None:
            if next(calls) == at:
                raise Killed
            rename(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(files.os, "replace", killing)
            with pytest.raises(Killed):
                train(Recipe(method=sasrec, training=settings), split, run)
        begun = (run / "state/state.json").is_file()
        assert begun == (at > 4)
        train(Recipe(method=sasrec, training=settings), split, run, resume=begun, overwrite=not begun)
        same(run, uninterrupted)


def test_killed_before_the_first_state(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", observer=At(1, raise_killed))
    with pytest.raises(RunError, match=r"has no config\.json: there is nothing to resume here"):
        train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", resume=True)
    train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")


KILLED = """
import os, signal, sys
from dataclasses import fields
import torch
torch.set_num_threads(1)
from forethought.config import RunConfig, from_json
from forethought.data.reading import read
from forethought.data.splits import leave_last_out
from forethought.files import read_json
from forethought.runs import train
from forethought.training.progress import Quiet
from pathlib import Path

shop, whole, out, left = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
class Kill(Quiet):
    def step(self, losses, positions):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
config = from_json(RunConfig, read_json(Path(whole) / "config.json", "")["config"])
train(config, leave_last_out(read(shop)), out, observer=Kill())
"""


def test_sigkill(
    sasrec: SASRec, split: Split, quick: Training, shop: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    """In a process of its own, in the second epoch; and what it left half-written does not stay."""
    at = steps_an_epoch(split, quick) + 3
    arguments = [str(shop), str(uninterrupted), str(tmp_path / "run"), str(at)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (tmp_path / "run/state/.forethought-1.part").write_bytes(b"half")
    (tmp_path / "run/state/state-1-0.safetensors").write_bytes(b"of an earlier step")
    train(
        Recipe(method=sasrec, training=replace(quick, checkpoint_every_s=EVERY_STEP)),
        split,
        tmp_path / "run",
        resume=True,
    )
    same(tmp_path / "run", uninterrupted)


def test_a_finished_run_has_nothing_left_to_do(
    sasrec: SASRec, split: Split, quick: Training, uninterrupted: Path, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    settings = replace(quick, checkpoint_every_s=EVERY_STEP)
    train(Recipe(method=sasrec, training=settings), split, tmp_path / "run", resume=True, observer=At(1, raise_killed))
    same(tmp_path / "run", uninterrupted)


def test_options_newer_than_the_run_are_as_they_were(
    stopped: Path, sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    """A run of before an option existed goes on where that option is at its default."""
    shutil.copytree(stopped, tmp_path / "run")

    def older(parts: dict[str, Any]) -> dict[str, Any]:
        del parts["config"]["method"]["backbone"]["input_norm"]
        return parts

    edit_config(tmp_path / "run", older)
    resume(tmp_path / "run", sasrec, split, quick)
    with pytest.raises(ConfigError, match="input_norm: False -> True"):
        resume(tmp_path / "run", replace(sasrec, input_norm=True), split, quick)


# ---- what cannot be resumed


def resume(folder: Path, sasrec: SASRec, split: Split, quick: Training, **changed: Any) -> None:
    train(Recipe(method=sasrec, training=quick, **changed), split, folder, resume=True)


def test_resume_of_something_else(stopped: Path, sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no config\.json: there is nothing to resume here; train without --resume"):
        resume(tmp_path / "none", sasrec, split, quick)
    with pytest.raises(ConfigError, match=r"method\.backbone\.dropout: 0\.2 -> 0\.3\): resume it unchanged"):
        resume(stopped, replace(sasrec, dropout=0.3), split, quick)
    with pytest.raises(ConfigError, match="seed: 0 -> 1"):
        resume(stopped, sasrec, split, quick, seed=1)
    other = leave_last_out(read(Shop(users=30, items=20, seed=9).generate().interactions))
    with pytest.raises(DataError, match="was trained on other data"):
        resume(stopped, sasrec, other, quick)


def keep(share: float) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize(
    ("pattern", "break_it"),
    [
        ("state/state-*", keep(0.5)),
        ("state/state-*", keep(0)),
        ("state/state-*", Path.unlink),
        ("state/state.json", keep(0.7)),
        ("state/state.json", lambda path: path.write_text("[]")),
        ("state/state.json", lambda path: path.write_text("{}")),
        ("state/state.json", lambda path: path.write_text(path.read_text().replace('"stale"', '"stail"'))),
        ("config.json", keep(0.5)),
        ("config.json", lambda path: path.write_text("[]")),
    ],
)
def test_damaged_states(
    stopped: Path,
    sasrec: SASRec,
    split: Split,
    quick: Training,
    tmp_path: Path,
    pattern: str,
    break_it: Callable[[Path], Any],
) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    (broken,) = (tmp_path / "run").glob(pattern)
    break_it(broken)
    with pytest.raises(RunError, match="damaged") as told:
        resume(tmp_path / "run", sasrec, split, quick)
    assert "\n" not in str(told.value)


# ---- the state itself


def test_state_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    optimiser, theirs = (torch.optim.AdamW(m.parameters(), lr=0.1) for m in (model, other))
    for _ in range(3):
        model(torch.randn(4, 3)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    progress = state.Progress(epoch=2, batch=5, step=17, best=0.25, sums={"loss": 1 / 3}, trained_s=0.1)
    state.save(tmp_path / "state", progress, state.tensors_of(model, optimiser))
    wanted = torch.rand(5)
    assert state.load(tmp_path / "state", other, theirs) == progress
    assert torch.equal(torch.rand(5), wanted)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    for index, entry in optimiser.state_dict()["state"].items():
        for name, value in entry.items():
            assert torch.equal(theirs.state_dict()["state"][index][name], value)


def test_each_process_has_its_generators(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    optimiser = torch.optim.AdamW(model.parameters())
    torch.manual_seed(1)
    first, one = state.generators(), torch.rand(3)
    torch.manual_seed(2)
    second, two = state.generators(), torch.rand(3)
    state.save(tmp_path, state.Progress(), state.tensors_of(model, optimiser), [first, second])
    for rank, wanted in ((1, two), (0, one)):
        state.load(tmp_path, model, optimiser, rank=rank)
        assert torch.equal(torch.rand(3), wanted)
    state.load(tmp_path, model, optimiser, rank=2)  # a process more than before


def test_only_one_state_stays(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    for step in range(3):
        state.save(tmp_path, state.Progress(step=step), state.tensors_of(model, torch.optim.AdamW(model.parameters())))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-2-0.safetensors", "state.json"]


def test_the_second_signal_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
