"""What SASRec and BERT4Rec share: item vectors and positions through a Transformer that looks back, or both ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Self

import torch
from torch import Tensor, nn

from forethought.backbones.interface import Backbone, BackboneConfig, Chain, Encoding
from forethought.errors import ConfigError
from forethought.nn.attention import AttentionChain
from forethought.nn.dropout import Dropout
from forethought.nn.positions import CountFrom, Positions
from forethought.nn.transformer import NORM_EPSILON, Activation, Block, Transformer, initialise, last_positions
from forethought.settings import Heads, Layers, Scale, SearchChoices, SearchRange, ShareBelowOne, Width


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(BackboneConfig):
    """Configuration of a Transformer encoder; the backbones set their own defaults."""

    width: Width = 64
    """State width d, a multiple of `heads`."""
    layers: Annotated[Layers, SearchChoices((1, 2, 3))] = 2
    """Blocks."""
    heads: Heads = 2
    """Attention heads h."""
    ffn_width: Width = 256
    """Width inside the feed-forward nets."""
    dropout: Annotated[ShareBelowOne, SearchRange(0.0, 0.7)] = 0.2
    """Share of embedding and branch units dropped in training, 0 to 1."""
    input_dropout: ShareBelowOne | None = None
    """Share of input units dropped, thoughts included; None: as many as of the branches."""
    ffn_dropout: ShareBelowOne | None = None
    """Share of hidden units dropped inside the feed-forward nets; None: as many as of the branches."""
    attention_dropout: ShareBelowOne = 0.0
    """Share of attention weights dropped."""
    activation: Activation = "gelu"
    """Of the feed-forward nets."""
    norm_first: bool = True
    """Norm before each branch (pre-norm) or after each sum (post-norm)."""
    input_norm: bool = False
    """Norm every input, thoughts included, with one shared norm (ReaRec): states are many times larger than items."""
    norm_epsilon: Scale = NORM_EPSILON
    """What every norm adds to the variance (BERT and many after it: 1e-12)."""
    count_from: CountFrom = "end"
    """Positions tell how recent an item is (end), or how many came before it (start); see `nn/positions.py`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            name = type(self).__name__
            raise ConfigError(f"{name}'s width is {self.width}, but must be a multiple of its {self.heads} heads.")

    def for_reasoning(self) -> Self:
        return replace(self, input_norm=True)

    def block(self) -> Callable[..., Block]:
        """What makes one of its blocks."""
        return Block

    def build(self) -> TransformerEncoder:
        return TransformerEncoder(self)


class TransformerEncoder(Backbone):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.positions = Positions(config.window, config.width, config.count_from)
        self.input_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon) if config.input_norm else nn.Identity()
        self.dropout = Dropout(config.dropout if config.input_dropout is None else config.input_dropout)
        self.transformer = Transformer(
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            ffn_width=config.ffn_width,
            dropout=config.dropout,
            activation=config.activation,
            norm_first=config.norm_first,
            causal=config.causal,
            attention_dropout=config.attention_dropout,
            ffn_dropout=config.ffn_dropout,
            norm_epsilon=config.norm_epsilon,
            block=config.block(),
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
        """As `Backbone.encode`; where it looks both ways, `positions` says how many chains a row has, all of them
        behind its last position."""
        x_BLD = self.dropout(self.input_norm(x_BLD + self.positions(lengths_B, x_BLD.shape[1])))
        K = 0 if prefix is None else prefix.shape[1]
        x_BLD = x_BLD if prefix is None else torch.cat([prefix, x_BLD], dim=1)
        if positions is not None and not self.causal:
            positions = last_positions(lengths_B).expand_as(positions)
        states, chain = self.transformer(x_BLD, lengths_B + K, positions, K, last_only=last_only)
        return Encoding(states if last_only else states[:, K:], chain)

    def reason(self, x_BPD: Tensor, chain: Chain) -> tuple[Tensor, Chain]:
        assert isinstance(chain, AttentionChain)
        return self.transformer.reason(self.dropout(self.input_norm(x_BPD)), chain)
