"""Sensitivities against what they stand for: exact traces, and the divergence that rounding really makes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.nn.transformer import Transformer
from forethought.precision.formats import rounded
from forethought.precision.linear import PrecisionLinear, make_precise, set_to
from forethought.precision.sensitivity import NARROW, Traces, collect, damages

ITEMS, WIDTH, LENGTH, ROWS = 300, 32, 8, 512


def drawn_loss(logits_PN: Tensor) -> Tensor:
    """-ln p of labels that the model draws."""
    labels_P = torch.multinomial(logits_PN.detach().softmax(-1), 1)[:, 0]
    return F.cross_entropy(logits_PN, labels_P, reduction="sum")


def test_the_trace_of_a_softmax_over_a_linear_layer_is_exact() -> None:
    """F = E[(diag(p) - p p^T) x (a a^T)], so that with |a| = 1 its trace is E(1 - |p|^2)."""
    torch.manual_seed(0)
    layer = nn.Linear(16, 10, bias=False)
    layers = make_precise(nn.ModuleList([layer]))
    layer.weight.data *= 5
    x = F.normalize(torch.randn(2000, 16), dim=-1)
    traces = collect(layers, [lambda: drawn_loss(layer(x)) for _ in range(20)], 20 * len(x))["0"]
    exact = float(1 - layer(x).detach().softmax(-1).square().sum(-1).mean())
    assert traces.inputs == pytest.approx(1.0, rel=1e-5)
    assert traces.inputs * traces.gradients == pytest.approx(exact, rel=0.02)
    weight = layer.weight.detach()
    expected = exact / 2 * (rounded(weight, "fp8") - weight).square().mean()
    weights_alone = Traces(traces.inputs, traces.gradients, 0.0, dict.fromkeys(NARROW, 0.0), dict.fromkeys(NARROW, 0.0))
    assert weights_alone.damage(layer, "fp8") == pytest.approx(float(expected), rel=0.02)


class Toy(nn.Module):
    """A small causal recommender that repeats what it read with a shift."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(ITEMS, WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH)
        self.body = Transformer(
            width=WIDTH, layers=2, heads=2, ffn_width=64, dropout=0.0, activation="gelu", norm_first=True, causal=True
        )
        self.head = nn.Linear(WIDTH, ITEMS)

    def forward(self, items_BL: Tensor) -> Tensor:
        x_BLD = self.items(items_BL) + self.places.weight
        states_BLD = self.body(x_BLD, torch.full((len(items_BL),), LENGTH), last_only=True)[0]
        return self.head(states_BLD[:, -1])


@pytest.fixture(scope="module")
def trained() -> tuple[Toy, Tensor]:
    torch.manual_seed(0)
    model, items_BL = Toy(), torch.randint(ITEMS, (4096, LENGTH))
    targets_B = torch.where(torch.rand(4096) < 0.7, (items_BL[:, -1] + items_BL[:, -3]) % 40, items_BL[:, 2] % 60)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(240):
        rows = torch.randint(4096, (256,), generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        F.cross_entropy(model(items_BL[rows]), targets_B[rows]).backward()
        optimiser.step()
    return model, items_BL[:ROWS]


def measured_kl(model: Toy, layers: dict[str, PrecisionLinear], name: str, format: str, items_BL: Tensor) -> float:
    layers[name].backend = "emulate"
    with torch.no_grad():
        exact = model(items_BL).double().log_softmax(-1)
        with set_to(layers, {name: format}):  # type: ignore[dict-item]
            narrow = model(items_BL).double().log_softmax(-1)
    return float((exact.exp() * (exact - narrow)).sum(-1).mean())


def test_predicted_damage_is_the_measured_divergence_within_a_factor_of_two(trained: tuple[Toy, Tensor]) -> None:
    model, items_BL = trained
    layers = make_precise(model)
    losses = [partial(lambda rows: drawn_loss(model(rows)), part) for part in items_BL.split(64)] * 4
    torch.manual_seed(1)
    predicted = damages(layers, collect(layers, losses, 4 * len(items_BL)))
    assert set(predicted) == set(layers)
    for format in NARROW:
        expected = [predicted[name][format] for name in layers]
        measured = [measured_kl(model, layers, name, format, items_BL) for name in layers]
        ratios = [a / b for a, b in zip(expected, measured, strict=True)]
        assert all(0.5 < ratio < 2 for ratio in ratios), (format, ratios)
        assert spearmanr(expected, measured).statistic > 0.8


def test_collecting_leaves_gradients_and_formats_as_they_are(trained: tuple[Toy, Tensor]) -> None:
    model, items_BL = trained
    layers = make_precise(model)
    model.zero_grad(set_to_none=True)
    with set_to(layers, {"head": "bf16"}):
        collect(layers, [lambda: drawn_loss(model(items_BL[:8]))], 8)
        assert layers["head"].precision == "bf16"
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(layer.recorder is None for layer in layers.values())


def test_positions_without_a_gradient_do_not_count(trained: tuple[Toy, Tensor]) -> None:
    """Padding would dilute what goes in."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 5)
    layers = make_precise(nn.ModuleList([layer]))
    x = torch.randn(6, 4)
    x[3:] = 100
    traces = collect(layers, [lambda: drawn_loss(layer(x)[:3])], 3)["0"]
    assert traces.inputs == pytest.approx(float(x[:3].square().sum(-1).mean()), rel=1e-5)


def test_running_sensitivities_keep_a_share_of_the_earlier_ones() -> None:
    old, new = (Traces(n, 2 * n, 3 * n, {"bf16": n, "fp8": n}, {"bf16": n, "fp8": 0.0}) for n in (1.0, 5.0))
    mixed = new.mixed(old, 0.75)
    assert (mixed.inputs, mixed.gradients, mixed.input_gradients) == (2, 4, 6)
    assert mixed.input_errors == {"bf16": 2, "fp8": 2}
    assert mixed.output_errors == {"bf16": 2, "fp8": 0}
