"""What intents are held against: labels from outside, and how well vectors and groups name them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import lists_batch
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, MissingExtraError
from forethought.methods.igr_sr import IGRSR
from forethought.reasoning.intent_reasoner import Reasoner
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.studies import intent_probing, labels, probing, runner
from forethought.studies.page import Page
from forethought.studies.results import DatasetKey, Result
from forethought.studies.runner import StudyContext, carry_out
from forethought.training.progress import Quiet
from forethought.training.settings import Training


@pytest.fixture(scope="module")
def with_intents(
    split: Split, sasrec: SASRec, quick: Training, shop: Path, tmp_path_factory: pytest.TempPathFactory
) -> Recommender:
    method = IGRSR(backbone=sasrec, slots=3, prefix=2, reasoner=Reasoner(width=16, layers=1, ffn_width=32))
    return train(Recipe(method=method, training=quick), split, tmp_path_factory.mktemp("runs") / "igr")


def test_category_levels() -> None:
    items = pl.DataFrame({"categories": [["Shop", "A", "x"], ["Shop", "B"], ["Shop", "A", "y"], None]})
    levels = labels.category_levels(items)
    assert list(levels) == ["level 2", "level 3"]  # all share the root
    assert levels["level 2"].tolist() == ["Shop > A", "Shop > B", "Shop > A", ""]
    assert levels["level 3"].tolist() == ["Shop > A > x", "", "Shop > A > y", ""]
    assert labels.category_levels(pl.DataFrame({"title": ["a"]})) == {}


def test_brands() -> None:
    assert labels.brands(pl.DataFrame({"brand": ["a", None, "b"]})).tolist() == ["a", "", "b"]  # type: ignore[union-attr]
    assert labels.brands(pl.DataFrame({"brand": ["a", "a"]})) is None
    assert labels.brands(pl.DataFrame({"title": ["a"]})) is None


def test_prices_are_told_by_fifths() -> None:
    prices = [5.0, None, 1.0, 2.0, 9.0, 3.0, 4.0, 6.0, 7.0, 8.0, 10.0, float("nan")]
    told = labels.price_fifths(pl.DataFrame({"price": prices}))
    assert told is not None
    assert told.tolist() == ["3", "", "1", "1", "5", "2", "2", "3", "4", "4", "5", ""]
    assert labels.price_fifths(pl.DataFrame({"price": [1, 1, 2]})) is None
    assert labels.price_fifths(pl.DataFrame({"price": ["1.50"]})) is None
    assert labels.price_fifths(pl.DataFrame({"title": ["a"]})) is None


def test_what_is_new_to_a_history(split: Split) -> None:
    brand = labels.brands(split.data.item_table)
    assert brand is not None
    told = labels.explored(np.where(np.arange(len(brand)) % 7 == 0, "", brand), split.test)
    for at, target in enumerate(split.test.targets):
        before = {brand[item] for item in split.test.history[at] if item % 7}
        wanted = "" if target % 7 == 0 else "met" if brand[target] in before else "new"
        assert told[at] == wanted
    assert set(told) == {"", "met", "new"}


def test_what_is_asked_of_the_next_item(with_intents: Recommender, split: Split) -> None:
    priced = split.data.item_table.with_columns(price=pl.int_range(pl.len()))
    split = replace(split, data=replace(split.data, item_table=priced))
    told = probing.labels_of(with_intents, split, split.test)
    levels = [name for name in told if name.startswith("next item's category, level")]
    assert len(levels) >= 2
    assert list(told) == [
        *(probing.INTENT, *levels, "next item's brand", "next item's price"),
        *("category, level 2: new or met", "brand: new or met"),
    ]
    assert all(len(of) == len(split.test) for of in told.values())


def test_true_intents_are_those_of_the_target(shop: Path, split: Split) -> None:
    seen = pl.read_parquet(shop / "interactions.parquet")
    told = pl.read_parquet(shop / "truth" / "interactions.parquet")
    wanted = []
    for user, item in zip(split.test.history.users, split.test.targets, strict=True):
        mine = (seen["user_id"] == split.data.users.id_list([user])[0]) & (
            seen["item_id"] == split.data.items.id_list([item])[0]
        )
        rows = [r for r in np.flatnonzero(mine.to_numpy()) if not told["noise"][int(r)]]
        wanted.append(str(told["intent_id"][int(rows[-1])]) if rows else "")
    got = labels.true_intents(str(shop), split, split.test)
    assert got is not None
    assert got.tolist() == wanted
    assert "" in wanted  # some targets are noise
    assert labels.true_intents(None, split, split.test) is None
    assert labels.true_intents(str(shop / "truth"), split, split.test) is None


def test_vectors_are_those_of_each_history(with_intents: Recommender, split: Split) -> None:
    """Cases are read sorted by length, and come back in their own order."""
    method, cases = with_intents.method, split.test
    vectors, intent_weights = intent_probing.read(method, cases)  # type: ignore[arg-type]
    for row in (0, 7, len(cases) - 1):
        batch = lists_batch([cases.history[row]], method.window)
        with torch.inference_mode():
            thought, intents_BMD = method.user_states(batch), method.intents(batch)  # type: ignore[operator]
        np.testing.assert_allclose(vectors["intents"][row], intents_BMD[0].flatten(), atol=1e-5)
        np.testing.assert_allclose(vectors["intent 2 alone"][row], intents_BMD[0, 1], atol=1e-5)
        np.testing.assert_allclose(vectors["last state"][row], thought.states_BD[0], atol=1e-5)
        np.testing.assert_allclose(intent_weights[row], thought.weights_BM[0], atol=1e-5)  # type: ignore[attr-defined]


def test_what_is_in_the_vectors_is_named() -> None:
    rng = np.random.default_rng(0)
    of, taught = rng.integers(0, 3, 400).astype(str), rng.random(400) < 0.5
    telling = np.eye(3)[of.astype(int)] + rng.normal(size=(400, 3)) * 0.05
    assert (probing.named_by_line(telling, of, taught) == of[~taught]).all()
    assert (probing.named_by_line(rng.normal(size=(400, 3)), of, taught) == of[~taught]).mean() < 0.5
    group = (of.astype(int) + 1) % 3
    assert (probing.named_by_group(group, of, taught) == of[~taught]).all()
    unmet = np.where(taught, 0, 1)  # nobody of group 1 was seen
    assert set(probing.named_by_group(unmet, of, taught)) == {pl.Series(of[taught]).mode()[0]}


def test_probe_and_page(
    with_intents: Recommender, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (probing, intent_probing):
        monkeypatch.setattr(module, "LABELS", 3)
    monkeypatch.setattr(probing, "LEAST", 6)
    told = intent_probing.probe(with_intents, split, 0)
    assert told["intents"] == 3
    assert sum(told["intent_weights"]) == pytest.approx(1, abs=1e-5)
    one = next(one for one in told["probes"] if one["label"] == "next item's category, level 1")
    levels = labels.category_levels(split.data.item_table)["level 1"][split.test.targets]
    names, counts = np.unique(levels, return_counts=True)
    assert one["cases"] == sum(sorted(c for c in counts if c >= 6)[-3:])
    assert len(names) >= one["labels"]
    assert one["accuracy"]["intents"]["behind"] == (0, 0)
    state, clusters = one["accuracy"]["encoder's state"], one["accuracy"]["3 clusters of intents"]
    assert 0 <= state["ci95"][0] <= state["mean"] <= state["ci95"][1] <= 1
    assert set(one["information"]) == {"strongest intent", "3 clusters of intents", "3 clusters of encoder's state"}
    assert clusters["mean"] <= 1
    run = Result("igr-sr", DatasetKey("shop", "file"), 0, {}, told)
    page = Page(tmp_path, "intent-probing", "t", "q")
    intent_probing.write(page, {"igr-sr": [run]})
    text = page.write().read_text()
    line = next(line for line in text.splitlines() if line.startswith("| strongest intent | "))
    assert f"| {one['accuracy']['strongest intent']['mean']:.1%} [" in line
    assert "## igr-sr-shop-file-0" in text


def test_nobody_is_on_both_sides() -> None:
    users = np.random.default_rng(0).integers(0, 40, 300)
    half = probing.to_teach(users, seed=2)
    assert 0 < half.sum() < 300
    assert not set(users[half]) & set(users[~half])


def test_few_cases_are_no_trouble(with_intents: Recommender, split: Split) -> None:
    few = replace(split, test=split.test.take(np.arange(5)))
    told = intent_probing.probe(with_intents, few, 0)
    assert told["probes"] == []  # no label is common enough


def test_information_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    of, group = rng.integers(0, 3, 50).astype(str), rng.integers(0, 4, 50)
    assert labels.information(of, group) == pytest.approx(adjusted_mutual_info_score(group, of))


def test_who_has_no_intents_is_not_asked(trained: Recommender, split: Split) -> None:
    with pytest.raises(ConfigError, match="Only IGR-SR has intents"):
        intent_probing.probe(trained, split, 0)


def test_what_is_missing_is_said_before_anything_is_trained(
    split: Split, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = StudyContext(
        split, tmp_path / "results", tmp_path / "runs", print, Quiet, "forethought study intent-probing"
    )
    monkeypatch.setattr(runner, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"study intent-probing needs the package 'scikit-learn'.*report"):
        carry_out(replace(intent_probing.STUDY), context, seeds=[0])
    assert not (tmp_path / "runs").exists()


def test_a_target_met_before_has_the_intent_of_this_time(tmp_path: Path) -> None:
    """Where items repeat, the row of the target counts, and no other row of the same item."""
    folder = Shop(users=120, items=30, repeats=True, seed=1).write(tmp_path / "shop")
    split = leave_last_out(read(folder))
    told = pl.read_parquet(folder / "truth" / "interactions.parquet").with_row_index("row")
    seen = pl.read_parquet(folder / "interactions.parquet").with_row_index("row").join(told, on="row")
    last = seen.sort("row").group_by("user_id", maintain_order=True).last()  # a test target is a user's last row
    wanted = {user: "" if noise else str(of) for user, noise, of in last.select("user_id", "noise", "intent_id").rows()}
    got = labels.true_intents(str(folder), split, split.test)
    assert got is not None
    users = split.data.users.id_list(split.test.history.users.tolist())
    assert got.tolist() == [wanted[user] for user in users]
    history = split.test.history
    assert any(target in history[at] for at, target in enumerate(split.test.targets))
