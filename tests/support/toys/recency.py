"""A toy backbone: each state is a decaying sum of the items so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from forethought.backbones.interface import Backbone, BackboneConfig, Chain, Encoding
from forethought.nn.gru import RecurrentChain
from forethought.nn.transformer import at_positions, last_positions
from forethought.settings import ShareBelowOne


@dataclass(frozen=True, kw_only=True)
class Recency(BackboneConfig):
    """Configuration of the toy."""

    decay: ShareBelowOne = 0.5
    """What is left of an item one position later."""

    def build(self) -> RecencyEncoder:
        return RecencyEncoder(self)


class RecencyEncoder(Backbone):
    def __init__(self, config: Recency) -> None:
        super().__init__(config)
        self.decay = config.decay
        self.mix = nn.Linear(config.width, config.width)

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
        x_BLD = x_BLD if prefix is None else torch.cat([prefix, x_BLD], dim=1)
        sums_BLD = torch.stack(list(self._sums(x_BLD)), dim=1)
        chain = None if positions is None else RecurrentChain((at_positions(sums_BLD, positions + K),))
        states_BLD = self.mix(sums_BLD)[:, K:]
        return Encoding(at_positions(states_BLD, last_positions(lengths_B)) if last_only else states_BLD, chain)

    def reason(self, x_BPD: Tensor, chain: Chain) -> tuple[Tensor, Chain]:
        assert isinstance(chain, RecurrentChain)
        sums_BPD = self.decay * chain.hidden[0] + x_BPD
        return self.mix(sums_BPD), RecurrentChain((sums_BPD,))

    def _sums(self, x_BLD: Tensor):
        sum_BD = torch.zeros_like(x_BLD[:, 0])
        for x_BD in x_BLD.unbind(1):
            sum_BD = self.decay * sum_BD + x_BD
            yield sum_BD
