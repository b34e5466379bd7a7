"""Some of the outputs of a linear layer, for whoever needs queries of one position and keys of all."""

from __future__ import annotations

from typing import Protocol, cast

from torch import Tensor, nn
from torch.nn import functional as F


class PartialLinear(Protocol):
    """A linear layer that multiplies in its own way, and so in parts too."""

    def outputs(self, x: Tensor, rows: slice) -> Tensor: ...


def linear_outputs(layer: nn.Linear, x: Tensor, rows: slice) -> Tensor:
    """What `layer(x)` has in these places of the last axis, the others spared."""
    if hasattr(layer, "outputs"):
        return cast("PartialLinear", layer).outputs(x, rows)
    return F.linear(x, layer.weight[rows], layer.bias if layer.bias is None else layer.bias[rows])
