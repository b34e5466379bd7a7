"""Slow and fast parts of a sequence, told apart by a filter that looks back alone, and a block that attends to both.

The discrete Fourier transform of a window keeps its first bins and drops the others: a low-pass. As an FIR filter its
taps are those bins' inverse transform, and what it gives at the window's last place is

    low_t = sum_{d < W} k(d) x_{t-d},    k(d) = (1 + 2 sum_{0 < f < F} cos(2 pi f d / W)) / W

which needs nothing behind t. So every position is filtered as the last of a window that ends with it; what stands
before a sequence begins counts as zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from forethought.nn.attention import Memory, attend_token, join_heads, token_values
from forethought.nn.transformer import Block, at_positions


class LowPass(nn.Module):
    """The first bins of the real Fourier transform of a window, at its last place."""

    taps_W: Tensor

    def __init__(self, window: int, kept: int) -> None:
        """
        Args:
            kept: bins, the constant one among them; all there are at most.
        """
        super().__init__()
        bins = torch.zeros(window // 2 + 1, dtype=torch.float64)  # narrowed when it is used: models come in any type
        bins[:kept] = 1
        self.register_buffer("taps_W", torch.fft.irfft(bins, n=window), persistent=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Of every position, [B, L, D]."""
        places = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        return self._taps(places[:, None] - places, x_BLD) @ x_BLD

    def at(self, x_BLD: Tensor, at_BP: Tensor) -> Tensor:
        """Of some positions, [B, P, D]."""
        places = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        return self._taps(at_BP[..., None] - places, x_BLD) @ x_BLD

    def of_token(self, inputs: Memory, sees_BPL: Tensor) -> Tensor:
        """Of the newest token of each chain, which stands behind what it sees and the tokens before it, [B, P, D]."""
        (*_, P, length), tokens = sees_BPL.shape, len(inputs.token_keys)
        place_BP = sees_BPL.sum(-1) - 1 + tokens
        ages_BPL = place_BP[..., None] - torch.arange(length, device=sees_BPL.device)
        past_BPL = self._taps(ages_BPL, inputs.keys_BHLC) * sees_BPL
        own_T = self._taps(torch.arange(tokens - 1, -1, -1, device=sees_BPL.device), inputs.keys_BHLC)
        return token_values(past_BPL[:, None], own_T.expand(sees_BPL.shape[0], 1, P, tokens), inputs)[:, 0]

    def _taps(self, ages: Tensor, like: Tensor) -> Tensor:
        """The weight of what lies so many places back: none of what is to come, or was before the window."""
        window = len(self.taps_W)
        return self.taps_W.to(like.dtype)[ages.clamp(0, window - 1)] * ((ages >= 0) & (ages < window))


@dataclass(frozen=True)
class FilteredMemory(Memory):
    """What a filtered block keeps: the attention's memory, and the filter's inputs as keys and values of one head."""

    inputs: Memory | None = None

    def select(self, rows: Tensor) -> FilteredMemory:
        assert self.inputs is not None
        past = super().select(rows)
        tokens = past.token_keys, past.token_values
        return FilteredMemory(past.keys_BHLC, past.values_BHLC, *tokens, inputs=self.inputs.select(rows))


class FilteredBlock(Block):
    """A Transformer block whose first branch is a share of rescaled frequencies and for the rest self-attention.

    branch = share (low + beta (x - low)) + (1 - share) attention, with beta = sqrt_beta^2 for each channel.
    """

    def __init__(self, *, width: int, window: int, kept: int, share: float, **block: Any) -> None:
        """
        Args:
            share: of the frequencies.
        """
        super().__init__(width=width, **block)
        self.share, self.low_pass = share, LowPass(window, kept)
        self.sqrt_beta_D = nn.Parameter(torch.randn(width))

    def reason(self, x_BPD: Tensor, memory: Memory, sees_BPL: Tensor) -> tuple[Tensor, Memory]:
        assert isinstance(memory, FilteredMemory)
        assert memory.inputs is not None
        normed = self._normed(x_BPD)
        q, k, v = self._split(normed)
        inputs = memory.inputs.with_token(normed[:, None], normed[:, None])
        memory = replace(memory.with_token(k, v), inputs=inputs)
        low = self.low_pass.of_token(inputs, sees_BPL)
        mixed = self.out(join_heads(attend_token(q, memory, sees_BPL, self.attention_dropout)))
        return self._finish(x_BPD, self._shared(normed, low, mixed)), memory

    def _branch(self, mixed: Tensor, normed_BLD: Tensor, at_BP: Tensor | None = None) -> Tensor:
        if at_BP is None:
            return self._shared(normed_BLD, self.low_pass(normed_BLD), self.out(mixed))
        low = self.low_pass.at(normed_BLD, at_BP)
        return self._shared(at_positions(normed_BLD, at_BP), low, self.out(mixed))

    def _shared(self, x: Tensor, low: Tensor, attended: Tensor) -> Tensor:
        return self.share * (low + self.sqrt_beta_D.square() * (x - low)) + (1 - self.share) * attended

    def _memory(self, k: Tensor, v: Tensor, normed_BLD: Tensor) -> Memory:
        return FilteredMemory(k, v, inputs=Memory(normed_BLD[:, None], normed_BLD[:, None]))
