"""A learned reward: how it is fitted and measured, the run that is aligned by it, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_tokens import TOKENIZER
from stopping import StopsAt

from forethought import learned_rewards
from forethought.aligning import align
from forethought.alignment.aligner import GAP, Aligner
from forethought.alignment.held_out import halves
from forethought.alignment.items import item_ranks
from forethought.alignment.learned_reward import (
    JudgedPaths,
    LearnedReward,
    cross_predicted,
    fit,
    told_apart,
)
from forethought.alignment.path_signs import path_signs
from forethought.alignment.reward_file import read_reward, reward_sum
from forethought.alignment.reward_fitting import judged_paths
from forethought.alignment.settings import Alignment, PathRewards
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import training_batch, windows
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError, RunError
from forethought.methods.path_policy import PathPolicy
from forethought.methods.reg4rec import REG4Rec
from forethought.reasoning.policy import Future
from forethought.recommender import Recommender, load
from forethought.runs import train
from forethought.tensor_files import load_tensors
from forethought.training import loop
from forethought.training.interrupt import Interrupted
from forethought.training.settings import Training

SMALL: dict[str, Any] = {"width": 16, "window": 8, "ffn_width": 32, "dropout": 0.2}
METHOD = REG4Rec(backbone=SASRec(**SMALL), tokenizer=TOKENIZER, steps=2)
ALONE = PathRewards(step_hit=0, category_hit=0, consistency=0, path=0, learned=1.0)
LEARNING = Alignment(batches=2, epochs=2, group=4, rate=0.3, batch_positions=128, path_rewards=ALONE)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    recipe = Recipe(method=METHOD, training=quick, features=Features(use="categories,brand"))
    return train(recipe, split, tmp_path_factory.mktemp("reg4rec") / "run")


@pytest.fixture(scope="module")
def rewarded(run: Recommender, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return align(run, split, tmp_path_factory.mktemp("rewarded") / "run", LEARNING)


def method_of(run: Recommender) -> Any:
    assert run.folder is not None
    return load(run.folder).method.eval()


def policy_of(run: Recommender) -> PathPolicy:
    policy = method_of(run).rl_policy()
    assert isinstance(policy, PathPolicy)
    return policy


def made_up(users: int = 40, group: int = 3, seed: int = 0) -> JudgedPaths:
    """The first sign says something, the second nothing, and the third is always the same."""
    generator = torch.Generator().manual_seed(seed)
    signs_UGF = torch.randn(users, group, 3, generator=generator, dtype=torch.float64) * torch.tensor([2.0, 30.0, 1.0])
    signs_UGF[..., 2] = 7.0
    noise_UG = torch.randn(users, group, generator=generator, dtype=torch.float64)
    worth_UG = (signs_UGF[..., 0] + noise_UG - 1).clamp(0, 1)
    return JudgedPaths(("good", "idle", "still"), signs_UGF, worth_UG, torch.arange(users) // 2)


# ---- the model


def test_the_fit_is_the_minimum_of_its_loss() -> None:
    """The loss anew, one path after the other; around its minimum it rises, and its slope is none."""
    paths = made_up()
    model = fit(paths, "ndcg", 10)
    U, G, F = paths.signs_UGF.shape

    def loss(weights: list[float], bias: float) -> float:
        total = sum(weight**2 for weight in weights) / 2
        for u, g in itertools.product(range(U), range(G)):
            x, y = paths.signs_UGF[u, g], float(paths.worth_UG[u, g])
            z = bias + sum(w * float((x[f] - model.means_F[f]) / model.stds_F[f]) for f, w in enumerate(weights))
            r = 1 / (1 + math.exp(-z))
            total += (-y * math.log(r) - (1 - y) * math.log(1 - r)) / G
        return total

    weights, bias = model.weights_F.tolist(), float(model.bias)
    for at in range(F + 1):
        moved = []
        for step in (-1e-4, 1e-4):
            point = [*weights, bias]
            point[at] += step
            moved.append(loss(point[:-1], point[-1]))
        assert (moved[1] - moved[0]) / 2e-4 == pytest.approx(0.0, abs=1e-6)
        assert min(moved) > loss(weights, bias)
    flat = paths.signs_UGF.flatten(0, 1)
    np.testing.assert_allclose(model.means_F, flat.mean(0))
    np.testing.assert_allclose(model.stds_F, [*flat[:, :2].numpy().std(0), 1.0])
    assert weights[0] > 1
    assert abs(weights[1]) < 0.3
    assert weights[2] == 0
    x = paths.signs_UGF[3, 1]
    z = bias + float(((x - model.means_F) / model.stds_F * model.weights_F).sum())
    assert float(model.says(paths.signs_UGF)[3, 1]) == pytest.approx(1 / (1 + math.exp(-z)))


def test_paths_that_are_easily_told_apart_still_have_a_minimum() -> None:
    paths = made_up()
    worth_UG = (paths.signs_UGF[..., 0] > 0).double()
    model = fit(paths._replace(worth_UG=worth_UG), "recall", 10)
    assert model.weights_F.isfinite().all()
    assert model.figures["auc"] > 0.98


def test_where_all_paths_are_worth_the_same_nothing_is_learned() -> None:
    paths = made_up()
    with pytest.raises(DataError, match=r"all 120 paths of held-out users are worth 0: train the run longer"):
        fit(paths._replace(worth_UG=torch.zeros_like(paths.worth_UG)), "ndcg", 10)


def test_how_well_it_tells_is_told_of_users_it_was_not_fitted_to() -> None:
    """What a user's own paths were worth, of any of their histories, has no part in what is said of them."""
    paths = made_up()
    before = cross_predicted(paths, "ndcg", 10)
    mine_U = paths.users_U == 4
    assert mine_U.sum() == 2
    other = paths.worth_UG.clone()
    other[mine_U] = 1 - other[mine_U]
    after = cross_predicted(paths._replace(worth_UG=other), "ndcg", 10)
    torch.testing.assert_close(after[mine_U], before[mine_U], rtol=0, atol=0)
    assert (after[paths.users_U == 5] != before[paths.users_U == 5]).all()
    assert fit(paths, "ndcg", 10).figures == told_apart(before, paths.worth_UG)


def test_figures_against_pairs_and_numpy() -> None:
    generator = torch.Generator().manual_seed(3)
    says_UG = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    worth_UG = (says_UG + torch.rand(6, 4, generator=generator) - 0.8).clamp(0, 1).double()
    says_UG = (says_UG * 5).round() / 5  # with ties
    figures = told_apart(says_UG, worth_UG)
    s, w = says_UG.numpy(), worth_UG.numpy()
    pairs = [(a, b) for a, y in zip(s.ravel(), w.ravel(), strict=True) if y > 0 for b in s[w == 0]]
    assert figures["auc"] == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a, b in pairs]))
    assert figures["correlation"] == pytest.approx(np.corrcoef(s.ravel(), w.ravel())[0, 1])
    apart = [(each - each.mean(1, keepdims=True)).ravel() for each in (s, w)]
    assert figures["within"] == pytest.approx(np.corrcoef(*apart)[0, 1])
    assert (figures["says"], figures["worth"]) == pytest.approx((s.mean(), w.mean()))
    assert set(told_apart(torch.ones(2, 2).double(), torch.zeros(2, 2).double())) == {"says", "worth"}


# ---- what it is fitted to


def test_paths_are_judged_by_the_item_that_came_next(run: Recommender, split: Split) -> None:
    rows, _ = halves(split, 8, 0)
    policy, rare_N = policy_of(run), item_ranks(split).rare_N
    torch.manual_seed(5)
    before = torch.get_rng_state()
    settings = replace(LEARNING, path_rewards=replace(ALONE, path_gain="recall", top=3))
    paths = judged_paths(policy, rows, rare_N, settings, 1, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(paths.worth_UG, judged_paths(policy, rows, rare_N, settings, 1, CPU).worth_UG)
    assert not torch.equal(paths.worth_UG, judged_paths(policy, rows, rare_N, settings, 2, CPU).worth_UG)
    order = np.random.default_rng((1, len(rows))).permutation(len(rows))
    assert paths.users_U.tolist() == rows.users[order].tolist()
    batch = training_batch(rows.take(order))
    torch.manual_seed(1)
    case = replace(batch, targets_BL=None)
    rollouts = policy.roll_out(case, 4, 1.0)
    targets_B1 = torch.tensor([[int(rows[int(row)][-1])] for row in order])
    facts = policy.facts(case, rollouts, Future(targets_B1, torch.ones_like(targets_B1, dtype=torch.bool)))
    torch.testing.assert_close(paths.worth_UG, (facts.ranks_BGH[..., 0] <= 3).double())
    torch.testing.assert_close(paths.signs_UGF, path_signs(facts, rare_N).values_BGF)


def test_its_gap_is_what_it_promises_beyond_what_paths_are_worth(run: Recommender, split: Split) -> None:
    rows, _ = halves(split, 8, 0)
    items = item_ranks(split)
    reward = fit(judged_paths(policy_of(run), rows, items.rare_N, LEARNING, 0, CPU), "ndcg", 10)
    model = Aligner(method_of(run), LEARNING, items, reward=reward)
    model.begin_stage("align")
    model.train()
    batch = training_batch(windows(split.train, 8).take(np.arange(12)))
    torch.manual_seed(3)
    model.begin_batch(batch)
    drawn = model.drawn
    assert drawn is not None
    assert batch.targets_BL is not None
    targets_B1 = batch.targets_BL.gather(1, drawn.case.lengths_B[:, None] - 1)
    facts = model.policy.facts(drawn.case, drawn.rollouts, Future(targets_B1, torch.ones_like(targets_B1).bool()))
    says_BG = reward.says(path_signs(facts, items.rare_N).values_BGF)
    total, said = 0.0, 0.0
    for b, g in itertools.product(range(12), range(4)):
        rank = float(facts.ranks_BGH[b, g, 0])
        worth = 1 / math.log2(rank + 1) if rank <= 10 else 0.0
        share = float(batch.lengths_B[b]) / batch.weight / 4
        total += share * (float(says_BG[b, g]) - worth)
        said += share * float(says_BG[b, g])
    assert float(drawn.figures[GAP]) == pytest.approx(total, abs=1e-5)
    assert float(drawn.figures["reward_learned"]) == pytest.approx(said, abs=1e-5)
    earned = model.rewards["learned"][1](facts)
    torch.testing.assert_close(earned, says_BG)
    quiet = {"idle_groups": 0.0, GAP: 0.09}
    assert not model.diagnostics(quiet).warnings
    (warning,) = model.diagnostics(quiet | {GAP: 0.11}).warnings
    assert "promises 0.11 more than paths are worth" in warning
    assert model.diagnostics(quiet).figures["learned_auc"] == reward.figures["auc"]


# ---- the run


def test_a_run_keeps_its_reward_and_comes_to_the_same_after_a_stop(
    run: Recommender, rewarded: Recommender, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = rewarded.outcome()["learned_reward"]
    assert {"correlation", "within", "auc", "says", "worth"} == told.keys()
    assert rewarded.folder is not None
    kept = read_reward(rewarded.folder)
    assert kept.figures == told == rewarded.about["learned_reward"]
    assert rewarded.about["references"]["reward"] == reward_sum(kept)
    lines = [json.loads(line) for line in (rewarded.folder / "log.jsonl").read_text().splitlines()]
    assert [line["learned_auc"] for line in lines] == [told["auc"]] * 2
    assert all(GAP in line and "reward_learned" in line for line in lines)
    with pytest.raises(Interrupted):
        align(run, split, tmp_path / "run", LEARNING, observer=StopsAt(3))

    def fitted_again(*_: Any, **__: Any) -> None:
        raise AssertionError("it is read, not fitted again")

    monkeypatch.setattr(learned_rewards, "fit", fitted_again)
    again = align(run, split, tmp_path / "run", LEARNING, resume=True)
    ours, theirs = again.method.state_dict(), rewarded.method.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (tmp_path / "run/log.jsonl").read_text().count("learned_gap") == 2


def test_those_it_was_learned_from_choose_nothing(
    run: Recommender, rewarded: Recommender, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[loop.Fit] = []
    read: list[JudgedPaths] = []
    fits, judged = loop.Fit.run, learned_rewards.judged_paths
    monkeypatch.setattr(loop.Fit, "run", lambda self, fabric: (parts.append(self), fits(self, fabric))[1])

    def keep(*given: Any) -> JudgedPaths:
        read.append(judged(*given))
        return read[-1]

    monkeypatch.setattr(learned_rewards, "judged_paths", keep)
    align(run, split, tmp_path / "fitted", LEARNING)
    taken = align(run, split, tmp_path / "taken", LEARNING, reward_from=rewarded.folder)
    choosing = set(parts[0].split.valid.history.users.tolist())
    assert set(read[0].users_U.tolist()).isdisjoint(choosing)
    assert set(read[0].users_U.tolist()) | choosing == set(split.valid.history.users.tolist())
    assert parts[1].split is split  # nobody is set apart for what was learned elsewhere
    assert rewarded.folder is not None
    theirs, mine = read_reward(rewarded.folder), read_reward(tmp_path / "taken")
    assert reward_sum(theirs) == reward_sum(mine) == taken.about["references"]["reward_from"]
    # and it is measured on the paths of users here
    assert mine.figures == told_apart(theirs.says(read[1].signs_UGF), read[1].worth_UG)
    assert mine.figures != theirs.figures


def test_a_taken_reward_is_asked_for_again_when_it_goes_on(
    run: Recommender, rewarded: Recommender, split: Split, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        align(run, split, tmp_path / "taken", LEARNING, reward_from=rewarded.folder, observer=StopsAt(3))
    with pytest.raises(ConfigError, match=r"began with a reward of another run: resume it with the same one"):
        align(run, split, tmp_path / "taken", LEARNING, resume=True)
    whole = align(run, split, tmp_path / "whole", LEARNING, reward_from=rewarded.folder)
    again = align(run, split, tmp_path / "taken", LEARNING, reward_from=rewarded.folder, resume=True)
    ours, theirs = again.method.state_dict(), whole.method.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(ConfigError, match="began with no reward of another run"):
        align(run, split, rewarded.folder or "", LEARNING, reward_from=tmp_path / "taken", resume=True)


def test_a_damaged_reward_is_told_in_a_sentence(
    rewarded: Recommender, run: Recommender, split: Split, tmp_path: Path
) -> None:
    assert rewarded.folder is not None
    source = rewarded.folder / "reward.safetensors"
    tensors, _ = load_tensors(source)
    assert {name: tuple(each.shape) for name, each in tensors.items()} == {
        **dict.fromkeys(("means", "stds", "weights"), (14,)),
        "bias": (),
    }
    whole = source.read_bytes()
    try:
        source.write_bytes(whole[:-3] + b"abc")
        with pytest.raises(RunError, match="is damaged"):
            align(run, split, tmp_path / "run", LEARNING, reward_from=rewarded.folder)
        source.write_bytes(whole[:100])
        with pytest.raises(RunError, match="is damaged"):
            read_reward(rewarded.folder)
    finally:
        source.write_bytes(whole)
    assert not (tmp_path / "run").exists()


def test_what_makes_no_sense_is_refused(
    run: Recommender, rewarded: Recommender, split: Split, quick: Training, tmp_path: Path
) -> None:
    bare = train(
        replace(run.config, method=replace(METHOD, category_weight=0.0), training=quick), split, tmp_path / "bare"
    )
    wrong: list[tuple[Recommender, Callable[[], Alignment], dict[str, Any], str]] = [
        (run, Alignment, {"reward_from": rewarded.folder}, "reward_from would change nothing"),
        (run, lambda: LEARNING, {"reward_from": run.folder}, "has no learned reward"),
        (bare, lambda: LEARNING, {"reward_from": rewarded.folder}, "fits, peak, shift, which this run does not have"),
        (run, lambda: replace(LEARNING, path_rewards=replace(ALONE, top=5)), {"reward_from": rewarded.folder}, "top 5"),
        (run, lambda: replace(LEARNING, cases="held_out"), {}, "must not earn any"),
        (run, lambda: replace(LEARNING, policy_weight=0.0), {}, "path_rewards.learned would change nothing"),
        (run, lambda: LEARNING, {"rewards": {"learned": (1.0, lambda facts: facts.best_BG)}}, "is called learned"),
        (run, lambda: replace(LEARNING, path_rewards=PathRewards(path=0, top=5)), {}, "path and learned have"),
    ]
    for each, settings, more, said in wrong:
        with pytest.raises((ConfigError, DataError), match=said):
            align(each, split, tmp_path / "run", settings(), **more)
        assert not (tmp_path / "run").exists()
    made = align(bare, split, tmp_path / "run", LEARNING)
    assert made.folder is not None
    assert "peak" not in read_reward(made.folder).names
    with pytest.raises(ConfigError, match="fits, peak, shift, which it does not know"):
        align(run, split, tmp_path / "other", LEARNING, reward_from=made.folder)
    two: Any = SimpleNamespace(world_size=2, device=CPU)
    with pytest.raises(ConfigError, match="learned in one process, but there are 2"):
        learned_rewards.learned_reward(made, split, None, two, resume=False)


def test_a_checksum_is_of_the_reward_and_not_of_its_figures(rewarded: Recommender) -> None:
    assert rewarded.folder is not None
    made: LearnedReward = read_reward(rewarded.folder)
    assert reward_sum(made) != reward_sum(replace(made, top=made.top + 1))
    assert reward_sum(made) != reward_sum(replace(made, weights_F=made.weights_F + 1))
    assert reward_sum(made) == reward_sum(replace(made, figures={}))
