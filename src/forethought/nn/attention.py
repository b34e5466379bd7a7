"""Attention over a history, and of reasoning tokens that hang behind its positions.

A *reasoning token* is one more token behind position i: it sees the items up to i and the earlier tokens of its own
chain, never another chain's. Keys and values of the history are shared by all chains.

Shapes: B rows, L history, P chains a row, T tokens a chain, H heads, C channels a head, D = H * C.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from forethought.nn.dropout import Dropout

UNPLANNED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass(frozen=True)
class Memory:
    """What one layer keeps of a history and of the chains behind it: keys and values [B, H, P, C] of each token.

    A token is added without copying those before it, and branches share them.
    """

    keys_BHLC: Tensor
    values_BHLC: Tensor
    token_keys: tuple[Tensor, ...] = ()
    token_values: tuple[Tensor, ...] = ()

    def with_token(self, keys_BHPC: Tensor, values_BHPC: Tensor) -> Memory:
        return replace(self, token_keys=(*self.token_keys, keys_BHPC), token_values=(*self.token_values, values_BHPC))

    def select(self, rows: Tensor) -> Memory:
        tokens = (tuple(token[rows] for token in each) for each in (self.token_keys, self.token_values))
        return Memory(self.keys_BHLC[rows], self.values_BHLC[rows], *tokens)

    def branch(self, from_BP: Tensor) -> Memory:
        """Other chains behind the same history: each goes on from one of those there are."""
        at_BHPC = from_BP[:, None, :, None].expand(-1, self.keys_BHLC.shape[1], -1, self.keys_BHLC.shape[3])
        keys, values = (tuple(x.gather(2, at_BHPC) for x in each) for each in (self.token_keys, self.token_values))
        return replace(self, token_keys=keys, token_values=values)


@dataclass(frozen=True)
class AttentionChain:
    """Chains of thought behind positions of a history: a value, so that branches and selections share the past.

    Attributes:
        layers: one memory a layer.
        at_BP: the position each chain hangs behind, counted without the prefix.
        prefix: how many vectors stand in front of the history and are seen by every chain.
        times_BL: when each position happened, for attention that knows time.
    """

    layers: tuple[Memory, ...]
    at_BP: Tensor
    prefix: int = 0
    times_BL: Tensor | None = None

    @property
    def tokens(self) -> int:
        return len(self.layers[0].token_keys)

    def select(self, rows: Tensor) -> AttentionChain:
        """The chains of some rows only: users who go on, or beams that moved."""
        return replace(
            self,
            layers=tuple(layer.select(rows) for layer in self.layers),
            at_BP=self.at_BP[rows],
            times_BL=None if self.times_BL is None else self.times_BL[rows],
        )

    def branch(self, from_BP: Tensor) -> AttentionChain:
        """Beams that moved: chain p goes on from what chain `from_BP[:, p]` of its row has come to."""
        return replace(
            self,
            layers=tuple(layer.branch(from_BP) for layer in self.layers),
            at_BP=self.at_BP.gather(1, from_BP),
        )

    def sees_BPL(self) -> Tensor:
        """True where a chain sees a position of the history; L counts the prefix, which is seen by all."""
        positions = torch.arange(self.layers[0].keys_BHLC.shape[2], device=self.at_BP.device)
        return positions <= self.at_BP[..., None] + self.prefix


def attention(
    q_BHQC: Tensor,
    k_BHLC: Tensor,
    v_BHLC: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Softmax attention, [B, H, Q, C].

    cuDNN's kernel, which torch takes for 16-bit numbers on a GPU, makes a plan for every new shape. Histories differ in
    length from batch to batch: on an H200 a SASRec took 5.2 s an epoch with it, and .9 s in float32.

    Args:
        mask: True where a query sees a key.
        dropout: share of the weights that are dropped.
    """
    planned = q_BHQC.is_cuda and q_BHQC.dtype != torch.float32
    with sdpa_kernel(UNPLANNED) if planned else nullcontext():
        return F.scaled_dot_product_attention(
            q_BHQC, k_BHLC, v_BHLC, attn_mask=mask, dropout_p=dropout, is_causal=causal
        )


def split_heads(x_BLD: Tensor, heads: int) -> Tensor:
    B, L, D = x_BLD.shape
    return x_BLD.view(B, L, heads, D // heads).transpose(1, 2)


def join_heads(x_BHLC: Tensor) -> Tensor:
    B, H, L, C = x_BHLC.shape
    return x_BHLC.transpose(1, 2).reshape(B, L, H * C)


def key_mask(lengths_B: Tensor, n_keys: int) -> Tensor:
    """[B, 1, 1, L]: True where a key is real; for attention that looks both ways.

    An empty row looks at its first slot: not every kernel gives zeros for a softmax over nothing.
    """
    return (torch.arange(n_keys, device=lengths_B.device) < lengths_B.clamp_min(1)[:, None])[:, None, None]


def token_scores(q_BHPC: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    """Scores of each new token against the history, [B, H, P, L], and against its own chain, [B, H, P, T]."""
    past = q_BHPC @ memory.keys_BHLC.transpose(-1, -2)
    return past, torch.stack([(q_BHPC * keys_BHPC).sum(-1) for keys_BHPC in memory.token_keys], dim=-1)


def token_values(past_BHPL: Tensor, own_BHPT: Tensor, memory: Memory) -> Tensor:
    """The values that the weights pick, [B, H, P, C]."""
    mixed = past_BHPL @ memory.values_BHLC
    for weights_BHP, values_BHPC in zip(own_BHPT.unbind(-1), memory.token_values, strict=True):
        mixed = torch.addcmul(mixed, weights_BHP[..., None], values_BHPC)
    return mixed


def attend_token(q_BHPC: Tensor, memory: Memory, sees_BPL: Tensor, dropout: Dropout | None = None) -> Tensor:
    """Softmax attention of tokens that are already in `memory`; returns [B, H, P, C].

    Args:
        dropout: of the weights; None drops none.
    """
    past, own = token_scores(q_BHPC * q_BHPC.shape[-1] ** -0.5, memory)
    past = past.masked_fill(~sees_BPL[:, None], -torch.inf)
    weights = F.softmax(torch.cat([past, own], dim=-1), dim=-1)
    weights = weights if dropout is None else dropout(weights)
    return token_values(weights[..., : past.shape[-1]], weights[..., past.shape[-1] :], memory)
