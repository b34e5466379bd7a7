"""What a run leaves behind beside its weights: the model card and the index; and that compiling changes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tokens import TOKENIZER

from forethought import references
from forethought.backbones.sasrec import SASRec
from forethought.catalogue import ann
from forethought.config import Recipe
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError, RunError
from forethought.evaluation.settings import EvaluationConfig
from forethought.methods.next_item import NextItem
from forethought.methods.rpg import RPG
from forethought.recommender import Recommender, load
from forethought.run_files import bound_sums, write_model
from forethought.runs import evaluate, train, write_card
from forethought.semantic_ids.item_tokens import ItemTokens, fit_tokens
from forethought.training.settings import Training


def copy_of(trained: Recommender, tmp_path: Path) -> Recommender:
    assert trained.folder is not None
    return load(shutil.copytree(trained.folder, tmp_path / "run"))


def test_the_card_says_what_it_is_and_how_good(trained: Recommender, split: Split, tmp_path: Path) -> None:
    model = copy_of(trained, tmp_path)
    assert model.folder is not None
    card = (model.folder / "README.md").read_text()
    assert "**sasrec**" in card
    assert "Not evaluated" in card
    assert f"{split.data.n_items:,} items" in card
    evaluation = evaluate(model, split, EvaluationConfig(resamples=50))
    write_card(model, evaluation)
    card = (model.folder / "README.md").read_text()
    assert f"{evaluation.metrics['ndcg@10'].mean:.4f}" in card


@pytest.mark.parametrize("exact_below", [10**9, 0], ids=["exact", "graph"])
def test_an_index_answers_like_the_whole_product(
    trained: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact_below: int
) -> None:
    monkeypatch.setattr(ann, "EXACT_BELOW", exact_below)
    model = copy_of(trained, tmp_path)
    assert model.folder is not None
    histories = [model.items.id_list([n, n + 1]) for n in range(20)]
    plain = [one.items for one in model.recommend(histories, 5)]
    model.build_index()
    assert [one.items for one in model.recommend(histories, 5)] == plain  # 40 items: the graph misses none
    kept = sorted(path.name for path in model.folder.glob("*index*"))
    assert kept == ([] if exact_below else ["annindex.bin", "annindex.json"])  # an exact one is the weights themselves
    again = load(model.folder)
    monkeypatch.setattr(ann.ANNIndex, "build", None)  # read, not built
    again.build_index()
    assert [one.items for one in again.recommend(histories, 5)] == plain


@pytest.mark.slow
def test_compiled_training_agrees(split: Split, sasrec: SASRec, quick: Training, tmp_path: Path) -> None:
    backbone = replace(sasrec, dropout=0.0)
    weights = [
        train(
            Recipe(method=backbone, training=replace(quick, compile=compiled)), split, tmp_path / str(compiled)
        ).method.state_dict()
        for compiled in (False, True)
    ]
    for name, tensor in weights[0].items():
        if "qkv.bias" not in name:  # softmax ignores the keys' bias, and Adam magnifies its rounding noise
            torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=1e-4)


def test_another_split_is_refused(trained: Recommender, split: Split) -> None:
    shuffled = leave_last_out(split.data, ties="shuffle", seed=5)
    with pytest.raises(DataError, match=r"another split \(ties 'file'"):
        evaluate(trained, shuffled)


def test_weights_that_are_no_numbers_are_refused(trained: Recommender, tmp_path: Path) -> None:
    model = copy_of(trained, tmp_path)
    assert model.folder is not None
    next(model.method.parameters()).data.fill_(torch.nan)
    write_model(model.folder, model.method.state_dict(), bound_sums(model.folder))
    with pytest.raises(RunError, match="NaN"):
        load(model.folder)


def test_a_second_round_goes_on_from_the_best(split: Split, sasrec: SASRec, quick: Training, tmp_path: Path) -> None:
    one, two = (
        train(Recipe(method=NextItem(backbone=sasrec, rounds=rounds), training=quick), split, tmp_path / str(rounds))
        for rounds in (1, 2)
    )
    first, both = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()] for name in "12"
    )
    figures = "valid_ndcg@10"
    assert [line[figures] for line in both[:2]] == [line[figures] for line in first]
    assert len(both) == 4
    assert both[2]["loss"] < both[0]["loss"]  # it did not begin anew
    best = max(line[figures] for line in both)
    again = evaluate(two, split, EvaluationConfig(part="valid", lists=False, resamples=2))
    assert again.metrics["ndcg@10"].mean == pytest.approx(best)
    assert one.config.method.rounds == 1  # type: ignore[union-attr]


def test_two_trainings_are_kept_apart(split: Split, sasrec: SASRec, quick: Training, tmp_path: Path) -> None:
    train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    holds = "import sys; from pathlib import Path; from forethought.folders import alone"
    holds += f"\nwith alone(Path({str(tmp_path / 'run')!r})): print('in', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"in\n"
        for asked in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(RunError, match="Another training is at work in"):
                train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", **asked)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    # The other one is gone, and so is its lock.
    train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", overwrite=True)


def test_to_go_on_and_to_begin_anew_are_not_asked_at_once(
    split: Split, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", resume=True, overwrite=True)
    assert not (tmp_path / "run").exists()


def test_what_was_trained_comes_back_on_the_device_of_its_training(
    split: Split, sasrec: SASRec, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forethought.runs.load", lambda folder, device: (folder.name, device))
    recipe = Recipe(method=sasrec, training=replace(quick, epochs=1, device="cpu"))
    assert train(recipe, split, tmp_path / "run") == ("run", "cpu")


def test_tokens_that_tell_nothing_are_told_of(
    split: Split, quick: Training, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tokenizer = replace(TOKENIZER, size=24, collisions="counter")
    recipe = Recipe(method=RPG(backbone=SASRec(width=8, window=8, ffn_width=8), tokenizer=tokenizer), training=quick)
    idle: list[int] = [-1]  # a counter where all are unique

    def partly_idle(*args: Any, **more: Any) -> ItemTokens:
        made = fit_tokens(*args, **more)
        codes_NM = made.table.codes_NM.clone()
        codes_NM[:, idle] = 0
        table = replace(made.table, codes_NM=codes_NM)
        return ItemTokens.of(table, made.tokenizer, made.config, made.inputs)

    monkeypatch.setattr(references, "fit_tokens", partly_idle)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(recipe, split, tmp_path / "telling")
    idle += [1, 2]
    with pytest.warns(UserWarning, match="2 of the tokenizer's 3 tokens are the same for all items and say nothing"):
        train(recipe, split, tmp_path / "idle")
