"""A linear layer whose precision is an attribute: parameters, optimiser state and checkpoints know nothing of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.errors import ConfigError
from forethought.precision.formats import Format
from forethought.precision.products import (
    EIGHT_BIT_MULTIPLE,
    Bf16Product,
    Float8Product,
    PackedInt8,
    emulated_int8_product,
    int8_product,
    packed_int8,
)

Backend = Literal["auto", "emulate", "scaled_mm"]
"""auto: real products where this machine has them, else emulated ones; scaled_mm: float8 through `torch._scaled_mm`
wherever it runs."""


class Recorder(Protocol):
    """Somebody who keeps what goes into layers and what comes out."""

    def record(self, layer: PrecisionLinear, x: Tensor, y: Tensor, rows: slice) -> None: ...


class PrecisionLinear(nn.Linear):
    """An `nn.Linear` that multiplies in the format it is set to.

    Attributes:
        precision: of the product's operands; weights are kept in float32.
        recorder: told of each product; None: nobody.
    """

    precision: Format = "fp32"
    backend: Backend = "auto"
    fast_accumulation: bool = False
    recorder: Recorder | None = None
    _int8: tuple[object, dict[tuple[int, int, int], PackedInt8]] | None = None  # of what weight, and it packed

    def __getstate__(self) -> dict[str, Any]:
        """Copies pack their weights anew."""
        return {name: value for name, value in self.__dict__.items() if name != "_int8"}

    def forward(self, input: Tensor) -> Tensor:
        return self.outputs(input, slice(None))

    def outputs(self, x: Tensor, rows: slice) -> Tensor:
        """Those in some places of the last axis.

        Raises:
            ConfigError: int8 is to be trained.
        """
        with torch.autocast(x.device.type, enabled=False):  # the layer's own precision is what counts
            y = self._product(x, rows)
        if self.recorder is not None and y.requires_grad:
            self.recorder.record(self, x, y, rows)
        return y

    def _product(self, x: Tensor, rows: slice) -> Tensor:
        weight, bias = self.weight[rows], None if self.bias is None else self.bias[rows]
        if self.precision == "fp32":
            return F.linear(x.to(weight.dtype), weight, bias)
        emulated = not self.is_real(x.device)
        flat_PK = x.reshape(-1, x.shape[-1])
        if self.precision == "bf16":
            y = cast("Tensor", Bf16Product.apply(flat_PK, weight, emulated))
        elif self.precision == "fp8":
            y = cast("Tensor", Float8Product.apply(flat_PK, weight, emulated, self.fast_accumulation))
        elif torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            raise ConfigError("int8 is for inference and has no gradients: train in fp32, bf16 or fp8.")
        elif emulated:
            y = emulated_int8_product(flat_PK.float(), weight)
        else:
            y = int8_product(flat_PK.float(), self._packed(weight, rows))
        y = y if bias is None else torch.add(y, bias)
        return y.to(x.dtype).view(*x.shape[:-1], y.shape[-1])

    def is_real(self, device: torch.device) -> bool:
        """Whether the product is made in the hardware's own format, and not emulated."""
        if self.backend == "emulate" or self.precision == "fp32":
            return self.precision == "fp32"
        if self.precision == "fp8" and self.backend == "scaled_mm":
            return True
        return is_available(self.precision, device) and (self.precision != "fp8" or self.fits_float8())

    def fits_float8(self) -> bool:
        """Whether its sizes are what float8 products take on CUDA."""
        return self.in_features % EIGHT_BIT_MULTIPLE == self.out_features % EIGHT_BIT_MULTIPLE == 0

    def _packed(self, weight: Tensor, rows: slice) -> PackedInt8:
        """Made once for as long as the weight stays what it is."""
        now = self.weight.data_ptr(), self.weight._version
        if self._int8 is None or self._int8[0] != now:
            self._int8 = now, {}
        key = rows.indices(self.out_features)
        if key not in self._int8[1]:
            self._int8[1][key] = packed_int8(weight.detach())
        return self._int8[1][key]


def is_available(format: Format, device: torch.device) -> bool:
    """Whether products of this format are made in hardware."""
    if format == "fp32":
        return True
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= {"bf16": (8, 0), "fp8": (8, 9), "int8": (99, 0)}[format]
    checks = {"bf16": ("_is_avx512_bf16_supported", "_is_amx_tile_supported"), "int8": ("_is_vnni_supported",)}
    asked = (getattr(torch.cpu, name, None) for name in checks.get(format, ()))
    return any(ask is not None and ask() for ask in asked)


def make_precise(module: nn.Module) -> dict[str, PrecisionLinear]:
    """Make every plain `nn.Linear` in a module a `PrecisionLinear` in float32, in place; all of them by name."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = PrecisionLinear  # whoever holds the layer goes on holding it
    return {name: part for name, part in module.named_modules() if isinstance(part, PrecisionLinear)}


def make_plain(module: nn.Module) -> None:
    """`make_precise` undone."""
    for part in module.modules():
        if type(part) is PrecisionLinear:
            for name in ("precision", "backend", "fast_accumulation", "recorder", "_int8"):
                part.__dict__.pop(name, None)
            cast("Any", part).__class__ = nn.Linear


@contextmanager
def set_to(layers: Mapping[str, PrecisionLinear], formats: Mapping[str, Format]) -> Iterator[None]:
    """Inside, layers have these formats; those not named keep theirs."""
    before: dict[str, Format] = {name: layers[name].precision for name in formats}
    try:
        set_formats(layers, formats)
        yield
    finally:
        set_formats(layers, before)


def set_formats(layers: Mapping[str, PrecisionLinear], formats: Mapping[str, Format]) -> None:
    """Give layers their formats, by name."""
    for name, chosen in formats.items():
        layers[name].precision = chosen
