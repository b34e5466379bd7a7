"""Trainings whose layers multiply in formats of their own: what they say, resume, refuse, and do when they diverge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_methods import built, small

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import history_batch
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.errors import ConfigError, RunError
from forethought.methods.interface import Losses
from forethought.methods.next_item import NextItemModel
from forethought.precision.linear import PrecisionLinear, make_precise
from forethought.precision.sensitivity import collect
from forethought.precision.settings import LADQ
from forethought.recipes import METHODS
from forethought.runs import train
from forethought.training import precision, validation
from forethought.training.interrupt import Interrupted
from forethought.training.progress import Quiet
from forethought.training.settings import Training

FORCED = LADQ(assign="tolerance", tolerance=1e-2, every=3, samples=16, force=True)


class Listener(Quiet):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


@pytest.fixture(scope="module")
def adaptive(quick: Training) -> Training:
    return replace(quick, ladq=FORCED, precision="32", checkpoint_every_s=1e-9)


def state_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "state/state.json").read_text())["ladq"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (last,) = (folder / "state").glob("state-*")
    return {**load_file(folder / "model.safetensors"), **load_file(last)}


@pytest.mark.parametrize("name", ["sasrec", "dtrec", "reg4rec"])
def test_methods_train_with_layers_of_their_own_formats(
    name: str, split: Split, adaptive: Training, tmp_path: Path
) -> None:
    listener, features = Listener(), Features(use="categories,price") if name == "reg4rec" else None
    recipe = Recipe(method=small(name), training=adaptive, features=features)
    trained = train(recipe, split, tmp_path / "run", observer=listener)
    assert any(note.startswith("LADQ assigns precision to") for note in listener.notes)
    state = state_of(tmp_path / "run")
    assert len(state["history"]) >= 2
    assert set(state["assignment"].values()) - {"fp32"}
    assert not any(isinstance(layer, PrecisionLinear) for layer in trained.method.modules())


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name]().method.closed_form])  # type: ignore[union-attr]
def test_every_method_says_how_sensitive_its_layers_are(name: str, split: Split) -> None:
    torch.manual_seed(0)
    method = built(name, split)
    layers = make_precise(method.eval())
    rows = split.train.take(torch.arange(12).numpy())
    traces = collect(layers, [lambda: method.drawn_loss(history_batch(rows, method.window))], 12)
    assert bool(traces) == bool(layers)
    assert all(each.gradients > 0 and each.inputs > 0 for each in traces.values())


def test_a_training_that_went_on_is_that_which_never_stopped(
    sasrec: SASRec, split: Split, adaptive: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = _costs(monkeypatch)
    unforced = replace(FORCED, force=False)
    recipe = Recipe(method=sasrec, training=replace(adaptive, input_noise=0.1, ladq=unforced))
    train(recipe, split, tmp_path / "whole")
    for at in (1, 4, 6):
        folder = tmp_path / str(at)
        with pytest.raises(Interrupted):
            train(recipe, split, folder, observer=At(at))
        costs["bf16"] *= 3  # another machine: what the training began with counts
        train(recipe, split, folder, resume=True)
        costs["bf16"] /= 3
        assert state_of(folder) == state_of(tmp_path / "whole")
        whole = weights(tmp_path / "whole")
        assert [key for key, value in weights(folder).items() if not torch.equal(value, whole[key])] == []


class At(Quiet):
    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, losses: dict[str, float], positions: int) -> None:
        self.left -= 1
        if self.left == 0:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)


def _costs(monkeypatch: pytest.MonkeyPatch) -> dict[Any, float]:
    costs: dict[Any, float] = {"fp32": 4.0, "bf16": 2.0, "fp8": 1.0}

    def measured(layers: dict[str, Any], *_: Any, **__: Any) -> Any:
        return {name: dict(costs) for name in layers}

    monkeypatch.setattr("forethought.training.layer_precision.cost.measured", measured)
    return costs


def test_sampling_disturbs_no_training(
    sasrec: SASRec, split: Split, adaptive: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tolerance that nothing is within, weights are those of a training without it, bit for bit."""
    _costs(monkeypatch)
    nothing = replace(adaptive, ladq=LADQ(assign="tolerance", tolerance=0.0, every=2, samples=16))
    train(Recipe(method=sasrec, training=nothing), split, tmp_path / "sampled")
    train(Recipe(method=sasrec, training=replace(nothing, ladq=LADQ())), split, tmp_path / "plain")
    plain = weights(tmp_path / "plain")
    assert [key for key, value in weights(tmp_path / "sampled").items() if not torch.equal(value, plain[key])] == []


def test_a_loss_that_diverges_goes_back_and_the_layer_to_blame_stays_in_float32(
    sasrec: SASRec, split: Split, adaptive: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _costs(monkeypatch)
    plain, steps = NextItemModel.loss, []

    def diverging(model: NextItemModel, batch: Any) -> Losses:
        made = plain(model, batch)
        steps.append(1)
        narrow = [layer for layer in model.modules() if isinstance(layer, PrecisionLinear) if layer.precision != "fp32"]
        if len(steps) > 4 and len(narrow) == len(list(filter(_is_precise, model.modules()))):
            return Losses(made.total * torch.nan, {"loss": made.total.detach() * torch.nan})
        return made

    monkeypatch.setattr(NextItemModel, "loss", diverging)
    listener = Listener()
    train(Recipe(method=sasrec, training=adaptive), split, tmp_path / "run", observer=listener)
    state = state_of(tmp_path / "run")
    (pinned,) = state["pinned"]
    (said,) = listener.warnings
    assert f"and {pinned} was fp8: it goes on from step 4 with that layer in float32" in said
    assert state["assignment"][pinned] == "fp32"
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def _is_precise(module: torch.nn.Module) -> bool:
    return isinstance(module, PrecisionLinear)


def test_a_loss_that_diverges_in_float32_ends_the_training(
    sasrec: SASRec, split: Split, adaptive: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _costs(monkeypatch)
    plain = NextItemModel.loss

    def diverging(model: NextItemModel, batch: Any) -> Losses:
        made = plain(model, batch)
        return Losses(made.total, {"loss": made.total.detach() * torch.nan})

    monkeypatch.setattr(NextItemModel, "loss", diverging)
    listener = Listener()
    with pytest.raises(RunError, match="The loss became"):
        train(Recipe(method=sasrec, training=adaptive), split, tmp_path / "run", observer=listener)
    assert len(listener.warnings) == 4  # one a layer


def test_a_leap_of_the_loss_counts_as_divergence(adaptive: Training, split: Split, monkeypatch: Any) -> None:
    _costs(monkeypatch)
    from lightning_fabric import Fabric

    from forethought.training.layer_precision import WARM_STEPS, layer_precision

    fabric = Fabric(accelerator="cpu", devices=1)
    watched = layer_precision(built("sasrec", split), replace(adaptive, ladq=LADQ(assign="bf16")), 0, fabric)
    assert watched is not None
    assert not any(watched.diverged(5.0) for _ in range(WARM_STEPS))
    assert not watched.diverged(10.0)
    assert watched.diverged(20.0)
    assert watched.diverged(float("inf"))


def test_what_does_not_go_with_it_is_refused_before_anything_is_written(
    sasrec: SASRec, split: Split, adaptive: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(recipe: Recipe) -> str:
        with pytest.raises(ConfigError) as caught:
            train(recipe, split, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    assert "compile" in refused(Recipe(method=sasrec, training=replace(adaptive, compile=True)))
    assert "no linear layers" in refused(Recipe(method=small("gru4rec"), training=adaptive))
    assert "training.ladq would change nothing" in refused(Recipe(method=small("ease"), training=Training(ladq=FORCED)))
    costs = _costs(monkeypatch)
    costs |= {"bf16": 5.0, "fp8": 9.0}
    slow = replace(adaptive, ladq=LADQ(assign="tolerance"))
    assert "bf16 takes 1.25 of its time at best" in refused(Recipe(method=sasrec, training=slow))


def test_validation_ranks_in_float32_as_the_run_is_used(
    sasrec: SASRec, split: Split, adaptive: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _costs(monkeypatch)
    formats, rank_cases = [], validation.rank_cases

    def watching(method: torch.nn.Module, *args: Any, **more: Any) -> Any:
        formats.append({layer.precision for layer in method.modules() if isinstance(layer, PrecisionLinear)})
        return rank_cases(method, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(validation, "rank_cases", watching)
    train(Recipe(method=sasrec, training=adaptive), split, tmp_path / "run")
    assert formats == [{"fp32"}] * len(formats) != []


def test_layers_of_their_own_formats_are_not_said_to_be_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    plain, layered = (Training(ladq=LADQ(assign=assign)) for assign in ("off", "tolerance"))
    assert "everything else in float32" in precision.choose(plain, "cpu", 12_101, walks=True).sentence
    assert "nor a layer of LADQ's in float32" in precision.choose(layered, "cpu", 12_101, walks=True).sentence
