"""Evaluating a run: halting chosen anew, what it costs, and that asking leaves everything as it was."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_tools import edit_json

from forethought import run_costs
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import history_batch, plan, windows
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError, RunError
from forethought.evaluation.compare import compare
from forethought.evaluation.flops import flops_per_epoch
from forethought.evaluation.report import Evaluation
from forethought.evaluation.sampled import Sample
from forethought.evaluation.settings import EvaluationConfig
from forethought.methods.dtrec import DTRec
from forethought.methods.lares import LARES, Reinforcement
from forethought.methods.rearec import ReaRec
from forethought.noise_curves import RobustnessConfig, robustness
from forethought.reasoning.halting import Halting
from forethought.recommender import Recommender, load
from forethought.run_costs import training_cost
from forethought.runs import evaluate, train
from forethought.tensor_files import stated_checksum
from forethought.training import validation
from forethought.training.interrupt import Interrupted
from forethought.training.progress import Quiet
from forethought.training.settings import Training

BACKBONE = SASRec(width=16, layers=1, heads=2, window=8, ffn_width=32, dropout=0.2)


@pytest.fixture(scope="module")
def thinker(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    config = DTRec(backbone=BACKBONE, first_clusters=4, most_clusters=16, halting=Halting(threshold=0.45))
    return train(Recipe(method=config, training=quick), split, tmp_path_factory.mktemp("runs") / "dtrec")


def ask(model: Recommender, split: Split, halting: Halting | None = None, **more) -> Evaluation:
    return evaluate(model, split, EvaluationConfig(halting=halting, resamples=20, **more))


def test_halting_is_a_choice_at_evaluation(thinker: Recommender, split: Split) -> None:
    own = ask(thinker, split)
    assert own.halting == {"rule": "arh", "threshold": 0.45, "max_steps": 3}
    for rule in ("fixed", "soft"):
        every = ask(thinker, split, Halting(rule=rule))  # type: ignore[arg-type]
        assert every.cases["steps"].unique().to_list() == [3]
        assert every.cost["steps_saved"] == 0
    flops = []
    for most in range(4):
        fewer = ask(thinker, split, Halting(rule="fixed", max_steps=most))
        assert fewer.cases["steps"].unique().to_list() == [most]
        assert fewer.halting is not None
        assert fewer.halting["max_steps"] == most
        flops.append(fewer.cost["flops_per_history"]["encode"])
    assert all(np.diff(flops) > 0)
    early = ask(thinker, split, Halting(rule="arh", threshold=0.0))  # any probability is more
    assert early.cost["steps"] == 1
    assert early.cost["steps_saved"] == pytest.approx(2 / 3)
    compared = compare({"arh": own, "early": early}, resamples=20, permutations=19)
    assert compared.methods["early"].halting == early.halting


def test_steps_of_cases_are_the_methods_own(thinker: Recommender, split: Split) -> None:
    halting = Halting(rule="change", threshold=0.02)
    told = ask(thinker, split, halting).cases["steps"]
    with torch.inference_mode():
        thought = thinker.method.user_states(history_batch(split.test.history, thinker.method.window), halting)
    assert told.to_list() == thought.steps_B.tolist()


def test_random_halting_follows_the_seed_and_disturbs_nobody(thinker: Recommender, split: Split) -> None:
    chance = Halting(rule="random", threshold=0.5)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    first = ask(thinker, split, chance, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert ask(thinker, split, chance, seed=1).cases.equals(first.cases)
    assert not ask(thinker, split, chance, seed=2).cases["steps"].equals(first.cases["steps"])


def test_sampled_negatives_are_scored_under_the_same_halting(thinker: Recommender, split: Split) -> None:
    sample = Sample(negatives=8)
    one, three = (ask(thinker, split, Halting(rule="fixed", max_steps=n), sample=sample) for n in (0, 3))
    assert one.cost["steps"] == 0
    assert not one.cases["rank"].equals(three.cases["rank"])


def test_what_cannot_be_obeyed_is_told(
    thinker: Recommender, trained: Recommender, split: Split, quick: Training, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="does not reason, so there is nothing to halt"):
        ask(trained, split, Halting(rule="fixed"))
    with pytest.raises(ConfigError, match="does not reason"):
        trained.recommend([trained.items.id_list([1])], halting=Halting(rule="fixed"))
    with pytest.raises(ConfigError, match="trained to think 3 steps and cannot take 4"):
        ask(thinker, split, Halting(max_steps=4))
    config = ReaRec(backbone=BACKBONE)
    model = train(Recipe(method=config, training=replace(quick, epochs=1)), split, tmp_path / "prl")
    with pytest.raises(
        ConfigError, match="cannot halt by 'arh': choose one of fixed, change, entropy, doubt, consistency, random"
    ):
        ask(model, split, Halting(rule="arh"))
    assert ask(model, split).halting == {"rule": "fixed", "threshold": 0.5, "max_steps": 2}
    model.method.reasoning = replace(config, learning="erl").build(split.data.sizes).reasoning
    with pytest.raises(ConfigError, match="cannot halt by 'change': choose one of fixed"):
        ask(model, split, Halting(rule="change"))


def test_recommendations_follow_the_halting(thinker: Recommender) -> None:
    histories = [thinker.items.id_list([n, n + 1, n + 2]) for n in range(20)]
    own = [r.scores for r in thinker.recommend(histories)]
    assert [r.scores for r in thinker.recommend(histories, halting=thinker.config.method.halting)] == own  # type: ignore[union-attr]
    assert [r.scores for r in thinker.recommend(histories, halting=Halting(rule="fixed", max_steps=0))] != own


# ---- cost


def test_cost_is_whole(thinker: Recommender, split: Split) -> None:
    told = json.loads(json.dumps(ask(thinker, split, batch=16).to_json()))["cost"]
    assert told["parameters"] == thinker.n_parameters
    assert told["machine"] == {"device": "cpu", "threads": torch.get_num_threads(), "batch": 16}
    assert set(told["ms_per_history"]) == {"encode", "rank", "lists"}
    assert told["ms_per_history"]["lists"] == pytest.approx(1000 * told["seconds"]["lists"] / len(split.test))
    assert all(value > 0 for value in (*told["ms_per_history"].values(), *told["seconds"].values()))
    assert told["flops_per_history"]["rank"] == 2 * 16 * split.data.n_items
    assert sum(told["seconds"].values()) <= told["wall_s"]
    assert told["training"].keys() == {"epochs", "trained_s", "s_per_epoch", "flops_per_epoch"}


def test_training_cost(thinker: Recommender, split: Split) -> None:
    told = training_cost(thinker, split)
    assert told is not None
    assert told["epochs"] == 2
    assert told["trained_s"] == thinker.outcome()["trained_s"] == 2 * told["s_per_epoch"]
    rows, settings = windows(split.train, 8), thinker.config.training
    epoch = thinker.outcome()["best_epoch"] - 1
    counted = flops_per_epoch(thinker.method, rows, positions=settings.batch_positions, seed=0, epoch=epoch)
    assert told["flops_per_epoch"] == counted > 0


def test_an_epoch_cut_short_counts_as_a_part_of_one(split: Split, quick: Training, tmp_path: Path) -> None:
    class Stop(Quiet):
        def step(self, losses: dict[str, float], positions: int) -> None:
            self.steps += 1
            if self.steps == self.stop_at:
                raise Interrupted

        steps, stop_at = 0, 0

    settings = replace(quick, checkpoint_every_s=1e-9)
    batches = len(plan(windows(split.train, 8).lengths - 1, settings.batch_positions, 0, 1))
    stop = Stop()
    stop.stop_at = batches + batches // 2 + 1  # raised before the step is saved
    with pytest.raises(Interrupted):
        train(Recipe(method=BACKBONE, training=settings), split, tmp_path / "run", observer=stop)
    model = load(tmp_path / "run")
    told = training_cost(model, split)
    assert told is not None
    assert told["epochs"] == 1
    assert told["s_per_epoch"] == pytest.approx(told["trained_s"] / (1 + (batches // 2) / batches))


def test_without_a_training_state_nothing_is_said_of_training(
    thinker: Recommender, split: Split, tmp_path: Path
) -> None:
    assert training_cost(load(thinker.save(tmp_path / "copy")), split) is None
    assert thinker.folder is not None
    model = load(shutil.copytree(thinker.folder, tmp_path / "run"))
    (tmp_path / "run/state/state.json").write_text('{"epoch": 3}')
    with pytest.raises(
        RunError, match=r"state\.json is damaged \(its content does not fit its checksum\): start the training anew"
    ):
        ask(model, split)


def test_a_part_without_cases_is_told(thinker: Recommender, split: Split) -> None:
    with pytest.raises(DataError, match="this part of the split has no cases"):
        ask(thinker, replace(split, test=split.test.take(np.arange(0))))


def test_evaluating_changes_no_weight(thinker: Recommender, split: Split) -> None:
    before = {name: tensor.clone() for name, tensor in thinker.method.state_dict().items()}
    first, second = (ask(thinker, split).cases for _ in range(2))
    assert first.equals(second)
    assert all(torch.equal(thinker.method.state_dict()[name], tensor) for name, tensor in before.items())
    assert not thinker.method.training


def test_training_cost_is_that_of_the_stage_the_weights_come_from(
    split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in the second epoch of the second stage, and reproducibly, though its depths are drawn."""
    config = LARES(width=16, pre_layers=1, core_layers=1, window=8, reinforcement=Reinforcement(epochs=2))
    told = iter([0.1, 0.2, 0.3, 0.4])
    monkeypatch.setattr(validation, "ndcg", lambda ranks, k: np.full(1, next(told)))
    model = train(Recipe(method=config, training=quick), split, tmp_path / "run")
    asked: dict[str, Any] = {}

    def noted(method: Any, rows: Any, **how: Any) -> float:
        asked.update(how)
        return flops_per_epoch(method, rows, **how)

    monkeypatch.setattr(run_costs, "flops_per_epoch", noted)
    cost, again = training_cost(model, split), training_cost(model, split)
    assert (asked["stage"], asked["epoch"]) == ("reinforced", 1)
    assert cost is not None
    assert again is not None
    assert cost["epochs"] == 4
    assert cost["flops_per_epoch"] == again["flops_per_epoch"]
    first = flops_per_epoch(
        model.method, windows(split.train, 8), positions=quick.batch_positions, seed=0, epoch=1, stage="supervised"
    )
    assert cost["flops_per_epoch"] != first > 0


# ---- which weights a number belongs to


@pytest.fixture
def evaluated(trained: Recommender, split: Split, tmp_path: Path) -> Path:
    """A run folder of one's own, with its evaluation."""
    assert trained.folder is not None
    folder = Path(shutil.copytree(trained.folder, tmp_path / "run"))
    ask(load(folder), split).write(folder)
    return folder


def test_an_evaluation_names_the_weights_it_measured(evaluated: Path, split: Split, tmp_path: Path) -> None:
    evaluation = Evaluation.read(evaluated)
    assert evaluation.weights == stated_checksum(evaluated / "model.safetensors") == load(evaluated).weights_sum
    assert f"Weights: {str(evaluation.weights)[:12]}" in str(evaluation)
    evaluation.write(tmp_path / "elsewhere")
    assert Evaluation.read(tmp_path / "elsewhere").weights == evaluation.weights
    config = RobustnessConfig(kinds=("swap",), shares=(0.2,), noise_seeds=1, resamples=2)
    assert robustness(evaluated, split, config).to_json()["weights"] == evaluation.weights


def test_numbers_of_weights_that_are_gone_are_refused(evaluated: Path) -> None:
    model = load(evaluated)
    with torch.no_grad():
        next(model.method.parameters()).mul_(2)
    model.save(evaluated)
    with pytest.raises(RunError, match=r"metrics\.json is of other weights \(\w{12}\) than lie beside it \(\w{12}\)"):
        Evaluation.read(evaluated)


def test_an_evaluation_of_before_weights_were_named_is_read(evaluated: Path) -> None:
    edit_json(evaluated / "metrics.json", lambda parts: {n: part for n, part in parts.items() if n != "weights"})
    old = Evaluation.read(evaluated)
    assert old.weights is None
    assert "Weights" not in str(old)
    edit_json(evaluated / "metrics.json", lambda parts: parts | {"weights": 5})
    with pytest.raises(RunError, match="weights is 5, but must be text or None"):
        Evaluation.read(evaluated)


@pytest.mark.parametrize("harm", ["cut", "pipe", "folder", "nothing to link to"])
def test_weights_that_cannot_be_read_are_told(evaluated: Path, harm: str) -> None:
    path = evaluated / "model.safetensors"
    whole = path.read_bytes()
    path.unlink()
    if harm == "cut":
        path.write_bytes(whole[:9])
    elif harm == "pipe":
        os.mkfifo(path)
    elif harm == "folder":
        path.mkdir()
    else:
        path.symlink_to(evaluated / "gone")
    with pytest.raises(RunError, match=r"is damaged \(model\.safetensors cannot be read: .*\): copy or train it again"):
        Evaluation.read(evaluated)
    path.rmdir() if harm == "folder" else path.unlink()
    assert Evaluation.read(evaluated).weights is not None  # an evaluation alone, as --out writes it
