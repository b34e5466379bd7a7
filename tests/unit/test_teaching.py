"""Soft targets of a teacher: what it says after each training position, the loss they make, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.sasrec import SASRec
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.losses import FewTargets, cross_entropy
from forethought.config import Recipe
from forethought.data.batches import lists_batch, training_batch, windows
from forethought.data.evidence import Evidence
from forethought.data.reading import read
from forethought.data.splits import Split, SplitConfig, leave_last_out
from forethought.ensembling import ensemble
from forethought.errors import ConfigError, DataError, ForethoughtError, RunError
from forethought.methods.ensemble import EnsembleModel
from forethought.methods.item_knn import ItemKNN
from forethought.methods.items import ItemLoss
from forethought.methods.next_item import NextItem, NextItemModel
from forethought.methods.outside import SoftTargets
from forethought.recommender import Recommender, load
from forethought.runs import evaluate, train
from forethought.teaching import after_each, soft_targets
from forethought.training.settings import Training

K = 7


@pytest.fixture(scope="module")
def teacher(split: Split, sasrec: SASRec, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Two members of other windows and temperatures."""
    folder = tmp_path_factory.mktemp("teacher")
    gru = NextItem(backbone=GRU4Rec(width=8, window=5), loss=ItemLoss(temperature=0.3))
    runs = [
        train(Recipe(method=method, training=quick), split, folder / name)
        for name, method in (("sasrec", sasrec), ("gru", gru))
    ]
    return ensemble(runs, folder / "both", device="cpu")


def student(sasrec: SASRec, teacher: Recommender, **changed: object) -> NextItem:
    return NextItem(backbone=sasrec, teacher=str(teacher.folder), teacher_items=K, **changed)  # type: ignore[arg-type]


# ---- what is said


def test_every_position_is_asked_as_the_end_of_its_history(teacher: Recommender, split: Split) -> None:
    got, train_part = soft_targets(teacher.method, split.train, K), split.train
    trained = np.zeros(len(train_part.histories.items), bool)
    for row in range(len(train_part)):
        items, start = train_part[row], train_part.starts[row]
        for end in range(1, len(items)):
            trained[start + end - 1] = True
            if row % 8:
                continue
            with torch.inference_mode():
                made = teacher.method.represent(lists_batch([items[:end]], teacher.method.window))
                best, scores = teacher.method.recommend(made, K)
            assert got.items_TK[start + end - 1].tolist() == best[0].tolist()
            shares = scores[0].softmax(0).numpy()
            np.testing.assert_allclose(got.shares_TK[start + end - 1].float().numpy(), shares, rtol=2e-3, atol=1e-6)
    assert not got.shares_TK[~trained].any()
    np.testing.assert_allclose(got.shares_TK[trained].float().sum(1).numpy(), 1, atol=4e-3)


@pytest.mark.parametrize("averaged", [False, True], ids=["alone", "ensemble"])
def test_a_teacher_does_not_hear_what_the_history_itself_added(
    averaged: bool, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    """One user alone met a with b: nobody else says so, and so the teacher's evidence does not either."""
    lists = {"u": "cabd", "v": "cdce", "w": "ecde", "x": "dece"}
    rows = [(user, item, at) for user, items in lists.items() for at, item in enumerate(items + "fg")]
    data = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    split = leave_last_out(read(data))
    recipe = Recipe(method=sasrec, training=quick, evidence=Evidence(use="co_occurrence"))
    run = train(recipe, split, tmp_path / "run")
    assert run.method.evidence is not None
    run.method.evidence.weights_E.data.fill_(1.0)
    bare = train(replace(recipe, evidence=None), split, tmp_path / "bare")
    method = EnsembleModel([run.method, bare.method]) if averaged else run.method
    first, second = split.data.items.index_of(["a", "b"]).tolist()
    (row,) = [row for row in range(len(split.train)) if first in split.train[row]]
    at = split.train[row].tolist().index(first)
    with torch.inference_mode():
        told = run.method.represent(lists_batch([split.train[row][: at + 1]], 8))
    assert told.added is not None
    assert float(told.added.of(torch.tensor([second]))[0]) > 0.2  # asked as a stranger's, it would give the target away
    with torch.inference_mode():
        made = after_each(method, split.train.take(np.array([row])), split.train.starts)
    assert made.added is not None
    said = made.added.of(torch.full((len(split.train[row]) - 1,), second))
    assert float(said[at]) == 0


# ---- the loss


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("bias", [False, True])
def test_the_loss_by_whole_matrices(smoothing: float, bias: bool, same_gradients: object) -> None:
    torch.manual_seed(0)
    items_ND = torch.randn(11, 4, dtype=torch.float64, requires_grad=True)
    bias_N = torch.randn(11, dtype=torch.float64) if bias else None
    states_PD = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets_P, weights_P = torch.randint(11, (6,)), torch.rand(6, dtype=torch.float64)
    chosen_PK = torch.stack([torch.randperm(11)[:3] for _ in range(6)])
    shares_PK = torch.rand(6, 3, dtype=torch.float64).softmax(1)
    catalogue = Catalogue(items_ND, bias_N, temperature=0.5)
    few = FewTargets(chosen_PK, shares_PK, 0.3)
    got = cross_entropy(catalogue.scaled(states_PD), catalogue, targets_P, weights_P, smoothing=smoothing, soft=few)
    logs_PN = states_PD @ items_ND.T / 0.5
    logs_PN = (logs_PN if bias_N is None else logs_PN + bias_N).log_softmax(1)
    q_PN = torch.zeros(6, 11, dtype=torch.float64).scatter_add(1, chosen_PK, shares_PK * 0.3)
    q_PN = q_PN.scatter_add(1, targets_P[:, None], torch.full((6, 1), 0.7, dtype=torch.float64))
    q_PN = (1 - smoothing) * q_PN + smoothing / 11
    wanted = -(weights_P * (q_PN * logs_PN).sum(1)).sum()
    torch.testing.assert_close(got, wanted)
    for mine, theirs in zip(
        torch.autograd.grad(got, (states_PD, items_ND)), torch.autograd.grad(wanted, (states_PD, items_ND)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_a_batch_finds_its_own_positions(split: Split) -> None:
    total = len(split.train.histories.items)
    said = SoftTargets(torch.arange(total, dtype=torch.int32)[:, None], torch.ones(total, 1, dtype=torch.float16))
    batch = training_batch(windows(split.train, 4).take(np.array([5, 0, 3])))
    few = said.after(batch, 0.5)
    assert torch.equal(
        torch.from_numpy(split.train.histories.items[few.items_PK[:, 0].numpy()]).long(),
        batch.items_BL[batch.valid_BL()],
    )


def test_weight_nothing_is_no_teacher(teacher: Recommender, split: Split, sasrec: SASRec) -> None:
    torch.manual_seed(0)
    method = student(sasrec, teacher, teacher_weight=0.0).build(split.data.sizes).eval()
    assert isinstance(method, NextItemModel)
    batch = training_batch(windows(split.train, method.window))
    plain = method.loss(batch).total
    method.taught = soft_targets(teacher.method, split.train, K)
    torch.testing.assert_close(method.loss(batch).total, plain)
    method.teacher_weight = 1.0
    assert (method.loss(batch).total - plain).abs() > 1e-3


# ---- training


def test_a_student_is_a_run_without_its_teacher(
    teacher: Recommender, split: Split, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    recipe = Recipe(method=student(sasrec, teacher), training=quick)
    run, plain = train(recipe, split, tmp_path / "run"), train(sasrec, split, tmp_path / "plain")
    assert run.about["references"] == {"teacher_run": teacher.weights_sum}
    assert not any("taught" in name for name in run.method.state_dict())
    assert run.n_parameters == plain.n_parameters
    assert evaluate(load(tmp_path / "run"), split).metrics
    again = train(recipe, split, tmp_path / "run", resume=True)
    assert again.weights_sum == run.weights_sum
    assert train(recipe, split, tmp_path / "again").weights_sum == run.weights_sum


def test_another_teacher_on_resume(
    teacher: Recommender, split: Split, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    copied = replace(teacher, folder=None).save(tmp_path / "teacher")
    recipe = Recipe(method=NextItem(backbone=sasrec, teacher=str(copied), teacher_items=K), training=quick)
    train(recipe, split, tmp_path / "run")
    other = load(copied)
    other.method.weights_K[0] = 0.9  # type: ignore[index]
    other.save(copied)
    with pytest.raises(ConfigError, match="had a teacher of other weights"):
        train(recipe, split, tmp_path / "run", resume=True)


def test_what_cannot_teach(
    teacher: Recommender, shop: Path, split: Split, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    knn = train(ItemKNN(), split, tmp_path / "knn")
    rows = pl.read_parquet(shop / "interactions.parquet")
    fewer = leave_last_out(read(rows.filter(pl.col("item_id") != "i00001")))
    more = leave_last_out(read(pl.concat([rows, rows.tail(1)])))
    shuffled = SplitConfig(ties="shuffle").apply(read(shop))
    taught = Recipe(method=student(sasrec, teacher), training=quick)
    evident = replace(taught, evidence=Evidence(use="co_occurrence", fit="training"))
    wrong: list[tuple[Recipe, Split, type[ForethoughtError], str]] = [
        (replace(taught, method=student(sasrec, knn)), split, ConfigError, "is one of ItemKNN, whose scores are no"),
        (replace(taught, method=NextItem(teacher=str(tmp_path / "no"))), split, RunError, "There is no run folder"),
        (taught, fewer, DataError, "The teacher in .* knows 40 items and the data has 39"),
        (taught, more, DataError, "The teacher in .* was trained on other interactions"),
        (taught, shuffled, DataError, "The teacher in .* was trained on another split"),
        (evident, split, ConfigError, "choose evidence's fit validation"),
    ]
    for recipe, data, error, sentence in wrong:
        with pytest.raises(error, match=sentence):
            train(recipe, data, tmp_path / "x")
        assert not (tmp_path / "x").exists()
    with pytest.raises(ConfigError, match="not with 'bce'"):
        NextItem(loss=ItemLoss(kind="bce"), teacher="run")
    with pytest.raises(ConfigError, match="the catalogue cannot be split"):
        student(sasrec, teacher).build(split.data.sizes).split_items(None, slice(0, 2))  # type: ignore[arg-type]
