"""`ft.align` of when DTRec stops: what it earns, where it begins, what it learns from, and what is kept."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from aligners import BRIEF, aligner, halting_method

from forethought.aligning import align, aligned
from forethought.alignment.aligner import Aligner
from forethought.alignment.held_out import shared_out
from forethought.alignment.items import item_ranks
from forethought.alignment.parts import to_align
from forethought.alignment.settings import HaltingRewards
from forethought.config import Recipe
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.evaluation.ranking import rank_cases
from forethought.evaluation.thresholds import fit_threshold
from forethought.methods.interface import Stage
from forethought.reasoning.halting import Halting
from forethought.reasoning.halting_rollouts import ExitPolicy, HaltingFacts
from forethought.reasoning.policy import Future
from forethought.recommender import Recommender, load
from forethought.runs import evaluate, train
from forethought.starting import begin_with, begins_at
from forethought.training.progress import Quiet
from forethought.training.selection import Selection
from forethought.training.settings import Training
from forethought.training.state import Progress


@pytest.fixture(scope="module")
def halting_run(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return train(Recipe(method=halting_method(), training=quick), split, tmp_path_factory.mktemp("dtrec") / "run")


@pytest.fixture(scope="module", params=["pooled", "per_step"])
def exits_at_0(
    request: pytest.FixtureRequest, split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory
) -> Recommender:
    method = halting_method(halting=Halting(threshold=0.3, min_steps=0), halting_inputs=request.param)
    return train(Recipe(method=method, training=quick), split, tmp_path_factory.mktemp("dtrec") / "run")


@pytest.fixture
def batch(split: Split) -> Batch:
    return training_batch(windows(split.train, 8).take(np.arange(12)))


class Stopped(NamedTuple):
    """What rollouts met and earned, and the ranks that a run of as many steps for everybody gives their histories."""

    facts: HaltingFacts
    real_BGT: torch.Tensor
    ranks_BG: torch.Tensor


def stopped(run: Recommender, split: Split, batch: Batch) -> Stopped:
    model = aligner(run, split)
    policy, case = model.policy, Batch(batch.items_BL, batch.lengths_B)
    assert isinstance(policy, ExitPolicy)
    assert batch.targets_BL is not None
    last_B1 = batch.lengths_B[:, None] - 1
    targets_B1 = batch.targets_BL.gather(1, last_B1)
    rollouts = policy.roll_out(case, 16, 1.0)
    facts = policy.facts(case, rollouts, Future(targets_B1, torch.ones_like(targets_B1, dtype=torch.bool)))
    ranks_BG = torch.full_like(facts.ranks_BG, torch.nan)
    for steps in range(facts.most + 1):
        halting = replace(run.config.method.halting, rule="fixed", max_steps=steps)  # type: ignore[attr-defined]
        states = model.method.user_states(case, halting)
        ranks_B = model.method.rank_of(states, targets_B1[:, 0])
        ranks_BG = torch.where(facts.steps_BG == steps, ranks_B[:, None], ranks_BG)
    return Stopped(facts, rollouts.real_BGT, ranks_BG)


def test_what_halting_earns_is_read_where_each_rollout_stopped(
    halting_run: Recommender, split: Split, batch: Batch
) -> None:
    facts, real_BGT, ranks_BG = stopped(halting_run, split, batch)
    assert facts.steps_BG.unique().tolist() == [1, 2, facts.most] == [1, 2, 3]
    assert torch.equal(facts.ranks_BG, ranks_BG)
    assert torch.equal(real_BGT, torch.arange(1, 3) <= facts.steps_BG[..., None])


def test_whether_to_think_at_all_is_a_choice_too(exits_at_0: Recommender, split: Split, batch: Batch) -> None:
    facts, real_BGT, ranks_BG = stopped(exits_at_0, split, batch)
    assert facts.steps_BG.unique().tolist() == [0, 1, 2, facts.most] == [0, 1, 2, 3]
    assert torch.equal(facts.ranks_BG, ranks_BG)
    assert torch.equal(real_BGT, torch.arange(3) <= facts.steps_BG[..., None])


def test_rollouts_stop_as_often_as_the_net_says(exits_at_0: Recommender, split: Split, batch: Batch) -> None:
    model, case = aligner(exits_at_0, split), Batch(batch.items_BL, batch.lengths_B)
    policy = model.policy
    assert isinstance(policy, ExitPolicy)
    p_BT = policy.traced(case).halts_PT[:, :-1]  # as evaluation reads them, the first before any step
    rollouts = policy.roll_out(case, 4000, 1.0)
    steps_BG = rollouts.made.steps_BG
    for step in range(3):
        met_BG = steps_BG >= step
        share_B = ((steps_BG == step) & met_BG).sum(1) / met_BG.sum(1)
        torch.testing.assert_close(share_B, p_BT[:, step], atol=0.06, rtol=0)
    said_BGT = policy.replay(case, rollouts).log_probs_BGT
    stopped_BGT = torch.arange(3) == steps_BG[..., None]
    expected_BGT = torch.where(stopped_BGT, p_BT[:, None].log(), (1 - p_BT[:, None]).log())
    torch.testing.assert_close(said_BGT, expected_BGT)


def test_a_price_keeps_rows_from_thinking_at_all(exits_at_0: Recommender, split: Split, tmp_path: Path) -> None:
    settings = replace(BRIEF, rate=20.0, batches=20, group=16, halting_rewards=HaltingRewards(step_price=1.0))
    run = align(exits_at_0, split, tmp_path / "run", settings)
    assert run.folder is not None
    cost = evaluate(run.folder, split).cost
    assert cost is not None
    assert cost["steps"] < 0.5


def test_the_halting_net_alone_learns(halting_run: Recommender, split: Split, tmp_path: Path) -> None:
    assert halting_run.folder is not None
    settings = replace(BRIEF, rate=1.0, guard="recall@10", halting_rewards=HaltingRewards(step_price=0.5))
    model = Aligner(load(halting_run.folder).method, settings, item_ranks(split))
    model.begin_stage("align")
    learns = {name for name, parameter in model.method.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, _ in model.method.named_parameters() if name.startswith("head.")}
    run = align(halting_run, split, tmp_path / "run", settings)
    assert run.config.method.halting.threshold == 0.5  # type: ignore[attr-defined]
    before, after = halting_run.method.state_dict(), run.method.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("head."))


@pytest.mark.parametrize("before", [0.05, 0.3, 0.42, 0.9])
@pytest.mark.parametrize("asked", [False, True])
def test_aligned_halting_begins_where_the_run_stopped_or_would_at_delta(
    before: float, asked: bool, halting_run: Recommender, split: Split, batch: Batch
) -> None:
    config = halting_run.config.method
    was: Any = replace(config, halting=replace(config.halting, threshold=before)).build(split.data.sizes)  # type: ignore[attr-defined, type-var]
    was.load_state_dict(halting_run.method.state_dict())
    settings = replace(BRIEF, delta=before if asked else None)
    now: Any = aligned(Recipe(method=config), BRIEF).method.build(split.data.sizes)
    begin_with(now, halting_run if asked else replace(halting_run, method=was), split, settings)
    was, now = was.eval(), now.eval()
    indicators_BT3 = now.rl_policy().traced(batch).indicators_PT3
    moved = now.head.logits(indicators_BT3) - was.head.logits(indicators_BT3)
    torch.testing.assert_close(moved, torch.full_like(moved, -math.log(before / (1 - before))))
    assert torch.equal(was.user_states(batch).steps_B, now.user_states(batch).steps_B)


def test_aligned_halting_begins_at_the_threshold_that_validation_chooses(
    halting_run: Recommender, split: Split
) -> None:
    own = halting_run.method.reasoning
    assert own is not None
    found = fit_threshold(halting_run.method, split.valid, exclude_history=True, halting=own.halting, tolerance=0.2)
    assert 0 < found.halting.threshold < 1
    assert found.halting.threshold != own.halting.threshold
    now: Any = aligned(halting_run.config, BRIEF).method.build(split.data.sizes)
    told = begin_with(now, halting_run, split, replace(BRIEF, delta_within=0.2))
    assert told["delta"] == found.halting.threshold
    steps_n = rank_cases(now.eval(), split.valid, exclude_history=True).steps
    asked_n = rank_cases(halting_run.method, split.valid, exclude_history=True, halting=found.halting).steps
    assert np.array_equal(steps_n, asked_n)


def test_halting_is_free_of_the_run_and_learns_faster_unless_asked(halting_run: Recommender, split: Split) -> None:
    plain, own = (
        replace(BRIEF, rate=None),
        replace(BRIEF, rate=0.5, kl_weight=0.2, kl="k3", cases="training", anchor=0.1),
    )
    for settings, found in ((plain, (0.0, 3.0, "held_out", 0.0)), (own, (0.2, 0.5, "training", 0.1))):
        made = aligner(halting_run, split, settings)
        assert (made.kl_weight, made.rate, made.cases, made.anchor) == found
        assert made.stages()[0].rate == found[1]
    with pytest.raises(ConfigError, match="kl would change nothing, because kl_weight is 0"):
        aligner(halting_run, split, replace(BRIEF, kl="k3"))


def test_where_no_threshold_keeps_quality_halting_begins_where_the_run_stops(
    halting_run: Recommender, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forethought.evaluation.thresholds.CANDIDATES", 0)
    settings = replace(BRIEF, delta_within=0.2)
    now: Any = aligned(halting_run.config, BRIEF).method.build(split.data.sizes)
    told = begin_with(now, halting_run, split, settings)
    assert "it begins where the run stops" in str(begins_at({"started_from": told}, settings))
    steps_n, was_n = (
        rank_cases(each.eval(), split.valid, exclude_history=True).steps for each in (now, halting_run.method)
    )
    assert np.array_equal(steps_n, was_n)


def test_a_price_makes_rows_stop(halting_run: Recommender, split: Split, batch: Batch) -> None:
    price = HaltingRewards(step_price=5.0)
    model = aligner(halting_run, split, replace(BRIEF, group=16, halting_rewards=price))
    optimiser = torch.optim.Adam(model.policy.trained(), lr=0.05)
    steps = []
    for _ in range(25):
        model.begin_batch(batch)
        assert model.drawn is not None
        steps.append(model.drawn.rollouts.made.steps_BG.float().mean().item())
        optimiser.zero_grad()
        model.loss(batch).total.backward()
        optimiser.step()
    assert steps[-1] < 1.2 < steps[0]


# ---- the run


def test_halting_is_learned_from_half_of_the_validation_users_and_chosen_by_the_other(split: Split) -> None:
    shared = shared_out(split, window=4, seed=1)
    learning, choosing = set(shared.train.users.tolist()), set(shared.valid.history.users.tolist())
    assert learning.isdisjoint(choosing)
    assert learning | choosing == set(split.valid.history.users.tolist())
    assert abs(len(learning) - len(choosing)) <= 1
    target_of = dict(zip(split.valid.history.users.tolist(), split.valid.targets.tolist(), strict=True))
    for row, user in enumerate(shared.train.users.tolist()):
        items = shared.train[row].tolist()
        assert items[-1] == target_of[user]
        history = split.valid.history[split.valid.history.users.tolist().index(user)].tolist()
        assert items[:-1] == history[-4:]
    with pytest.raises(DataError, match="one half of the validation users"):
        shared_out(replace(split, valid=split.valid.take(np.arange(2))), 4, 0)


def test_halting_may_be_asked_to_learn_from_training_cases(halting_run: Recommender, split: Split) -> None:
    assert halting_run.folder is not None
    method = load(halting_run.folder).method
    assert to_align(method, BRIEF, split, seed=1)[1].train is not split.train
    assert to_align(method, replace(BRIEF, cases="training"), split, seed=1)[1] is split


class _Hears(Quiet):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.figures: list[tuple[dict[str, float], bool]] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def end_epoch(self, epoch: int, figures: dict[str, float], improved: bool) -> None:
        self.figures.append((figures, improved))


@pytest.mark.parametrize("price", [0.0, 0.05])
def test_steps_count_in_what_is_kept_as_they_do_in_what_is_earned(
    halting_run: Recommender, split: Split, tmp_path: Path, price: float
) -> None:
    hears = _Hears()
    rewards = HaltingRewards(step_price=price)
    settings = replace(BRIEF, rate=None, epochs=3, patience=3, halting_rewards=rewards)
    align(halting_run, split, tmp_path / "run", settings, observer=hears)
    (begins,) = [note for note in hears.notes if note.startswith("It begins with")]
    name = "ndcg@10 less steps" if price else "ndcg@10"
    assert begins.startswith(f"It begins with {name} ")
    start = float(begins.split(f"{name} ")[1].split(" ")[0])
    kept = "what has more of the first, and loses at most 1% of ndcg@10 and recall@50, is kept"
    assert begins.endswith(f"; {kept if price else 'what falls below either is not kept'}.")
    floor = float(begins.split("recall@50 ")[1].split(" ")[0]) * (0.99 if price else 1.0)
    best = start
    for figures, improved in hears.figures:
        worth = figures["valid_ndcg@10"] - price * figures.get("valid_steps", 0.0)
        assert figures[f"valid_{name}"] == pytest.approx(worth)
        better = worth > best + 5e-5 and figures["valid_recall@50"] >= floor - 5e-5
        if improved:
            assert worth >= best - 5e-5
            best = worth
        else:
            assert not better or figures["valid_ndcg@10"] < start  # paid for with more quality than is allowed


@pytest.mark.parametrize(("price", "tail", "kept"), [(0.01, 0.4955, True), (0.01, 0.4945, False), (0.0, 0.4999, False)])
def test_where_steps_have_a_price_the_guard_may_fall_by_a_hundredth(price: float, tail: float, kept: bool) -> None:
    stage = Stage(name="align", metric="ndcg@10", guard="recall@50", step_price=price)
    selection, progress = Selection(stage, "ndcg@10"), Progress()
    begun = {"valid_ndcg@10": 0.2, "valid_recall@50": 0.5, "valid_steps": 3.0}
    selection.begin(selection.priced(begun), progress)
    better = {"valid_ndcg@10": 0.201, "valid_recall@50": tail, "valid_steps": 1.0}
    assert selection.judge(selection.priced(better), progress) == (kept, kept)
