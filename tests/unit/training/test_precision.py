"""What `precision` does: bf16 is made true, told and recorded, or refused; 32 is float32."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from rich.console import Console

from forethought import runs
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import Batch
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.interface import Losses
from forethought.methods.items import ItemLoss
from forethought.methods.next_item import NextItem, NextItemModel
from forethought.runs import train
from forethought.training import precision
from forethought.training.precision import Precision, choose
from forethought.training.progress import Watch
from forethought.training.settings import Training


@pytest.fixture
def has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)


@pytest.fixture
def lacks_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)


def chosen(asked: Any, device: str = "cpu", n_items: int = 12_101, *, walks: bool = True) -> tuple[str, bool]:
    found = choose(Training(precision=asked), device, n_items, walks=walks)
    assert bool(found.sentence) == (found.name == "bf16")
    return found.name, found.narrow


@pytest.mark.usefixtures("has_bf16")
def test_on_a_cpu_that_has_it() -> None:
    assert chosen("auto") == ("bf16", True)
    assert chosen("auto", n_items=precision.LEAST_ITEMS - 1) == ("32", False)
    assert chosen("auto", walks=False) == ("32", False)
    assert chosen("bf16", n_items=40) == ("bf16", True)
    assert chosen("32") == ("32", False)
    with pytest.raises(ConfigError, match=r"only a softmax over all items \(the loss ce\) gains from it"):
        chosen("bf16", walks=False)


@pytest.mark.usefixtures("lacks_bf16")
def test_on_a_cpu_that_lacks_it() -> None:
    assert chosen("auto") == chosen("32") == ("32", False)
    with pytest.raises(ConfigError, match=r"this processor does not multiply bfloat16 .*: choose auto or 32"):
        chosen("bf16")


def test_a_fabric_of_bfloat16_narrows_the_loss_of_every_step(
    split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU. Fabric narrows `forward` by itself, and only where it wraps the module in another."""
    fabric, narrowed, loss = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"), [], NextItemModel.loss

    def watched(self: NextItemModel, batch: Batch) -> Losses:
        narrowed.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))
        return loss(self, batch)

    monkeypatch.setattr(NextItemModel, "loss", watched)
    monkeypatch.setattr(runs, "launch", lambda _: fabric)
    train(Recipe(method=SASRec(width=16), training=replace(quick, precision="32")), split, tmp_path / "run")
    assert set(narrowed) == {torch.bfloat16}


@pytest.mark.usefixtures("lacks_bf16")
def test_on_cuda_everything_is_narrow_where_it_was_asked_for_and_the_cpu_does_not_matter() -> None:
    assert chosen("bf16", "cuda", walks=False) == ("bf16", False)
    assert chosen("auto", "cuda") == chosen("32", "cuda") == ("32", False)


@pytest.mark.usefixtures("has_bf16")
def test_bf16_on_a_cpu_changed_nothing(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    """Losses were the same to all digits, and nobody was told."""
    losses, said = {}, io.StringIO()
    for asked in ("32", "auto", "bf16"):
        watch = Watch(Console(file=said, width=200))
        run = train(
            Recipe(method=sasrec, training=replace(quick, precision=asked, device="cpu")),
            split,
            tmp_path / asked,
            observer=watch,
        )
        losses[asked] = [json.loads(line)["loss"] for line in (tmp_path / asked / "log.jsonl").open()]
        about = json.loads((tmp_path / asked / "config.json").read_text())["about"]
        assert about["precision"] == run.about["precision"] == ("bf16" if asked == "bf16" else "32")
    assert losses["auto"] == losses["32"]  # so few items are not worth it
    assert losses["bf16"] != losses["32"]
    assert losses["bf16"] == pytest.approx(losses["32"], rel=0.01)
    assert said.getvalue().count("The softmax over the items multiplies in bfloat16") == 1


@pytest.mark.usefixtures("has_bf16")
def test_refused_before_anything_is_written(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    method = NextItem(backbone=sasrec, loss=ItemLoss(kind="bce"))
    training = replace(quick, precision="bf16", device="cpu")
    with pytest.raises(ConfigError, match="precision is bf16, but"):
        train(Recipe(method=method, training=training), split, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_default_is_auto_and_a_fit_without_an_answer_is_float32() -> None:
    assert Training().precision == "auto"
    assert Precision() == Precision("32", narrow=False, sentence="")


@pytest.mark.usefixtures("has_bf16")
def test_a_narrow_run_goes_on_bit_for_bit(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    settings = replace(quick, precision="bf16", device="cpu")
    whole = train(Recipe(method=sasrec, training=settings), split, tmp_path / "whole")

    class Stop(Exception):
        pass

    class Once(Watch):
        def begin_epoch(self, epoch: int, batches: int, done: int) -> None:
            if epoch == 1:
                raise Stop
            super().begin_epoch(epoch, batches, done)

    with pytest.raises(Stop):
        train(
            Recipe(method=sasrec, training=settings),
            split,
            tmp_path / "cut",
            observer=Once(Console(file=io.StringIO(), width=100)),
        )
    again = train(Recipe(method=sasrec, training=settings), split, tmp_path / "cut", resume=True)
    told = zip(whole.method.state_dict().values(), again.method.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in told)
