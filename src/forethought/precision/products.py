"""The matrix products of a linear layer in narrow formats, forward and backward, real or emulated.

    y = x W^T        gx = g W        gW = g^T x        sums in float32, weights and their gradients float32

Emulated means: operands are rounded, and multiplied in float32. That is what the real products come to but for the
order of sums; on a CPU `torch._scaled_mm` comes to the very bits. Rounding counts as the identity for gradients
(straight through).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.precision.formats import E4M3, E5M2, Scaled, rounded, to_float8, to_int8

EIGHT_BIT_MULTIPLE = 16  # sizes of a product that `torch._scaled_mm` takes on CUDA
UNSIGNED = 128  # what makes int8 uint8, which processors multiply with int8
CPU_ROWS = 16  # each shape of a bfloat16 product is compiled when it is first met: padded they are few


class Bf16Product(torch.autograd.Function):
    """x W^T with operands and outcome in bfloat16."""

    @staticmethod
    def forward(ctx: Any, x_PK: Tensor, weight_NK: Tensor, emulated: bool) -> Tensor:
        multiple = CPU_ROWS if x_PK.device.type == "cpu" else 1
        x, weight = padded(x_PK, multiple).bfloat16(), weight_NK.bfloat16()
        ctx.save_for_backward(x, weight)
        ctx.emulated, ctx.rows, ctx.multiple, ctx.dtype = emulated, len(x_PK), multiple, x_PK.dtype
        return _bf16(x, weight.t(), emulated)[: ctx.rows]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        g = padded(gradients[0], ctx.multiple).bfloat16()
        to_x, to_weight, _ = ctx.needs_input_grad
        gx = _bf16(g, weight, ctx.emulated)[: ctx.rows].to(ctx.dtype) if to_x else None
        return gx, _bf16(g.t(), x, ctx.emulated).float() if to_weight else None, None


class Float8Product(torch.autograd.Function):
    """x W^T with operands in e4m3, and gradients of outputs in e5m2."""

    @staticmethod
    def forward(ctx: Any, x_PK: Tensor, weight_NK: Tensor, emulated: bool, fast_accumulation: bool) -> Tensor:
        x, weight = to_float8(padded(x_PK, EIGHT_BIT_MULTIPLE), E4M3), to_float8(weight_NK, E4M3)
        ctx.save_for_backward(*x, *weight)
        ctx.emulated, ctx.rows, ctx.dtype = emulated, len(x_PK), x_PK.dtype
        y = scaled_product(x, weight.transposed(), ctx.dtype, emulated=emulated, fast_accumulation=fast_accumulation)
        return y[: ctx.rows]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        values, scale, weight_values, weight_scale = ctx.saved_tensors
        x, weight = Scaled(values, scale), Scaled(weight_values, weight_scale)
        g = to_float8(padded(gradients[0], EIGHT_BIT_MULTIPLE), E5M2)
        to_x, to_weight, *_ = ctx.needs_input_grad
        gx = scaled_product(g, weight, ctx.dtype, emulated=ctx.emulated)[: ctx.rows] if to_x else None
        gw = scaled_product(g.transposed(), x, torch.float32, emulated=ctx.emulated) if to_weight else None
        return gx, gw, None, None


def scaled_product(
    left: Scaled, right: Scaled, dtype: torch.dtype, *, emulated: bool, fast_accumulation: bool = False
) -> Tensor:
    """The product of two float8 matrices.

    Args:
        fast_accumulation: on CUDA sums of 32 products and more are kept in fewer bits than float32 has.
    """
    if emulated:
        return (left.dequantised() @ right.dequantised()).to(dtype)
    return torch._scaled_mm(  # type: ignore[reportPrivateImportUsage]
        left.values.contiguous(),
        right.values.t().contiguous().t(),  # the second operand column by column
        scale_a=left.scale,
        scale_b=right.scale,
        out_dtype=dtype,
        use_fast_accum=fast_accumulation,
    )


class PackedInt8(NamedTuple):
    """A weight of whole numbers in the order that the processor reads them in, and a scale for each row."""

    values: Tensor
    scale_N: Tensor
    zeros_N: Tensor


def packed_int8(weight_NK: Tensor) -> PackedInt8:
    """The nearest weight of int8."""
    values, scale_N1 = to_int8(weight_NK)
    packed = torch.ops.onednn.qlinear_prepack(values, None)
    return PackedInt8(packed, scale_N1[:, 0].contiguous(), torch.zeros(len(values), dtype=torch.int32))


def int8_product(x_PK: Tensor, weight: PackedInt8) -> Tensor:
    """x W^T on a CPU, without gradients; each row of x has a scale of its own, so that it matters to no other."""
    x, scale_P1 = to_int8(x_PK, shift=UNSIGNED)
    plain = (None, 1.0, 0, torch.float32, "none", [], "")  # neither bias nor activation, unscaled
    y_PN = torch.ops.onednn.qlinear_pointwise(x, 1.0, UNSIGNED, *weight, *plain)
    return y_PN.mul_(scale_P1)


def emulated_int8_product(x_PK: Tensor, weight_NK: Tensor) -> Tensor:
    """The same in float64, in which sums of whole numbers stay exact."""
    x, weight = to_int8(x_PK), to_int8(weight_NK)
    sums_PN = x.values.double() @ weight.values.t().double()
    return (sums_PN * weight.scale.t()).float() * x.scale


def padded(rows_PK: Tensor, multiple: int) -> Tensor:
    """With rows of zeros up to a multiple."""
    extra = -len(rows_PK) % multiple
    return F.pad(rows_PK, (0, 0, 0, extra)) if extra else rows_PK


def _bf16(left: Tensor, right: Tensor, emulated: bool) -> Tensor:
    return rounded(left.float() @ right.float(), "bf16").bfloat16() if emulated else left @ right
