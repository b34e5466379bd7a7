"""A trained model whose layers multiply in a narrow format, wherever that is faster than float32."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from typing import Literal

from torch import nn

from forethought.errors import ConfigError
from forethought.precision import cost
from forethought.precision.formats import Format
from forethought.precision.linear import PrecisionLinear, make_plain, make_precise, set_formats, set_to

Narrow = Literal["bf16", "int8"]


def narrow_layers(module: nn.Module, format: Narrow, positions: int) -> str:
    """Give the linear layers a format, those that it makes faster; what was done, in a sentence.

    Args:
        positions: that are read together, for which times are measured.

    Raises:
        ConfigError: it makes none faster, and nothing was changed.
    """
    layers = make_precise(module)
    costs = cost.measured(layers, positions, ("fp32", format), backward=False)
    paying: dict[str, Format] = {name: format for name, each in cost.paying(costs).items() if format in each}
    if not paying:
        make_plain(module)
        ratios = [each[format] / each["fp32"] for each in costs.values() if format in each]
        why = f"{min(ratios):.2f} times float32's time at best" if ratios else "this machine does not multiply it"
        what = (
            f"{format} makes no linear layer of this model faster here ({why})" if layers else "it has no such layers"
        )
        raise ConfigError(
            f"Precision narrows linear layers, and {what}: leave precision out (on the command line --precision)."
        )
    set_formats(layers, paying)
    before, after = (sum(costs[name][each] for name in paying) for each in ("fp32", format))
    return (
        f"{len(paying)} of {len(layers)} linear layers multiply in {format}, {before / after:.1f} times as fast as in "
        "float32."
    )


def in_float32(module: nn.Module) -> AbstractContextManager[None]:
    """Inside, all layers of a module multiply in float32, as products are counted and gradients made."""
    layers = {name: part for name, part in module.named_modules() if isinstance(part, PrecisionLinear)}
    return set_to(layers, dict.fromkeys(layers, "fp32"))


def formats_of(module: nn.Module) -> dict[str, int]:
    """How many layers have which format; empty where all are float32."""
    counts = Counter(part.precision for part in module.modules() if isinstance(part, PrecisionLinear))
    return dict(counts) if set(counts) - {"fp32"} else {}
