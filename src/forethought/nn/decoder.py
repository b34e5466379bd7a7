"""A Transformer decoder: short sequences of tokens behind an encoded history, which they look back at (Vaswani et al.,
2017, arXiv 1706.03762, section 3.1).

A token sees those before it in its own sequence, by self-attention, and the encoded history, by cross-attention. As
with reasoning tokens (`nn/attention.py`), sequences hang behind positions: one behind each in training, as far as the
encoder is causal, and one a beam at inference. What is known of a history is projected once and shared by all of its
sequences.

Shapes: B rows, L history, P sequences a row, H heads, C channels a head, D = H * C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.nn.attention import Memory, attention, join_heads, split_heads
from forethought.nn.dropout import Dropout


@dataclass(frozen=True)
class DecoderChain:
    """Sequences behind an encoded history: a value, so that branches and selections share the past.

    Attributes:
        layers: keys and values of the history, for cross-attention, and of the tokens so far, one memory a layer.
        sees_BPL: True where a sequence sees a position of the history.
    """

    layers: tuple[Memory, ...]
    sees_BPL: Tensor

    def select(self, rows: Tensor) -> DecoderChain:
        """The sequences of some rows only."""
        return DecoderChain(tuple(layer.select(rows) for layer in self.layers), self.sees_BPL[rows])

    def branch(self, from_BP: Tensor) -> DecoderChain:
        """Beams that moved: sequence p goes on from what sequence `from_BP[:, p]` of its row has come to."""
        sees_BPL = self.sees_BPL.gather(1, from_BP[..., None].expand(-1, -1, self.sees_BPL.shape[-1]))
        return DecoderChain(tuple(layer.branch(from_BP) for layer in self.layers), sees_BPL)


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention and a feed-forward net, each behind a norm and with a residual."""

    def __init__(self, *, width: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.self_norm, self.cross_norm, self.ffn_norm = (nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.self_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.keys_values = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.cross_out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, ffn_width), nn.Linear(ffn_width, width)
        self.dropout = Dropout(dropout)

    def begin(self, states_BLD: Tensor) -> Memory:
        """What tokens look back at: keys and values of the encoded history."""
        k, v = self.keys_values(states_BLD).chunk(2, dim=-1)
        return Memory(split_heads(k, self.heads), split_heads(v, self.heads))

    def forward(self, x_BPD: Tensor, memory: Memory, sees_BPL: Tensor) -> tuple[Tensor, Memory]:
        """One more token on each sequence."""
        q, k, v = (split_heads(each, self.heads) for each in self.qkv(self.self_norm(x_BPD)).chunk(3, dim=-1))
        memory = memory.with_token(k, v)
        x_BPD = x_BPD + self.dropout(self.self_out(join_heads(_own(q, memory))))
        q = split_heads(self.query(self.cross_norm(x_BPD)), self.heads)
        read = attention(q, memory.keys_BHLC, memory.values_BHLC, sees_BPL[:, None])
        x_BPD = x_BPD + self.dropout(self.cross_out(join_heads(read)))
        hidden = F.gelu(self.up(self.ffn_norm(x_BPD)))
        return x_BPD + self.dropout(self.down(self.dropout(hidden))), memory


def _own(q_BHPC: Tensor, memory: Memory) -> Tensor:
    """Self-attention of the last tokens, which are already in `memory`, [B, H, P, C]."""
    q_BHPC = q_BHPC * q_BHPC.shape[-1] ** -0.5
    scores_BHPT = torch.stack([(q_BHPC * k).sum(-1) for k in memory.token_keys], dim=-1)
    weights = F.softmax(scores_BHPT, dim=-1).unbind(-1)
    read = weights[0][..., None] * memory.token_values[0]
    for weights_BHP, values_BHPC in zip(weights[1:], memory.token_values[1:], strict=True):
        read = torch.addcmul(read, weights_BHP[..., None], values_BHPC)
    return read


class Decoder(nn.Module):
    """A stack of blocks, closed by a norm. Knows nothing of what tokens stand for: the caller has embedded them."""

    def __init__(self, *, width: int, layers: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        one = {"width": width, "heads": heads, "ffn_width": ffn_width, "dropout": dropout}
        self.blocks = cast("Sequence[DecoderBlock]", nn.ModuleList(DecoderBlock(**one) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def begin(self, states_BLD: Tensor, sees_BPL: Tensor) -> DecoderChain:
        """Sequences without a token yet.

        Args:
            states_BLD: of the encoded history.
            sees_BPL: True where a sequence sees one; each sees one at least.
        """
        return DecoderChain(tuple(block.begin(states_BLD) for block in self.blocks), sees_BPL)

    def forward(self, x_BPD: Tensor, chain: DecoderChain) -> tuple[Tensor, DecoderChain]:
        """States of one more token on each sequence, [B, P, D]."""
        x_BPD, memories = self.dropout(x_BPD), []
        for block, memory in zip(self.blocks, chain.layers, strict=True):
            x_BPD, memory = block(x_BPD, memory, chain.sees_BPL)  # noqa: PLW2901
            memories.append(memory)
        return self.norm(x_BPD), replace(chain, layers=tuple(memories))
