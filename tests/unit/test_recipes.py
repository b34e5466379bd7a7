"""Recipes: what an effort makes of them, and what the size of the data does."""

from __future__ import annotations

from dataclasses import replace

import pytest

import forethought as ft
from forethought import recipes
from forethought.backbones.all import BACKBONES
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.splits import Split

STEPPED = [name for name, make in recipes.METHODS.items() if not make().method.closed_form]  # type: ignore[union-attr]


def dropout_of(recipe: ft.Recipe) -> float:
    return getattr(recipe.method, "backbone", recipe.method).dropout


@pytest.mark.parametrize("name", STEPPED)
def test_efforts_take_more_epochs_in_one_schedule(name: str) -> None:
    plain = recipes.METHODS[name]()
    fast, default, best = (recipes.recipe(name, effort=effort) for effort in recipes.EPOCHS)
    assert fast == plain
    assert default == replace(
        plain,
        training=replace(plain.training, epochs=2 * plain.training.epochs, patience=2 * plain.training.patience),
    )
    assert (best.training.epochs, best.training.patience) == (3 * plain.training.epochs, 3 * plain.training.patience)
    assert (best.features, best.evidence) == (Features(), Evidence())
    assert best.method == plain.method


@pytest.mark.parametrize("name", [*recipes.AUTHORS, "popular", "ease"])
def test_what_has_no_effort_or_others_settings_stays_as_it_is(name: str, split: Split) -> None:
    assert recipes.recipe(name, split) == recipes.METHODS[name]()


@pytest.mark.parametrize("name", ["popular", "itemknn", "ease"])
def test_a_closed_form_has_no_effort(name: str) -> None:
    with pytest.raises(ft.ConfigError, match=f"{name} is fitted in closed form and has no epochs"):
        recipes.recipe(name, effort="best")


def test_what_no_recipe_or_effort_is_called_is_told() -> None:
    with pytest.raises(ft.ConfigError, match=r"There is no method 'sasrek'.* Did you mean 'sasrec'"):
        recipes.recipe("sasrek")
    with pytest.raises(ft.ConfigError, match=r"effort is 'bets'.* Did you mean 'best'"):
        recipes.recipe("sasrec", effort="bets")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("interactions", "mean_history", "dropout"),
    [
        (10_261, 7.2, 0.5),  # few instruments
        (52_551, 48.2, 0.0),  # Last.fm
        (100_000, 106.0, 0.0),  # MovieLens-100K
        (198_502, 8.9, 0.0),  # Beauty
    ],
)
def test_dropout_goes_with_size_and_length(interactions: int, mean_history: float, dropout: float) -> None:
    assert recipes.dropout_for(interactions, mean_history) == dropout


def test_settings_follow_the_data_and_the_width(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dropout_of(recipes.recipe("sasrec", split, effort="default")) == recipes.SPARSE_DROPOUT
    assert recipes.recipe("sasrec", split) == recipes.recipe("sasrec", split, effort="default")
    assert recipes.recipe("sasrec", split, effort="fast") == recipes.METHODS["sasrec"]()
    monkeypatch.setattr(recipes, "SMALL", 100)  # so that this is no small data
    plain = recipes.recipe("sasrec", split, effort="default")
    assert dropout_of(plain) == dropout_of(recipes.METHODS["sasrec"]())
    wide = replace(plain, method=replace(plain.method, backbone=replace(plain.method.backbone, width=256)))  # type: ignore
    assert recipes.settings_for(wide, split) == {"input_norm": True}
    assert recipes.with_settings(wide, {"input_norm": True}).method.backbone.input_norm  # type: ignore


@pytest.mark.parametrize("name", STEPPED)
def test_settings_are_of_what_reads_histories(name: str) -> None:
    recipe = recipes.METHODS[name]()
    assert dropout_of(recipes.with_settings(recipe, {"dropout": 0.5})) == 0.5
    assert set(BACKBONES) <= set(STEPPED)
