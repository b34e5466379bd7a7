"""The learning rate of every step, against the schedule written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from forethought.training.optimiser import adamw, highest_rate, learning_rate, low_rate
from forethought.training.settings import Schedule, Training


def naive(step: int, total: int, peak: float, warmup: int, schedule: str) -> float:
    rate = peak
    if warmup and step + 1 < warmup:
        rate *= (step + 1) / warmup
    if schedule == "linear":
        rate *= (total - step) / total
    if schedule == "cosine":
        rate *= (1 + math.cos(math.pi * step / total)) / 2
    return rate


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 7, 30])
def test_learning_rate(schedule: Schedule, warmup: int) -> None:
    settings = Training(learning_rate=3e-3, schedule=schedule, warmup_steps=warmup)
    for step in range(20):
        assert learning_rate(step, 20, settings) == pytest.approx(naive(step, 20, 3e-3, warmup, schedule), abs=1e-15)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(
    ("total", "warmup"), [(12, 100), (112, 100), (112, 60), (112, 56), (40, 19), (9, 0), (5000, 7000)]
)
def test_a_rate_that_never_rises_is_told(schedule: Schedule, total: int, warmup: int) -> None:
    settings = Training(learning_rate=3e-3, schedule=schedule, warmup_steps=warmup)
    wanted = max(naive(step, total, 1.0, warmup, schedule) for step in range(total))
    told = low_rate(total, settings)
    assert (told is not None) == (wanted < 0.5)
    if told is not None:
        assert highest_rate(total, settings) == pytest.approx(wanted, rel=1e-3)
        assert f"comes to {wanted:.0%} of what was set" in told


def test_the_rate_ends_at_zero_and_stays_there() -> None:
    settings = Training(schedule="linear", warmup_steps=0)
    assert learning_rate(20, 20, settings) == learning_rate(25, 20, settings) == 0.0
    assert learning_rate(0, 0, settings) == settings.learning_rate


def test_biases_and_norms_do_not_decay() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    model[0].weight.requires_grad_(False)  # type: ignore[union-attr]
    decayed, plain = adamw(model, Training(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0.0
    assert [p.shape for p in decayed["params"]] == [torch.Size([4, 4])]
    assert [p.ndim for p in plain["params"]] == [1, 1, 1]
