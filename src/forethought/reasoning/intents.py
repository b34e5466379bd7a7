"""Intents of a history: vectors that a pre-trained encoder distils from it, whole or masked (IGR-SR, arXiv 2512.14034).

    S_aug = [P; e(S_u); I]        T_I = the encoder's last m states        (eqs. 1, 2)

k vectors P stand in front of the history and steer the encoder, m slots I hang behind a position as tokens of a chain
(`Backbone.reason`): each sees P, the history up to its position, and the slots before it. Neither has a position.

Shapes: B rows, P places (every position, or the last alone), M intents a place, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from forethought.backbones.interface import Backbone
from forethought.reasoning.chain import History, initial_states_at_end, initial_states_everywhere


class Intents(NamedTuple):
    """What a history was found to be after.

    Attributes:
        raw_BPMD: T_I; B and P may be 1 where all rows or all positions share them.
        states_BPD: the encoder's own states at the same places, where an encoder read the history.
    """

    raw_BPMD: Tensor
    states_BPD: Tensor | None = None


class IntentSource(Protocol):
    """Where intents come from, if not from an encoder of histories: a profile made of texts, say.

    A module is trained with the method and saved with it.
    """

    @property
    def width(self) -> int:
        """D of the intents it gives."""
        ...

    def __call__(self, history: History, *, everywhere: bool) -> Intents:
        """Intents at every position of each row, or of each row as a whole (P = 1)."""
        ...


def extract_intents(
    backbone: Backbone,
    vectors: Callable[[Tensor], Tensor],
    history: History,
    prefix_KD: Tensor | None,
    slots_MD: Tensor,
    *,
    everywhere: bool,
) -> Intents:
    """T_I behind every position, or behind each row's last one.

    One encoding serves all positions of a causal backbone; one that looks both ways reads each prefix as a row.
    """
    initial_states = (initial_states_everywhere if everywhere else initial_states_at_end)(
        backbone, vectors, history, prefix_KD
    )
    tokens, chain = [], initial_states.chain
    for slot_D in slots_MD:
        token, chain = backbone.reason(slot_D.expand_as(initial_states.states_BPD), chain)
        tokens.append(token)
    raw, states = torch.stack(tokens, dim=2), initial_states.states_BPD
    if everywhere and not backbone.causal:  # a row a prefix, in the order of positions
        B, L = history.items_BL.shape
        real_BL = torch.arange(L, device=raw.device) < history.lengths_B[:, None]
        raw = raw.new_zeros(B, L, *raw.shape[2:]).index_put((real_BL,), raw[:, 0])
        states = states.new_zeros(B, L, states.shape[-1]).index_put((real_BL,), states[:, 0])
    return Intents(raw, states)


def keep_some(rows: int, intents: int, mask_share: float, device: torch.device | None = None) -> Tensor:
    """[B, M]: False for intents that a view drops, each with probability `mask_share`; never all of a row's.

    Where the draw would drop all, one drawn at random stays: a softmax over nothing is no number.
    """
    kept_BM = torch.rand(rows, intents, device=device) >= mask_share
    one_B1 = torch.randint(intents, (rows, 1), device=device)
    saved_BM = torch.zeros_like(kept_BM).scatter(1, one_B1, True)
    return torch.where(kept_BM.any(dim=1, keepdim=True), kept_BM, saved_BM)


def intent_redundancy(intents_PMD: Tensor) -> Tensor:
    """How far the intents of a history are one and the same, [P]: mean squared cosine of all pairs of them, 0 to 1.

    Of each intent its mean over the P histories is taken off first: intents that differ by constants alone tell a
    history from others by one thing. 0 where there is but one intent, and where intents are everybody's.
    """
    M = intents_PMD.shape[1]
    own_PMD = intents_PMD - intents_PMD.mean(0)
    least_PM1 = 1e-4 * intents_PMD.norm(dim=-1, keepdim=True)  # what rounding leaves of intents that all share
    unit_PMD = own_PMD / torch.maximum(own_PMD.norm(dim=-1, keepdim=True), least_PM1).clamp_min(1e-12)
    cosines_PMM = unit_PMD @ unit_PMD.mT
    pairs_P = cosines_PMM.square().sum((1, 2)) - cosines_PMM.diagonal(dim1=1, dim2=2).square().sum(-1)
    return pairs_P / max(M * (M - 1), 1)


def attention_entropy(weights: Tensor) -> Tensor:
    """Entropy of attention weights over intents [..., M] as a share of ln M: 1 is uniform; 0 where there is but one."""
    M = weights.shape[-1]
    return torch.special.entr(weights).sum(-1) / math.log(M) if M > 1 else torch.zeros_like(weights[..., 0])
