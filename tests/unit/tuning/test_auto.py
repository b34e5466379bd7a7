"""The best of a few recipes within a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import forethought as ft
from forethought.data.splits import Split
from forethought.errors import RunError
from forethought.memory import ShortOfMemoryError
from forethought.run_files import LOG_FILE
from forethought.tuning import auto
from forethought.tuning.auto import train_best


def test_the_best_on_validation_becomes_an_ordinary_run(split: Split, tmp_path: Path) -> None:
    said: list[str] = []
    model = train_best(split, tmp_path / "run", minutes=0.15, say=said.append)
    chosen = json.loads((tmp_path / "run" / "choice.json").read_text())
    measured = {name: value for name, value in chosen["valid_ndcg@10"].items() if isinstance(value, float)}
    assert max(measured, key=measured.__getitem__) == chosen["chosen"]
    assert {"itemknn", "ease"} < measured.keys()
    assert said[-1].startswith(f"Chosen: {chosen['chosen']}")
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".") and path.name != ".lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert "# run" in (tmp_path / "run" / "README.md").read_text()
    again = ft.load(tmp_path / "run")
    assert again.recommend([["i00002"]], k=3)[0].items == model.recommend([["i00002"]], k=3)[0].items
    valid = ft.evaluate(again, split, ft.EvaluationConfig(part="valid", resamples=2)).metrics["ndcg@10"].mean
    assert valid == pytest.approx(measured[chosen["chosen"]])


def test_halving_goes_on_where_it_paused(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paused and gone on with, the best comes to what it would have come to at one go."""
    monkeypatch.setattr(auto, "CLOSED_FORM", ())
    monkeypatch.setattr(auto, "_affordable", lambda *_: 8)
    said: list[str] = []
    model = train_best(split, tmp_path / "run", minutes=5.0, say=said.append)
    assert sum("after 2 of 8 epochs" in words for words in said) >= 2
    assert model.outcome()["epochs"] == 8
    at_once = ft.train(ft.read_recipe(tmp_path / "run"), split, tmp_path / "once")
    last = [(tmp_path / name / LOG_FILE).read_text().splitlines()[-1] for name in ("run", "once")]
    assert json.loads(last[0])["loss"] == json.loads(last[1])["loss"]
    assert at_once.weights_sum == model.weights_sum


def test_what_does_not_fit_into_memory_is_left_out(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = auto.train

    def short(recipe: ft.Recipe, *words: object, **named: object) -> object:
        if isinstance(recipe.method, ft.EASE):
            raise ShortOfMemoryError("EASE needs more memory.")
        return train(recipe, *words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(auto, "train", short)
    said: list[str] = []
    train_best(split, tmp_path / "run", minutes=0.01, say=said.append)
    assert "ease is left out. EASE needs more memory." in said
    assert json.loads((tmp_path / "run" / "choice.json").read_text())["valid_ndcg@10"]["ease"].startswith("EASE needs")


def test_what_lies_there_is_not_lost(split: Split, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunError):
            train_best(split, tmp_path / "run", minutes=0.01, overwrite=overwrite)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]
    (tmp_path / "run" / "mine.txt").unlink()
    train_best(split, tmp_path / "run", minutes=0.01)
    train_best(split, tmp_path / "run", minutes=0.01, overwrite=True)
