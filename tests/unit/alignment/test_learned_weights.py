"""Weights of rewards that are learned from held-out users: inner products, steps, the run, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_tokens import TOKENIZER, token_model
from stopping import StopsAt
from torch import Tensor

from forethought.aligning import align
from forethought.alignment.aligner import Aligner
from forethought.alignment.held_out import halves
from forethought.alignment.items import item_ranks
from forethought.alignment.learned_weights import LearnedWeights, stepped
from forethought.alignment.rewards import to_go
from forethought.alignment.settings import Alignment, PathRewards
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.features import Features
from forethought.data.histories import Histories, Spans
from forethought.data.splits import Split
from forethought.decoding.path_facts import PathFacts
from forethought.errors import ConfigError, RunError
from forethought.files import checked
from forethought.methods.dtrec import DTRec
from forethought.methods.path_policy import PathPolicy
from forethought.methods.reg4rec import REG4Rec
from forethought.reasoning.policy import Future
from forethought.recommender import Recommender
from forethought.runs import _as_trained, train
from forethought.training import loop
from forethought.training.interrupt import Interrupted
from forethought.training.settings import Training

SMALL: dict[str, Any] = {"width": 16, "window": 8, "ffn_width": 32, "dropout": 0.2}
METHOD = REG4Rec(backbone=SASRec(**SMALL), tokenizer=TOKENIZER, steps=2)
NONE = PathRewards(step_hit=0, category_hit=0, consistency=0, path=0)
LEARNING = Alignment(
    batches=2, epochs=2, group=4, rate=0.3, batch_positions=128, learn_weights=True, learn_every=1, weight_rate=2.0
)


def made(split: Split, settings: Alignment = LEARNING, **more: Any) -> Aligner:
    model = token_model(METHOD, split)
    given = {"held_out": halves(split, 8, 0)[0]} | more
    aligner = Aligner(model, settings, item_ranks(split), **given)
    aligner.begin_stage("align")
    return aligner.train()


@pytest.fixture
def batch(split: Split) -> Batch:
    return training_batch(windows(split.train, 8).take(np.arange(12)))


@pytest.fixture(scope="module")
def run(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    recipe = Recipe(method=METHOD, training=quick, features=Features(use="categories,brand"))
    return train(recipe, split, tmp_path_factory.mktemp("reg4rec") / "run")


def policy_gradient(model: Aligner, batch: Batch, reward: Callable[[PathFacts], Tensor]) -> list[Tensor]:
    """Of one reward alone, one rollout after the other."""
    assert model.drawn is not None
    assert batch.targets_BL is not None
    case, rollouts = model.drawn.case, model.drawn.rollouts
    at_BH = case.lengths_B[:, None] - 1 + torch.arange(3)
    real_BH = at_BH < batch.lengths_B[:, None]
    items_BH = batch.targets_BL.gather(1, torch.where(real_BH, at_BH, case.lengths_B[:, None] - 1))
    earned = reward(model.policy.facts(case, rollouts, Future(items_BH, real_BH))).double()
    now_BGT = model.policy.replay(case, rollouts).log_probs_BGT
    B, G, T = now_BGT.shape
    total = torch.zeros((), dtype=torch.float64)
    for b, g, t in itertools.product(range(B), range(G), range(T)):
        behind = [float(earned[b, n] if earned.ndim == 2 else earned[b, n, t:].sum()) for n in range(G)]
        others = [behind[n] for n in range(G) if n != g]
        share = float(batch.lengths_B[b]) / batch.weight / G / T
        total = total + share * (behind[g] - sum(others) / len(others)) * now_BGT[b, g, t]
    return gradient(model, total)


def gradient(model: Aligner, value: Tensor) -> list[Tensor]:
    parameters = list(model.policy.trained())
    made = torch.autograd.grad(value, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, made, strict=True)]


def norm(gradients: list[Tensor]) -> float:
    return float(torch.cat([each.flatten() for each in gradients]).norm())


def test_a_reward_is_as_useful_as_the_held_out_loss_falls_when_it_is_followed(
    split: Split, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inner products anew: finite differences of the held-out loss, along policy gradients that are made here."""
    model = made(split, replace(LEARNING, weight_rate=1.0))
    assert model.learned is not None
    assert isinstance(model.policy, PathPolicy)
    before, policy = dict(model.learned.weights), model.policy
    shown: list[tuple[Batch, Tensor, Tensor]] = []
    drawn = LearnedWeights.drawn

    def keep(self: LearnedWeights, device: torch.device) -> tuple[Batch, Tensor]:
        got = drawn(self, device)
        shown.append((*got, torch.get_rng_state()))  # the loss draws which of the later steps names the item
        return got

    monkeypatch.setattr(LearnedWeights, "drawn", keep)
    torch.manual_seed(3)
    model.begin_batch(batch)
    ((histories, targets_B, state),) = shown
    assert histories.targets_BL is not None
    assert targets_B.tolist() == [int(histories.targets_BL[b, n - 1]) for b, n in enumerate(histories.lengths_B)]

    def held_out() -> Tensor:
        torch.set_rng_state(state)
        return policy.loss_at_end(histories, targets_B)

    @torch.no_grad()
    def moved(step: float, along: list[Tensor]) -> float:
        parameters = list(policy.trained())
        torch._foreach_add_(parameters, along, alpha=step)
        loss = float(held_out())
        torch._foreach_sub_(parameters, along, alpha=step)
        return loss

    slopes, norms = {}, {}
    for name, (_, reward) in model.rewards.items():
        along = policy_gradient(model, batch, reward)
        norms[name] = norm(along)
        step = 1e-5 / norms[name]
        slopes[name] = (moved(-step, along) - moved(step, along)) / (2 * step)
    scale = norm(gradient(model, held_out())) * max(norms.values())
    raised = {name: before[name] * math.exp(slopes[name] / scale) for name in before}
    for name, weight in model.learned.weights.items():
        assert weight == pytest.approx(raised[name] * sum(before.values()) / sum(raised.values()), rel=1e-6)
    assert max(abs(slope) / scale for slope in slopes.values()) > 0.01  # they say something


@pytest.mark.parametrize("layers", [0, 1])
def test_the_loss_behind_a_history_is_that_of_its_last_position(split: Split, layers: int) -> None:
    """Of rows of one position that is all of their loss; and each row counts by itself."""
    model = token_model(replace(METHOD, decoder_layers=layers), split).eval()
    model.begin_epoch(100)
    loss_at_end = model.rl_policy().loss_at_end

    def of(rows: Spans, n: int = 0) -> tuple[float, float]:
        batch = training_batch(rows)
        assert batch.targets_BL is not None
        torch.manual_seed(n)
        whole = float(model.loss(batch).total.detach())
        torch.manual_seed(n)
        return float(loss_at_end(batch, batch.targets_BL.gather(1, batch.lengths_B[:, None] - 1)[:, 0]).detach()), whole

    long = windows(split.train, 8).take(np.arange(6))
    at_end, whole = of(long.last(2))
    assert at_end == pytest.approx(whole)
    each = [of(long.take(np.array([row])))[0] for row in range(6)]
    assert of(long)[0] == pytest.approx(np.mean(each))


def test_what_helps_others_comes_to_weigh_more_than_its_opposite(split: Split, batch: Batch) -> None:
    """All held-out users take the same item next: to choose its tokens helps them, and to avoid them does not."""
    wanted = 5
    lists = [[*split.train[row][-4:].tolist(), wanted] for row in range(20)]
    rows: Spans = Histories.from_lists([np.array(each) for each in lists]).all()

    def good(facts: PathFacts) -> Tensor:
        own_BGT = facts.codes_NM[wanted][facts.paths.books_BGT]
        return (own_BGT == facts.paths.tokens_BGT).double()

    bad: Callable[[PathFacts], Tensor] = lambda facts: -good(facts)  # noqa: E731
    rewards = {"good": (0.7, good), "bad": (0.7, bad)}
    model = made(split, replace(LEARNING, path_rewards=NONE), more=rewards, held_out=rows)
    torch.manual_seed(1)
    for _ in range(5):
        model.begin_batch(batch)
    weights = model.weights()
    assert weights["good"] > 3 * weights["bad"] > 0
    assert sum(weights.values()) == pytest.approx(1.4)
    said = model.loss(batch).parts
    assert float(said["weight_good"]) == pytest.approx(weights["good"])
    # and what is earned is earned by these weights: the opposite takes away what it is worth
    assert model.drawn is not None
    no_future = Future(batch.items_BL[:, :1], torch.ones(len(batch.items_BL), 1, dtype=torch.bool))
    facts = model.policy.facts(model.drawn.case, model.drawn.rollouts, no_future)
    earned_BGT = to_go((weights["good"] - weights["bad"]) * good(facts))
    G = earned_BGT.shape[1]
    apart_BGT = (earned_BGT - earned_BGT.mean(1, keepdim=True)) * (G / (G - 1))
    torch.testing.assert_close(model.drawn.advantages_BGT, apart_BGT)


def test_a_look_is_taken_every_few_batches(split: Split, batch: Batch) -> None:
    model = made(split, replace(LEARNING, learn_every=3))
    seen = []
    for _ in range(7):
        model.begin_batch(batch)
        seen.append(tuple(model.weights().values()))
    moved = [n for n, (before, after) in enumerate(itertools.pairwise(seen), start=1) if before != after]
    assert moved == [3, 6]
    assert seen[0] != tuple(weight for weight, _ in model.rewards.values())


def test_a_step_keeps_the_sum_and_no_weight_is_lost() -> None:
    weights = stepped({"a": 1.0, "b": 0.5}, {"a": -1.0, "b": 1.0}, 10.0)
    assert sum(weights.values()) == pytest.approx(1.5)
    assert all(weight > 0 for weight in weights.values())


def test_a_run_tells_the_weights_it_learned_and_comes_to_the_same_after_a_stop(
    run: Recommender, split: Split, tmp_path: Path
) -> None:
    whole = align(run, split, tmp_path / "whole", LEARNING)
    learned = whole.outcome()["reward_weights"]
    assert set(learned) == {"weight_step_hit", "weight_category_hit", "weight_consistency", "weight_path"}
    assert sum(learned.values()) == pytest.approx(2.7)
    assert learned["weight_step_hit"] != 1.0
    assert '"weight_step_hit"' in (tmp_path / "whole/log.jsonl").read_text()
    with pytest.raises(Interrupted):
        align(run, split, tmp_path / "run", LEARNING, observer=StopsAt(3))
    again = align(run, split, tmp_path / "run", LEARNING, resume=True)
    assert again.outcome()["reward_weights"] == learned
    ours, theirs = again.method.state_dict(), whole.method.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (
        "reward_weights" not in align(run, split, tmp_path / "set", Alignment(batches=1, epochs=1, group=2)).outcome()
    )


def test_those_who_tell_weights_choose_nothing(
    run: Recommender, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[loop.Fit] = []
    fits = loop.Fit.run
    monkeypatch.setattr(loop.Fit, "run", lambda self, fabric: (parts.append(self), fits(self, fabric))[1])
    made = align(run, split, tmp_path / "run", LEARNING)
    (fit,) = parts
    assert isinstance(fit.method, Aligner)
    assert fit.method.learned is not None
    rows, choosing = fit.method.learned.rows, fit.split.valid
    assert not set(rows.users) & set(choosing.history.users)
    assert len(rows) + len(choosing) == len(split.valid)
    wanted = {(u, t) for u, t in zip(split.valid.history.users, split.valid.targets, strict=True)}
    assert {(rows.users[row], rows[row][-1]) for row in range(len(rows))} <= wanted
    assert fit.split.train is split.train  # and what is followed is followed on what the run was trained on
    assert made.config.alignment == LEARNING


def test_a_state_with_damaged_weights_is_told_in_a_sentence(run: Recommender, split: Split, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        align(run, split, tmp_path / "run", LEARNING, observer=StopsAt(3))
    path = tmp_path / "run/state/state.json"
    told = {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}
    told["of_method"]["weight_path"] = -1.0
    path.write_text(json.dumps(checked(told)))
    with pytest.raises(RunError, match=r"is damaged .*weights of rewards"):
        align(run, split, tmp_path / "run", LEARNING, resume=True)


def test_a_state_of_other_rewards_is_refused(split: Split) -> None:
    model = made(split)
    state = model.training_state()
    assert state["batches"] == 0
    for wrong in ({}, state | {"weight_mine": 1.0}, state | {"weight_path": float("nan")}, state | {"batches": -1.0}):
        with pytest.raises(ValueError, match="weights of rewards"):
            model.load_training_state(wrong)


def test_where_nothing_can_be_learned_it_is_refused(
    run: Recommender, split: Split, quick: Training, tmp_path: Path
) -> None:
    backbone = SASRec(input_norm=True, **SMALL)
    halting = train(DTRec(backbone=backbone, most_clusters=8, first_clusters=4), split, tmp_path / "dtrec")
    negative = {"mine": (-0.5, lambda facts: facts.margins_BG)}
    wrong: list[tuple[Recommender, Callable[[], Alignment], Any, str]] = [
        (run, lambda: replace(LEARNING, path_rewards=replace(NONE, path=1.0)), None, "only path has a weight"),
        (run, lambda: LEARNING, negative, "mine has -0.5"),
        (run, lambda: replace(LEARNING, policy_weight=0.0), None, "nothing is earned"),
        (run, lambda: replace(LEARNING, scale="group"), None, "scale is none, but it is group"),
        (run, lambda: replace(LEARNING, learn_weights=False), None, "weight_rate and learn_every would change nothing"),
        (halting, lambda: LEARNING, None, "learn_weights is of paths"),
    ]
    learning = replace(run, config=replace(run.config, alignment=LEARNING))
    with pytest.raises(ConfigError, match="in one process, but there are 2"):
        _as_trained(learning, split, 2, None, None)
    for each, settings, rewards, said in wrong:
        with pytest.raises((ConfigError, RunError), match=said):
            align(each, split, tmp_path / "run", settings(), rewards=rewards)
        assert not (tmp_path / "run").exists()
