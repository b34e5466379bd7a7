"""Runs with evidence: trained, stopped, killed, loaded, evaluated and begun with; and what of it is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from run_tools import edit_config
from safetensors.torch import load_file

from forethought import runs, validation_fits
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out, temporal
from forethought.errors import ConfigError, DataError, ForethoughtError, RunError
from forethought.evaluation.settings import EvaluationConfig
from forethought.methods.dtrec import DTRec
from forethought.methods.igr_sr import IGRSR
from forethought.methods.items import ItemLoss
from forethought.methods.next_item import NextItem
from forethought.reasoning.intent_reasoner import Reasoner
from forethought.recommender import Recommender, load
from forethought.run_files import bound_sums, write_model
from forethought.runs import train
from forethought.training.interrupt import Interrupted
from forethought.training.progress import Quiet
from forethought.training.settings import Training

FITTED = Evidence(use="co_occurrence,repeat")
TRAINED = Evidence(use="co_occurrence,repeat", fit="training", gate=True)
KINDS = {"fitted": FITTED, "trained": TRAINED}


class Stop(Quiet):
    """Ctrl-C in the fourth step."""

    left = 3

    def step(self, losses: dict[str, float], positions: int) -> None:
        if self.left == 0:
            raise Interrupted
        self.left -= 1


class Notes(Quiet):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Killed(BaseException):
    """As near as a test comes to a kill without a process of its own."""


@pytest.fixture(scope="module")
def done(
    sasrec: SASRec, split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Recommender]:
    """A run of each way to find weights."""
    folder, made = tmp_path_factory.mktemp("done"), {}
    for name, evidence in KINDS.items():
        made[name] = train(Recipe(method=sasrec, training=quick, evidence=evidence), split, folder / name)
    return made


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def same_weights(folder: Path, other: Path) -> bool:
    mine, theirs = (load_file(each / "model.safetensors") for each in (folder, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


# ---- trained and kept


def test_weights_are_found_and_kept(done: dict[str, Recommender], name: str, split: Split) -> None:
    run = done[name]
    assert run.folder is not None
    spoken: Any = run.method.evidence
    assert bool((spoken.weights_E != spoken.weights_E.new_tensor([1.0, 1.0])).any())
    assert spoken.weights_E[0] > 0
    assert (spoken.gate_ED is None) == (name == "fitted")
    assert [each["name"] for each in run.about["evidence"]] == ["co_occurrence", "repeat"]
    assert {"evidence.co_occurrence", "evidence.repeat"} <= run.about["references"].keys()
    assert run.config.evidence == KINDS[name]
    again = load(run.folder)
    history = [run.items.id_list([3, 9, 21])]
    assert again.recommend(history) == run.recommend(history)
    evaluated = [runs.evaluate(each, split, EvaluationConfig(resamples=20)).metrics for each in (run, again)]
    assert evaluated[0] == evaluated[1]
    with torch.no_grad():
        again.method.evidence.weights_E.zero_()  # type: ignore[union-attr]
    assert again.recommend(history)[0].scores != run.recommend(history)[0].scores


def test_the_outcome_of_fitting_is_told(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    watcher = Notes()
    run = train(Recipe(method=sasrec, training=quick, evidence=FITTED), split, tmp_path / "run", observer=watcher)
    (said,) = [note for note in watcher.notes if note.startswith("Evidence: ")]
    weights = run.method.evidence.weights_E.tolist()  # type: ignore[union-attr]
    assert said.startswith(f"Evidence: co_occurrence {weights[0]:g}, repeat {weights[1]:g}; NDCG@10 on validation 0.")


# ---- stopped and killed


def test_stopped_it_goes_on_to_the_same_weights(
    done: dict[str, Recommender], name: str, sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    recipe = Recipe(method=sasrec, training=replace(quick, checkpoint_every_s=1e-9), evidence=KINDS[name])
    with pytest.raises(Interrupted):
        train(recipe, split, tmp_path / "run", observer=Stop())
    train(recipe, split, tmp_path / "run", resume=True)
    assert same_weights(tmp_path / "run", done[name].folder or Path())
    with pytest.raises(ConfigError, match=r"configured otherwise .*evidence"):
        train(replace(recipe, evidence=None), split, tmp_path / "run", resume=True)


@pytest.mark.parametrize("use", ["features", "evidence"])
@pytest.mark.parametrize("finished", [False, True])
def test_vectors_that_changed_since_are_refused_when_it_goes_on(
    use: str, finished: bool, sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    """A file is named in the configuration, which is the same as before."""
    file, run = tmp_path / "shape.npy", tmp_path / "run"
    vectors = np.random.default_rng(0).normal(size=(len(split.data.item_table), 4)).astype(np.float32)
    np.save(file, vectors)
    part = Features(use=str(file)) if use == "features" else Evidence(use=str(file))
    recipe = Recipe(method=sasrec, training=replace(quick, checkpoint_every_s=1e-9), **{use: part})  # type: ignore[arg-type]
    if finished:
        train(recipe, split, run)
    else:
        with pytest.raises(Interrupted):
            train(recipe, split, run, observer=Stop())
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    np.save(file, vectors[::-1])
    with pytest.raises(DataError, match=r"other values of the (feature|vectors) 'shape' of the items: put back what"):
        train(recipe, split, run, resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    np.save(file, vectors)
    train(recipe, split, run, resume=True)


@pytest.mark.parametrize("place", ["before", "while it is written"])
def test_killed_where_weights_are_fitted_they_are_fitted_when_it_goes_on(
    done: dict[str, Recommender],
    sasrec: SASRec,
    split: Split,
    quick: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    """What lies there before is whole, with evidence that says nothing yet."""
    recipe = Recipe(method=sasrec, training=quick, evidence=FITTED)

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if place == "before":
            patched.setattr(validation_fits, "fit_weights", kill)
        else:
            fit = validation_fits.fit_weights

            def then_kill(*args: Any, **kwargs: Any) -> Any:
                patched.setattr("os.replace", kill)
                return fit(*args, **kwargs)

            patched.setattr(validation_fits, "fit_weights", then_kill)
        with pytest.raises(Killed):
            train(recipe, split, tmp_path / "run")
    left = load(tmp_path / "run")
    assert left.method.evidence is not None
    assert left.method.evidence.silent()
    assert left.explain(left.items.id_list([3, 9])).sums is None
    train(recipe, split, tmp_path / "run", resume=True)
    assert same_weights(tmp_path / "run", done["fitted"].folder or Path())


def test_a_finished_run_that_goes_on_stays_as_it_is(
    done: dict[str, Recommender], name: str, sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(done[name].folder or Path(), tmp_path / "run"))
    train(Recipe(method=sasrec, training=quick, evidence=KINDS[name]), split, folder, resume=True)
    assert same_weights(folder, done[name].folder or Path())


@pytest.mark.parametrize("fit", ["validation", "both"])
def test_with_features_it_stays_too(fit: str, sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    """What holds unmet items back was fitted before any evidence was heard, and is so again."""
    evidence = Evidence(use="co_occurrence", fit=fit)  # type: ignore[arg-type]
    recipe = Recipe(method=sasrec, training=quick, features=Features(use="categories"), evidence=evidence)
    first = train(recipe, split, tmp_path / "run")
    before = Path(shutil.copytree(tmp_path / "run", tmp_path / "before"))
    assert first.method.evidence is not None
    train(recipe, split, tmp_path / "run", resume=True)
    assert same_weights(tmp_path / "run", before)


# ---- taken further


def _rotations(length: int) -> Split:
    """Ten users who meet so many of ten items one after the other, each beginning with another one."""
    rows = [(user, f"i{(user + place) % 10}", place) for user in range(10) for place in range(length)]
    return leave_last_out(read(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")))


@pytest.mark.filterwarnings("ignore:The weights it began with")
@pytest.mark.parametrize(("before", "after"), [(10, 4), (4, 10)])
def test_a_training_that_begins_with_a_run_counts_its_evidence_anew(
    sasrec: SASRec, quick: Training, tmp_path: Path, before: int, after: int
) -> None:
    """Of other histories there are other neighbours, more of them or fewer."""
    recipe = Recipe(method=sasrec, training=quick, evidence=Evidence(use="co_occurrence"))
    first = train(recipe, _rotations(before), tmp_path / "first")
    second = train(recipe, _rotations(after), tmp_path / "second", start=tmp_path / "first")
    fresh = train(recipe, _rotations(after), tmp_path / "fresh")
    mine, theirs, old = (each.method.evidence for each in (second, fresh, first))
    assert mine is not None
    assert theirs is not None
    assert old is not None
    assert torch.equal(mine.items_NK, theirs.items_NK)
    assert torch.equal(mine.values_NK, theirs.values_NK)
    assert torch.equal(mine.pairs_NM, theirs.pairs_NM)
    assert (mine.values_NK.shape[1] > old.values_NK.shape[1]) == (after > before)
    with pytest.raises(ConfigError, match=r"configured otherwise .*evidence"):
        train(replace(recipe, evidence=None), _rotations(after), tmp_path / "third", start=tmp_path / "first")


def test_an_encoder_is_taken_over_without_its_evidence(
    done: dict[str, Recommender], sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    encoder = done["fitted"].folder
    method = IGRSR(backbone=sasrec, reasoner=Reasoner(width=16, ffn_width=32), encoder_run=str(encoder))
    for name, evidence in (("alone", None), ("beside", FITTED)):
        run = train(Recipe(method=method, training=quick, evidence=evidence), split, tmp_path / name)
        taken, theirs = run.method.state_dict(), done["fitted"].method.state_dict()
        assert torch.equal(taken["encoder.items.weight"], theirs["items.weight"])
        assert [key for key in taken if key.startswith("encoder.evidence")] == []
        assert any(key.startswith("evidence.") for key in taken) == (evidence is not None)


# ---- refused


def test_another_split_than_evidence_was_counted_on_is_refused(
    done: dict[str, Recommender], name: str, split: Split, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    other = temporal(split.data, valid_from=0.7, test_from=0.85)
    with pytest.raises(DataError, match="trained on another split"):
        runs.evaluate(done[name], other)
    method = IGRSR(backbone=sasrec, reasoner=Reasoner(width=16, ffn_width=32), encoder_run=str(done[name].folder))
    with pytest.raises(DataError, match="was trained on another split"):
        train(Recipe(method=method, training=quick, evidence=FITTED), other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_index_is_refused(done: dict[str, Recommender], name: str) -> None:
    with pytest.raises(ConfigError, match="this run has evidence beside it: rank all items"):
        done[name].build_index()
    assert done[name].index is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"method": DTRec(first_clusters=4, most_clusters=12), "evidence": TRAINED}, "DTRec's loss does not know the"),
        (
            {"method": NextItem(loss=ItemLoss(kind="gbce")), "evidence": TRAINED},
            "with the softmax over all items alone",
        ),
        ({"training": Training(split_catalogue=True), "evidence": FITTED}, "cannot be split: leave split_catalogue or"),
        (
            {"training": Training(split_catalogue=True), "evidence": TRAINED},
            "cannot be split: leave split_catalogue or",
        ),
        ({"evidence": Evidence(use="text")}, "There are no text vectors of items beside the data"),
        ({"evidence": Evidence(use="nothing")}, "There is no evidence 'nothing'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    sasrec: SASRec, split: Split, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        train(Recipe(**({"method": sasrec} | changed)), split, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def _bent(run: Recommender, folder: Path, key: str, value: Any) -> Path:
    """A copy whose configuration says another thing of its evidence."""
    shutil.copytree(run.folder or Path(), folder)

    def bend(parts: dict[str, Any]) -> dict[str, Any]:
        parts["about"]["evidence"][0][key] = value
        return parts

    edit_config(folder, bend)
    return folder


@pytest.mark.parametrize(
    ("key", "value"),
    [("neighbours", 3), ("neighbours", 10**9), ("neighbours", 0), ("kind", "like"), ("kind", "x"), ("name", 3)],
)
def test_shapes_that_do_not_fit_the_weights_are_told(
    done: dict[str, Recommender], tmp_path: Path, key: str, value: Any
) -> None:
    with pytest.raises(ForethoughtError, match=r"is damaged \(|does not fit|memory") as error:
        load(_bent(done["fitted"], tmp_path / "run", key, value))
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("tensor", "value"), [("items_NK", 40), ("items_NK", -1), ("values_NK", -1.0), ("counts_N", -1)]
)
def test_tables_of_other_items_are_told(
    done: dict[str, Recommender], tmp_path: Path, tensor: str, value: float
) -> None:
    """Beyond the last item there is memory of somebody else's."""
    folder = Path(shutil.copytree(done["fitted"].folder or Path(), tmp_path / "run"))
    weights = dict(done["fitted"].method.state_dict())
    weights[f"evidence.{tensor}"] = weights[f"evidence.{tensor}"].clone()
    weights[f"evidence.{tensor}"].view(-1)[5] = value
    write_model(folder, weights, bound_sums(folder))
    with pytest.raises(RunError, match="its evidence names items that there are not, or counts below 0"):
        load(folder)
