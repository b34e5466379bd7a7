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
