"""Categories and tokens that users want or not, for methods of every kind, and what is said where there are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forethought.batch_recommend import recommend_table
from forethought.config import MethodConfig, Recipe
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.all import EASE, DTRec, Popular
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.training.settings import Training

HISTORY = ["i00003", "i00017", "i00005"]


@pytest.fixture(scope="module")
def labels(trained: Recommender) -> dict[str, set[Any]]:
    """The items that carry each label."""
    carried: dict[str, set[Any]] = {}
    for item, path in zip(trained.items.id_list(range(40)), trained.item_table["categories"], strict=True):
        for label in path:
            carried.setdefault(label, set()).add(item)
    return carried


@pytest.fixture(scope="module")
def models(
    trained: Recommender, sasrec: Any, split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Recommender]:
    """One that comes to a state, one that thinks, one that adds up, one that reads nothing."""
    configs: dict[str, MethodConfig] = {
        "dtrec": DTRec(backbone=sasrec, first_clusters=4, most_clusters=8),
        "ease": EASE(),
        "popular": Popular(),
    }
    folder = tmp_path_factory.mktemp("steered")
    recipes = {
        name: Recipe(method=c) if c.closed_form else Recipe(method=c, training=quick) for name, c in configs.items()
    }
    made = {name: train(recipe, split, folder / name) for name, recipe in recipes.items()}
    return {"sasrec": trained, **made}


@pytest.mark.parametrize("name", ["sasrec", "dtrec", "ease", "popular"])
@pytest.mark.parametrize("exclude", [True, False])
def test_categories_narrow_the_lists_of_every_method(
    models: dict[str, Recommender], labels: dict[str, set[Any]], name: str, exclude: bool
) -> None:
    model, every = models[name], set(models[name].items.id_list(range(40)))
    first, second, *_ = sorted(labels, key=lambda label: -len(labels[label]))
    gone = set(HISTORY) if exclude else set()
    for choices, wanted in (
        ({"only_category": first}, labels[first]),
        ({"only_category": [first, second]}, labels[first] | labels[second]),
        ({"never_category": second}, every - labels[second]),
        ({"only_category": first, "never_category": second}, labels[first] - labels[second]),
    ):
        if not wanted:
            continue
        (found,) = model.recommend([HISTORY], 40, exclude_history=exclude, **choices)
        assert len(found.items) == len(set(found.items))
        assert set(found.items) == wanted - gone
        (whole,) = model.recommend([HISTORY], 40, exclude_history=exclude)
        scores = dict(zip(whole.items, whole.scores, strict=True))
        assert found.scores == pytest.approx([scores[item] for item in found.items], abs=1e-5)
        explained = model.explain(HISTORY, k=40, exclude_history=exclude, **choices)
        assert [each.item for each in explained.answer] == found.items
        assert explained.history_excluded is exclude
        assert explained.steering is not None
        assert explained.steering.candidates == len(wanted)
        ranks = [move.rank for move in explained.movements if move.item in found.items]
        assert sorted(rank or 0 for rank in ranks)[0] >= 1
        assert max(rank or 0 for rank in ranks) <= len(wanted)
        assert f"{len(wanted)} item" in " ".join(str(explained).split())


def test_lists_meet_categories(trained: Recommender, labels: dict[str, set[Any]]) -> None:
    label = max(labels, key=lambda name: len(labels[name]))
    one = min(labels[label])
    other = next(item for item in trained.items.id_list(range(40)) if item not in labels[label])
    (found,) = trained.recommend([HISTORY], 40, allow=[one, other], only_category=label, exclude_history=False)
    assert found.items == [one]
    with pytest.raises(ConfigError, match="what the lists allow is nothing of what the categories and tokens do"):
        trained.recommend([HISTORY], allow=[other], only_category=label)


def test_nothing_asked_for_is_nothing_said(trained: Recommender) -> None:
    assert trained.explain(HISTORY).steering is None
    (nothing,), (plain,) = (
        trained.recommend([HISTORY], never_category=[], forbid_tokens=[]),
        trained.recommend([HISTORY]),
    )
    assert nothing == plain


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"only_category": 3}, "only_category is 3, but must be the name of a category, or a list of names."),
        ({"never_category": ["Beauty", 3]}, "never_category is ['Beauty', 3], but must be the name of a category"),
        ({"only_category": []}, "only_category names no category: give one, or leave it out."),
        ({"only_category": "no such"}, "There is no category 'no such'. There are "),
        ({"forbid_tokens": [(0, 1)]}, "This model does not know items by tokens, so none can be forbidden: leave"),
        (
            {"only_tokens": [(0, 1)]},
            "This model does not know items by tokens, so none can be asked for: leave only_to",
        ),
        ({"only_tokens": 3}, "only_tokens is 3, but must be a list of pairs"),
        ({"forbid_tokens": [3]}, "forbid_tokens is [3], but must be a list of pairs (codebook, token), such as [(3,"),
        ({"forbid_tokens": 3}, "forbid_tokens is 3, but must be a list of pairs"),
        ({"forbid_tokens": ["3:17"]}, "forbid_tokens is ['3:17'], but must be a list of pairs"),
        ({"forbid_tokens": [(True, 1)]}, "forbid_tokens is [(True, 1)], but must be a list of pairs"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_a_sentence(
    trained: Recommender, choices: dict[str, Any], said: str
) -> None:
    asks: list[Callable[[], Any]] = [
        lambda: trained.recommend([HISTORY], **choices),
        lambda: trained.explain(HISTORY, **choices),
    ]
    for ask in asks:
        with pytest.raises(ConfigError) as error:
            ask()
        assert str(error.value).startswith(said)
        assert str(error.value).endswith((".", "?"))


def test_a_label_that_is_nearly_right_is_named(trained: Recommender, labels: dict[str, set[Any]]) -> None:
    label = max(labels, key=len)
    with pytest.raises(ConfigError, match=rf"There is no category '{label}x'\. Did you mean '{label}'\?"):
        trained.recommend([HISTORY], only_category=f"{label}x")
    with pytest.raises(ConfigError, match="No item is left to recommend: those of the categories asked for are of"):
        trained.recommend([HISTORY], only_category=label, never_category=label)


def test_items_without_categories_cannot_be_chosen_by_them(trained: Recommender) -> None:
    bare = Recommender(
        trained.method, trained.config, trained.items, trained.item_table.select("item_id"), trained.about
    )
    with pytest.raises(ConfigError, match="The items of this run have no categories to choose from: train it on"):
        bare.recommend([HISTORY], only_category="Beauty")


def test_a_whole_table_obeys_too(trained: Recommender, labels: dict[str, set[Any]], tmp_path: Path) -> None:
    label = max(labels, key=lambda name: len(labels[name]))
    pl.DataFrame({"history": [HISTORY, ["i00001"]]}).write_parquet(tmp_path / "in.parquet")
    recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet", 5, never_category=label)
    lists = pl.read_parquet(tmp_path / "out.parquet")["items"].to_list()
    assert lists == [one.items for one in trained.recommend([HISTORY, ["i00001"]], 5, never_category=label)]
    assert not {item for one in lists for item in one} & labels[label]
    with pytest.raises(ConfigError, match="There is no category"):
        recommend_table(trained, tmp_path / "in.parquet", tmp_path / "none.parquet", 5, only_category="no such")
    assert not (tmp_path / "none.parquet").exists()
