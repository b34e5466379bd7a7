"""What an update of alignment costs: users a second, beside the same objective written as one would at first.

python benchmarks/alignment.py DATA OUT.json [--repetitions 3] [--quick]

REG4Rec of M = 8 codebooks, G = 16 paths of 8 tokens a history, width 64, two updates of each batch, untrained: costs do
not depend on weights. Ours encodes a history once, asks one head for the book that a step decided, and draws and
replays all paths together. The plain way encodes the history anew for each path, in drawing and in replaying, one path
of all histories after the other, asks all heads at each step, and estimates KL by what was drawn. Rewards are left out:
the ranks that the reward of paths needs are `rewards_s`. One thread, medians, taken in turns.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import forethought as ft
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.splits import Split
from forethought.decoding.rollouts import DrawnPaths, draw_paths, replay_paths
from forethought.methods.item_tokens import token_shape_of, with_tokens
from forethought.methods.reg4rec import REG4RecModel
from forethought.reasoning.grpo import advantages, clipped_gain, estimated_kl, exact_kl
from forethought.reasoning.policy import Future, Rollouts
from forethought.references import resolve
from forethought.semantic_ids.random_tokens import RandomTokens
from reasoning import run_alone

GROUP, STEPS, UPDATES, USERS = 16, 8, 2, 64
LOW, HIGH, BETA = 0.2, 0.28, 0.05


def measure(data: Path, repetitions: int, share: float, *, quick: bool = False) -> dict[str, Any]:
    del share
    torch.set_num_threads(1)
    split = ft.leave_last_out(ft.read(data), ties="shuffle")
    model = _model(split)
    users = 16 if quick else USERS
    rows = windows(split.train, model.window).take(
        np.random.default_rng(0).choice(len(split.train), users, replace=False)
    )
    batch = training_batch(rows)
    case = Batch(batch.items_BL, batch.lengths_B)
    rollouts = model.rl_policy().roll_out(case, GROUP, 1.0)
    ways = {"ours": _ours, "plain": _plain, "rewards": partial(_rewards, rollouts=rollouts)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, run in ways.items():
            begin = time.perf_counter()
            run(model, case)
            seconds[name].append(time.perf_counter() - begin)
    ours, plain, rewards = (statistics.median(seconds[name]) for name in ("ours", "plain", "rewards"))
    return {
        "users_per_s": users / ours,
        "plain_users_per_s": users / plain,
        "plain_over_ours": plain / ours,
        "rewards_s": rewards,
        "with_rewards_users_per_s": users / (ours + rewards),
        "group": GROUP,
        "steps": STEPS,
        "updates": UPDATES,
        "users": users,
    }


def _model(split: Split) -> REG4RecModel:
    config = ft.REG4Rec(tokenizer=RandomTokens(codebooks=8), steps=STEPS)
    side = resolve(config, split, None)
    torch.manual_seed(0)
    model = with_tokens(config.build(split.data.sizes), token_shape_of(side.tokens))
    model.fit_side_information(side)
    return model.eval()


def _learn(model: REG4RecModel, loss: torch.Tensor) -> None:
    model.zero_grad(set_to_none=True)
    loss.backward()


def _ours(model: REG4RecModel, case: Batch) -> None:
    drawn = _drawn(model, case)
    apart = _apart(drawn.log_probs_BGT)
    with torch.no_grad():
        reference = replay_paths(model.path_decoder(case), drawn)[1]
    for _ in range(UPDATES):
        now, every = replay_paths(model.path_decoder(case), drawn)
        gain = clipped_gain(now, drawn.log_probs_BGT, apart, LOW, HIGH).gain.mean()
        _learn(model, BETA * exact_kl(every, reference).mean() - gain)


def _drawn(model: REG4RecModel, case: Batch) -> DrawnPaths:
    return draw_paths(model.path_decoder(case), len(case.lengths_B), GROUP, STEPS)


def _apart(log_probs_BGT: torch.Tensor) -> torch.Tensor:
    """Advantages of rewards that are drawn."""
    earned = torch.rand_like(log_probs_BGT).transpose(0, 1)
    return advantages(earned, "none", leave_one_out=True).transpose(0, 1)


def _plain(model: REG4RecModel, case: Batch) -> None:
    """One path of each history after the other, everything anew for each."""
    paths, old = [], []
    with torch.no_grad():
        for _ in range(GROUP):
            drawn = draw_paths(model.path_decoder(case), len(case.lengths_B), 1, STEPS)
            paths.append((drawn.books_BGT, drawn.tokens_BGT))
            old.append(drawn.log_probs_BGT)
        reference = [_said(model, case, *path) for path in paths]
    apart = _apart(torch.cat(old, dim=1))
    for _ in range(UPDATES):
        total = torch.zeros(())
        for g, path in enumerate(paths):
            now = _said(model, case, *path)
            gain = clipped_gain(now, old[g][:, 0], apart[:, g], LOW, HIGH).gain.mean()
            total = total + (BETA * estimated_kl(now, reference[g], "k3").mean() - gain) / GROUP
        _learn(model, total)


def _said(model: REG4RecModel, case: Batch, books_B1T: torch.Tensor, tokens_B1T: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the tokens of one path of each history, all heads asked at each step, [B, T]."""
    decoder = model.path_decoder(case)
    state, said = decoder.begin(len(case.lengths_B)), []
    rows = torch.arange(len(case.lengths_B))
    for step in range(STEPS):
        book, token = books_B1T[:, 0, step], tokens_B1T[:, 0, step]
        said.append(decoder.log_probs(state)[0][rows, 0, book, token])
        state = decoder.advance(state, book[:, None], token[:, None])
    return torch.stack(said, dim=1)


def _rewards(model: REG4RecModel, case: Batch, rollouts: Rollouts) -> None:
    targets = torch.zeros(len(case.lengths_B), 1, dtype=torch.int64)
    future = Future(targets, torch.ones_like(targets, dtype=torch.bool))
    model.rl_policy().facts(case, rollouts, future).ranks_BGH  # noqa: B018


if __name__ == "__main__":
    run_alone(measure, __doc__)
