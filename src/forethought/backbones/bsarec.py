"""BSARec: self-attention beside a frequency filter (Shin et al., AAAI 2024, arXiv 2312.10325).

    branch = alpha (low + beta (x - low)) + (1 - alpha) self-attention(x)

**The filter is causal here, and theirs is not.** Theirs is a Fourier transform of the whole padded window, so that a
state inside it has seen what comes later. They train a row for each prefix and read its last state alone, where that
does no harm. Here all positions of a history are trained at once, and such a filter would show each of them its target.
So every position is filtered as the last one of a window of its own (`nn/frequency.py`): for the last state of a layer
that is their filter, number by number, with zeros before the history begins. The states that a second layer reads are
then those of prefixes, as a causal attention's are. Two products of (L x L x D) a layer in place of an FFT.

Other deviations: blocks are pre-norm by default, so the two parts are mixed before one norm instead of each behind its
own; no attention weight is dropped by default; positions and loss are SASRec's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from forethought.backbones.transformer import TransformerConfig
from forethought.errors import ConfigError
from forethought.nn.frequency import FilteredBlock
from forethought.nn.transformer import Activation, Block
from forethought.settings import Between, Layers, SearchRange, Share, ShareBelowOne, Width


@dataclass(frozen=True, kw_only=True)
class BSARec(TransformerConfig):
    """Configuration of a BSARec encoder."""

    layers: Layers = 1
    """Blocks (the paper: 2)."""
    ffn_width: Width = 256
    """Width inside the feed-forward nets."""
    dropout: Annotated[ShareBelowOne, SearchRange(0.0, 0.7)] = 0.35
    """Share of embedding and branch units dropped in training, 0 to 1 (the paper: 0.5)."""
    activation: Activation = "gelu"
    """Of the feed-forward nets."""
    alpha: Annotated[Share, SearchRange(0.1, 0.9)] = 0.3
    """Share of the filter against self-attention (the paper: 0.7 on Beauty)."""
    frequencies: Annotated[int, Between(1, 50_001)] = 3
    """Lowest frequencies of the window that are kept as they are, the constant one among them; others are scaled by
    beta (the paper's c = 5 keeps three)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frequencies > (most := self.window // 2 + 1):
            raise ConfigError(
                f"BSARec's frequencies is {self.frequencies}, but a window of {self.window} has {most}: give as many "
                "at most."
            )

    def block(self) -> Callable[..., Block]:
        return partial(FilteredBlock, window=self.window, kept=self.frequencies, share=self.alpha)
