"""Three processes that hold the items between them make the updates of one that holds all; and who is refused that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import split_training
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed

from forethought.backbones.sasrec import SASRec
from forethought.cli import main
from forethought.config import Recipe
from forethought.data.interactions import DataSizes
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError
from forethought.methods.next_item import NextItem
from forethought.recipes import METHODS
from forethought.runs import train
from forethought.training.settings import Training
from forethought.training.split_items import SplitItems

CLOSE = 1e-10  # in float64: nothing but rounding
CAN = {"sasrec", "gru4rec", "hstu", "bsarec", "bert4rec"}


@pytest.fixture(scope="module")
def little_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 items, which three processes cannot share evenly."""
    folder = tmp_path_factory.mktemp("data") / "shop"
    return Shop(users=40, items=40, interactions_per_user=10.0, seed=3).write(folder)


@pytest.fixture(scope="module")
def together(little_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `split_training` left: the runs `sitting`, `stopped` (and resumed) and `left`, and notes of each process."""
    out = tmp_path_factory.mktemp("together")
    done = subprocess.run(
        [sys.executable, split_training.__file__, str(little_shop), str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module", autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def alone(little_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    train(Recipe(method=split_training.METHOD, training=settings()), leave_last_out(read(str(little_shop))), out)
    return out


def settings(**more: Any) -> Training:
    return Training(**split_training.SETTINGS, **more)


def everything(run: Path) -> dict[str, Tensor]:
    """The best weights of both rounds and of the first, and weights and moments at the end."""
    (last,) = (run / "state").glob("state-*")
    files = {"model": run / "model.safetensors", "first": run / "state" / "train.safetensors", "last": last}
    tensors = {f"{at}/{name}": tensor for at, file in files.items() for name, tensor in load_file(file).items()}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("last/random")}


def same(run: Path, wanted: Path) -> None:
    got, want = everything(run), everything(wanted)
    assert got.keys() == want.keys()
    assert sum("exp_avg" in name for name in want) > 20
    for name, tensor in want.items():
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=CLOSE, msg=lambda said, name=name: f"{name}: {said}")
    logs = [[json.loads(line) for line in (folder / "log.jsonl").open()] for folder in (run, wanted)]
    figures = [[(line["epoch"], line["stage"], line["loss"], line["valid_ndcg@10"]) for line in log] for log in logs]
    assert len(figures[1]) == 4
    assert sum(figures[0], ()) == pytest.approx(sum(figures[1], ()), abs=CLOSE)


def test_three_processes_come_to_what_one_comes_to(together: Path, alone: Path) -> None:
    """Weights of both rounds, moments, losses and validation; bias, smoothing, decay and clipping among it."""
    same(together / "sitting", alone)


def test_stopped_and_resumed(together: Path, alone: Path) -> None:
    assert all((together / f"stopped-{rank}").exists() for rank in range(3))
    same(together / "stopped", alone)


def test_one_process_goes_on_where_three_stopped(together: Path, alone: Path, little_shop: Path) -> None:
    """A run folder does not know how many processes held its items."""
    run = together / "left"
    assert json.loads((run / "state" / "state.json").read_text())["stages"] == [0, 2]
    train(
        Recipe(method=split_training.METHOD, training=settings()),
        leave_last_out(read(str(little_shop))),
        run,
        resume=True,
    )
    same(run, alone)


def test_each_process_holds_its_own_items_and_their_moments_alone(together: Path) -> None:
    held = [json.loads((together / f"held-{rank}.json").read_text()) for rank in range(3)]
    assert [each["parameters"]["items.weight"] for each in held] == [[13, 16], [13, 16], [14, 16]]
    assert [each["parameters"]["items.bias"] for each in held] == [[13], [13], [14]]
    for each in held:
        assert sorted(each["moments"]) == sorted(each["parameters"].values())
    rest = [{name: size for name, size in each["parameters"].items() if "items" not in name} for each in held]
    assert rest[0] == rest[1] == rest[2]


# ---- who is refused


def test_one_process_has_nobody_to_share_with(little_split: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="split_catalogue is for several processes and this is one: start them with"):
        train(Recipe(method=SASRec(), training=Training(split_catalogue=True)), little_split, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_process_of_the_command_line(little_shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "sasrec", "--data", str(little_shop), "--out", str(tmp_path / "run"), "--split-catalogue"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "split_catalogue is for several processes" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.fixture
def little_split(little_shop: Path) -> Split:
    return leave_last_out(read(str(little_shop)))


def fabric(world: int, rank: int = 0) -> Any:
    return SimpleNamespace(world_size=world, global_rank=rank)


def test_more_processes_than_items() -> None:
    method = NextItem(backbone=SASRec(width=8)).build(DataSizes(4))
    with pytest.raises(ConfigError, match="4 items cannot be split over 5 processes"):
        SplitItems.over(fabric(5), method, 4)
    assert len(method.items.weight) == 4


@pytest.mark.parametrize("name", METHODS)
def test_a_method_can_or_says_that_it_cannot(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads all vectors in one place would read a part of them without a word."""
    monkeypatch.setattr(distributed, "new_group", lambda: None)
    method = METHODS[name]().method.build(DataSizes(40, 5))
    sizes = {key: tuple(tensor.shape) for key, tensor in method.state_dict().items()}
    if name not in CAN:
        with pytest.raises(ConfigError, match="needs all item vectors in every process, so its catalogue cannot be"):
            SplitItems.over(fabric(3, 1), method, 40)
        assert {key: tuple(tensor.shape) for key, tensor in method.state_dict().items()} == sizes
        return
    over = SplitItems.over(fabric(3, 1), method, 40)
    now = {key: tuple(tensor.shape) for key, tensor in method.state_dict().items()}
    assert {key: shape for key, shape in now.items() if shape != sizes[key]} == {
        key: (13, *sizes[key][1:]) for key in over.names
    }
    assert {key for key, shape in sizes.items() if 40 in shape} == over.names
