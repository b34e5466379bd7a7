"""IGR-SR's encoder from both sources: a stage of its own, or a run folder; and what is left of either in the run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import windows
from forethought.data.features import Features
from forethought.data.histories import Histories
from forethought.data.interactions import Interactions
from forethought.data.noise import Noise
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError, ForethoughtError, RunError
from forethought.evaluation.flops import flops_per_epoch
from forethought.evaluation.ranking import rank_cases
from forethought.methods.dtrec import DTRec
from forethought.methods.igr_sr import IGRSR, IGRSRModel
from forethought.reasoning.intent_reasoner import Reasoner
from forethought.recommender import Recommender, load
from forethought.references import resolve
from forethought.run_files import bound_sums
from forethought.runs import train
from forethought.tensor_files import save_tensors
from forethought.training.interrupt import Interrupted
from forethought.training.progress import Quiet
from forethought.training.settings import Training

REASONER = Reasoner(width=16, ffn_width=32, dropout=0.2)


@pytest.fixture(scope="module")
def config(sasrec: SASRec) -> IGRSR:
    return IGRSR(backbone=sasrec, reasoner=REASONER)


@pytest.fixture(scope="module")
def settings(quick: Training) -> Training:
    return replace(quick, checkpoint_every_s=1e-9)


@pytest.fixture(scope="module")
def whole(config: IGRSR, split: Split, settings: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(Recipe(method=config, training=settings), split, folder)
    return folder


def lines(folder: Path) -> list[dict[str, float]]:
    told = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    epochs = (line for line in told if "warnings" not in line)
    return [{name: value for name, value in line.items() if not name.endswith("_s")} for line in epochs]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    (state,) = (folder / "state").glob("state-*.safetensors")
    return load_file(state) | {f"best/{key}": value for key, value in load_file(folder / "model.safetensors").items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# ---- a stage of its own


def test_the_encoder_of_the_run_is_the_best_of_the_first_stage(whole: Path) -> None:
    told = lines(whole)
    assert [line["stage"] for line in told] == [1, 1, 2, 2]
    assert [
        {"named", "icr", "attention_entropy", "copied", "users_alike", "prefix_moved"} <= line.keys() for line in told
    ] == [
        *(False, False),
        *(True, True),
    ]
    best, first = load_file(whole / "model.safetensors"), load_file(whole / "state/encoder.safetensors")
    assert bool(best["ready"])
    frozen = [key for key in best if key.startswith("encoder.")]
    assert all(torch.equal(best[key], first[key]) for key in frozen)
    assert not torch.equal(best["items.weight"], first["encoder.items.weight"])
    state = json.loads((whole / "state/state.json").read_text())
    assert state["best"] == max(line["valid_ndcg@10"] for line in told[2:])  # the encoder alone is no candidate


class After(Quiet):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, losses: dict[str, float], positions: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise Interrupted


@pytest.mark.parametrize("place", ["first stage", "its last step", "between", "second stage", "its second epoch"])
def test_interrupted_anywhere(
    config: IGRSR, split: Split, settings: Training, whole: Path, tmp_path: Path, place: str
) -> None:
    n = int(lines(whole)[0]["step"])
    step = {"first stage": n + 1, "its last step": 2 * n - 1, "between": 2 * n, "second stage": 2 * n + 2}
    with pytest.raises(Interrupted):
        train(
            Recipe(method=config, training=settings),
            split,
            tmp_path / "run",
            observer=After(step.get(place, 3 * n + 1)),
        )
    torch.rand(7)
    train(Recipe(method=config, training=settings), split, tmp_path / "run", resume=True)
    assert same(tensors(tmp_path / "run"), tensors(whole))
    assert lines(tmp_path / "run") == lines(whole)


# ---- a run folder


@pytest.fixture
def adopting(config: IGRSR, trained: Recommender) -> IGRSR:
    return replace(config, encoder_run=str(trained.folder))


def test_a_run_gives_its_encoder(
    adopting: IGRSR, trained: Recommender, split: Split, settings: Training, tmp_path: Path
) -> None:
    theirs = load_file(Path(adopting.encoder_run or "") / "model.safetensors")
    run = train(Recipe(method=adopting, training=settings), split, tmp_path / "run")
    mine = run.method.state_dict()
    assert all(torch.equal(mine[f"encoder.{key}"], tensor) for key, tensor in theirs.items())
    assert len(lines(tmp_path / "run")) == 2
    with pytest.raises(Interrupted):
        train(Recipe(method=adopting, training=settings), split, tmp_path / "again", observer=After(7))
    train(Recipe(method=adopting, training=settings), split, tmp_path / "again", resume=True)
    assert same(tensors(tmp_path / "again"), tensors(tmp_path / "run"))


def test_an_encoder_must_have_seen_the_same_noise(
    adopting: IGRSR, split: Split, sasrec: SASRec, settings: Training, tmp_path: Path
) -> None:
    noise = Noise(share=0.4)
    with pytest.raises(DataError, match=r"with no noise, and this run is to be with noise \(kind replace, share 0.4"):
        train(Recipe(method=adopting, training=settings, noise=noise), split, tmp_path / "run")
    train(Recipe(method=sasrec, training=settings, noise=noise), split, tmp_path / "noisy")
    noisy = replace(adopting, encoder_run=tmp_path / "noisy")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="and this run is to be with no noise: take one"):
        resolve(noisy, split)
    run = train(Recipe(method=noisy, training=settings, noise=noise), split, tmp_path / "run")
    assert run.config.noise == noise


def test_an_encoder_must_have_read_the_same_features(
    adopting: IGRSR, split: Split, sasrec: SASRec, settings: Training, tmp_path: Path
) -> None:
    """Its maps were once left behind in silence, or missed in a traceback."""
    features = Features(use="categories")
    with pytest.raises(DataError, match=r"features of the items \(none\) than this run is to read \(categories\)"):
        resolve(adopting, split, features)
    train(Recipe(method=sasrec, training=settings, features=features), split, tmp_path / "rich")
    rich = replace(adopting, encoder_run=str(tmp_path / "rich"))
    with pytest.raises(DataError, match=r"features of the items \(categories\) than this run is to read \(none\)"):
        resolve(rich, split)
    run = train(Recipe(method=rich, training=settings, features=features), split, tmp_path / "run")
    theirs = load_file(tmp_path / "rich" / "model.safetensors")
    mine = run.method.state_dict()
    del theirs["items.unmet_nats"]  # of lists, which each run fits for itself
    assert all(torch.equal(mine[f"encoder.{key}"], tensor) for key, tensor in theirs.items())


def test_the_dropout_of_a_run_is_no_matter(adopting: IGRSR, split: Split) -> None:
    another = replace(adopting, backbone=replace(adopting.backbone, dropout=0.7))
    model = IGRSRModel(another, split.data.n_items)
    with pytest.raises(ConfigError, match="no weights for encoder_run yet"):
        model.begin_stage("reasoner")
    model.fit_side_information(resolve(another, split))
    model.begin_stage("reasoner")
    theirs = load_file(Path(adopting.encoder_run or "") / "model.safetensors")
    assert torch.equal(model.encoder.items.weight, theirs["items.weight"])


def test_items_start_where_the_runs_items_ended(adopting: IGRSR, trained: Recommender, split: Split) -> None:
    model = IGRSRModel(adopting, split.data.n_items)
    model.fit_side_information(resolve(adopting, split))
    model.begin_stage("reasoner")
    assert torch.equal(model.items.weight, trained.method.state_dict()["items.weight"])


def test_the_run_is_complete_without_the_other(
    adopting: IGRSR,
    trained: Recommender,
    split: Split,
    quick: Training,
    processes: dict[str, str],
    tmp_path: Path,
) -> None:
    """Recommended from in a fresh process, and its FLOPs counted, when the encoder's folder is gone."""
    other = shutil.copytree(adopting.encoder_run or "", tmp_path / "encoder")
    run = train(Recipe(method=replace(adopting, encoder_run=str(other)), training=quick), split, tmp_path / "run")
    histories = [run.items.id_list([3, 1, 4]), run.items.id_list([2])]
    wanted = [one.items for one in run.recommend(histories, k=5)]
    shutil.rmtree(other)
    moved = shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    code = (
        f"import forethought as ft\nmodel = ft.load({str(moved)!r})\n"
        f"print([one.items for one in model.recommend({histories!r}, k=5)])"
    )
    done = subprocess.run(["python", "-c", code], env=processes, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(wanted)
    again = load(moved)
    rows = windows(split.train, again.method.window)
    assert flops_per_epoch(again.method, rows, positions=128, seed=0, epoch=0, stage="reasoner") > 0
    ranks = [rank_cases(each.method, split.test, exclude_history=True).ranks for each in (run, again)]
    assert np.array_equal(*ranks)


def renamed(split: Split) -> Split:
    """The same interactions, with an item of another name."""
    ids = split.data.items.ids.to_list()
    items = replace(split.data.items, ids=split.data.items.ids.replace(ids[0], "another"))
    return replace(split, data=replace(split.data, items=items))


def later(data: Interactions) -> Interactions:
    """The same order a second later: other interactions of the same items."""
    histories = data.histories
    assert histories.times is not None
    return replace(data, histories=Histories(histories.items, histories.offsets, histories.times + 1))


def other_shop(tmp_path: Path) -> Split:
    return leave_last_out(read(Shop(users=80, items=40, interactions_per_user=10.0, seed=4).write(tmp_path / "other")))


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (shutil.rmtree, RunError, "There is no run folder"),
        (lambda run: (run / "config.json").unlink(), RunError, "has no config.json"),
        (lambda run: (run / "config.json").write_text("{"), RunError, "damaged"),
        (lambda run: (run / "config.json").write_text("[]"), RunError, "damaged"),
        (lambda run: (run / "config.json").write_text('{"config": {"method": 3}, "about": {}}'), RunError, "damaged"),
        (lambda run: (run / "items.parquet").unlink(), RunError, r"items.parquet cannot be read"),
        (lambda run: (run / "items.parquet").write_bytes(b"PAR1"), RunError, r"items.parquet cannot be read"),
        (lambda run: (run / "model.safetensors").unlink(), RunError, r"model.safetensors cannot be read"),
        (lambda run: (run / "model.safetensors").write_bytes(b"1234567890"), RunError, "cannot be read"),
        (lambda run: save_file({}, run / "model.safetensors"), RunError, "cannot be read"),
        (lambda run: save_tensors(run / "model.safetensors", spoilt(run), bound_sums(run)), RunError, "NaN or inf"),
    ],
)
def test_a_run_that_cannot_be_read(
    adopting: IGRSR,
    split: Split,
    quick: Training,
    tmp_path: Path,
    spoil: Callable[[Path], Any],
    error: type[ForethoughtError],
    said: str,
) -> None:
    run = Path(shutil.copytree(adopting.encoder_run or "", tmp_path / "encoder"))
    spoil(run)
    with pytest.raises(error, match=said) as told:
        train(Recipe(method=replace(adopting, encoder_run=str(run)), training=quick), split, tmp_path / "run")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run/model.safetensors").exists()


def spoilt(run: Path) -> dict[str, torch.Tensor]:
    weights = load_file(run / "model.safetensors")
    weights["items.weight"][0, 0] = torch.nan
    return weights


def test_a_run_that_does_not_fit(
    adopting: IGRSR, config: IGRSR, split: Split, quick: Training, tmp_path: Path, sasrec: SASRec
) -> None:
    for backbone, said in (
        (replace(sasrec, width=32), "width 16, not 32"),
        (replace(sasrec, layers=2, heads=4), "layers 1, not 2; heads 2, not 4"),
    ):
        with pytest.raises(ConfigError, match=said):
            resolve(replace(adopting, backbone=backbone), split)
    with pytest.raises(ConfigError, match="a sasrec, not a gru4rec"):
        resolve(replace(adopting, backbone=GRU4Rec(width=16, window=8)), split)
    with pytest.raises(DataError, match="not the same ones"):
        resolve(adopting, renamed(split))
    with pytest.raises(DataError, match=r"not the same ones|other interactions"):
        resolve(adopting, other_shop(tmp_path))
    with pytest.raises(DataError, match="other interactions"):
        resolve(adopting, replace(split, data=later(split.data)))
    with pytest.raises(DataError, match=r"another split \(ties .*, not 'shuffle'"):
        resolve(adopting, leave_last_out(split.data, ties="shuffle"))
    thinker = train(
        Recipe(method=DTRec(backbone=sasrec, first_clusters=4, most_clusters=8), training=quick), split, tmp_path / "d"
    )
    with pytest.raises(ConfigError, match="one of 'dtrec', which holds no bare encoder"):
        resolve(replace(adopting, encoder_run=str(thinker.folder)), split)
