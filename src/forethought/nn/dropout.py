"""Dropout whose masks cost less than the layer they stand behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256  # a byte of randomness decides on each unit
ANY_64_BITS = -(2**63)  # with no upper end: `random_` then fills whole words


class Dropout(nn.Module):
    """As `nn.Dropout`, with masks cut out of random 64-bit words on a CPU: eight units a draw.

    PyTorch's CPU generator works on one core and draws a number a unit, which takes a sixth of a whole SASRec epoch.
    The share dropped is rounded to 1/256, but never to nothing or all, and what is kept is scaled by the share that
    is really kept, so the expectation is exact.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    @property
    def share_now(self) -> float:
        """What is dropped at the moment: nothing outside of training. For kernels that draw their own masks."""
        return self.share if self.training else 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.share == 0.0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.share)
        dropped = min(max(round(self.share * LEVELS), 1), LEVELS - 1)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(ANY_64_BITS, None)
        draws = words.view(torch.uint8)[: x.numel()].view(x.shape)
        return x * (draws >= dropped).to(x.dtype).mul_(LEVELS / (LEVELS - dropped))

    def extra_repr(self) -> str:
        return f"{self.share}"


@contextmanager
def no_dropout(module: nn.Module) -> Iterator[None]:
    """Inside, nothing of the module drops units."""
    parts = [part for part in module.modules() if isinstance(part, Dropout) and part.training]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part in parts:
            part.training = True
