"""Number formats of a matrix product's operands: bfloat16, float8 in its two kinds, and int8.

    float8   value = round(clamp(x / scale)) . scale,  scale = amax / most         one scale a tensor
    int8     value = round(x / scale) . scale,         scale = amax / 127          one scale a row

What lies beyond the range is clamped before the cast: casts saturate in e4m3 and come to infinity in e5m2. Rounding is
to the nearest, ties to even. A tensor that holds infinity or NaN comes to NaN, so that it is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Format = Literal["fp32", "bf16", "fp8", "int8"]
"""fp8: operands e4m3, gradients of outputs e5m2; int8: inference alone."""
TRAINED: tuple[Format, ...] = ("fp32", "bf16", "fp8")
BITS: dict[Format, int] = {"fp32": 32, "bf16": 16, "fp8": 8, "int8": 8}
INT8_MOST = 127.0  # symmetric: -128 is left out


@dataclass(frozen=True)
class Float8:
    """A kind of 8-bit floating point.

    Attributes:
        most: its largest finite value.
    """

    dtype: torch.dtype
    most: float


E4M3 = Float8(torch.float8_e4m3fn, 448.0)
E5M2 = Float8(torch.float8_e5m2, 57344.0)


class Scaled(NamedTuple):
    """Numbers of 8 bits, and the float32 scale that they are multiplied by."""

    values: Tensor
    scale: Tensor

    def dequantised(self) -> Tensor:
        return self.values.float() * self.scale

    def transposed(self) -> Scaled:
        """For a scale of the whole tensor."""
        return Scaled(self.values.t(), self.scale)


def to_float8(x: Tensor, kind: Float8) -> Scaled:
    """The nearest numbers of a kind of float8, under one scale for the whole tensor."""
    scale = _scale(x.abs().amax().float(), kind.most)
    return Scaled((x.float() / scale).clamp(-kind.most, kind.most).to(kind.dtype), scale)


def to_int8(x: Tensor, *, shift: int = 0) -> Scaled:
    """The nearest whole numbers of 8 bits, under a scale for each row, [..., 1].

    Args:
        shift: is added to them, which makes them unsigned.
    """
    scale = _scale(x.abs().amax(-1, keepdim=True).float(), INT8_MOST)
    values = (x * (1 / scale)).round_()
    return Scaled(values.add_(shift).to(torch.uint8) if shift else values.to(torch.int8), scale)


def rounded(x: Tensor, format: Format, *, gradient: bool = False) -> Tensor:
    """The float32 tensor nearest to `x` that a format can hold.

    Args:
        gradient: it is the gradient of a product's outcome, for which fp8 means e5m2.
    """
    if format == "fp32":
        return x
    if format == "bf16":
        return x.bfloat16().float()
    if format == "int8":
        return to_int8(x).dequantised()
    return to_float8(x, E5M2 if gradient else E4M3).dequantised()


def _scale(amax: Tensor, most: float) -> Tensor:
    """Of zeros 1: they stay zeros."""
    scale = amax / most
    return torch.where(scale > 0, scale, torch.where(scale == 0, 1.0, torch.nan))
