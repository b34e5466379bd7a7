"""What a layer's products cost in each format on this machine, measured at the layer's own shapes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

from forethought.precision.formats import BITS, TRAINED, Format
from forethought.precision.linear import PrecisionLinear

LEAST_TURNS, WARM_TURNS = 3, 2  # shapes are compiled when they are first met
ENOUGH_S = 0.3  # of turns, for a shape
PAYS = 0.95  # of float32's time: what saves less is noise
Costs = dict[str, dict[Format, float]]


def measured(
    layers: Mapping[str, PrecisionLinear],
    positions: int,
    formats: tuple[Format, ...] = TRAINED,
    *,
    backward: bool = True,
) -> Costs:
    """Seconds that each layer takes for so many positions, in each format; layers of one shape are measured once.

    Args:
        formats: those that are emulated here are left out.
        backward: with both gradients, as in training.
    """
    shapes: dict[tuple[int, int, bool], dict[Format, float]] = {}
    for layer in layers.values():
        shape = layer.in_features, layer.out_features, layer.bias is not None
        if shape not in shapes:
            shapes[shape] = _measured(layer, positions, formats, backward)
    return {
        name: dict(shapes[layer.in_features, layer.out_features, layer.bias is not None])
        for name, layer in layers.items()
    }


def paying(costs: Costs) -> Costs:
    """The formats that layers may have: float32, and those that take less time."""
    return {
        name: {each: s for each, s in cost.items() if each == "fp32" or s < PAYS * cost["fp32"]}
        for name, cost in costs.items()
    }


def ideal(layers: Mapping[str, PrecisionLinear]) -> Costs:
    """What all formats cost where time goes with their bits, without a unit."""
    sizes = {name: layer.in_features * layer.out_features for name, layer in layers.items()}
    return {name: {each: float(size * BITS[each]) for each in TRAINED} for name, size in sizes.items()}


def _measured(
    layer: PrecisionLinear, positions: int, formats: tuple[Format, ...], backward: bool
) -> dict[Format, float]:
    """In turns, so that whatever else the machine does falls on all of them."""
    K, N, device = layer.in_features, layer.out_features, layer.weight.device
    runs = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        x = torch.randn(positions, K, device=device, requires_grad=backward)
        g = torch.randn(positions, N, device=device)
        for each in formats:
            own = PrecisionLinear(K, N, bias=layer.bias is not None, device=device).requires_grad_(backward)
            own.precision, own.backend = each, layer.backend
            if not own.is_real(device):
                continue
            runs[each] = _backward(own, x, g) if backward else _forward(own, x)
    times: dict[Format, list[float]] = {each: [] for each in runs}
    turn, until = 0, time.perf_counter() + ENOUGH_S
    while turn < WARM_TURNS + LEAST_TURNS or time.perf_counter() < until:
        for each, run in runs.items():
            seconds = seconds_of(run, device)
            if turn >= WARM_TURNS:
                times[each].append(seconds)
        turn += 1
    return {each: statistics.median(taken) for each, taken in times.items()}


def _backward(layer: nn.Module, x: torch.Tensor, g: torch.Tensor) -> Callable[[], object]:
    wanted = (x, *layer.parameters())
    return lambda: torch.autograd.grad(layer(x), wanted, g)


def _forward(layer: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def run() -> torch.Tensor:
        with torch.no_grad():
            return layer(x)

    return run


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Wall clock of one run, with what it left to the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin
