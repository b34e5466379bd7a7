"""A search from beginning to end, on a tiny shop."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import forethought as ft
from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe, read_recipe
from forethought.data.splits import Split
from forethought.errors import ConfigError, RunError
from forethought.methods.masked_item import MaskedItem
from forethought.training.settings import Training
from forethought.tuning import trials
from forethought.tuning.search import JOURNAL, Search, Trial, neighbours_of
from forethought.tuning.space import defaults, space_of
from forethought.tuning.tuner import SEARCH_FILE, _said, tune

pytest.importorskip("optuna")


@pytest.fixture
def recipe(sasrec: SASRec, quick: Training) -> Recipe:
    return Recipe(method=sasrec, training=replace(quick, epochs=3))


def test_the_first_trial_is_the_recipe_and_the_best_is_no_worse(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    plain = ft.train(recipe, split, tmp_path / "plain").outcome()["valid_ndcg@10"]
    tuning = tune(recipe, split, tmp_path / "search", trials=6)
    assert tuning.trials[0].values == defaults(recipe, space_of(recipe))
    assert tuning.trials[0].valid == tuning.before == plain
    assert tuning.best.valid == max(trial.valid for trial in tuning.trials if trial.valid is not None) >= plain
    assert len(tuning.trials) == 6
    again = ft.train(read_recipe(tmp_path / "search" / "best.json"), split, tmp_path / "again")
    assert again.outcome()["valid_ndcg@10"] >= tuning.best.valid
    assert tuning.recipe == read_recipe(tmp_path / "search" / "best.json")


def test_what_it_leaves(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    tuning = tune(recipe, split, tmp_path / "search", trials=8, settings=["dropout=0:0.6", "learning_rate=0.001:0.02"])
    names = {path.name for path in (tmp_path / "search").iterdir()} - {".lock"}
    pictures = {"curve.svg", "importance.svg"} if tuning.importances else {"curve.svg"}
    assert names == {"best.json", "report.md", "trials.csv", "search.json", JOURNAL, *pictures}
    with (tmp_path / "search" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(n) for n in range(1, 9)]
    assert {row["end"] for row in rows} <= {"complete", "given up"}
    report = (tmp_path / "search" / "report.md").read_text()
    assert f"the best {tuning.best.valid:.4f}" in report
    assert "![" in report
    assert "6 trials" not in repr(tuning)


def test_the_same_search_comes_to_the_same(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    figures = [
        [(t.values, t.valid, t.end) for t in tune(recipe, split, tmp_path / name, trials=5).trials] for name in "ab"
    ]
    assert figures[0] == figures[1]


def test_a_search_that_was_stopped_goes_on(
    recipe: Recipe, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, calls = trials.train, []

    def stopped(*words: Any, **named: Any) -> Any:
        calls.append(words)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*words, **named)

    monkeypatch.setattr(trials, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, split, tmp_path / "search", trials=5)
    journal = tmp_path / "search" / JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')  # as a kill leaves it
    tuning = tune(recipe, split, tmp_path / "search", trials=5)
    whole = tune(recipe, split, tmp_path / "whole", trials=5)
    assert len(calls) == 3 + 3 + 5  # the two that had ended are kept, and the one that was stopped is made again
    assert sorted(str(t.values) for t in tuning.trials) == sorted(str(t.values) for t in whole.trials)
    assert tune(recipe, split, tmp_path / "search", trials=5).trials == tuning.trials


def test_several_processes_make_as_many_trials_as_one(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    said: list[str] = []
    tuning = tune(recipe, split, tmp_path / "s", trials=4, processes=2, settings=["dropout=0.1,0.2"], say=said.append)
    assert len(tuning.trials) == len(said) == 4
    assert tuning.trials[0].values["dropout"] == 0.2
    assert all(trial.valid is not None for trial in tuning.trials)


def test_the_time_ends_a_search_and_the_best_is_kept(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    """A search of three trainings' time, as long as they take now: a busy machine may need more than 1.2 s an epoch."""
    ft.train(recipe, split, tmp_path / "plain")  # what is imported for the first time takes no part of the time
    begin = time.monotonic()
    ft.train(recipe, split, tmp_path / "again")
    minutes = max(0.02, 3 * (time.monotonic() - begin) / 60)
    long = replace(recipe, training=replace(recipe.training, epochs=1_000, patience=1_000))
    tuning = tune(long, split, tmp_path / "search", minutes=minutes)
    assert tuning.trials[-1].end == "out of time"
    assert tuning.best.valid is not None
    assert "out of time" in tuning.document().text()


def test_how_far_a_trial_came_is_said_in_words() -> None:
    trial = Trial(0, {"dropout": 0.5}, "out of time", 0.25, 1, 2.0)
    assert _said(trial).endswith("valid ndcg@10 0.2500, out of time after 1 epoch, 2 s")
    assert _said(replace(trial, epochs=3)).endswith("out of time after 3 epochs, 2 s")
    assert _said(replace(trial, valid=None, epochs=0)).endswith("no epoch, out of time, 2 s")


def test_without_time_for_an_epoch_it_says_so(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="The time was up before a trial had finished an epoch"):
        tune(recipe, split, tmp_path / "search", minutes=1e-9)


def test_a_small_space_is_tried_whole_and_then_ends(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    fixed = [f"{name}={value}" for name, value in defaults(recipe, space_of(recipe)).items() if name != "layers"]
    tuning = tune(recipe, split, tmp_path / "search", trials=50, settings=[*fixed, "layers=1,2"])
    assert [trial.values for trial in tuning.trials] == [{"layers": 1}, {"layers": 2}]


def test_what_is_fitted_in_closed_form_is_tuned_too(split: Split, tmp_path: Path) -> None:
    tuning = tune("ease", split, tmp_path / "search", trials=4)
    assert {trial.end for trial in tuning.trials} == {"complete"}
    assert tuning.recipe.method.regularisation == tuning.best.values["regularisation"]  # type: ignore[union-attr]


def test_what_a_method_refuses_is_not_tried_unless_asked_for(split: Split, quick: Training, tmp_path: Path) -> None:
    """Half of the trials of an encoder that hides items failed on input noise, which is not for it."""
    both_ways = BERT4Rec(width=16, layers=1, heads=2, window=8, ffn_width=32)
    hiding = Recipe(method=MaskedItem(backbone=both_ways), training=replace(quick, epochs=1))
    assert {"input_noise", "later_targets"} <= space_of(hiding).keys()
    found = tune(hiding, split, tmp_path / "a", trials=1)
    tried = json.loads((tmp_path / "a" / SEARCH_FILE).read_text())["space"]
    assert not {"input_noise", "later_targets"} & tried.keys()
    assert "mask_share" in tried
    assert [trial.end for trial in found.trials] == ["complete"]
    with pytest.raises(ConfigError, match="input_noise is for models that name what follows"):
        tune(hiding, split, tmp_path / "b", trials=1, settings=["input_noise=0:0.2"])


def test_a_trial_that_fails_is_told_and_the_others_go_on(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    tuning = tune(
        recipe, split, tmp_path / "s", trials=4, settings=["heads=2,4", "width=16,6", "layers=1", "dropout=0"]
    )
    failed = [trial for trial in tuning.trials if trial.end == "failed"]
    assert all("multiple of its" in trial.said for trial in failed)
    assert len(tuning.trials) == 4


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_small_number_of_failures_ends_a_search(recipe: Recipe, split: Split, tmp_path: Path, processes: int) -> None:
    """What fails is the recipe and no value of a setting: nobody waits for the end of the time, or of the trials."""
    reading = replace(recipe, features=ft.Features(use="no_such_column"))
    with pytest.raises(RunError, match="no_such_column"):
        tune(reading, split, tmp_path / "s", trials=12, processes=processes)
    search = trials.Job(tmp_path / "s", split, reading, space_of(reading), None, None, 0).search()
    ended = [trial.end for trial in search.trials() if trial.end is not None]
    assert set(ended) <= {"failed", "abandoned"}
    assert trials.HOPELESS <= len(ended) <= trials.HOPELESS + processes


def test_another_search_in_the_same_folder_is_refused(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    tune(recipe, split, tmp_path / "search", trials=1)
    before = (tmp_path / "search" / JOURNAL).read_bytes()
    with pytest.raises(RunError, match="holds another search"):
        tune(recipe, split, tmp_path / "search", trials=2, settings=["dropout=0.1:0.2"])
    with pytest.raises(RunError, match="holds another search"):
        tune(replace(recipe, seed=1), split, tmp_path / "search", trials=2)
    assert (tmp_path / "search" / JOURNAL).read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="something other than a search"):
        tune(recipe, split, tmp_path / "other", trials=1)


def test_a_file_that_describes_no_search_is_refused_in_a_sentence(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text("[]", encoding="utf-8")
    with pytest.raises(RunError, match=r"search\.json is damaged"):
        tune(recipe, split, tmp_path, trials=1)


def test_a_damaged_journal_is_refused_in_a_sentence(recipe: Recipe, split: Split, tmp_path: Path) -> None:
    tune(recipe, split, tmp_path / "search", trials=1)
    (tmp_path / "search" / JOURNAL).write_text("{}\nnothing\n")
    with pytest.raises(RunError, match="is damaged"):
        tune(recipe, split, tmp_path / "search", trials=2)


@pytest.mark.parametrize("wrong", [{"minutes": 0}, {"trials": 0}, {"processes": 0}, {"seed": -1}, {"settings": "a=1"}])
def test_what_is_no_budget_is_refused(recipe: Recipe, split: Split, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tune(recipe, split, tmp_path / "search", **wrong)
    assert not (tmp_path / "search").exists()


def test_neighbours_change_one_setting_each(recipe: Recipe) -> None:
    space = space_of(recipe)
    first = defaults(recipe, space)
    beside = neighbours_of(first, space)
    assert all(sum(each[name] != first[name] for name in first) == 1 for each in beside)
    assert [each["dropout"] for each in beside[:2]] == [0.45, 0.1]


def test_a_trial_is_given_up_where_others_were_better(recipe: Recipe, tmp_path: Path) -> None:
    space = space_of(recipe)
    search = Search(tmp_path, space, defaults(recipe, space), epochs=8, seed=0)
    search.begin()
    given_up = []
    for quality in (0.5, 0.4, 0.3, 0.6, 0.1):
        asked = search.ask(None)
        assert asked is not None
        given_up.append(search.report(asked[0], 2, quality))
    assert given_up == [False, False, False, False, True]


def test_recipes_are_files(recipe: Recipe, tmp_path: Path) -> None:
    ft.write_recipe(recipe, tmp_path / "recipe.json")
    assert ft.read_recipe(tmp_path / "recipe.json") == recipe
    parts = json.loads((tmp_path / "recipe.json").read_text())
    parts["recipe"]["training"]["learning_rat"] = 1
    (tmp_path / "recipe.json").write_text(json.dumps(parts))
    with pytest.raises(ConfigError, match="Did you mean 'learning_rate'"):
        ft.read_recipe(tmp_path / "recipe.json")
    for text in ("[]", "{}", '{"recipe": 1}', "nothing"):
        (tmp_path / "recipe.json").write_text(text)
        with pytest.raises(RunError):
            ft.read_recipe(tmp_path / "recipe.json")


def test_a_run_folder_is_a_recipe(trained: ft.Recommender) -> None:
    assert trained.folder is not None
    read = ft.read_recipe(trained.folder)
    assert (read.method, read.training) == (trained.config.method, trained.config.training)
