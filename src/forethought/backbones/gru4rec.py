"""GRU4Rec: a recurrent network over a history (Hidasi et al., ICLR 2016, arXiv 1511.06939).

Deviations: items come as dense vectors shared with the output, inputs are normed (item vectors start small and states
are large: the cells learn many times faster when both come in one scale), every position of a history is supervised at
once instead of in session-parallel steps, and the loss is the method's business. A chain of thought is read by the
same cells, one more input each step, so a prefix too is simply read first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from forethought.backbones.interface import Backbone, BackboneConfig, Chain, Encoding
from forethought.nn.dropout import Dropout
from forethought.nn.gru import GRUStack, RecurrentChain
from forethought.nn.transformer import at_positions, last_positions
from forethought.settings import Layers, SearchRange, ShareBelowOne, Width


@dataclass(frozen=True, kw_only=True)
class GRU4Rec(BackboneConfig):
    """Configuration of a GRU4Rec encoder."""

    width: Width = 64
    """State width d, of inputs and hidden states alike."""
    layers: Layers = 1
    """GRU layers on top of each other."""
    dropout: Annotated[ShareBelowOne, SearchRange(0.0, 0.7)] = 0.4
    """Share of input units, and of units between layers, dropped in training, 0 to 1."""

    def build(self) -> GRU4RecEncoder:
        return GRU4RecEncoder(self)


class GRU4RecEncoder(Backbone):
    def __init__(self, config: GRU4Rec) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.width)
        self.dropout = Dropout(config.dropout)
        self.stack = GRUStack(config.width, config.layers, config.dropout)

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
        K = 0 if prefix is None else prefix.shape[1]
        x_BLD = self.dropout(self.norm(x_BLD))
        states, hidden = self.stack(x_BLD if prefix is None else torch.cat([self.norm(prefix), x_BLD], dim=1))
        chain = None if positions is None else RecurrentChain(tuple(at_positions(h, positions + K) for h in hidden))
        states = states[:, K:]
        return Encoding(at_positions(states, last_positions(lengths_B)) if last_only else states, chain)

    def reason(self, x_BPD: Tensor, chain: Chain) -> tuple[Tensor, Chain]:
        assert isinstance(chain, RecurrentChain)
        return self.stack.reason(self.dropout(self.norm(x_BPD)), chain)
