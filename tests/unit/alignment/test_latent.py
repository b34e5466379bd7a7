"""LARES aligned: its trajectories, what they earn and lose, and what is refused of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stopping import StopsAt

from forethought.aligning import align
from forethought.alignment.aligner import Aligner
from forethought.alignment.items import item_ranks
from forethought.alignment.settings import Alignment, HaltingRewards, LatentRewards, PathRewards
from forethought.config import Recipe
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.lares import LARES, LARESModel, Reinforcement
from forethought.reasoning.latent_rollouts import LatentPolicy, Thoughts
from forethought.recommender import Recommender, load
from forethought.runs import train
from forethought.training.interrupt import Interrupted
from forethought.training.settings import Training

BRIEF = Alignment(batches=2, epochs=2, group=4, rate=0.3, batch_positions=128)
LOW, HIGH = 0.2, 0.28


@pytest.fixture(scope="module")
def latent_run(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    method = LARES(width=16, window=8, ffn_width=32, dropout=0.2, reinforcement=Reinforcement(epochs=0))
    return train(Recipe(method=method, training=quick), split, tmp_path_factory.mktemp("lares") / "run")


@pytest.fixture
def batch(split: Split) -> Batch:
    return training_batch(windows(split.train, 8).take(np.arange(12)))


def aligner(run: Recommender, split: Split, settings: Alignment = BRIEF, noise: float = 3.0) -> Aligner:
    """In float64, with so much noise that rollouts differ."""
    assert run.folder is not None
    method = load(run.folder).method
    method.config = replace(method.config, state_scale=noise)  # type: ignore[assignment, type-var]
    made = Aligner(method.double(), settings, item_ranks(split))
    made.begin_stage("align")
    return made.train()


def change(model: Aligner, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.policy.trained():
            moved = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(moved, alpha=0.05)


@torch.no_grad()
def said(method: LARESModel, case: Batch, made: Thoughts, b: int, g: int) -> list[np.ndarray]:
    """ln p of all items after each step of one rollout of one history, alone and unpadded."""
    n = int(case.lengths_B[b])
    one = Batch(case.items_BL[b : b + 1, :n], case.lengths_B[b : b + 1])
    H, now, steps = method._read(one), made.start_GBLD[g, b : b + 1, :n], []
    items = method.items.catalogue()
    vectors = items.vectors_ND.numpy()
    for _ in range(made.depths[g]):
        now = method.recurrence(now, H, one.lengths_B)
        state = now[0, -1].numpy()
        if items.cosine:
            state = state / np.linalg.norm(state)
        known = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if items.cosine else vectors
        logits = known @ state / items.temperature
        steps.append(logits - math.log(sum(math.exp(z) for z in logits)))
    return steps


@pytest.mark.parametrize("gain", ["ndcg", "recall"])
@pytest.mark.parametrize("kl", ["exact", "k3"])
def test_the_loss_is_that_of_one_trajectory_after_the_other(
    latent_run: Recommender, split: Split, batch: Batch, kl: Any, gain: Any
) -> None:
    settings = replace(BRIEF, anchor=0.0, kl=kl, kl_weight=0.3, latent_rewards=LatentRewards(gain=gain, top=20))
    model = aligner(latent_run, split, settings)
    (reference,) = model.reference
    change(model, 1)  # what draws is no more the reference
    torch.manual_seed(3)
    model.begin_batch(batch)
    drawer = load(str(latent_run.folder)).method.double()
    drawer.load_state_dict(model.method.state_dict())
    change(model, 2)  # what learns is no more what drew
    drawn = model.drawn
    assert drawn is not None
    assert batch.targets_BL is not None
    made, (B, G, T) = drawn.rollouts.made, drawn.rollouts.log_probs_BGT.shape
    assert len(set(made.depths)) > 1
    assert max(made.depths) == T
    total, gains, moved, idle = 0.0, 0.0, 0.0, 0
    for b in range(B):
        target = int(batch.targets_BL[b, int(drawn.case.lengths_B[b]) - 1])
        each = [
            [said(m, drawn.case, made, b, g) for m in (model.method, drawer, reference)]  # type: ignore[arg-type]
            for g in range(G)
        ]
        earned = []
        for _, old, _ in each:
            rank = 1 + sum(z > old[-1][target] for z in old[-1])
            earned.append((1.0 if gain == "recall" else 1 / math.log2(rank + 1)) if rank <= 20 else 0.0)
        idle += len(set(earned)) == 1
        share = float(batch.lengths_B[b]) / batch.weight / G / T
        for g, (new, old, ref) in enumerate(each):
            assert int(drawn.rollouts.real_BGT[b, g].sum()) == made.depths[g]
            advantage = earned[g] - sum(earned[:g] + earned[g + 1 :]) / (G - 1)
            for now, then, at_first in zip(new, old, ref, strict=True):
                ratio = math.exp(now[target] - then[target])
                gained = min(ratio * advantage, min(max(ratio, 1 - LOW), 1 + HIGH) * advantage)
                ahead = at_first[target] - now[target]
                apart = math.exp(ahead) - ahead - 1
                if kl == "exact":
                    apart = sum(math.exp(p) * (p - q) for p, q in zip(now, at_first, strict=True))
                total += share * (0.3 * apart - gained)
                gains, moved = gains + share * gained, moved + share * apart
    assert idle < B
    losses = model.loss(batch)
    for name, wanted in (("loss", total), ("gain", gains), ("kl", moved)):
        assert float(losses.parts[name]) == pytest.approx(wanted, rel=1e-5, abs=1e-7), name
    assert moved > 1e-3


def test_before_the_first_update_nothing_has_moved(latent_run: Recommender, split: Split, batch: Batch) -> None:
    model = aligner(latent_run, split)
    model.begin_batch(batch)
    drawn = model.drawn
    assert drawn is not None
    now = model.policy.replay(drawn.case, drawn.rollouts)
    torch.testing.assert_close((now.log_probs_BGT - drawn.rollouts.log_probs_BGT).exp(), torch.ones_like(now[0]))
    losses = model.loss(batch)
    assert float(losses.parts["kl"]) == pytest.approx(0.0, abs=1e-12)
    assert float(losses.parts["clipped"]) == 0.0
    losses.total.backward()
    without = [name for name, p in model.method.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_temperature_scales_what_trajectories_begin_with(latent_run: Recommender, split: Split, batch: Batch) -> None:
    starts = []
    for temperature in (1.0, 2.5):
        model = aligner(latent_run, split, replace(BRIEF, temperature=temperature))
        torch.manual_seed(5)
        model.begin_batch(batch)
        assert model.drawn is not None
        starts.append(model.drawn.rollouts.made.start_GBLD)
    torch.testing.assert_close(starts[1], 2.5 * starts[0])


def test_the_run_is_aligned_and_one_that_was_stopped_comes_to_the_same(
    latent_run: Recommender, split: Split, tmp_path: Path
) -> None:
    settings = replace(BRIEF, guard="recall@10", rate=0.1)
    whole = align(latent_run, split, tmp_path / "whole", settings)
    assert isinstance(whole.method.rl_policy(), LatentPolicy)
    assert whole.about["started_from"]["weights"] == latent_run.weights_sum
    with pytest.raises(Interrupted):
        align(latent_run, split, tmp_path / "run", settings, observer=StopsAt(3))
    again = align(latent_run, split, tmp_path / "run", settings, resume=True)
    assert again.progress()["best"] == whole.progress()["best"] >= 0
    ours, theirs = again.method.state_dict(), whole.method.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert '"reward_gain"' in (tmp_path / "run/log.jsonl").read_text()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (replace(BRIEF, path_rewards=PathRewards(path=2.0)), "has no paths, so that path_rewards"),
        (replace(BRIEF, halting_rewards=HaltingRewards(step_price=0.2)), "does not halt, so that halting_rewards"),
        (replace(BRIEF, action="joint"), "action is of paths"),
        (replace(BRIEF, kl="k1"), "k1 would teach them not to name it"),
        (replace(BRIEF, learn_weights=True), "learn_weights is of paths"),
        (replace(BRIEF, path_rewards=PathRewards(learned=1.0)), "has no paths, so that path_rewards"),
    ],
)
def test_what_trajectories_do_not_read_is_refused(
    latent_run: Recommender, split: Split, tmp_path: Path, settings: Alignment, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        align(latent_run, split, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
