"""Weights of rewards that are learned: a reward counts for what following it does to users whom training never saw.

    L(theta + eta sum_r w_r g_r) = L(theta) + eta sum_r w_r <h, g_r> + O(eta^2)          g_r = grad J_r,  h = grad L
    u_r = -<h, g_r> / (|h| max_s |g_s|)                        w_r <- w_r exp(rate u_r), their sum kept

J_r is the policy objective if r were the only reward, L the run's own loss on the next items of held-out users. So
u_r is how fast L falls as w_r grows, up to a factor that all rewards share. It is of plain gradient steps, while the
optimiser scales each parameter by itself, and of the first order: what weights come to, validation has to confirm.
Exponentiated gradient keeps weights positive, and their sum keeps the balance with the run's own loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from forethought.data.batches import Batch, training_batch
from forethought.data.histories import Spans

HELD_OUT = 128  # histories that a look at the held-out loss reads
Weights = dict[str, float]


@dataclass
class LearnedWeights:
    """Where they stand.

    Attributes:
        weights: of each reward.
        rows: held-out histories, their last items what is to be named.
        rate: of exponentiated gradient.
        every: batches between two looks.
        batches: so many have come.
    """

    weights: Weights
    rows: Spans
    rate: float
    every: int
    batches: int = 0

    def due(self) -> bool:
        """A batch comes; whether weights are learned from it."""
        self.batches += 1
        return (self.batches - 1) % self.every == 0

    def drawn(self, device: torch.device) -> tuple[Batch, Tensor]:
        """Some held-out histories, and the item that followed each, [B]."""
        chosen = torch.randperm(len(self.rows))[:HELD_OUT].numpy()
        batch = training_batch(self.rows.take(chosen.astype(np.int64))).to(device)
        assert batch.targets_BL is not None
        return batch, batch.targets_BL.gather(1, batch.lengths_B[:, None] - 1)[:, 0]

    def learn(self, objectives: Mapping[str, Tensor], held_out: Tensor, parameters: Iterable[nn.Parameter]) -> None:
        """One step.

        Args:
            objectives: J_r of each reward, with gradients.
            held_out: L, with gradients.
        """
        self.weights = stepped(self.weights, usefulness(objectives, held_out, list(parameters)), self.rate)

    def state(self) -> Weights:
        return {"batches": self.batches} | {f"weight_{name}": weight for name, weight in self.weights.items()}

    def load(self, state: Weights) -> None:
        """Go on from a `state`.

        Raises:
            ValueError: it is of other rewards.
        """
        if state.keys() != self.state().keys() or not all(0 <= value < math.inf for value in state.values()):
            raise ValueError(f"its weights of rewards are {state}")
        self.weights, self.batches = {name: state[f"weight_{name}"] for name in self.weights}, int(state["batches"])


def usefulness(objectives: Mapping[str, Tensor], held_out: Tensor, parameters: list[nn.Parameter]) -> Weights:
    """u of each reward; a backward each, and one of the held-out loss."""
    h = _gradient(held_out, parameters)
    inner, norms = {}, []
    for name, objective in objectives.items():
        g = _gradient(objective, parameters)
        inner[name] = -_dot(h, g)
        norms.append(_dot(g, g) ** 0.5)
    scale = _dot(h, h) ** 0.5 * max(norms)
    return {name: value / scale if scale else 0.0 for name, value in inner.items()}


def stepped(weights: Weights, useful: Weights, rate: float) -> Weights:
    """Exponentiated gradient; the sum stays."""
    moved = {name: weight * math.exp(rate * useful[name]) for name, weight in weights.items()}
    kept = sum(weights.values()) / sum(moved.values())
    return {name: weight * kept for name, weight in moved.items()}


def _gradient(value: Tensor, parameters: list[nn.Parameter]) -> list[Tensor | None]:
    return list(torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True))


def _dot(one: list[Tensor | None], other: list[Tensor | None]) -> float:
    """Of all parameters; what a value does not depend on counts for nothing."""
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return float(sum((a.double() * b.double()).sum() for a, b in both))
