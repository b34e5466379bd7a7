"""A GRU stack whose every hidden state can be taken up again, one step further."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from forethought.nn.dropout import Dropout


@dataclass(frozen=True)
class RecurrentChain:
    """Hidden states behind positions, one [B, P, D] a layer: all that a GRU remembers of a history and a chain."""

    hidden: tuple[Tensor, ...]

    def select(self, rows: Tensor) -> RecurrentChain:
        """The chains of some rows only."""
        return RecurrentChain(tuple(h[rows] for h in self.hidden))

    def branch(self, from_BP: Tensor) -> RecurrentChain:
        """Beams that moved: chain p goes on from what chain `from_BP[:, p]` of its row has come to."""
        return RecurrentChain(tuple(h.gather(1, from_BP[..., None].expand(-1, -1, h.shape[-1])) for h in self.hidden))


class GRUStack(nn.Module):
    """Layers of `nn.GRU`, kept apart because a chain needs the hidden state of each at every position."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.GRU(width, width, batch_first=True) for _ in range(layers))
        self.dropout = Dropout(dropout)

    def forward(self, x_BLD: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Outputs of the last layer, and of every layer; padding on the right is never seen."""
        hidden = []
        # cuDNN has no gradients in evaluation mode
        frozen = not self.layers[0].training and torch.is_grad_enabled()
        with torch.backends.cudnn.flags(enabled=False) if frozen else nullcontext():
            for i, layer in enumerate(self.layers):
                x_BLD, _ = layer(x_BLD if i == 0 else self.dropout(x_BLD))
                hidden.append(x_BLD)
        return x_BLD, hidden

    def reason(self, x_BPD: Tensor, chain: RecurrentChain) -> tuple[Tensor, RecurrentChain]:
        """One more input to the same cells, behind every position at once."""
        shape, hidden = x_BPD.shape, []
        x = x_BPD.reshape(-1, shape[-1])
        for i, (layer, h) in enumerate(zip(self.layers, chain.hidden, strict=True)):
            x = x if i == 0 else self.dropout(x)
            w_input, w_hidden, b_input, b_hidden = layer.parameters()
            x = torch.gru_cell(x, h.reshape(-1, shape[-1]), w_input, w_hidden, b_input, b_hidden)
            hidden.append(x.view(shape))
        return x.view(shape), RecurrentChain(tuple(hidden))
