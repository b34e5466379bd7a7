"""A Transformer stack that reads a history once and can go on thinking behind any of its positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.nn.attention import (
    AttentionChain,
    Memory,
    attend_token,
    attention,
    join_heads,
    key_mask,
    split_heads,
)
from forethought.nn.dropout import Dropout
from forethought.nn.linear import linear_outputs

Activation = Literal["relu", "gelu"]

NORM_EPSILON = 1e-5  # torch's own


class Block(nn.Module):
    """Self-attention and a feed-forward net, each with a residual; normed before (pre) or after (post)."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        ffn_width: int,
        dropout: float,
        activation: Activation,
        norm_first: bool,
        attention_dropout: float = 0.0,
        ffn_dropout: float | None = None,
        norm_epsilon: float = NORM_EPSILON,
    ) -> None:
        """
        Args:
            dropout: of what either branch adds.
            attention_dropout: of the attention's weights.
            ffn_dropout: of the hidden units of the feed-forward net; None: as `dropout`.
        """
        super().__init__()
        self.heads, self.norm_first = heads, norm_first
        self.attention_norm, self.ffn_norm = (nn.LayerNorm(width, eps=norm_epsilon) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, ffn_width), nn.Linear(ffn_width, width)
        self.activation = F.relu if activation == "relu" else F.gelu
        self.dropout, self.attention_dropout = Dropout(dropout), Dropout(attention_dropout)
        self.ffn_dropout = Dropout(dropout if ffn_dropout is None else ffn_dropout)

    def forward(self, x_BLD: Tensor, mask: Tensor | None, causal: bool) -> tuple[Tensor, Memory]:
        """States, and what tokens will look back at."""
        normed = self._normed(x_BLD)
        q, k, v = self._split(normed)
        mixed = attention(q, k, v, mask, causal, self.attention_dropout.share_now)
        return self._finish(x_BLD, self._branch(join_heads(mixed), normed)), self._memory(k, v, normed)

    def at(self, x_BLD: Tensor, at_BP: Tensor, sees_BHPL: Tensor) -> tuple[Tensor, Memory]:
        """As `forward`, for the given positions alone: everything but the memory is spared for the others."""
        D = x_BLD.shape[-1]
        normed = self._normed(x_BLD)
        k, v = linear_outputs(self.qkv, normed, slice(D, None)).chunk(2, dim=-1)
        q = linear_outputs(self.qkv, at_positions(normed, at_BP), slice(D))
        q, k, v = (split_heads(each, self.heads) for each in (q, k, v))
        mixed = attention(q, k, v, sees_BHPL, dropout=self.attention_dropout.share_now)
        branch = self._branch(join_heads(mixed), normed, at_BP)
        return self._finish(at_positions(x_BLD, at_BP), branch), self._memory(k, v, normed)

    def reason(self, x_BPD: Tensor, memory: Memory, sees_BPL: Tensor) -> tuple[Tensor, Memory]:
        q, k, v = self._split(self._normed(x_BPD))
        memory = memory.with_token(k, v)
        mixed = attend_token(q, memory, sees_BPL, self.attention_dropout)
        return self._finish(x_BPD, self.out(join_heads(mixed))), memory

    def _normed(self, x: Tensor) -> Tensor:
        """What the first branch reads."""
        return self.attention_norm(x) if self.norm_first else x

    def _split(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, by heads."""
        q, k, v = self.qkv(normed).chunk(3, dim=-1)
        return split_heads(q, self.heads), split_heads(k, self.heads), split_heads(v, self.heads)

    def _branch(self, mixed: Tensor, normed_BLD: Tensor, at_BP: Tensor | None = None) -> Tensor:
        """What attention adds to the states, all of them or those at some positions."""
        return self.out(mixed)

    def _memory(self, k: Tensor, v: Tensor, normed_BLD: Tensor) -> Memory:
        return Memory(k, v)

    def _finish(self, x: Tensor, branch: Tensor) -> Tensor:
        """The residual of the first branch, and the second."""
        x = x + self.dropout(branch)
        if not self.norm_first:
            x = self.attention_norm(x)
        hidden = self.activation(self.up(self.ffn_norm(x) if self.norm_first else x))
        x = x + self.dropout(self.down(self.ffn_dropout(hidden)))
        return x if self.norm_first else self.ffn_norm(x)


class Transformer(nn.Module):
    """A stack of blocks; with `norm_first` a last norm closes it, unless it is to be left open.

    Knows nothing of items or positions: whoever calls it has added them.
    """

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        ffn_width: int,
        dropout: float,
        activation: Activation,
        norm_first: bool,
        causal: bool,
        attention_dropout: float = 0.0,
        ffn_dropout: float | None = None,
        norm_epsilon: float = NORM_EPSILON,
        closing_norm: bool = True,
        block: Callable[..., Block] = Block,
    ) -> None:
        super().__init__()
        self.causal = causal
        block = partial(
            block,
            width=width,
            heads=heads,
            ffn_width=ffn_width,
            dropout=dropout,
            activation=activation,
            norm_first=norm_first,
            attention_dropout=attention_dropout,
            ffn_dropout=ffn_dropout,
            norm_epsilon=norm_epsilon,
        )
        self.blocks = cast("Sequence[Block]", nn.ModuleList(block() for _ in range(layers)))
        closed = norm_first and closing_norm
        self.norm = nn.LayerNorm(width, eps=norm_epsilon) if closed else nn.Identity()

    def forward(
        self,
        x_BLD: Tensor,
        lengths_B: Tensor,
        at_BP: Tensor | None = None,
        prefix: int = 0,
        *,
        last_only: bool = False,
    ) -> tuple[Tensor, AttentionChain | None]:
        """Encode, and where `at_BP` names positions, keep what chains behind them need.

        The first `prefix` of the L vectors count in `lengths_B` and not in `at_BP`.
        With `last_only` the states are [B, 1, D], those behind each row's last position.
        """
        # causal attention never looks at padding, which stands on the right: no mask is built
        mask = None if self.causal else key_mask(lengths_B, x_BLD.shape[1])
        memories = []
        for block in self.blocks:
            if last_only and block is self.blocks[-1]:
                last_B1 = last_positions(lengths_B - prefix) + prefix
                sees = mask if mask is not None else key_mask(last_B1[:, 0] + 1, x_BLD.shape[1])
                x_BLD, memory = block.at(x_BLD, last_B1, sees)
            else:
                x_BLD, memory = block(x_BLD, mask, self.causal)
            if at_BP is not None:
                memories.append(memory)
        chain = None if at_BP is None else AttentionChain(tuple(memories), at_BP, prefix)
        return self.norm(x_BLD), chain

    def reason(self, x_BPD: Tensor, chain: AttentionChain) -> tuple[Tensor, AttentionChain]:
        """One more reasoning token behind each position of the chain, whatever it says it sees."""
        sees_BPL, memories = chain.sees_BPL(), []
        for block, memory in zip(self.blocks, chain.layers, strict=True):
            x_BPD, memory = block.reason(x_BPD, memory, sees_BPL)  # noqa: PLW2901
            memories.append(memory)
        return self.norm(x_BPD), replace(chain, layers=tuple(memories))


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Normal weights of the given spread, zero biases, unit norms: the usual start of recommender Transformers."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=std)


def last_positions(lengths_B: Tensor) -> Tensor:
    """[B, 1]: the last real position of each row."""
    return (lengths_B - 1).clamp_min(0)[:, None]


def at_positions(states_BLD: Tensor, at_BP: Tensor) -> Tensor:
    """The states at the given positions, [B, P, D]."""
    return torch.gather(states_BLD, 1, at_BP[..., None].expand(-1, -1, states_BLD.shape[-1]))
