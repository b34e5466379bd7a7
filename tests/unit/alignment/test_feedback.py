"""Feedback of people: what it earns, whose it is, what a run makes of it, and what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from small_tokens import TOKENIZER, token_model
from stopping import StopsAt

from forethought.aligning import align
from forethought.alignment.aligner import Aligner
from forethought.alignment.feedback import Feedback
from forethought.alignment.feedback_table import read_feedback
from forethought.alignment.items import item_ranks
from forethought.alignment.settings import Alignment, PathRewards
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import history_batch, training_batch, windows
from forethought.data.columns import Columns
from forethought.data.features import Features
from forethought.data.origin import Origin
from forethought.data.shop import ShopPeople
from forethought.data.splits import Split
from forethought.decoding.path_facts import PathFacts
from forethought.decoding.rollouts import DrawnPaths
from forethought.errors import ConfigError, DataError
from forethought.methods.dtrec import DTRec
from forethought.methods.reg4rec import REG4Rec
from forethought.reasoning.policy import Future
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.training import loop
from forethought.training.interrupt import Interrupted
from forethought.training.settings import Training

SMALL: dict[str, Any] = {"width": 16, "window": 8, "ffn_width": 32, "dropout": 0.1}
METHOD = REG4Rec(backbone=SASRec(**SMALL), tokenizer=TOKENIZER, steps=2)
BRIEF = Alignment(batches=2, epochs=2, group=4, rate=0.3, batch_positions=128)
NONE = PathRewards(step_hit=0, category_hit=0, consistency=0, path=0)
Row = tuple[Any, str, Any, Any]


def table(*rows: Row, owner: str = "user_id") -> pl.DataFrame:
    return pl.DataFrame(rows, schema=[owner, "kind", "value", "accepted"], orient="row", strict=False)


def user(split: Split, row: int) -> Any:
    return split.data.users.id_list(split.train.users[[row]])[0]


@pytest.fixture(scope="module")
def run(split: Split, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    training = Training(epochs=6, batch_positions=128, learning_rate=5e-3, warmup_steps=5, checkpoint_every_s=0)
    recipe = Recipe(method=METHOD, training=training, features=Features(use="categories,brand"))
    return train(recipe, split, tmp_path_factory.mktemp("reg4rec") / "run")


@pytest.fixture
def few(split: Split) -> pl.DataFrame:
    return table((user(split, 0), "token", "0:1", True), (user(split, 3), "path", "2:0 1:4", False))


# ---- what is earned


def test_what_was_accepted_is_earned_and_what_was_rejected_is_lost(split: Split) -> None:
    """Against a loop over each choice, of everything that may be said."""
    model = token_model(METHOD, split)
    labels = model.tokens.shape.categories
    rng = np.random.default_rng(0)
    said: dict[tuple[int, str, str], bool] = {}
    for f in range(4):
        for _ in range(8):
            said[f, "token", f"{rng.integers(3)}:{rng.integers(6)}"] = bool(rng.integers(2))
        for book, other in ((0, 1), (1, 2), (0, 2)):
            said[f, "path", f"{other}:{rng.integers(2)} {book}:{rng.integers(2)}"] = bool(rng.integers(2))
        said[f, "category", labels[rng.integers(len(labels))]] = bool(rng.integers(2))
    source = table(*((user(split, f), kind, value, yes) for (f, kind, value), yes in said.items()))
    feedback = read_feedback(source, model, split)
    judged_B = torch.tensor([2, -1, 0, 3])
    B, G, T, M, C, Q = 4, 40, 2, 3, 6, len(labels)
    generator = torch.Generator().manual_seed(0)
    books_BGT = torch.stack([torch.randperm(M, generator=generator)[:T] for _ in range(B * G)]).view(B, G, T)
    tokens_BGT = torch.randint(2, (B, G, T), generator=generator)
    beliefs = torch.randn(B, G, T + 1, Q, generator=generator)
    drawn = DrawnPaths(books_BGT, tokens_BGT, torch.zeros(B, G, T), torch.zeros(B, G, M, C), beliefs)
    future = Future(torch.zeros(B, 1, dtype=torch.int64), torch.ones(B, 1, dtype=torch.bool))
    facts = PathFacts(drawn, future, model.tokens.codes_NM, model.tokens.category_N, drawn.table_BGMC)
    earned_BGT = feedback.earned(facts, judged_B)
    kinds = set()
    for b, g, t in itertools.product(range(B), range(G), range(T)):
        wanted, f = 0, int(judged_B[b])
        made = {f"{books_BGT[b, g, at]}:{tokens_BGT[b, g, at]}" for at in range(T)}
        this = f"{books_BGT[b, g, t]}:{tokens_BGT[b, g, t]}"
        believed = labels[int(beliefs[b, g, t + 1].argmax())]
        for (of, kind, value), yes in said.items():
            holds = {"token": value == this, "category": value == believed}
            holds["path"] = t == T - 1 and set(value.split()) <= made
            if of == f and holds[kind]:
                wanted += 1 if yes else -1
                kinds.add((kind, yes))
        assert int(earned_BGT[b, g, t]) == wanted
    assert len(kinds) >= 5  # most that can be said was met
    assert not earned_BGT[1].any()


def test_histories_with_feedback_take_the_place_of_others(split: Split, few: pl.DataFrame) -> None:
    feedback = read_feedback(few, token_model(METHOD, split), split)
    assert [feedback.rows[n].tolist() for n in range(2)] == [split.train[n].tolist() for n in (0, 3)]
    cases = history_batch(split.train.take(np.arange(40)), 4)  # shorter than what is mixed in
    torch.manual_seed(0)
    mixed, judged_B = feedback.mixed_in(cases, 0.5)
    assert 10 < int((judged_B >= 0).sum()) < 30
    assert set(judged_B.tolist()) == {-1, 0, 1}
    for b, f in enumerate(judged_B.tolist()):
        n = int(mixed.lengths_B[b])
        row = int(cases.lengths_B[b]) if f < 0 else min(len(feedback.rows[f]), 8)
        items = cases.items_BL[b, :row] if f < 0 else torch.from_numpy(feedback.rows[f][-8:].astype(np.int64))
        assert n == row
        assert torch.equal(mixed.items_BL[b, :n], items)
        assert mixed.users_B is not None
        assert int(mixed.users_B[b]) == int(split.train.users[b] if f < 0 else split.train.users[(0, 3)[f]])
    everyone, judged_B = feedback.mixed_in(cases, 1.0)
    assert (judged_B >= 0).all()
    assert everyone.lengths_B.shape == cases.lengths_B.shape


def test_a_history_that_ends_now_earns_by_what_was_said_alone(split: Split) -> None:
    said = table(*((user(split, 0), "token", f"{book}:{token}", True) for book in range(3) for token in range(6)))
    model = token_model(METHOD, split)
    settings = replace(BRIEF, feedback_share=0.5, feedback_weight=2.0, path_rewards=PathRewards(step_hit=0.0))
    aligner = Aligner(model, settings, item_ranks(split), feedback=read_feedback(said, model, split))
    aligner.begin_stage("align")
    batch = training_batch(windows(split.train, 8).take(np.arange(30)))
    torch.manual_seed(0)
    aligner.train().begin_batch(batch)
    drawn = aligner.drawn
    assert drawn is not None
    judged_B = (drawn.case.users_B == int(split.train.users[0])) & (drawn.case.users_B != batch.users_B)
    assert 5 < int(judged_B.sum()) < 25
    assert not drawn.advantages_BGT[judged_B].abs().gt(1e-9).any()  # all of them earn the same, and nothing else
    assert drawn.advantages_BGT[~judged_B].any()
    share = float(drawn.shares_B[judged_B].sum()) / 0.5  # of those that can earn it, about: one a choice
    assert float(drawn.figures["reward_feedback"]) == pytest.approx(2.0 * share, rel=0.2)


# ---- the table


def test_feedback_is_of_users_or_of_histories(split: Split, tmp_path: Path) -> None:
    model = token_model(METHOD, split)
    items = split.data.items.id_list([3, 1, 4])
    text = ",".join(map(str, items))
    said = [("token", "0:1", "true"), ("token", "0:2", "false"), ("path", "1:0 0:2", "true")]
    rows: list[Row] = [(text, *each) for each in said]
    table(*rows, owner="history").write_csv(tmp_path / "said.csv")
    feedback = read_feedback(tmp_path / "said.csv", model, split)
    listed: list[Row] = [(items, kind, value, yes == "true") for kind, value, yes in said]
    again = read_feedback(table(*listed, listed[0], owner="history"), model, split)  # twice the same is once
    assert feedback.checksum == again.checksum
    assert [feedback.rows[n].tolist() for n in range(len(feedback.rows))] == [[3, 1, 4]]
    turned = read_feedback(table(*listed[:2], (items, "path", "0:2 1:0", True), owner="history"), model, split)
    assert turned.checksum == feedback.checksum  # tokens of a path have no order
    other = read_feedback(table(*listed[:2], (items, "path", "0:2 1:0", False), owner="history"), model, split)
    assert other.checksum != feedback.checksum
    assert isinstance(other, Feedback)


def test_users_stand_under_the_name_that_the_runs_own_data_had(split: Split, few: pl.DataFrame, tmp_path: Path) -> None:
    model = token_model(METHOD, split)
    named = replace(split.data, origin=Origin(str(tmp_path), Columns(user="Kunde Nr", item="Waren Nr")))
    renamed = replace(split, data=named)
    wanted = read_feedback(few, model, split).checksum
    assert read_feedback(few.rename({"user_id": "Kunde Nr"}), model, renamed).checksum == wanted
    assert read_feedback(few, model, renamed).checksum == wanted
    with pytest.raises(DataError, match=r"either user_id or history: rename its columns so"):
        read_feedback(few.rename({"user_id": "Kunde"}), model, renamed)
    both = few.rename({"user_id": "Kunde Nr"}).with_columns(history=pl.lit("i00000"))
    with pytest.raises(DataError, match="either user_id or history"):
        read_feedback(both, model, renamed)


def test_what_is_no_feedback_is_refused(
    run: Recommender, split: Split, quick: Training, few: pl.DataFrame, tmp_path: Path
) -> None:
    me = user(split, 0)
    good: Row = (me, "token", "0:1", True)
    label = run.method.tokens.shape.categories[0]  # type: ignore[union-attr]
    wrong: list[tuple[pl.DataFrame, str]] = [
        (table(good, ("nobody", "token", "0:1", True)), "users without a history .* 'nobody'"),
        (table(good, (me, "token", "3:0", True)), "row 2: there is no token 3:0: codebooks go from 0 to 2"),
        (table((me, "token", "0:6", True)), "tokens from 0 to 5"),
        (table((me, "token", "x", True)), "is no token"),
        (table((me, "token", None, True)), "is no token"),
        (table(good, (me, "token", "0:1", False)), "row 2: token '0:1' is both accepted and rejected"),
        (table((me, "path", "0:1 1:2", True), (me, "path", "1:2 0:1", False)), "both accepted and rejected"),
        (table((me, "category", label, True), (me, "category", label, False)), "both accepted and rejected"),
        (table((me, "path", "0:1 0:2", True)), "is no path"),
        (table((me, "path", "0:1 1:2 2:0", True)), "1 to 2 tokens"),
        (table((me, "path", "", True)), "is no path"),
        (table((me, "category", "Moons", True)), "names no category 'Moons'"),
        (table((me, "item", "1", True)), "kind is 'item'"),
        (table((me, "token", "0:1", "perhaps")), "accepted is 'perhaps'"),
        (table(good).clear(), "has no rows"),
        (table(good).drop("accepted"), "needs kind, value, accepted"),
        (table(good).drop("user_id"), "either user_id or history"),
        (table(("i-none", "token", "0:1", True), owner="history"), "does not know: 'i-none'"),
        (table(("", "token", "0:1", True), owner="history"), "is empty"),
    ]
    for each, said in wrong:
        with pytest.raises(DataError, match=said):
            align(run, split, tmp_path / "run", BRIEF, feedback=each)
        assert not (tmp_path / "run").exists()
    halting = DTRec(backbone=SASRec(input_norm=True, **SMALL), most_clusters=8, first_clusters=4)
    dtrec = train(Recipe(method=halting, training=quick), split, tmp_path / "dtrec")
    asked: list[tuple[Recommender, Alignment, Any, str]] = [
        (dtrec, BRIEF, few, "of paths over tokens"),
        (run, replace(BRIEF, feedback_share=0.5, feedback_cost=0.1), None, "feedback_share and feedback_cost would"),
        (run, replace(BRIEF, feedback_weight=0.0), few, "feedback_weight is 0"),
        (run, replace(BRIEF, policy_weight=0.0), few, "policy_weight is 0"),
    ]
    for model, settings, source, said in asked:
        with pytest.raises(ConfigError, match=said):
            align(model, split, tmp_path / "run", settings, feedback=source)
        assert not (tmp_path / "run").exists()
    mine = {"feedback": (1.0, lambda facts: facts.margins_BG)}
    with pytest.raises(ConfigError, match="give it another name"):
        align(run, split, tmp_path / "run", BRIEF, feedback=few, rewards=mine)


# ---- the run


def test_a_stopped_run_goes_on_with_the_same_feedback_alone(
    run: Recommender, split: Split, few: pl.DataFrame, tmp_path: Path
) -> None:
    settings = replace(BRIEF, learn_weights=True, learn_every=1, feedback_share=0.5)  # what people say is not learned
    whole = align(run, split, tmp_path / "whole", settings, feedback=few)
    assert "weight_feedback" not in whole.outcome()["reward_weights"]
    with pytest.raises(Interrupted):
        align(run, split, tmp_path / "run", settings, feedback=few, observer=StopsAt(3))
    with pytest.raises(ConfigError, match="other feedback: resume it with that"):
        align(run, split, tmp_path / "run", settings, feedback=few.head(1), resume=True)
    again = align(run, split, tmp_path / "run", settings, feedback=few, resume=True)
    ours, theirs = again.method.state_dict(), whole.method.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    align(run, split, tmp_path / "plain", BRIEF)
    with pytest.raises(ConfigError, match="no feedback: resume it without"):
        align(run, split, tmp_path / "plain", BRIEF, feedback=few, resume=True)


def test_the_last_state_is_kept_that_does_not_cost_all_too_much(
    run: Recommender, split: Split, few: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated = iter([(0.5, 0.8), (0.48, 0.79), (0.47, 0.73), (0.46, 0.73), (0.44, 0.8)])  # the rest lost too much

    def validate(self: loop.Fit, fabric: Any) -> dict[str, float]:
        head, tail = next(validated)
        return {"valid_ndcg@10": head, "valid_recall@50": tail}

    monkeypatch.setattr(loop.Fit, "_validate", validate)
    settings = replace(BRIEF, epochs=4, patience=4, feedback_cost=0.1)
    made = align(run, split, tmp_path / "run", settings, feedback=few)
    assert made.outcome()["best_epoch"] == 3
    assert made.progress()["best"] == 0.46


def test_people_of_a_shop_are_heard_and_others_hardly_notice(
    run: Recommender, shop: Path, split: Split, tmp_path: Path
) -> None:
    """Tokens that people reject become rarer in rollouts for them; the lists of those who were not asked stay."""
    people, n = ShopPeople.of(shop), 12
    ids = split.data.users.id_list(split.train.users[:n])
    every = [f"{book}:{token}" for book in range(3) for token in range(6)]
    asked = pl.DataFrame(
        [(user_id, "token", value) for user_id in ids for value in every], ["user_id", "kind", "value"], orient="row"
    )
    codes_NM = run.method.tokens.codes_NM.numpy()  # type: ignore[union-attr]
    said = people.judge(asked, split.data.items.ids, codes_NM)
    accepted = said["accepted"].to_numpy().reshape(n, 3, 6)
    assert 0.1 < accepted.mean() < 0.9

    def share_accepted(model: Recommender) -> float:
        torch.manual_seed(0)
        paths = model.method.rl_policy().roll_out(history_batch(split.train.take(np.arange(n)), 8), 100, 1.0).made
        return accepted[np.arange(n)[:, None, None], paths.books_BGT.numpy(), paths.tokens_BGT.numpy()].mean()

    def lists(model: Recommender) -> list[list[Any]]:
        histories = [split.data.items.id_list(split.train[row]) for row in range(n, len(split.train))]
        return [each.items for each in model.recommend(histories, k=10)]

    settings = Alignment(
        batches=10, epochs=3, group=8, rate=0.3, batch_positions=128, path_rewards=NONE, kl_weight=0.2,
        feedback_share=0.5, feedback_cost=0.5,
    )  # fmt: skip
    heard = align(run, split, tmp_path / "run", settings, feedback=said)
    before, after = share_accepted(run), share_accepted(heard)
    assert 1 - after < 0.7 * (1 - before)
    same = [len(set(one) & set(other)) / 10 for one, other in zip(lists(run), lists(heard), strict=True)]
    assert np.mean(same) > 0.75


def test_people_accept_what_stands_for_what_they_look_for(shop: Path, split: Split) -> None:
    people = ShopPeople.of(shop)
    made, rng = people.shop, np.random.default_rng(0)
    codes_NM = rng.integers(4, size=(40, 3))
    ids = split.data.items.ids
    kinds = dict(made.item_truth.select("item_id", "kind").iter_rows())
    labels = dict(made.items.select("item_id", "categories").iter_rows())
    routes = dict(made.intents.select("intent_id", "kinds").iter_rows())
    users = made.interactions["user_id"].unique(maintain_order=True).to_list()[:20]
    words = ["0:1", "2:3", "0:1 1:2", "1:0 2:0", "0:9"]
    rows = [(each, "path" if " " in word else "token", word) for each in users for word in words]
    rows += [(each, "category", label) for each in users for label in sorted({x for of in labels.values() for x in of})]
    told = people.judge(pl.DataFrame(rows, ["user_id", "kind", "value"], orient="row"), ids, codes_NM)
    for user_id, kind, value, accepted in told.iter_rows():
        mine = made.truth.filter(made.interactions["user_id"] == user_id)["intent_id"].to_list()[:-2]
        wanted = [kinds[item] in routes[mine[-1]] for item in ids.to_list()]
        stands = []
        for row, item in enumerate(ids.to_list()):
            tokens = [tuple(map(int, word.split(":"))) for word in value.split()] if kind != "category" else []
            has = value in labels[item] if kind == "category" else all(codes_NM[row, m] == c for m, c in tokens)
            stands += [wanted[row]] if has else []
        assert accepted == (len(stands) > 0 and sum(stands) > len(stands) / 2)
    assert 0 < told["accepted"].mean() < 1  # type: ignore[operator]
    wanted = [item for item, yes in zip(made.items["item_id"], people.wants(users[0]), strict=True) if yes]
    others = [item for item in made.items["item_id"] if item not in wanted]
    assert people.clicks([users[0], users[0]], [wanted[:1] + others[:3], wanted[:2]]) == pytest.approx((0.25 + 1) / 2)
    with pytest.raises(DataError, match="called 'nobody'"):
        people.wants("nobody")
    with pytest.raises(DataError, match="simulated shop"):
        ShopPeople.of(shop / "truth")
