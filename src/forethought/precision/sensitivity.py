"""How far a narrower format of one layer moves what a model says, in nats of KL divergence, without trying it.

    Omega_p = 1/2 tr(A) tr(G) mean(dW_p^2)          weights: the trace of the K-FAC factors of the Fisher information
            + 1/2 E sum_t |W^T g_t|^2 mean(dx_p^2)  what goes into the layer is rounded anew for every position
            + 1/2 tr(G) mean(dy_p^2)                bfloat16 alone: its outcome is rounded too

    tr(A) = E|x_t|^2,  tr(G) = E sum_t |g_t|^2,  dW_p = Q_p(W) - W, dx_p and dy_p likewise

g is the gradient of -ln p of labels that the model itself draws, as the Fisher information has it; with the labels of
the data it would be another matrix. E is over histories, and over positions t that the loss depends on. K-FAC takes the
positions of a history for independent and what goes in for independent of the gradient, so that it errs low where
positions are alike (by up to a half where it was measured); the order of layers hardly suffers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from forethought.precision.formats import Format, rounded
from forethought.precision.linear import PrecisionLinear, set_to

NARROW: tuple[Format, ...] = ("bf16", "fp8")
Damage = dict[str, dict[Format, float]]
"""Nats, by layer and format."""


@dataclass
class Traces:
    """What one layer's sensitivity is made of, means over histories.

    Attributes:
        inputs: tr(A).
        gradients: tr(G).
        input_gradients: E sum_t |W^T g_t|^2.
        input_errors: mean square of what each format does to a number that goes in.
        output_errors: the same of what comes out.
    """

    inputs: float
    gradients: float
    input_gradients: float
    input_errors: dict[Format, float]
    output_errors: dict[Format, float]

    def damage(self, layer: nn.Linear, format: Format) -> float:
        """Omega of a format."""
        weight = layer.weight.detach()
        weight_error = float((rounded(weight, format) - weight).square().mean())
        nats = self.inputs * self.gradients * weight_error
        nats += self.input_gradients * self.input_errors[format] + self.gradients * self.output_errors[format]
        return nats / 2

    def mixed(self, earlier: Traces, share: float) -> Traces:
        """With a share of what was found earlier."""

        def mix(new: float, old: float) -> float:
            return share * old + (1 - share) * new

        def mix_each(new: dict[Format, float], old: dict[Format, float]) -> dict[Format, float]:
            return {name: mix(value, old[name]) for name, value in new.items()}

        return Traces(
            mix(self.inputs, earlier.inputs),
            mix(self.gradients, earlier.gradients),
            mix(self.input_gradients, earlier.input_gradients),
            mix_each(self.input_errors, earlier.input_errors),
            mix_each(self.output_errors, earlier.output_errors),
        )


class Pass(NamedTuple):
    """One product of a layer on the way forward."""

    x_PK: Tensor
    y: Tensor
    rows: slice


@dataclass
class Sums:
    """Of one layer, over the positions that the loss depends on."""

    positions: int = 0
    inputs: float = 0.0
    gradients: float = 0.0
    input_gradients: float = 0.0
    input_errors: dict[Format, float] = field(default_factory=lambda: dict.fromkeys(NARROW, 0.0))
    output_errors: dict[Format, float] = field(default_factory=lambda: dict.fromkeys(NARROW, 0.0))

    @torch.no_grad()
    def add(self, layer: nn.Linear, made: Pass, g: Tensor) -> None:
        g_PN = g.reshape(-1, g.shape[-1])
        seen_P = (g_PN != 0).any(1)  # padding and what nothing looks back at have no gradient
        if not seen_P.any():
            return
        g_PN, x_PK = g_PN[seen_P].float(), made.x_PK[seen_P].float()
        y_PN = made.y.detach().reshape(-1, g.shape[-1])[seen_P].float()
        self.positions += len(x_PK)
        self.inputs += float(x_PK.square().sum())
        self.gradients += float(g_PN.square().sum())
        self.input_gradients += float((g_PN @ layer.weight[made.rows]).square().sum())
        for name in NARROW:
            self.input_errors[name] += float((rounded(x_PK, name) - x_PK).square().mean(1).sum())
        self.output_errors["bf16"] += float((rounded(y_PN, "bf16") - y_PN).square().mean(1).sum())

    def traces(self, histories: int) -> Traces:
        each = 1 / max(self.positions, 1)
        return Traces(
            self.inputs * each,
            self.gradients / histories,
            self.input_gradients / histories,
            {name: value * each for name, value in self.input_errors.items()},
            {name: value * each for name, value in self.output_errors.items()},
        )


class Collector:
    """What goes through layers in one pass, kept until its gradients are known."""

    def __init__(self) -> None:
        self.passes: list[tuple[PrecisionLinear, Pass]] = []

    def record(self, layer: PrecisionLinear, x: Tensor, y: Tensor, rows: slice) -> None:
        self.passes.append((layer, Pass(x.detach().reshape(-1, x.shape[-1]), y, rows)))


def collect(
    layers: Mapping[str, PrecisionLinear], losses: Iterable[Callable[[], Tensor]], histories: int
) -> dict[str, Traces]:
    """The traces of the layers that the losses depend on, everything in float32; gradients of parameters stay as are.

    Args:
        losses: each makes the sum, over some histories, of -ln p of labels drawn from the model.
        histories: of all losses together.
    """
    names = {id(layer): name for name, layer in layers.items()}
    sums: dict[str, Sums] = {}
    with set_to(layers, dict.fromkeys(layers, "fp32")), torch.enable_grad():
        for loss in losses:
            passes = _recorded(layers, loss)
            for (layer, made), g in passes:
                if g is not None:
                    sums.setdefault(names[id(layer)], Sums()).add(layer, made, g)
    return {name: each.traces(histories) for name, each in sums.items() if each.positions}


def _recorded(
    layers: Mapping[str, PrecisionLinear], loss: Callable[[], Tensor]
) -> list[tuple[tuple[PrecisionLinear, Pass], Tensor | None]]:
    """Every product of a layer on the way to a loss, with the gradient of its outcome."""
    collector = Collector()
    try:
        for layer in layers.values():
            layer.recorder = collector
        total = loss()
    finally:
        for layer in layers.values():
            layer.recorder = None
    outcomes = [made.y for _, made in collector.passes]
    if not outcomes:
        return []
    return list(zip(collector.passes, torch.autograd.grad(total, outcomes, allow_unused=True), strict=True))


def damages(layers: Mapping[str, PrecisionLinear], traces: Mapping[str, Traces]) -> Damage:
    """Omega of each narrow format of each layer."""
    return {name: {each: own.damage(layers[name], each) for each in NARROW} for name, own in traces.items()}
