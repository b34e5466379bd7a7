"""Every method takes items that it never saw, and takes up the training of another run's weights."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from small_methods import small
from small_tokens import TOKENIZER

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.features import Features
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, ForethoughtError
from forethought.extending import extend
from forethought.methods.items import ItemTable, held_back, hold_back
from forethought.methods.lightrec import LightRec
from forethought.methods.rpg import RPG
from forethought.recipes import METHODS
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.training.settings import Training

LATER = 4  # items that come later

FEATURES = Features(use="categories,price")
STEPPED = [name for name, make in METHODS.items() if not make().method.closed_form]
"""Methods that are fitted in closed form know items by who met them, and nothing else."""


def recipe(name: str, quick: Training) -> Recipe:
    method = small(name)
    if isinstance(method, LightRec):
        method = replace(method, codewords=16)  # fewer than items, whose number changes
    return Recipe(method=method, training=replace(quick, epochs=1, device="cpu"), features=FEATURES)


@pytest.fixture(scope="module", params=STEPPED)
def run(
    request: pytest.FixtureRequest, split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory
) -> Recommender:
    return train(recipe(request.param, quick), split, tmp_path_factory.mktemp("runs") / "run")


def tables(run: Recommender) -> list[ItemTable]:
    return [part for part in run.method.modules() if isinstance(part, ItemTable)]


def test_a_run_takes_items_that_it_never_saw(run: Recommender, tmp_path: Path) -> None:
    """A twin of a known item is its features; one of which nothing is known is what stands for that."""
    known = len(run.items)
    twin = run.item_table.select("item_id", "categories", "price")[3]
    new = pl.concat(
        [
            twin.with_columns(item_id=pl.lit("new twin")),
            pl.DataFrame(
                {"item_id": ["new riddle"], "categories": [["never heard of"]], "price": [None]}, schema=twin.schema
            ),
        ]
    )
    extended = extend(run, new, tmp_path / "extended")
    assert extended.items.id_list([known, known + 1]) == ["new twin", "new riddle"]
    assert extended.item_table["train_count"].to_list() == [*run.item_table["train_count"], 0, 0]
    with torch.inference_mode():
        for before, table in zip(tables(run), tables(extended), strict=True):
            torch.testing.assert_close(table.vectors()[:known], before.vectors())
            assert table.features is not None
            assert before.features is not None
            torch.testing.assert_close(table.vectors()[known], before.features()[3])
            missing = sum(each.missing for each in before.features.maps)
            torch.testing.assert_close(table.vectors()[known + 1], missing)
            assert table.trained_N1 is not None
            assert not table.weight[known:].any()
    history, names = run.items.id_list([0, 5, 7]), ["new twin", "new riddle"]
    dated = {"times": [[1, 2, 3, 4]]} if run.method.inputs.times else {}
    shorter = {name: [each[:3] for each in times] for name, times in dated.items()}
    (old,), (wide,) = (
        run.recommend([history], k=5, **shorter),
        extended.recommend([history], k=known + 2, deny=names, **shorter),
    )
    assert wide.items[:5] == old.items
    assert sorted(extended.recommend([history], k=5, allow=names, **shorter)[0].items) == sorted(names)
    if tables(run):  # what comes to one vector a user
        times = {name: each[0] for name, each in dated.items()}
        assert str(extended.explain([*history, "new twin"], target="new twin", **times))
        extended.build_index()
    assert len(extended.recommend([[*history, "new riddle"]], k=5, **dated)[0].items) == 5
    again = extend(extended, new.with_columns(item_id=pl.Series(["third", "fourth"])), tmp_path / "twice")
    assert len(again.items) == known + 4


def test_new_items_are_lifted_as_far_as_is_said(run: Recommender, tmp_path: Path) -> None:
    """All scores but theirs stay, whatever validation had chosen."""
    new = run.item_table.select("item_id", "categories", "price")[3:5]
    new = new.with_columns(item_id=pl.Series(["new twin", "another"]))
    history = run.items.id_list([0, 5, 7])
    dated = {"times": [[1, 2, 3]]} if run.method.inputs.times else {}
    scores = []
    for lift in (-0.5, 0.75):
        extended = extend(run, new, tmp_path / f"{lift}", lift=lift)
        assert extended.about["extended"][-1]["lift"] == lift
        (best,) = extended.recommend([history], k=len(extended.items), exclude_history=False, **dated)
        scores.append(dict(zip(best.items, best.scores, strict=True)))
    nat = tables(run)[0].loss.temperature if tables(run) else 1.0  # scores are told as they are before it
    moved = {item: (score - scores[0][item]) / nat for item, score in scores[1].items()}
    assert moved == pytest.approx({item: 1.25 if item in ("new twin", "another") else 0.0 for item in moved}, abs=1e-4)


def test_new_items_are_lifted_as_in_a_run_that_held_items_out(run: Recommender, tmp_path: Path) -> None:
    new = run.item_table.select("item_id", "categories", "price")[3:4].with_columns(item_id=pl.Series(["new twin"]))
    about = run.about | {"protocol": run.about["protocol"] | {"hold_out_items": 0.1}}
    held = replace(run, method=deepcopy(run.method), about=about)
    hold_back(held.method, -0.75)
    extended = extend(run, new, tmp_path / "a", lift_from=held)
    assert extended.about["extended"][-1]["lift"] == 0.75
    assert held_back(extended.method) == -0.75
    assert held_back(extend(run, new, tmp_path / "b").method) == held_back(run.method)
    with pytest.raises(ConfigError, match="give one"):
        extend(run, new, tmp_path / "c", lift=1.0, lift_from=held)
    with pytest.raises(ConfigError, match="hold-out-items"):
        extend(run, new, tmp_path / "c", lift_from=run)
    with pytest.raises(ConfigError, match="was told how far"):
        extend(run, new, tmp_path / "c", lift_from=replace(extended, about=extended.about | about))
    other = replace(held.config, features=Features(use="price"))
    with pytest.raises(ConfigError, match=r"configured otherwise than the run \(features\.use: "):
        extend(run, new, tmp_path / "c", lift_from=replace(held, config=other))
    assert not (tmp_path / "c").exists()


def test_new_items_without_free_tokens_are_counted(split: Split, quick: Training, tmp_path: Path) -> None:
    """Twins by the dozen: of 4 tuples most are taken, and those that share one are ties in every ranking."""
    tokens = replace(TOKENIZER, codebooks=1, size=4)
    method = RPG(backbone=SASRec(width=16, window=8, ffn_width=32), tokenizer=tokens)
    run = train(
        Recipe(method=method, training=replace(quick, epochs=1, device="cpu"), features=FEATURES), split, tmp_path / "a"
    )
    new = pl.concat([run.item_table.select("item_id", "categories", "price")[:1]] * 3)
    extended = extend(run, new.with_columns(item_id=pl.Series(["x", "y", "z"])), tmp_path / "b")
    assert extended.about["extended"][0]["items"] == 3
    assert extended.about["extended"][0]["tied"] == 3


def test_a_training_begins_with_the_weights_of_a_run(
    request: pytest.FixtureRequest, shop: Path, quick: Training, tmp_path: Path, run: Recommender
) -> None:
    """At next to no learning rate: known items, matched by id, and all that is shared stay."""
    name = request.node.callspec.params["run"]
    whole = read(shop)
    later = whole.items.ids.gather(range(0, 4 * LATER, 4))
    rows = pl.read_parquet(shop / "interactions.parquet").filter(~pl.col("item_id").is_in(later.to_list()))
    before = train(recipe(name, quick), leave_last_out(read(rows, items=shop / "items.parquet")), tmp_path / "before")
    slow = recipe(name, replace(quick, learning_rate=1e-12, weight_decay=0.0))
    after = train(slow, leave_last_out(whole), tmp_path / "after", start=tmp_path / "before")
    place = torch.from_numpy(after.items.index_of(before.items.ids))
    assert len(before.items) == len(after.items) - LATER
    for mine, theirs in zip(tables(after), tables(before), strict=True):
        torch.testing.assert_close(mine.weight[place], theirs.weight, atol=1e-6, rtol=0)
        new = torch.ones(len(after.items), dtype=torch.bool)
        new[place] = False
        assert 0.5 < mine.weight[new].std() / mine.std < 1.5
        for maps in (mine.features, theirs.features):
            assert maps is not None
        torch.testing.assert_close(mine.features.maps[1].weight, theirs.features.maps[1].weight, atol=1e-6, rtol=0)  # type: ignore[union-attr]
    shared = [key for key, x in before.method.named_parameters() if x.shape == after.method.get_parameter(key).shape]
    for key in shared:
        if "users" not in key:
            mine, theirs = after.method.get_parameter(key), before.method.get_parameter(key)
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0, msg=key)
    assert after.about["references"]["start"] == before.weights_sum
    assert after.about["started_from"]["may_have_seen"]


@pytest.mark.parametrize("name", [name for name in METHODS if name not in STEPPED])
def test_what_knows_items_by_who_met_them_takes_no_new_ones(name: str, split: Split, tmp_path: Path) -> None:
    fitted = train(Recipe(method=small(name)), split, tmp_path / "run")
    new = pl.DataFrame({"item_id": ["new"]})
    with pytest.raises(ForethoughtError, match="features"):
        extend(fitted, new, tmp_path / "extended")
    assert not (tmp_path / "extended").exists()
