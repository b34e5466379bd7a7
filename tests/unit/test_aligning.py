"""`ft.align`: what it changes, what it keeps, how it goes on, and what it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aligners import BRIEF, SMALL, aligner, halting_method
from small_tokens import TOKENIZER
from stopping import StopsAt
from torch import Tensor

import forethought.studies.alignment as study
import forethought.studies.decoding as decoding_study
from forethought.aligning import align
from forethought.alignment.aligner import Aligner
from forethought.alignment.held_out import shared_out
from forethought.alignment.items import item_ranks
from forethought.alignment.parts import to_align
from forethought.alignment.rewards import ItemRanks
from forethought.alignment.settings import Alignment, HaltingRewards, LatentRewards, PathRewards
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.decoding.path_facts import PathFacts
from forethought.errors import ConfigError, RunError
from forethought.evaluation.settings import EvaluationConfig
from forethought.methods.dtrec import DTRec
from forethought.methods.reg4rec import REG4Rec
from forethought.reasoning.policy import Future
from forethought.recommender import Recommender, load
from forethought.run_costs import training_cost
from forethought.runs import evaluate, train
from forethought.training import loop
from forethought.training.interrupt import Interrupted
from forethought.training.settings import Training


@pytest.fixture(scope="module")
def paths_run(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    method = REG4Rec(backbone=SASRec(**SMALL), tokenizer=TOKENIZER, steps=2)
    recipe = Recipe(method=method, training=quick, features=Features(use="categories,brand"))
    return train(recipe, split, tmp_path_factory.mktemp("reg4rec") / "run")


@pytest.fixture(scope="module")
def halting_run(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return train(Recipe(method=halting_method(), training=quick), split, tmp_path_factory.mktemp("dtrec") / "run")


@pytest.fixture
def batch(split: Split) -> Batch:
    return training_batch(windows(split.train, 8).take(np.arange(12)))


def change(model: Aligner) -> None:
    """As an update would, so that what is replayed is no more what was drawn."""
    torch.manual_seed(9)
    with torch.no_grad():
        for parameter in model.policy.trained():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)


# ---- the objective


@pytest.mark.parametrize("kind", ["paths_run", "halting_run"])
@pytest.mark.parametrize("kl", ["exact", "k3"])
def test_the_loss_is_that_of_one_choice_after_the_other(
    request: pytest.FixtureRequest, split: Split, batch: Batch, kind: str, kl: Any
) -> None:
    run = request.getfixturevalue(kind)
    settings = replace(BRIEF, anchor=0.0, kl=kl, kl_weight=0.3, scale="group", leave_one_out=False)
    model = aligner(run, split, settings)
    torch.manual_seed(3)
    model.begin_batch(batch)
    change(model)
    drawn = model.drawn
    assert drawn is not None
    now = model.policy.replay(drawn.case, drawn.rollouts)
    assert now.all_BGTC is not None
    facts = model.policy.facts(drawn.case, drawn.rollouts, future_of(batch, drawn.case))
    old, ref, B, G, T = drawn.rollouts.log_probs_BGT, drawn.reference, *now.log_probs_BGT.shape
    total, gains = 0.0, 0.0
    for b, t in itertools.product(range(B), range(T)):
        earned = [sum(w * later(reward(facts), b, g, t) for w, reward in model.rewards.values()) for g in range(G)]
        mean, std = np.mean(earned), np.std(earned, ddof=1)
        for g in range(G):
            if not drawn.rollouts.real_BGT[b, g, t]:
                continue
            advantage = (earned[g] - mean) / (std + 1e-4)
            ratio = float((now.log_probs_BGT[b, g, t] - old[b, g, t]).detach().exp())
            gain = min(ratio * advantage, min(max(ratio, 0.8), 1.28) * advantage)
            p, q = now.all_BGTC[b, g, t].detach(), ref.all_BGTC[b, g, t]
            if kl == "exact":
                apart = float((p.exp() * (p - q)).sum())
            else:
                d = float((ref.log_probs_BGT[b, g, t] - now.log_probs_BGT[b, g, t]).detach())
                apart = np.exp(d) - d - 1
            share = float(batch.lengths_B[b]) / batch.weight / G / T
            total += share * (0.3 * apart - gain)
            gains += share * gain
    losses = model.loss(batch)
    assert float(losses.total.detach()) == pytest.approx(total, rel=1e-3, abs=1e-5)
    assert float(losses.parts["gain"]) == pytest.approx(gains, rel=1e-3, abs=1e-5)


def future_of(batch: Batch, case: Batch) -> Future:
    """The items that follow each case in its row, of which there may be fewer than three."""
    assert batch.targets_BL is not None
    rows = [
        batch.targets_BL[b, int(case.lengths_B[b]) - 1 : int(batch.lengths_B[b])][:3]
        for b in range(len(case.lengths_B))
    ]
    real_BH = torch.tensor([[h < len(row) for h in range(3)] for row in rows])
    return Future(torch.stack([torch.cat([row, row[:1].expand(3 - len(row))]) for row in rows]), real_BH)


def later(reward: Tensor, b: int, g: int, t: int) -> float:
    """What a choice and those behind it earned; a path's own comes at its end."""
    return float(reward[b, g] if reward.ndim == 2 else reward[b, g, t:].sum())


def test_before_the_first_update_nothing_is_clipped_and_nothing_has_moved(
    paths_run: Recommender, split: Split, batch: Batch
) -> None:
    made = []
    for low, high in [(0.2, 0.28), (0.0, 0.0)]:
        model = aligner(paths_run, split, replace(BRIEF, clip_low=low, clip_high=high))
        torch.manual_seed(3)
        model.begin_batch(batch)
        model.zero_grad()
        torch.manual_seed(4)
        losses = model.loss(batch)
        losses.total.backward()
        assert float(losses.parts["kl"]) == pytest.approx(0.0, abs=1e-5)
        assert float(losses.parts["clipped"]) == 0.0
        made.append([p.grad.clone() for p in model.policy.trained() if p.grad is not None])
    if made[0]:
        for one, other in zip(*made, strict=True):
            torch.testing.assert_close(one, other)


def test_paths_stay_near_the_run_and_learn_slowly_unless_asked(paths_run: Recommender, split: Split) -> None:
    made = aligner(paths_run, split, replace(BRIEF, rate=None))
    assert (made.kl_weight, made.rate, made.cases, made.anchor) == (0.05, 0.3, "training", 0.5)
    assert made.stages()[0].rate == 0.3


def test_equal_rollouts_teach_nothing(paths_run: Recommender, split: Split, batch: Batch) -> None:
    same: Callable[[PathFacts], Tensor] = lambda facts: torch.ones(facts.shape)  # noqa: E731
    off = PathRewards(step_hit=0, category_hit=0, consistency=0, path=0)
    settings = replace(BRIEF, path_rewards=off, anchor=0.0, kl_weight=0.0)
    model = aligner(paths_run, split, settings, more={"same": (1.0, same)})
    model.begin_batch(batch)
    losses = model.loss(batch)
    losses.total.backward()
    assert float(losses.parts["idle_groups"]) == pytest.approx(1.0)
    assert all(p.grad is None or not p.grad.any() for p in model.policy.trained())
    figures = {name: float(value) for name, value in losses.parts.items()}
    (warning,) = model.diagnostics(figures).warnings
    assert "all rollouts earned the same" in warning


def test_rollouts_are_drawn_once_for_all_updates(paths_run: Recommender, split: Split, batch: Batch) -> None:
    model = aligner(paths_run, split)
    model.begin_batch(batch)
    first = model.drawn
    model.loss(batch)
    change(model)
    moved = model.loss(batch)
    assert model.drawn is first
    assert float(moved.parts["kl"]) > 0


def test_the_run_holds_the_better_of_what_it_was_and_what_it_became(
    paths_run: Recommender, split: Split, tmp_path: Path
) -> None:
    run = align(paths_run, split, tmp_path / "run", BRIEF)
    progress = run.progress()
    assert run.about["started_from"]["weights"] == paths_run.weights_sum
    assert run.config.alignment == BRIEF
    # the metric that guards can only be kept by nothing at all
    kept = align(paths_run, split, tmp_path / "kept", replace(BRIEF, rate=50.0, kl_weight=0.0, anchor=0.0))
    for mine, theirs in ((run, progress), (kept, kept.progress())):
        assert theirs["best"] > 0
        assert load(str(mine.folder)).n_parameters == paths_run.n_parameters
    assert kept.outcome()["best_epoch"] == 0
    before, after = paths_run.method.state_dict(), kept.method.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name != "path_share")


def test_an_alignment_that_was_stopped_comes_to_the_same(
    paths_run: Recommender, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = align(paths_run, split, tmp_path / "whole", BRIEF)
    saves = loop.Fit._save
    with pytest.raises(Interrupted):
        align(paths_run, split, tmp_path / "run", BRIEF, observer=StopsAt(3))
    assert saves is loop.Fit._save
    again = align(paths_run, split, tmp_path / "run", BRIEF, resume=True)
    assert again.progress()["best"] == whole.progress()["best"]
    ours, theirs = again.method.state_dict(), whole.method.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_cannot_be_aligned_is_refused(
    trained: Recommender, paths_run: Recommender, halting_run: Recommender, split: Split, tmp_path: Path
) -> None:
    wrong: list[tuple[Recommender, Alignment, str]] = [
        (trained, BRIEF, "makes no choices"),
        (halting_run, replace(BRIEF, path_rewards=PathRewards(path=2.0)), "has no paths"),
        (halting_run, replace(BRIEF, action="joint"), "action is of paths"),
        (halting_run, replace(BRIEF, policy_weight=0.0), "nothing would be learned"),
        (paths_run, replace(BRIEF, policy_weight=0.0, anchor=0.0), "nothing would be learned"),
        (paths_run, replace(BRIEF, delta=0.4), "does not halt, so that delta would change nothing"),
        (paths_run, replace(BRIEF, halting_rewards=HaltingRewards(step_price=0.2)), "does not halt"),
        (paths_run, replace(BRIEF, latent_rewards=LatentRewards(top=5)), "draws no latent trajectories"),
        (paths_run, replace(BRIEF, guard="recal@50"), "no metric"),
        (
            paths_run,
            replace(BRIEF, path_rewards=PathRewards(step_hit=0, category_hit=0, consistency=0, path=0)),
            "Every reward has the weight 0",
        ),
    ]
    for run, settings, said in wrong:
        with pytest.raises(ConfigError, match=said):
            align(run, split, tmp_path / "run", settings)
        assert not (tmp_path / "run").exists()
    assert paths_run.folder is not None
    with pytest.raises((ConfigError, RunError)):
        align(paths_run, split, paths_run.folder, BRIEF, overwrite=True)
    recipe = Recipe(method=paths_run.config.method, training=paths_run.config.training, alignment=BRIEF)
    with pytest.raises(ConfigError, match="needs a run to start from"):
        train(replace(recipe, features=paths_run.config.features), split, tmp_path / "run")


def test_where_items_stand(split: Split) -> None:
    made: ItemRanks = item_ranks(split)
    counts = np.zeros(split.data.n_items)
    first = np.full(split.data.n_items, np.inf)
    histories = split.train.histories
    assert histories.times is not None
    for start, end in zip(split.train.starts, split.train.ends, strict=True):
        for at in range(start, end):
            item = histories.items[at]
            counts[item] += 1
            first[item] = min(first[item], histories.times[at])
    n = len(counts)
    assert made.late_N is not None
    for i in range(n):
        assert float(made.rare_N[i]) == pytest.approx((counts > counts[i]).sum() / n)
        assert float(made.late_N[i]) == pytest.approx((first < first[i]).sum() / n)


def test_rewards_of_held_out_cases_are_of_their_next_items(paths_run: Recommender, split: Split) -> None:
    settings = replace(BRIEF, cases="held_out")
    assert paths_run.folder is not None
    made, learned = to_align(load(paths_run.folder).method, settings, split, seed=1)
    assert isinstance(made, Aligner)
    made.begin_stage("align")
    target_of = dict(zip(split.valid.history.users.tolist(), split.valid.targets.tolist(), strict=True))
    chosen = np.arange(12)
    made.begin_batch(training_batch(learned.train.take(chosen)))
    drawn = made.drawn
    assert drawn is not None
    users = learned.train.users[chosen].tolist()
    for row, user in enumerate(users):
        history = split.valid.history[split.valid.history.users.tolist().index(user)].tolist()
        length = int(drawn.case.lengths_B[row])
        assert drawn.case.items_BL[row, :length].tolist() == history[-made.window :]
    policy, targets_B1 = made.policy, torch.tensor([[target_of[user]] for user in users])
    facts = policy.facts(drawn.case, drawn.rollouts, Future(targets_B1, torch.ones_like(targets_B1, dtype=torch.bool)))
    _, reward = made.rewards["step_hit"]
    expected = (reward(facts).mean(1).sum(-1) * drawn.shares_B).sum()
    assert float(drawn.figures["reward_step_hit"]) == pytest.approx(float(expected))
    assert set(learned.train.users.tolist()).isdisjoint(learned.valid.history.users.tolist())


def test_settings_that_a_held_out_case_does_not_read_are_refused() -> None:
    with pytest.raises(ConfigError, match="future would change nothing, because a held-out case has one item"):
        Alignment(cases="held_out", path_rewards=PathRewards(future=5))
    with pytest.raises(ConfigError, match="must not earn any"):
        Alignment(cases="held_out", learn_weights=True)


def test_a_batch_has_as_many_updates_as_were_asked_for(
    paths_run: Recommender, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    begin, loss = Aligner.begin_batch, Aligner.loss
    monkeypatch.setattr(Aligner, "begin_batch", lambda self, batch: (seen.append("draw"), begin(self, batch))[1])
    monkeypatch.setattr(Aligner, "loss", lambda self, batch: (seen.append("update"), loss(self, batch))[1])
    align(paths_run, split, tmp_path / "run", replace(BRIEF, updates=3, epochs=1))
    assert seen == ["draw", "update", "update", "update"] * BRIEF.batches


def test_what_loses_its_tail_is_not_kept(
    paths_run: Recommender, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A better head of the list is none where the metric that guards fell."""
    validated = iter([(0.2, 0.5), (0.3, 0.4), (0.25, 0.5)])

    def validate(self: loop.Fit, fabric: Any) -> dict[str, float]:
        head, tail = next(validated)
        return {"valid_ndcg@10": head, "valid_recall@50": tail}

    monkeypatch.setattr(loop.Fit, "_validate", validate)
    run = align(paths_run, split, tmp_path / "run", BRIEF)
    assert run.progress()["best"] == 0.25
    assert run.outcome()["best_epoch"] == 2


def test_a_cropped_and_noisy_training_is_aligned_on_whole_histories(
    split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is cropped would end before the held-out item that it is to name."""
    method = DTRec(backbone=SASRec(input_norm=True, **SMALL), most_clusters=8, first_clusters=4)
    run = train(Recipe(method=method, training=replace(quick, crop=1.0, input_noise=0.3)), split, tmp_path / "run")
    named: set[int] = set()
    begin = Aligner.begin_batch

    def watch(self: Aligner, batch: Batch) -> None:
        begin(self, batch)
        assert batch.targets_BL is not None
        named.update(batch.targets_BL.gather(1, batch.lengths_B[:, None] - 1)[:, 0].tolist())

    monkeypatch.setattr(Aligner, "begin_batch", watch)
    made = align(run, split, tmp_path / "aligned", replace(BRIEF, batches=100, epochs=1))
    shared = shared_out(split, SMALL["window"], made.config.seed)
    assert named == {shared.train[row].tolist()[-1] for row in range(len(shared.train))}


def test_what_cost_too_much_quality_does_not_stand_in_the_way_of_what_comes_later(
    halting_run: Recommender, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated = iter([(0.4, 3.0), (0.39, 1.0), (0.399, 2.0)])  # the second is cheap, and more than a hundredth worse

    def validate(self: loop.Fit, fabric: Any) -> dict[str, float]:
        head, steps = next(validated)
        priced = {"valid_steps": steps, "valid_ndcg@10 less steps": head - 0.1 * steps}
        return {"valid_ndcg@10": head, "valid_recall@50": 0.5} | priced

    monkeypatch.setattr(loop.Fit, "_validate", validate)
    settings = replace(BRIEF, halting_rewards=HaltingRewards(step_price=0.1))
    run = align(halting_run, split, tmp_path / "run", settings)
    assert run.progress()["best"] == 0.399
    assert run.outcome()["best_epoch"] == 2


def test_an_aligned_run_tells_no_figures_of_passes_and_of_products_that_were_not_made(
    paths_run: Recommender, split: Split, tmp_path: Path
) -> None:
    run = align(paths_run, split, tmp_path / "run", BRIEF)
    cost = training_cost(run, split)
    assert cost is not None
    assert set(cost) == {"epochs", "trained_s"}
    assert cost["epochs"] == run.progress()["epoch"]
    told = " ".join(str(evaluate(run, split, EvaluationConfig(resamples=20))).split())
    assert f"{BRIEF.epochs} validations" in told
    assert "an epoch takes" not in told


# ---- the study


@pytest.mark.parametrize("categories", [True, False])
def test_the_study_tells_what_paths_earn(
    categories: bool, paths_run: Recommender, split: Split, quick: Training, tmp_path: Path
) -> None:
    """A run that names no categories earns nothing by them, and its page leaves these cells empty."""
    run = paths_run
    if not categories:
        method = replace(paths_run.config.method, category_weight=0.0)
        run = train(replace(paths_run.config, method=method), split, tmp_path / "run")
    told = study.probe(run, split, 0)
    assert {"step_hit", "path", "recall@50", "distinct", "entropy"} <= told.keys()
    assert ({"category_hit", "consistency"} <= told.keys()) is categories
    assert all(0 <= told[name] <= 2 for name in ("step_hit", "recall@50", "distinct"))
    assert told["epochs"] == []
    if categories:
        epochs = study.probe(align(run, split, tmp_path / "aligned", BRIEF), split, 0)["epochs"]
        assert len(epochs) == BRIEF.epochs
        assert {"reward_step_hit", "reward_path", "kl", "valid_ndcg@10", "valid_recall@50"} <= epochs[0].keys()


def test_ways_of_decoding_are_told_at_their_full_strength(paths_run: Recommender, split: Split) -> None:
    """By paths alone, whatever share of the ranking validation gave them; afterwards all is as it was."""
    method: Any = paths_run.method
    before = paths_run.method.config, float(method.path_share)
    told = decoding_study.probe(paths_run, split, 0)["ways"]
    assert (method.config, float(method.path_share)) == before
    assert [way["settings"]["path_share"] for way in told[:3]] == [1.0, before[1], 0.0]
    assert {way["settings"]["path_share"] for way in told[3:]} == {1.0}
    assert told[0]["relative"]["mean"] == 0
    assert told[2]["ndcg@10"] != told[0]["ndcg@10"]


def test_what_it_began_with_is_known_when_signs_of_failure_are_looked_for(
    paths_run: Recommender, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, float]] = []

    def watch(figures: dict[str, float], weights: dict[str, float]) -> list[str]:
        assert weights == {"step_hit": 1.0, "category_hit": 0.5, "consistency": 0.2, "path": 1.0}
        seen.append(dict(figures))
        return []

    monkeypatch.setattr("forethought.alignment.aligner.signatures", watch)
    align(paths_run, split, tmp_path / "run", replace(BRIEF, epochs=2, patience=2))
    first, second = seen
    for name in ("valid_recall@5", "valid_recall@10"):
        assert first[f"first_{name}"] == second[f"first_{name}"], "before any update"
    for name in ("reward_path", "entropy", "distinct"):
        assert second[f"first_{name}"] == first[name] == first[f"first_{name}"]
    assert second["reward_path"] != first["reward_path"]
