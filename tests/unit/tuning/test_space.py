"""The search space that settings declare, and what `--set` makes of it."""

from __future__ import annotations

import re

import pytest

from forethought import recipes
from forethought.config import Recipe
from forethought.errors import ConfigError
from forethought.methods.all import NextItem
from forethought.methods.items import ItemLoss
from forethought.settings import SearchChoices, SearchRange
from forethought.tuning.space import (
    defaults,
    parse_settings,
    restricted,
    settings_of,
    shown_value,
    space_of,
    with_values,
)

SASREC = recipes.METHODS["sasrec"]()


@pytest.mark.parametrize("name", recipes.METHODS)
def test_every_recipe_lies_in_its_own_space(name: str) -> None:
    """Else the first trial could not be the recipe, and the best might be worse."""
    recipe = recipes.METHODS[name]()
    space = space_of(recipe)
    assert defaults(recipe, space).keys() == space.keys()
    assert with_values(recipe, defaults(recipe, space)) == recipe
    assert space or name == "popular"


def test_the_recipes_own_value_widens_what_is_declared() -> None:
    odd = with_values(SASREC, {"batch_positions": 128, "learning_rate": 0.05, "dropout": 0.9})
    space = space_of(odd)
    assert space["batch_positions"] == SearchChoices((128, 512, 1024, 2048, 4096))
    assert space["learning_rate"] == SearchRange(5e-4, 0.05, log=True)
    assert space["dropout"] == SearchRange(0.0, 0.9)


def test_names_are_those_of_the_command_lines_options() -> None:
    known = settings_of(SASREC)
    assert known["dropout"].path == ("method", "backbone", "dropout")
    assert known["loss.temperature"].path == ("method", "loss", "temperature")
    assert known["learning_rate"].path == ("training", "learning_rate")
    assert "learning_rate" not in settings_of(recipes.METHODS["ease"]())


def test_a_setting_that_others_do_not_allow_is_not_tuned() -> None:
    assert "loss.smoothing" in space_of(SASREC)
    assert "loss.smoothing" not in space_of(Recipe(method=NextItem(loss=ItemLoss(kind="bce"))))


def test_values_are_put_where_they_belong_all_at_once() -> None:
    changed = with_values(SASREC, {"width": 6, "heads": 3, "loss.temperature": 0.05, "epochs": 3})
    encoder = changed.method.backbone  # type: ignore[union-attr]
    assert (encoder.width, encoder.heads, changed.training.epochs) == (6, 3, 3)
    assert changed.method.loss.temperature == 0.05  # type: ignore[union-attr]
    assert with_values(changed, {"width": 64, "heads": 2, "loss.temperature": 0.085, "epochs": 14}) == SASREC


def test_words_become_domains_of_the_settings_type() -> None:
    words = ["dropout=0,0.5", "loss.temperature=0.05:0.2", "layers=1:3", "input-norm=true,false"]
    said = parse_settings(words, SASREC)
    assert said == {
        "dropout": SearchChoices((0.0, 0.5)),
        "loss.temperature": SearchRange(0.05, 0.2, log=True),
        "layers": SearchRange(1, 3),
        "input_norm": SearchChoices((True, False)),
    }
    assert type(said["layers"].least) is int  # type: ignore[union-attr]


def test_one_value_stays_and_leaves_the_space() -> None:
    recipe, space = restricted(SASREC, parse_settings(["dropout=0.5", "width=16,32"], SASREC))
    assert recipe.method.backbone.dropout == 0.5  # type: ignore[union-attr]
    assert "dropout" not in space
    assert space["width"] == SearchChoices((16, 32))
    assert "width" not in defaults(recipe, space)  # the recipe's own is not among them


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=1,2"], "A seed is no setting: a tuning takes one with --seed, and a training several with --seeds"),
        (["dropuot=1"], "There is no setting 'dropuot' of this method or its training. Did you mean 'dropout'?"),
        (["nix=3"], "There is no setting 'nix' of this method or its training. Settings are called as the options of"),
        (["dropout"], "--set has 'dropout', but must be like dropout=0.2,0.5"),
        (["dropout="], "--set has 'dropout='"),
        (["dropout=0.1,0.2", "dropout=0.3"], "--set has dropout twice"),
        (["dropout=1"], "dropout is 1.0, but must be a number from 0 to 1, but below 1."),
        (["dropout=a,b"], "dropout is 'a', but must be a number"),
        (["layers=1.5"], "layers is 1.5, but must be a whole number"),
        (["layers=3:1"], "must rise from its least to its most"),
        (["loss.kind=ce,x"], "loss.kind is 'x', but must be one of"),
        (["width=15,30"], "width is 15, but must be a multiple of its 2 heads"),
        (["learning_rate=0:2000"], "learning_rate is 0.0, but must be a number above 0"),
    ],
)
def test_what_is_no_setting_is_refused_in_a_sentence(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        restricted(SASREC, parse_settings(words, SASREC))


def test_a_grid_takes_no_ranges() -> None:
    with pytest.raises(ConfigError, match="is a range, but a grid needs values"):
        parse_settings(["dropout=0.1:0.5"], SASREC, ranges=False)


def test_nothing_left_to_tune_is_refused() -> None:
    ease = recipes.METHODS["ease"]()
    with pytest.raises(ConfigError, match="No setting is left to be tuned"):
        restricted(ease, parse_settings(["regularisation=10", "recency=0.5"], ease))
    # nothing was said that could be left out
    with pytest.raises(ConfigError, match="no setting that is tuned by itself: say with --set"):
        restricted(recipes.METHODS["popular"](), {})


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (None, "none"), (0.001, "0.001"), (3, "3"), ("ce", "ce")])
def test_values_are_shown_as_they_are_said(value: object, text: str) -> None:
    assert shown_value(value) == text  # type: ignore[arg-type]
