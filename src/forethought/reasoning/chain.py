"""Chains of thought behind the positions of a history (ReaRec, arXiv 2503.22675, section 3).

    r_0 = f(history)[i]        r_t = f(history, ..., r_{t-1} + p_t)[last]        t = 1..T

One chain hangs behind every position in training, and all of them grow at once on one encoding; at inference a chain
hangs behind the last position alone. Where a backbone looks both ways, each prefix is a row of its own.

Shapes: B rows, P chains a row, D width, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from forethought.backbones.interface import Backbone, Chain
from forethought.errors import ConfigError
from forethought.nn.dropout import no_dropout
from forethought.nn.transformer import last_positions


class History(NamedTuple):
    """What a chain hangs behind: right-padded items and their lengths; times for backbones that read them."""

    items_BL: Tensor
    lengths_B: Tensor
    times_BL: Tensor | None = None

    def prefixes(self) -> History:
        """One row for each prefix of each row, in the order of positions; what comes later counts as padding."""
        row, at = (torch.arange(self.items_BL.shape[1], device=self.items_BL.device) < self.lengths_B[:, None]).nonzero(
            as_tuple=True
        )
        return self.select(row)._replace(lengths_B=at + 1)

    def select(self, rows: Tensor) -> History:
        """Some rows, or some of them several times."""
        times = None if self.times_BL is None else self.times_BL[rows]
        return History(self.items_BL[rows], self.lengths_B[rows], times)

    def pieces(self, positions: int) -> Iterator[History]:
        """Runs of rows, in order, of at most so many positions with their padding; of one row at least.

        A program that is exported has no number of runs, and reads all rows at once.
        """
        if torch.compiler.is_exporting():
            yield self
            return
        rows = max(1, positions // max(1, self.items_BL.shape[1]))
        for at in range(0, max(1, len(self.lengths_B)), rows):
            piece = slice(at, at + rows)
            times = None if self.times_BL is None else self.times_BL[piece]
            yield History(self.items_BL[piece], self.lengths_B[piece], times)


class InitialStates(NamedTuple):
    """States r_0 and what the chains behind them remember.

    Attributes:
        states_BPD: r_0.
        chain: to be handed to `think`.
        real_BP: False where a chain hangs behind padding.
    """

    states_BPD: Tensor
    chain: Chain
    real_BP: Tensor


def initial_states_everywhere(
    backbone: Backbone,
    vectors: Callable[[Tensor], Tensor],
    history: History,
    prefix_KD: Tensor | None = None,
) -> InitialStates:
    """A chain behind every position. `real_BP` picks them in the order rows, then positions, for every backbone.

    Args:
        prefix_KD: vectors in front of every history (`Backbone.encode`).
    """
    if not backbone.causal:
        return initial_states_at_end(backbone, vectors, history.prefixes(), prefix_KD)
    items_BL, lengths_B, times_BL = history
    at_L = torch.arange(items_BL.shape[1], device=items_BL.device)
    states, chain = backbone.encode(
        vectors(items_BL),
        lengths_B,
        positions=at_L.expand_as(items_BL),
        times=times_BL,
        prefix=_before(prefix_KD, items_BL),
    )
    chain = _made(chain, backbone)
    return InitialStates(states, chain, at_L < lengths_B[:, None])


def initial_states_at_end(
    backbone: Backbone,
    vectors: Callable[[Tensor], Tensor],
    history: History,
    prefix_KD: Tensor | None = None,
) -> InitialStates:
    """A chain behind each row's last position: P = 1. The last layer is spared the other positions."""
    items_BL, lengths_B, times_BL = history
    at_B1 = last_positions(lengths_B)
    states, chain = backbone.encode(
        vectors(items_BL),
        lengths_B,
        positions=at_B1,
        times=times_BL,
        prefix=_before(prefix_KD, items_BL),
        last_only=True,
    )
    chain = _made(chain, backbone)
    return InitialStates(states, chain, torch.ones_like(at_B1, dtype=torch.bool))


def _made(chain: Chain | None, backbone: Backbone) -> Chain:
    """The chain, which somebody's own backbone need not make."""
    if chain is None:
        raise ConfigError(
            f"{type(backbone).__name__} makes no chains behind a history, so no method can reason on it: train it "
            "alone, or let its encode return a chain and give it reason."
        )
    return chain


def _before(prefix_KD: Tensor | None, items_BL: Tensor) -> Tensor | None:
    return None if prefix_KD is None else prefix_KD.expand(items_BL.shape[0], -1, -1)


def reason(
    backbone: Backbone, initial_states: InitialStates, step_embeddings_TD: Tensor, *, dropout: bool = True
) -> list[Tensor]:
    """r_0 .. r_T, [B, P, D] each.

    Args:
        step_embeddings_TD: the reasoning position vectors p_1 .. p_T, added to each step's input.
        dropout: drop units inside reasoning tokens too; what they look back at has been through dropout in any case.
    """
    states, chain = [initial_states.states_BPD], initial_states.chain
    with nullcontext() if dropout else no_dropout(backbone):
        for embedding in step_embeddings_TD:
            state, chain = backbone.reason(states[-1] + embedding, chain)
            states.append(state)
    return states


def running_means(states: list[Tensor]) -> list[Tensor]:
    """What is read after each step where all thoughts so far speak together: r_0, (r_0 + r_1) / 2, ..."""
    total, means = torch.zeros_like(states[0]), []
    for t, state in enumerate(states, start=1):
        total = total + state
        means.append(total / t)
    return means


def reason_with_noise(
    backbone: Backbone,
    initial_states: InitialStates,
    states: list[Tensor],
    step_embeddings_TD: Tensor,
    std: float,
    *,
    dropout: bool = True,
) -> list[Tensor]:
    """A second branch from the same roots: its step t starts from the clean r_{t-1} and fresh noise.

    Errors do not pile up, since only the clean states are fed on; the noisy tokens see each other.

    Returns:
        r~_1 .. r~_T.
    """
    noisy, chain = [], initial_states.chain
    with nullcontext() if dropout else no_dropout(backbone):
        for before, embedding in zip(states, step_embeddings_TD, strict=False):
            state, chain = backbone.reason(before + embedding + std * torch.randn_like(before), chain)
            noisy.append(state)
    return noisy
