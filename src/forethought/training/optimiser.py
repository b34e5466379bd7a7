"""AdamW and its learning rate, which is a function of the step alone, so that nothing of it needs saving."""

from __future__ import annotations

import math

import torch
from torch import nn

from forethought.training.settings import Training


def adamw(method: nn.Module, settings: Training) -> torch.optim.AdamW:
    """AdamW over all parameters that train; vectors and matrices decay, biases and norms do not."""
    trained = [p for p in method.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True)


def learning_rate(step: int, total_steps: int, settings: Training) -> float:
    """The rate of a step counted from 0: linear warm-up, then the schedule down to zero at `total_steps`."""
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    done = min(step / max(total_steps, 1), 1.0)
    decay = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return settings.learning_rate * warm * decay[settings.schedule]


def highest_rate(total_steps: int, settings: Training) -> float:
    """The highest rate of so many steps, as a share of what was set: less than 1 where a warm-up takes most of them."""
    if 2 * settings.warmup_steps <= total_steps:  # at its end any schedule still has half of its height or more
        return 1.0
    every = max(1, total_steps // 1000)
    return max(learning_rate(step, total_steps, settings) for step in range(0, total_steps, every)) / (
        settings.learning_rate
    )


def low_rate(total_steps: int, settings: Training) -> str | None:
    """What to say where the rate falls before it has risen: small data has few steps, and teaches little so."""
    highest = highest_rate(total_steps, settings)
    if highest >= 0.5:
        return None
    return (
        f"The learning rate comes to {highest:.0%} of what was set at most, because it rises for the first "
        f"{settings.warmup_steps:,} steps (warmup_steps) and the training has {total_steps:,}: fewer of them, or "
        "more epochs, teach more."
    )
