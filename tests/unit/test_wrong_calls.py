"""Calls with arguments of another kind: an item that is a number, paths where evaluations are meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forethought as ft
from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.errors import DataError, ForethoughtError, nearest, some
from forethought.recommender import Recommender
from forethought.training.settings import Training


@pytest.mark.parametrize("role", ["user", "item", "time", "position", "rating"])
@pytest.mark.parametrize("value", [1, True, float("nan"), ["user_id"]])
def test_a_column_that_is_no_name_is_refused(shop: Path, role: str, value: Any) -> None:
    with pytest.raises(ForethoughtError, match=rf"{role} is .*, but must be text"):
        ft.read(shop, **{role: value})


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda model: model.recommend([["i00001"]], allow=1), "allow is 1, but must be a list of item ids."),
        (lambda model: model.recommend([["i00001"]], deny="i00001"), "deny is 'i00001', but must be a list of item"),
        (lambda _: ft.compare({"a": "run", "b": "other"}), "'a' is 'run', but a comparison needs evaluations: "),
        (lambda _: ft.compare(["run"]), "A comparison needs evaluations by method"),
        (lambda _: ft.leave_last_out("shop"), "data is 'shop', but must be Interactions"),
        (lambda _: ft.temporal("shop", valid_from=0.8, test_from=0.9), "data is 'shop', but must be Interactions"),
    ],
)
def test_another_kind_of_argument_is_refused_in_a_sentence(
    trained: Recommender, ask: Callable[[Any], Any], said: str
) -> None:
    with pytest.raises(ForethoughtError) as error:
        ask(trained)
    assert said in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("track", [1, "tensorboard", [["wandb"]], ["x"]])
def test_trackers_that_are_no_list_of_names_are_refused(
    split: Split, sasrec: Any, quick: Training, tmp_path: Any, track: Any
) -> None:
    with pytest.raises(ForethoughtError, match="tensorboard, mlflow, wandb"):
        ft.train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", track=track)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("query", ["", "\0", "missing.csv", "*", "SELECT"])
def test_what_duckdb_says_ends_as_a_sentence(query: str) -> None:
    pytest.importorskip("duckdb")
    with pytest.raises(DataError) as error:
        ft.sql(query)
    assert str(error.value).endswith((".", "?", "!"))


def test_a_name_of_thousands_of_signs_is_cut_in_what_is_said(trained: Recommender) -> None:
    with pytest.raises(DataError) as error:
        trained.recommend([["i00001"]], allow=["x" * 500_000], strict_lists=True)
    assert str(error.value).endswith("xxx....")
    assert len(str(error.value)) < 200
    assert some([*range(7)], 5) == "0, 1, 2, 3, 4 and 2 more"


def test_a_name_in_other_letters_is_hinted_at() -> None:
    methods = ["sasrec", "dtrec", "igr-sr", "GRU4Rec"]
    for word, meant in (("SASRec", "sasrec"), ("IGR_SR", "igr-sr"), ("gru4rec", "GRU4Rec"), ("DTREK", "dtrec")):
        assert nearest(word, methods) == f" Did you mean {meant!r}?"
    assert nearest("popular", methods) == ""
