"""Indicators against whole distributions, weights against a loop, and who leaves the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from forethought.backbones.gru4rec import GRU4Rec
from forethought.catalogue.catalogue import Catalogue
from forethought.config import from_json, to_json
from forethought.errors import ConfigError
from forethought.evaluation import storage
from forethought.reasoning import halting
from forethought.reasoning.chain import InitialStates
from forethought.reasoning.halting import (
    Halting,
    HaltingPolicy,
    SoftmaxStats,
    halting_weights,
    indicators,
    reason_until,
    softmax_stats,
)
from forethought.reasoning.halting_head import HaltingHead, soft_steps, soft_weights
from forethought.reasoning.indicator_noise import IndicatorNoise

RNG = np.random.default_rng(0)


def test_exact_indicators() -> None:
    before, now, items = RNG.normal(size=(6, 4)) * 2, RNG.normal(size=(6, 4)) * 2, RNG.normal(size=(30, 4))
    a, b = (torch.from_numpy(x) for x in (before, now))
    e = Catalogue(torch.from_numpy(items))
    got = indicators(softmax_stats(a, e), softmax_stats(b, e), (b - a).norm(dim=-1), 30, 4).numpy()
    p, q = softmax(before @ items.T, axis=1), softmax(now @ items.T, axis=1)
    wanted = np.stack(
        [
            entropy(q, axis=1) / math.log(30),
            np.minimum(entropy(p, q, axis=1), 5) / 5,  # KL(before || now)
            np.linalg.norm(now - before, axis=1) / 2,
        ],
        axis=1,
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


def test_prototypes_stand_for_their_items() -> None:
    """Where all items of a cluster are alike, prototypes with sizes say exactly what the items say."""
    centres, sizes = RNG.normal(size=(5, 4)), np.array([3, 1, 0, 7, 2])
    a, b = (torch.from_numpy(RNG.normal(size=(6, 4)) * 2) for _ in range(2))
    items, few = (Catalogue(torch.from_numpy(x)) for x in (np.repeat(centres, sizes, axis=0), centres))
    n = torch.from_numpy(sizes)
    change = (b - a).norm(dim=-1)
    exact = indicators(softmax_stats(a, items), softmax_stats(b, items), change, 13, 4)
    got = indicators(softmax_stats(a, few, n), softmax_stats(b, few, n), change, 13, 4)
    torch.testing.assert_close(got, exact, rtol=1e-10, atol=1e-10)


def test_soft_weights() -> None:
    halts = RNG.random((5, 4))
    wanted = np.zeros((5, 4))
    for row, p in enumerate(halts):
        left = 1.0
        for t in range(4):
            wanted[row, t] = left if t == 3 else left * p[t]
            left *= 1 - p[t]
    got = soft_weights(torch.from_numpy(halts)).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    np.testing.assert_allclose(got.sum(1), 1)


def test_the_net() -> None:
    torch.manual_seed(0)
    head, features = HaltingHead(16).double(), torch.rand(5, 3, dtype=torch.float64)
    seen = torch.rand(4, 50, 3, dtype=torch.float64) * 0.1 + 0.7
    for batch in seen:
        head(batch)
    head.eval()
    features = 0.7 + 0.1 * features
    means, variances = [], []
    for n, batch in enumerate(seen.numpy(), start=1):
        means.append(batch.mean(0))
        variances.append(((batch - np.mean(means, axis=0)) ** 2).mean(0))
        assert len(means) == n
    (w1, b1, w2, b2), x = (p.detach().numpy() for p in head.parameters()), features.numpy()
    x = (x - np.mean(means, axis=0)) / np.sqrt(np.mean(variances, axis=0) + 1e-8)
    wanted = 1 / (1 + np.exp(-(np.maximum(x @ w1.T + b1, 0) @ w2.T + b2)))
    np.testing.assert_allclose(head(features).detach().numpy(), wanted[:, 0], rtol=1e-12)


def test_each_step_may_have_its_own_means() -> None:
    """Step by step in loops; the start is watched by its entropy alone, of the rows of the same batch."""
    torch.manual_seed(0)
    head, depth = HaltingHead(8, depth=3).double(), 3
    levels = torch.tensor([0.2, 0.5, 0.9])[:, None]  # which the pooled means would hide
    seen = [levels + 0.1 * torch.rand(20, depth, 3, dtype=torch.float64) for _ in range(4)]
    starts = [torch.rand(20, dtype=torch.float64) for _ in seen]
    for batch, entropy_P in zip(seen, starts, strict=True):
        unknown = torch.full_like(entropy_P, torch.nan)
        head(batch)
        head.at_start(torch.stack([entropy_P, unknown, unknown], -1))
    head.eval()
    (w1, b1, w2, b2) = (p.detach().numpy() for p in head.parameters())

    def p_halt(x: np.ndarray, t: int) -> float:
        means, squares = [], []
        for n, (batch, entropy_P) in enumerate(zip(seen, starts, strict=True), start=1):
            of = batch[:, t - 1].numpy() if t else entropy_P.numpy()[:, None]
            means.append(of.mean(0))
            squares.append(((of - np.mean(means, axis=0)) ** 2).mean(0))
            assert len(means) == n
        z = np.zeros(3)  # what is unknown is as usual
        z[: len(means[0])] = ((x - np.mean(means, axis=0)) / np.sqrt(np.mean(squares, axis=0) + 1e-8)).clip(-5, 5)
        return float(1 / (1 + np.exp(-(np.maximum(z @ w1.T + b1, 0) @ w2.T + b2)))[0])

    asked = levels + 0.1 * torch.rand(5, depth, 3, dtype=torch.float64)
    wanted = [[p_halt(asked[row, t - 1].numpy(), t) for t in (1, 2, 3)] for row in range(5)]
    np.testing.assert_allclose(head(asked).detach().numpy(), wanted, rtol=1e-10)
    np.testing.assert_allclose(head(asked[:, 1:2], 2).detach().numpy()[:, 0], [row[1] for row in wanted], rtol=1e-10)
    start = torch.tensor([[0.3, math.nan, math.nan]], dtype=torch.float64)
    np.testing.assert_allclose(head.at_start(start).item(), p_halt(np.array([0.3]), 0), rtol=1e-10)


def test_a_net_of_before_is_loaded_as_it_was() -> None:
    assert {name: tuple(of.shape) for name, of in HaltingHead(4).named_buffers()} == {
        **{"mean": (3,), "variance": (3,)},
        "batches": (),
    }


def test_the_start_is_watched_though_nobody_may_stop_there() -> None:
    """So that a trained net of steps of their own can be asked at the start later; the pooled one stays out of it."""
    torch.manual_seed(0)
    states = [torch.randn(6, 4) for _ in range(3)]
    stats = [SoftmaxStats(state, torch.rand(6), torch.randn(6, 4)) for state in states]
    entropies = (stats[0].lse_P - (states[0] * stats[0].mean_PD).sum(-1)) / math.log(50)
    own, pooled = HaltingHead(4, depth=2), HaltingHead(4)
    for head, first in ((own, 1), (pooled, 1), (pooled, 0)):
        weights = halting_weights(head, stats, states, 50, first)
        assert weights.shape == (6, 3 - first)
        torch.testing.assert_close(weights.sum(1), torch.ones(6))
    assert own.mean[0, 0].item() == pytest.approx(entropies.mean().item(), rel=1e-5)
    assert int(own.batches) == 1
    assert int(pooled.batches) == 2


def test_soft_steps_by_hand() -> None:
    """Mean and quantiles over rows; two halves of a batch add up to the weighted mean of theirs."""
    weights = np.random.default_rng(0).dirichlet([1.0, 2.0, 0.5], size=11)
    for first in (0, 1):
        of_rows = [sum(w * (first + t) for t, w in enumerate(row)) for row in weights]
        got = soft_steps(torch.from_numpy(weights), first, 11)
        assert got["soft_steps"].item() == pytest.approx(np.mean(of_rows))
        for name, share in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9)):
            assert got[f"soft_steps_{name}"].item() == pytest.approx(np.quantile(of_rows, share))
    parts = [soft_steps(torch.from_numpy(part), 1, 11) for part in (weights[:4], weights[4:], weights[:0])]
    medians = [np.median([row @ [1, 2, 3] for row in part]) for part in (weights[:4], weights[4:])]
    together = sum(part["soft_steps_p50"].item() for part in parts)
    assert together == pytest.approx((4 * medians[0] + 7 * medians[1]) / 11)


# ---- the loop


class Counting(torch.nn.Module):
    """A backbone that notes how many rows it is asked to think for."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)  # whatever was tested before
        self.inner = GRU4Rec(width=4, window=5, dropout=0.0).build()
        self.rows: list[int] = []

    def reason(self, x: torch.Tensor, chain: Any) -> Any:
        self.rows.append(len(x))
        return self.inner.reason(x, chain)


def initial_states(backbone: Counting, n_rows: int) -> InitialStates:
    torch.manual_seed(0)
    at = torch.full((n_rows, 1), 2)
    states, chain = backbone.inner.encode(torch.randn(n_rows, 3, 4), torch.full((n_rows,), 3), positions=at)
    assert chain is not None
    return InitialStates(states[:, -1:], chain, torch.ones_like(at, dtype=torch.bool))


CATALOGUE = Catalogue(torch.randn(30, 4, generator=torch.Generator().manual_seed(1)))
MARKS = torch.zeros(4, 4)
JUDGE = HaltingPolicy(lambda r, *_: softmax_stats(r, CATALOGUE), CATALOGUE)


def think_by(rule: str, threshold: float, **more: Any) -> tuple[Counting, torch.Tensor, torch.Tensor, Any]:
    backbone = Counting()
    given = Halting(rule=rule, threshold=threshold, **more)  # type: ignore[arg-type]
    return backbone, *reason_until(backbone, initial_states(backbone, 9), MARKS, JUDGE, given)  # type: ignore[arg-type]


def test_weights_sum_to_one_under_autocast() -> None:
    head, features = HaltingHead(8), torch.randn(50, 6, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = soft_weights(head(features))
    torch.testing.assert_close(weights.sum(1), torch.ones(50))


def test_rows_that_halt_leave_the_batch() -> None:
    _, _, _, trace = backbone_of_all()
    middle = trace.indicators_PT3[:, :3, 2].flatten().sort().values[12:14].mean().item()
    backbone, _, steps, _ = think_by("change", middle)
    assert backbone.rows == [int((steps >= t).sum()) for t in range(1, int(steps.max()) + 1)]
    assert 9 == backbone.rows[0] > backbone.rows[-1]


def backbone_of_all() -> Any:
    backbone = Counting()
    return backbone, *reason_until(
        backbone, initial_states(backbone, 9), MARKS, JUDGE, Halting(rule="fixed"), trace=True
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "threshold", "steps"),
    [
        ("fixed", 9.0, 4),
        ("change", 1e9, 1),
        ("change", -1.0, 4),
        ("entropy", 2.0, 1),
        ("doubt", 0.0, 1),
        ("doubt", 1.001, 4),
        ("consistency", 2.0, 1),
        ("random", 1.0, 1),
    ],
)
def test_all_or_nothing(rule: str, threshold: float, steps: int) -> None:
    backbone, _, used, _ = think_by(rule, threshold)
    assert used.tolist() == [steps] * 9
    assert backbone.rows == [9] * steps


def test_doubt_is_entropy_the_other_way_round() -> None:
    """Whom entropy stops at once go on, and the other way round, where nobody's lies at the threshold."""
    backbone = Counting()
    reading = Halting(rule="entropy")
    _, _, trace = reason_until(backbone, initial_states(backbone, 9), MARKS, JUDGE, reading, trace=True)  # type: ignore[arg-type]
    assert trace is not None
    entropies = trace.indicators_PT3[:, 0, 0].sort().values
    middle = entropies[3:5].mean().item()
    (_, _, sure, _), (_, _, unsure, _) = (think_by(rule, middle) for rule in ("entropy", "doubt"))
    assert ((sure == 1) == (trace.indicators_PT3[:, 0, 0] < middle)).all()
    assert ((unsure == 1) == (trace.indicators_PT3[:, 0, 0] > middle)).all()
    assert (sure == 1).sum() == 4
    assert (unsure == 1).sum() == 5


def test_random_stops_as_often_as_it_should() -> None:
    torch.manual_seed(0)
    backbone = Counting()
    _, steps, _ = reason_until(
        backbone, initial_states(backbone, 4000), MARKS, JUDGE, Halting(rule="random", threshold=0.3)
    )  # type: ignore[arg-type]
    shares = np.bincount(steps.numpy(), minlength=5)[1:] / 4000
    np.testing.assert_allclose(shares, [0.3, 0.21, 0.147, 0.343], atol=0.03)


def test_no_step_at_all() -> None:
    backbone, final, steps, _ = think_by("fixed", 0.5, max_steps=0)
    assert steps.tolist() == [4] * 9  # the method cuts the marks, not the loop
    given = initial_states(backbone, 9)
    final, steps, trace = reason_until(backbone, given, MARKS[:0], JUDGE, Halting(rule="fixed"), trace=True)  # type: ignore[arg-type]
    assert torch.equal(final, given.states_BPD[:, 0])
    assert steps.tolist() == [0] * 9
    assert trace is None


def test_a_single_step_is_taken_without_a_look() -> None:
    """There is nothing to decide: the last step always ends."""

    def stats_of(_: torch.Tensor, step: int, rows: torch.Tensor) -> Any:
        raise AssertionError

    backbone = Counting()
    policy = HaltingPolicy(stats_of, CATALOGUE)
    given = initial_states(backbone, 9)
    _, steps, _ = reason_until(backbone, given, MARKS[:1], policy, Halting(rule="entropy", threshold=0.5))  # type: ignore[arg-type]
    assert steps.tolist() == [1] * 9


def test_a_trace_changes_nothing_but_is_longer() -> None:
    _, final, steps, _ = think_by("entropy", 0.93)
    backbone = Counting()
    traced, used, trace = reason_until(
        backbone,  # type: ignore[arg-type]
        initial_states(backbone, 9),
        MARKS,
        JUDGE,
        Halting(rule="entropy", threshold=0.93),
        trace=True,
    )
    assert torch.equal(used, steps)
    torch.testing.assert_close(traced, final)
    assert trace is not None
    assert trace.states_PSD.shape == (9, 5, 4)
    assert len(set(steps.tolist())) > 1


def test_noise_on_the_indicators_moves_exits() -> None:
    torch.manual_seed(0)
    policy = HaltingPolicy(JUDGE.stats_of, CATALOGUE, seen_head())
    steps = []
    for noise in (IndicatorNoise(), IndicatorNoise(std=2.0), IndicatorNoise(bias=-50.0), IndicatorNoise(bias=50.0)):
        backbone, halting = Counting(), Halting(rule="entropy", threshold=0.93, noise=noise)
        steps.append(reason_until(backbone, initial_states(backbone, 9), MARKS, policy, halting)[1].tolist())  # type: ignore[arg-type]
    assert steps[0] != steps[1]
    assert steps[2:] == [[1] * 9, [4] * 9]


def seen_head() -> HaltingHead:
    """A halting net that has seen indicators whose deviations are .02, .1 and .3."""
    head = HaltingHead(4).eval()
    head.mean.copy_(torch.tensor([0.9, 0.2, 0.5]))
    head.variance.copy_(torch.tensor([0.02, 0.1, 0.3]).square() - 1e-8)
    return head


def test_indicators_are_misread_in_their_own_deviations() -> None:
    """z' = (1 + scale) z + bias + std N(0, 1), z = (x - mean) / deviation; what is unknown stays so."""
    head, read = seen_head(), torch.rand(4000, 3)
    mean, deviation = head.mean.numpy(), head.deviations().detach().numpy()
    torch.manual_seed(0)
    got = IndicatorNoise(std=0.5, bias=-1.0, scale=0.25).applied(read, head.mean, head.deviations()).numpy()
    z, told = (read.numpy() - mean) / deviation, (got - mean) / deviation
    noise = told - (1.25 * z - 1.0)
    np.testing.assert_allclose(noise.std(0), [0.5] * 3, rtol=0.05)
    np.testing.assert_allclose(noise.mean(0), [0.0] * 3, atol=0.03)
    still = IndicatorNoise(bias=2.0, scale=-1.0).applied(read, head.mean, head.deviations()).numpy()
    np.testing.assert_allclose((still - mean) / deviation, np.full((4000, 3), 2.0), atol=1e-4)
    unknown = IndicatorNoise(bias=1.0).applied(torch.tensor([[0.5, torch.nan, 0.1]]), head.mean, head.deviations())
    assert unknown.isnan().tolist() == [[False, True, False]]


def test_noise_needs_a_net_that_knows_the_deviations() -> None:
    with pytest.raises(ConfigError, match="alone knows the standard deviations that noise"):
        think_by("entropy", 0.93, noise=IndicatorNoise(std=0.5))


def test_raw_noise_of_before_is_read_where_there_was_none() -> None:
    """Run folders of before say noise 0.0; any other number was in other units."""
    assert from_json(Halting, {"rule": "entropy", "threshold": 0.4, "max_steps": None, "noise": 0.0}) == Halting(
        rule="entropy", threshold=0.4
    )
    noise = IndicatorNoise(bias=0.5)
    assert from_json(Halting, to_json(Halting(noise=noise))).noise == noise
    with pytest.raises(ConfigError, match=r"noise is 0\.2, in raw units as it was once told"):
        from_json(Halting, {"noise": 0.2})
    with pytest.raises(ConfigError, match="noise must be an object with keys, but it is 'much'"):
        from_json(Halting, {"noise": "much"})


def test_an_evaluation_tells_of_noise_where_there_is_some() -> None:
    assert Halting().as_told() == {"rule": "arh", "threshold": 0.5, "max_steps": None}
    told = Halting(min_steps=0, noise=IndicatorNoise(std=0.5)).as_told()
    assert told["min_steps"] == 0
    assert told["noise"] == {"std": 0.5, "bias": 0.0, "scale": 0.0}
    assert storage.halting({"rule": "arh", "noise": 0.0}) == {"rule": "arh"}
    assert storage.halting({"rule": "arh", "noise": 0.1}) == {"rule": "arh", "noise": 0.1}
    assert storage.halting(None) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rule": "arg"}, r"Halting's rule is 'arg', but must be one of arh,"),
        ({"threshold": float("nan")}, r"Halting's threshold is nan, but must be a number from -1,000,000,000"),
        ({"threshold": "high"}, r"Halting's threshold is 'high'"),
        ({"noise": 0.1}, r"Halting's noise is 0\.1, but must be IndicatorNoise"),
        ({"min_steps": 2}, r"Halting's min_steps is 2"),
        ({"max_steps": -1}, r"Halting's max_steps is -1"),
        ({"max_steps": 1.5}, r"Halting's max_steps is 1\.5"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Halting(**settings)


def test_module_names_its_indicators() -> None:
    assert halting.INDICATORS == ("entropy", "consistency", "change")


def test_noise_reaches_every_indicator() -> None:
    """Each of the three is moved, independently, by as much as was asked for; `change` alone is read with noise too."""
    backbone = Counting()
    given = initial_states(backbone, 2000)

    def traced(noise: float) -> np.ndarray:
        halting = Halting(rule="fixed", noise=IndicatorNoise(std=noise))
        policy = HaltingPolicy(JUDGE.stats_of, CATALOGUE, seen_head())
        _, _, trace = reason_until(backbone, given, MARKS, policy, halting, trace=True)  # type: ignore[arg-type]
        assert trace is not None
        return trace.indicators_PT3.numpy()

    torch.manual_seed(0)
    moved = (traced(0.5) - traced(0.0)).reshape(-1, 3)
    np.testing.assert_allclose(moved.std(0), [0.01, 0.05, 0.15], rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(moved.T), np.eye(3), atol=0.05)
    policy = HaltingPolicy(JUDGE.stats_of, CATALOGUE, seen_head())
    steps = []
    for noise in (0.0, 2.0):
        halting = Halting(rule="change", threshold=0.1, noise=IndicatorNoise(std=noise))
        _, each, _ = reason_until(backbone, given, MARKS, policy, halting)  # type: ignore[arg-type]
        steps.append(each.tolist())
    assert steps[0] != steps[1]
