"""The study of people's feedback: who is asked what, how it is counted, and what arms are held against."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forethought import aligning
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.next_item import NextItem
from forethought.methods.reg4rec import REG4Rec
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.studies import feedback
from forethought.studies.asking import FIGURES, KINDS, Panel, accepted_shares, decided, paths_alone
from forethought.studies.page import Page
from forethought.studies.results import DatasetKey, Result
from forethought.training.settings import Training
from support.small_tokens import TOKENIZER

SMALL = SASRec(width=16, heads=2, window=8, ffn_width=32)


@pytest.fixture(scope="module")
def run(split: Split, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    training = Training(epochs=4, batch_positions=128, learning_rate=5e-3, warmup_steps=5, checkpoint_every_s=0)
    method = REG4Rec(backbone=replace(SMALL, input_norm=True), tokenizer=TOKENIZER, steps=2)
    recipe = Recipe(method=method, training=training, features=Features(use="categories,brand"))
    return train(recipe, split, tmp_path_factory.mktemp("feedback") / "run")


def test_everything_that_paths_decide_is_counted(run: Recommender, split: Split) -> None:
    """Tokens, paths and beliefs of each user; paths are the same whatever order their tokens came in."""
    panel = Panel.of(run, split)
    found = decided(run.method, panel.rows, panel.user_ids, 0, group=6)
    assert found.equals(decided(run.method, panel.rows, panel.user_ids, 0, group=6))
    assert not found.select("user_id", "kind", "value").is_duplicated().any()
    per = found.group_by("user_id", "kind").agg(pl.col("times").sum())
    assert {kind: set(of["times"]) for (kind,), of in per.group_by("kind")} == {
        "token": {12},
        "path": {6},
        "category": {12},
    }
    assert set(per["user_id"]) == set(panel.user_ids)
    of_paths: dict[tuple[Any, str], int] = {}
    for who, _, value, times in found.filter(pl.col("kind") == "path").iter_rows():
        books = [int(word.split(":")[0]) for word in value.split()]
        assert books == sorted(set(books))
        for word in value.split():
            of_paths[who, word] = of_paths.get((who, word), 0) + times
    of_tokens = {(who, value): times for who, _, value, times in found.filter(pl.col("kind") == "token").iter_rows()}
    assert of_tokens == of_paths


def test_accepted_shares_weigh_by_how_often_something_is_decided() -> None:
    said = pl.DataFrame(
        [
            ("a", "token", "0:1", 3, True),
            ("a", "token", "0:2", 1, False),
            ("a", "path", "0:1 1:1", 2, False),
            ("a", "category", "Tents", 4, True),
            ("b", "token", "0:1", 5, False),
            ("b", "path", "0:1 1:1", 1, True),
            ("b", "path", "0:1 1:2", 2, False),
            ("b", "category", "Tents", 1, False),
        ],
        ["user_id", "kind", "value", "times", "accepted"],
        orient="row",
    )
    assert KINDS == ("token", "path", "category")
    np.testing.assert_allclose(accepted_shares(said, ["b", "a"]), [[0, 1 / 3, 0], [0.75, 0, 1]])


def test_figures_of_a_user_are_those_of_the_truth(run: Recommender, split: Split) -> None:
    """By loops over lists and ranks, from the shop's own tables."""
    panel, share = Panel.of(run, split), float(run.method.path_share)  # type: ignore[union-attr]
    figures_UF = panel.measured(run, 0)
    at = {figure: figures_UF[:, n] for n, figure in enumerate(FIGURES)}
    data, shop = split.data, panel.now.shop
    kind_of = dict(shop.item_truth.select("item_id", "kind").iter_rows())
    routes = dict(shop.intents.select("intent_id", "kinds").iter_rows())
    truth = shop.interactions.select("user_id").with_columns(shop.truth["intent_id"])
    later = 0
    for row in range(len(panel.cases)):
        history = panel.cases.history[row]
        intents = truth.filter(pl.col("user_id") == panel.user_ids[row])["intent_id"].to_list()
        assert data.items.id_list(panel.rows[row]) == data.items.id_list(history[:-1])
        for name, seen, intent in (("clicks", history[:-1], intents[-3]), ("clicks later", history, intents[-2])):
            (made,) = run.recommend([data.items.id_list(seen)], k=10)
            fit = [kind_of[item] in routes[intent] for item in made.items]
            assert at[name][row] == pytest.approx(sum(fit) / 10)
        with paths_alone(run.method):
            (made,) = run.recommend([data.items.id_list(history[:-1])], k=10)
        fit = [kind_of[item] in routes[intents[-3]] for item in made.items]
        assert at["clicks by paths"][row] == pytest.approx(sum(fit) / 10)
        later += intents[-3] != intents[-2]
        (made,) = run.recommend([data.items.id_list(history)], k=len(data.items))
        target = data.items.id_list(panel.cases.targets[row : row + 1])[0]
        rank = made.items.index(target) + 1
        if sum(score == made.scores[rank - 1] for score in made.scores) == 1:  # no tie
            assert at["ndcg@10"][row] == pytest.approx(1 / np.log2(rank + 1) if rank <= 10 else 0)
    assert float(run.method.path_share) == share  # type: ignore[union-attr]
    assert later  # some moved on


def test_answers_are_dealt_out_within_a_kind() -> None:
    kinds = ["token"] * 50 + ["path"] * 50
    accepted = [n % 5 > 0 for n in range(50)] + [n % 5 == 0 for n in range(50)]
    said = pl.DataFrame({"user_id": list(range(100)), "kind": kinds, "value": "0:1", "accepted": accepted})
    dealt = feedback.dealt_out(said, 0)
    assert dealt.drop("accepted").equals(said.drop("accepted"))
    assert not dealt["accepted"].equals(said["accepted"])
    for kind in ("token", "path"):
        both = (each.filter(pl.col("kind") == kind)["accepted"].sum() for each in (dealt, said))
        assert next(both) == next(both)


def test_groups_are_held_against_before_and_control_paired() -> None:
    rng = np.random.default_rng(0)
    after, before, control = rng.random((3, 40, len(FIGURES)))
    asked = np.arange(40) % 4 == 0
    told = feedback.held_against(after, before, control, asked, 0)
    assert (told["asked"]["users"], told["others"]["users"]) == (10, 30)
    for group, of in (("asked", asked), ("others", ~asked)):
        for n, figure in enumerate(FIGURES):
            one = told[group][figure]
            assert one["mean"] == pytest.approx(after[of, n].mean())
            assert one["change"]["mean"] == pytest.approx((after[of, n] - before[of, n]).mean())
            assert one["over_plain"]["mean"] == pytest.approx((after[of, n] - control[of, n]).mean())
            low, high = one["change"]["ci95"]
            assert low < one["change"]["mean"] < high
    same = feedback.held_against(after, before, after, asked, 0)["asked"]["clicks"]["over_plain"]
    assert same == {"mean": 0.0, "ci95": [0.0, 0.0]}


def test_the_study_asks_in_rounds_and_tells_of_all_arms(
    run: Recommender, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = {"batches": 2, "epochs": 1, "group": 4, "batch_positions": 128, "patience": 1, "rate": 0.3}
    for name in ("HEARD", "PLAIN"):
        monkeypatch.setattr(feedback, name, replace(getattr(feedback, name), **brief))
    monkeypatch.setattr(feedback, "ROUNDS", 2)
    asked: list[tuple[str, int]] = []
    heard: list[set[Any]] = []

    def align(*args: Any, **more: Any) -> Recommender:
        heard.append(set() if more["feedback"] is None else set(more["feedback"].iter_rows()))
        return aligning.align(*args, **more)

    monkeypatch.setattr(feedback, "align", align)
    monkeypatch.setattr(feedback, "answers", watched(feedback.answers, asked))
    told = feedback.probe(run, split, 0)
    assert [(one["arm"], one["round"]) for one in told["arms"]] == [
        (arm.name, at) for arm in feedback.ARMS for at in (1, 2)
    ]
    assert [name for name, _ in asked] == [arm.name for arm in feedback.ARMS[1:] for _ in (1, 2)]
    for at in range(2, len(heard), 2):
        assert heard[at] < heard[at + 1]  # what was said before still counts
    by_arm = {(one["arm"], one["round"]): one for one in told["arms"]}
    assert "answers" not in by_arm["plain updates", 1]
    every = by_arm["all kinds", 2]
    assert every["answers"] > by_arm["all kinds", 1]["answers"] > by_arm["all kinds, fewer asked", 1]["answers"]
    assert every["groups"]["asked"]["users"] == pytest.approx(0.3 * told["users"], abs=1)
    assert by_arm["plain updates", 2]["groups"]["others"]["clicks"]["over_plain"]["mean"] == 0
    page = Page(tmp_path, "feedback", "Feedback", "What?")
    parts = {"metrics": {"ndcg@10": {"mean": 0.5, "ci95": [0.4, 0.6]}}}
    feedback.write(page, {"reg4rec": [Result("reg4rec", DatasetKey("shop", "file"), 0, parts, told)]})
    text = page.write().read_text()
    assert "Those who" not in text
    assert "those who were not, after 2 rounds" in text
    assert "nan" not in text


def watched(answers: Any, asked: list[tuple[str, int]]) -> Any:
    def told(arm: feedback.Arm, *args: Any) -> pl.DataFrame:
        made = answers(arm, *args)
        assert set(made["kind"]) == set(arm.kinds)
        asked.append((arm.name, len(made)))
        return made

    return told


def test_only_people_of_a_shop_are_asked_and_only_about_paths(
    run: Recommender, split: Split, tmp_path: Path, quick: Training
) -> None:
    plain = train(Recipe(method=NextItem(backbone=SMALL), training=quick), split, tmp_path / "plain")
    with pytest.raises(ConfigError, match="makes no choices"):
        feedback.probe(plain, split, 0)
    plain.about["data_path"] = str(tmp_path)
    with pytest.raises(ConfigError, match="no truth beside it"):
        feedback.probe(plain, split, 0)
