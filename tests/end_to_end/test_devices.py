"""Every verb that computes is told where, and a device that is not there is a sentence before the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from shell import TINY, Shell, tree

from forethought.data.splits import Split, leave_last_out
from forethought.evaluation.report import Evaluation
from forethought.recommender import Recommender
from forethought.studies import runner
from forethought.studies.catalogue import STUDIES
from forethought.training.progress import Quiet

VERBS: dict[str, list[str]] = {
    "train": ["sasrec", "--data", "{shop}", "--out", "{tmp}/new", *map(str, TINY)],
    "tune": ["sasrec", "--data", "{shop}", "--out", "{tmp}/new"],
    "ensemble": ["{run}", "{run}", "--out", "{tmp}/new"],
    "evaluate": ["{run}"],
    "recommend": ["{run}", "--history", "{item}"],
    "explain": ["{run}", "--history", "{item}"],
    "study": ["hps", "--data", "{shop}", "--results", "{tmp}/results", "--runs", "{tmp}/runs"],
    "embed": ["{shop}", "--out", "{tmp}/texts.npy", "--model", "{tmp}"],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("tpu", "device is 'tpu', but must be one of auto, cpu, cuda or text like cuda:1."),
        ("cud", "Did you mean 'cuda'?"),
        ("cuda:x", "device is 'cuda:x', but must be one of"),
        ("cuda:99", "device is cuda:99, but this machine shows "),
    ],
)
def test_a_device_that_is_not_there_is_a_sentence(
    verb: str, device: str, said: str, shell: Shell, trained: Recommender, run: Path, shop: Path, tmp_path: Path
) -> None:
    (item,) = trained.items.id_list([0])
    words = [word.format(shop=shop, run=run, tmp=tmp_path, item=item) for word in VERBS[verb]]
    before = tree(tmp_path)
    assert said in shell.wrong(verb, *words, "--device", device)
    assert tree(tmp_path) == before


def test_where_a_verb_computes_is_chosen(shell: Shell, trained: Recommender, run: Path, tmp_path: Path) -> None:
    (item,) = trained.items.id_list([0])
    shell.ok("evaluate", run, "--device", "cpu", "--out", tmp_path / "kept")
    assert Evaluation.read(tmp_path / "kept").cost["machine"]["device"] == "cpu"
    for verb in ("recommend", "explain"):
        assert shell.json(verb, run, "--history", item, "--device", "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine shows no CUDA device")
def test_a_verb_computes_on_the_gpu_that_is_named(shell: Shell, run: Path, tmp_path: Path) -> None:
    shell.ok("evaluate", run, "--device", "cuda:0", "--out", tmp_path / "kept")
    assert Evaluation.read(tmp_path / "kept").cost["machine"]["device"] == "cuda"


def test_a_study_trains_and_measures_on_one_device(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Recommender
) -> None:
    """It is recorded, and neither it nor another one makes the recipe another."""
    asked: list[Any] = []

    def train(recipe: Any, *_: Any, **__: Any) -> Recommender:
        asked.append(recipe.training.device)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "train", train)
    context = runner.StudyContext(
        leave_last_out(split.data), tmp_path / "results", tmp_path / "runs", print, Quiet, "", device="cpu"
    )
    with pytest.raises(KeyboardInterrupt):
        runner.carry_out(STUDIES["hps"], context, seeds=[0])
    assert asked == ["cpu"]
    recipe = runner.VARIANTS[STUDIES["hps"].variants[0]]()
    config = {"method": runner.to_json(recipe.method), "training": {"device": "cpu"}}
    assert runner._same_recipe(json.loads(json.dumps(config)), recipe)
