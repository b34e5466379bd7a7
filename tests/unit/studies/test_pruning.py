"""How ways of decoding are told apart: what pruning does at a strength, to whom, and what lists are like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import lists_batch
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.decoding.corp import jensen_shannon
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.methods.reg4rec import REG4Rec
from forethought.runs import train
from forethought.studies import decoding, pruning
from forethought.studies.page import Page
from forethought.studies.results import DatasetKey, Result
from forethought.training.settings import Training
from support.small_tokens import TOKENIZER, token_model

CONFIG = REG4Rec(
    backbone=SASRec(width=16, heads=2, window=8, ffn_width=32, input_norm=True), tokenizer=TOKENIZER, steps=2
)


def test_distinct_labels_of_lists_by_sets() -> None:
    labels = np.array([[3, 1, 3, 0], [2, 2, 2, 2], [0, 1, 2, 3]])
    there = np.array([[True, True, True, True], [True, False, False, False], [True, True, True, False]])
    wanted = [len(set(row[is_there].tolist())) for row, is_there in zip(labels, there, strict=True)]
    assert wanted == [3, 1, 3]
    assert decoding.distinct(labels, there) == pytest.approx(np.mean(wanted))


def test_relative_changes() -> None:
    own, base, users = np.array([0.2, 0.4, 0.0]), np.array([0.1, 0.4, 0.1]), np.arange(3)
    assert pruning.relative(own, base, users)["mean"] == pytest.approx(0.6 / 0.6 - 1)
    some = pruning.relative(own, base, users, np.array([True, False, False]))
    assert (some["mean"], some["ci95"]) == (pytest.approx(1), pytest.approx([1, 1]))
    assert pruning.relative(own, np.zeros(3), users) == {"mean": None, "ci95": None}
    assert pruning.words({"mean": None, "ci95": None}) == pruning.words(None) == "–"


def test_beliefs_are_those_of_each_case_alone(split: Split) -> None:
    """Cases are read sorted by length, and come back in their own order."""
    method = token_model(replace(CONFIG, decoding=replace(CONFIG.decoding, corp=False)), split)
    found = pruning.beliefs(method, split.test)
    assert found is not None
    assert found.right_nT.shape == (len(split.test), 2)
    moves = []
    for row in range(len(split.test)):
        with torch.inference_mode():
            paths = method.user_states(lists_batch([split.test.history[row]], method.window), trace=True).paths
        target = int(method.tokens.category_N[int(split.test.targets[row])])
        said = [int(paths.categories_BTPG[0, step, 0].argmax()) == target for step in range(2)]
        assert found.right_nT[row].tolist() == said
        moves += paths.jensen_shannon_BPT[0].flatten().tolist()
    np.testing.assert_allclose(np.sort(found.moves_K), np.sort(moves), atol=1e-9)
    assert 0 < found.right_nT.mean() < 1
    assert found.moves_K.max() <= float(
        jensen_shannon(torch.tensor([0.0, -torch.inf]), torch.tensor([-torch.inf, 0.0]))
    )


def test_pruning_by_how_far_beliefs_move(split: Split) -> None:
    """Theta leaves the share beyond it, and what a row says is the change against no pruning at all."""
    method = token_model(CONFIG, split)
    method.path_share.fill_(0.25)
    told = pruning.pruning(method, split.test, exclude_history=False)
    assert told is not None
    assert method.config == CONFIG
    assert float(method.path_share) == 0.25
    method.path_share.fill_(1.0)
    method.config = replace(CONFIG, decoding=replace(CONFIG.decoding, corp=False))
    plain = ndcg(rank_cases(method, split.test, exclude_history=False).ranks, 10)
    found = pruning.beliefs(method, split.test)
    assert found is not None
    right_n = found.right_nT[:, -1]
    for row in told["rows"]:
        assert (found.moves_K > row["theta"]).mean() == pytest.approx(row["beyond"], abs=0.02)
        method.config = replace(CONFIG, decoding=replace(CONFIG.decoding, theta=row["theta"]))
        pruned = ndcg(rank_cases(method, split.test, exclude_history=False).ranks, 10)
        assert row["by"]["all"]["mean"] == pytest.approx(pruned.mean() / plain.mean() - 1)
        wanted = pruned[~right_n].mean() / plain[~right_n].mean() - 1
        assert row["by"][pruning.WRONG]["mean"] == pytest.approx(wanted)
    assert any(row["by"]["all"]["mean"] != 0 for row in told["rows"])
    assert told["accuracy_by"][pruning.RIGHT] == 1
    assert told["accuracy_by"][pruning.WRONG] == 0


def test_without_a_category_head_nothing_is_told(split: Split) -> None:
    method = token_model(replace(CONFIG, category_weight=0.0), split)
    assert pruning.pruning(method, split.test, exclude_history=False) is None


def test_probe_and_page(split: Split, quick: Training, tmp_path: Path) -> None:
    recipe = Recipe(method=CONFIG, training=quick, features=Features(use="categories,brand"))
    run = train(recipe, split, tmp_path / "run")
    told = decoding.probe(run, split, 0)
    assert told["ways"][0]["way"] == "paths alone"
    assert told["ways"][0]["relative"]["mean"] == 0
    assert 1 <= told["ways"][0]["categories@10"] <= 10
    page = Page(tmp_path, "token-decoding", "t", "q")
    parts = {"metrics": {"ndcg@10": {"mean": 0.1}}, "training": {"epochs": 2}}
    pruning.trust_table(page, {"reg4rec": [Result("reg4rec", DatasetKey("shop", "file"), 0, parts, told)]})
    pruning.write_pruning(page, told["pruning"])
    text = page.write().read_text()
    accuracy = f"{told['pruning']['accuracy'][-1]:.1%}"
    assert f"| reg4rec | shop, ties in file order | 0 | 2 | {accuracy} |" in text
    assert "| 50% | " in text
