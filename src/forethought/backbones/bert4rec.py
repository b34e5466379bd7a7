"""BERT4Rec: self-attention that looks both ways (Sun et al., CIKM 2019, arXiv 1904.06690).

The items of a row see each other, so a state depends on what comes later: a row is one prefix, and chains of thought
hang behind its last position only. Their links see the whole row and are causal among themselves.

Deviations, each an option or harmless: attention weights are not dropped (embeddings and residual branches are);
the [MASK] slot, the output layer and the loss belong to `methods/masked_item.py`.
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
from forethought.nn.transformer import Activation, Transformer, initialise, last_positions
from forethought.settings import Heads, Layers, Settings, ShareBelowOne, Width, Window


@dataclass(frozen=True, kw_only=True)
class BERT4Rec(Settings):
    """Configuration of a BERT4Rec encoder."""

    width: Width = 64
    """State width d, a multiple of `heads`."""
    layers: Layers = 2
    """Blocks L."""
    heads: Heads = 2
    """Attention heads h."""
    window: Window = 50
    """Longest row N that is read, the [MASK] slot included; older items are cut."""
    ffn_width: Width = 256
    """Width inside the feed-forward nets, 4d in the paper."""
    dropout: ShareBelowOne = 0.2
    """Share of embedding and branch units dropped in training, 0 to 1."""
    activation: Activation = "gelu"
    """Of the feed-forward nets."""
    norm_first: bool = True
    """Norm after each sum (post-norm, the paper) or before each branch (pre-norm)."""
    input_norm: bool = False
    """Norm every input, thoughts included, with one shared norm (ReaRec): states are many times larger than items."""
    count_from: CountFrom = "end"
    """Positions tell how recent an item is (end), or how many came before it (start); see `nn/positions.py`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"BERT4Rec's width is {self.width}, but must be a multiple of its {self.heads} heads.")

    def build(self) -> BERT4RecEncoder:
        return BERT4RecEncoder(self)


class BERT4RecEncoder(Backbone):
    causal = False

    def __init__(self, config: BERT4Rec) -> None:
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
            causal=False,
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
        """As `Backbone.encode`; `positions` says how many chains a row has, all of them behind its last position."""
        x_BLD = self.dropout(self.input_norm(x_BLD + self.positions(lengths_B, x_BLD.shape[1])))
        K = 0 if prefix is None else prefix.shape[1]
        x_BLD = x_BLD if prefix is None else torch.cat([prefix, x_BLD], dim=1)
        at_BP = None if positions is None else last_positions(lengths_B).expand_as(positions)
        states, chain = self.transformer(x_BLD, lengths_B + K, at_BP, K, last_only=last_only)
        return Encoding(states if last_only else states[:, K:], chain)

    def think(self, x_BPD: Tensor, chain: Chain) -> tuple[Tensor, Chain]:
        assert isinstance(chain, AttentionChain)
        return self.transformer.think(self.dropout(self.input_norm(x_BPD)), chain)
