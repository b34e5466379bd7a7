"""SASRec: causal self-attention over a history (Kang & McAuley, ICDM 2018, arXiv 1808.09781).

Deviations, each an option or harmless: blocks are truly pre-norm by default (the paper's code norms the query
alone; `norm_first=False` gives post-norm), attention weights are not dropped (embeddings and residual branches
are), and the loss is the method's business: with full cross-entropy. Positions count from a row's end, as they do
in the paper's code, which pads on the left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from forethought.backbones.interface import Backbone, Chain, Encoding
from forethought.errors import ConfigError
from forethought.nn.attention import AttentionChain
from forethought.nn.dropout import Dropout
from forethought.nn.positions import CountFrom, Positions
from forethought.nn.transformer import Activation, Transformer, initialise
from forethought.settings import Heads, Layers, Settings, ShareBelowOne, Width, Window


@dataclass(frozen=True, kw_only=True)
class SASRec(Settings):
    """Configuration of a SASRec encoder."""

    width: Width = 64
    """State width d, a multiple of `heads`."""
    layers: Layers = 1
    """Blocks b (the paper: 2; on sparse shops one is better and cheaper, docs/results/tuning.md)."""
    heads: Heads = 2
    """Attention heads h."""
    window: Window = 50
    """Longest history n that is read; older items are cut."""
    ffn_width: Width = 256
    """Width inside the feed-forward nets (the paper: d)."""
    dropout: ShareBelowOne = 0.35
    """Share of embedding and branch units dropped in training, 0 to 1."""
    activation: Activation = "gelu"
    """Of the feed-forward nets (the paper: relu)."""
    norm_first: bool = True
    """Norm before each branch (pre-norm) or after each sum (post-norm)."""
    input_norm: bool = False
    """Norm every input, thoughts included, with one shared norm (ReaRec): states are many times larger than items."""
    count_from: CountFrom = "end"
    """Positions tell how recent an item is (end), or how many came before it (start); see `nn/positions.py`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"SASRec's width is {self.width}, but must be a multiple of its {self.heads} heads.")

    def build(self) -> SASRecEncoder:
        return SASRecEncoder(self)


class SASRecEncoder(Backbone):
    causal = True

    def __init__(self, config: SASRec) -> None:
        super().__init__()
        self.width, self.window = config.width, config.window
        self.positions = Positions(config.window, config.width, config.count_from)
        self.input_norm = nn.LayerNorm(config.width) if config.input_norm else nn.Identity()
        self.dropout = Dropout(config.dropout)
        self.transformer = Transformer(
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            ffn_width=config.ffn_width,
            dropout=config.dropout,
            activation=config.activation,
            norm_first=config.norm_first,
            causal=True,
        )
        initialise(self)

    def encode(
        self,
        x_BLD: Tensor,
        lengths_B: Tensor,
        *,
        positions: Tensor | None = None,
        times: Tensor | None = None,
        prefix: Tensor | None = None,
        last_only: bool = False,
    ) -> Encoding:
        x_BLD = self.dropout(self.input_norm(x_BLD + self.positions(lengths_B, x_BLD.shape[1])))
        K = 0 if prefix is None else prefix.shape[1]
        x_BLD = x_BLD if prefix is None else torch.cat([prefix, x_BLD], dim=1)
        states, chain = self.transformer(x_BLD, lengths_B + K, positions, K, last_only=last_only)
        return Encoding(states if last_only else states[:, K:], chain)

    def think(self, x_BPD: Tensor, chain: Chain) -> tuple[Tensor, Chain]:
        assert isinstance(chain, AttentionChain)
        return self.transformer.think(self.dropout(self.input_norm(x_BPD)), chain)
