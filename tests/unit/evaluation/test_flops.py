"""Counted FLOPs against the same products added up by hand, from shapes alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_methods import built
from torch.utils._python_dispatch import TorchDispatchMode

from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.sasrec import SASRec
from forethought.catalogue.ranking import SHARD
from forethought.config import MethodConfig
from forethought.data.batches import case_batches, history_batch, training_batch, windows
from forethought.data.histories import Cases, Histories
from forethought.data.interactions import DataSizes
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.evaluation.flops import KIN, counter, flops_per_epoch, flops_per_history
from forethought.methods import lares
from forethought.methods.dtrec import DTRec
from forethought.methods.igr_sr import IGRSR
from forethought.methods.item_tokens import TokenMethodConfig
from forethought.methods.items import ItemLoss
from forethought.methods.lares import LARES, Reinforcement
from forethought.methods.next_item import NextItem
from forethought.methods.rearec import ReaRec
from forethought.reasoning.halting import Halting
from forethought.reasoning.intent_reasoner import Reasoner
from forethought.reasoning.prototypes import cluster_counts
from forethought.recipes import METHODS

D, F, H, N = 16, 40, 2, 300
TINY = SASRec(width=D, layers=1, heads=H, window=12, ffn_width=F, dropout=0.1)


def cases(lengths: list[int], n_items: int = N) -> Cases:
    random = np.random.default_rng(0)
    histories = Histories.from_lists([random.integers(0, n_items, length) for length in lengths])
    return Cases(histories.all(), random.integers(0, n_items, len(lengths)).astype(np.int32))


def linear(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs


def attention(rows: int, queries: int, keys: int) -> int:
    """Scores and the mix of values: two products, over all heads together."""
    return 2 * (2 * rows * queries * keys * D)


def whole_block(B: int, L: int) -> int:
    return linear(B * L, D, 3 * D) + attention(B, L, L) + linear(B * L, D, D) + 2 * linear(B * L, D, F)


def last_block(B: int, L: int) -> int:
    """Keys and values everywhere, all else behind the last position alone."""
    read = linear(B * L, D, 2 * D) + linear(B, D, D) + attention(B, 1, L)
    return read + linear(B, D, D) + 2 * linear(B, D, F)


def token(B: int, L: int, tokens: int) -> int:
    """One more link, which attends to L (padded) positions.

    That it attends to `links` links as well, itself among them, is summed element by element and not counted.
    """
    assert attention(B, 1, tokens) <= 0.25 * linear(B, D, 3 * D)
    return linear(B, D, 3 * D) + attention(B, 1, L) + linear(B, D, D) + 2 * linear(B, D, F)


# ---- reading, thinking, ranking


@pytest.mark.parametrize("layers", [1, 2])
def test_sasrec_by_hand(layers: int) -> None:
    given = cases([1, 2, 2, 3, 5, 8, 9, 20])
    method = NextItem(backbone=replace(TINY, layers=layers)).build(DataSizes(N))
    told = flops_per_history(method, given, batch=4)
    wanted = sum(whole_block(4, L) * (layers - 1) + last_block(4, L) for L in (3, 12))  # what batches are padded to
    assert told == {"encode": wanted / 8, "rank": linear(1, D, N)}


def test_gru4rec_by_hand() -> None:
    method = NextItem(backbone=GRU4Rec(width=D, layers=2, window=12)).build(DataSizes(N))
    told = flops_per_history(method, cases([4] * 6), batch=6)
    assert told["encode"] == 2 * (
        linear(4, D, 3 * D) + linear(4, D, 3 * D)
    )  # two layers: input and hidden, three gates


def test_large_catalogues_score_the_targets_shards_first() -> None:
    n_items = 2 * SHARD + 5
    method = NextItem(backbone=TINY).build(DataSizes(n_items))
    given = cases([3] * 12, n_items)
    given.targets[:2] = 0, SHARD + 1
    homes = sorted({int(target) // SHARD for target in given.targets})
    assert homes == [0, 1]
    told = flops_per_history(method, given)["rank"]
    assert told == linear(1, D, n_items + SHARD)  # the last home's scores are still at hand


def thinkers(indicator_source: str) -> DTRec:
    return DTRec(
        backbone=replace(TINY, dropout=0.0), first_clusters=4, most_clusters=32, indicator_source=indicator_source
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("indicator_source", ["coarse", "refined", "fine", "exact"])
@pytest.mark.parametrize(
    "halting",
    [
        Halting(rule="fixed"),
        Halting(rule="fixed", max_steps=1),
        Halting(rule="fixed", max_steps=0),
        Halting(rule="random", threshold=0.4),
        Halting(rule="arh"),
        Halting(rule="soft"),
    ],
    ids=lambda h: f"{h.rule}{h.max_steps}",
)
def test_rows_that_halt_leave_the_count(indicator_source: str, halting: Halting) -> None:
    torch.manual_seed(1)
    method = thinkers(indicator_source).build(DataSizes(N))
    method.begin_epoch(0)
    method.eval()
    given = cases([2, 3, 5, 7, 7, 11] * 8)
    [(_, batch)] = case_batches(given, 12, len(given))
    if halting.rule == "arh":  # so that some rows stop and some go on
        trace = method.user_states(batch, trace=True).trace
        assert trace is not None
        halting = replace(halting, threshold=trace.halts_PT.median().item())
    torch.manual_seed(5)
    with torch.inference_mode():
        steps = method.user_states(batch, halting).steps_B
    torch.manual_seed(5)
    told = flops_per_history(method, given, halting=halting, batch=len(given))["encode"] * len(given)

    most = halting.steps(3)
    L = batch.items_BL.shape[1]
    live = [int((steps >= t).sum()) for t in range(1, most + 1)]
    if halting.rule in ("random", "arh"):
        assert 0 < live[-1] < len(given)
    wanted = last_block(len(given), L) + sum(token(rows, L, t) for t, rows in enumerate(live, start=1))
    if halting.rule in ("arh", "soft") and most:
        # one more coordinate tells a prototype's size; the last step of arh decides nothing, so it needs no look
        level = {"coarse": 0, "refined": 0, "fine": 2}.get(indicator_source)
        seen, width = (N, D) if level is None else (int((method.prototypes.level(level)[1] > 0).sum()), D + 1)
        judged = live if halting.rule == "soft" else live[:-1]
        looks = [len(given), *judged]
        if indicator_source == "refined":  # another coordinate tells a cluster's width, and one product turns the state
            width += 1
            wanted += sum(linear(rows, D, D) for rows in looks)
        wanted += sum(2 * linear(rows, width, seen) for rows in looks)
        wanted += sum(linear(rows, 3, 16) + linear(rows, 16, 1) for rows in judged)
    assert told == wanted


def test_the_sample_stands_for_all_and_is_always_the_same() -> None:
    random = np.random.default_rng(3)
    given = cases(random.integers(1, 30, 3000).tolist())
    method = NextItem(backbone=TINY).build(DataSizes(N))
    few, again, all_ = (flops_per_history(method, given, batch=500, sample=n)["encode"] for n in (512, 512, 3000))
    assert few == again
    assert few == pytest.approx(all_, rel=0.03)


def test_counting_leaves_method_and_generators_alone(split: Split) -> None:
    method = thinkers("coarse").build(split.data.sizes).train()
    method.begin_epoch(0)
    before, random = {k: v.clone() for k, v in method.state_dict().items()}, torch.get_rng_state()
    flops_per_history(method, split.test, halting=Halting(rule="random"))
    flops_per_epoch(method, windows(split.train, method.window), positions=64, seed=0, epoch=3)
    assert torch.equal(torch.get_rng_state(), random)
    assert method.training
    assert method.prototype_weight == 0.0
    assert all(torch.equal(method.state_dict()[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in method.parameters())


@pytest.mark.parametrize("intents", ["distilled", "learned"])
def test_parameters_that_modules_read_whole_are_counted(split: Split, intents: Any) -> None:
    sasrec = SASRec(width=16, heads=2, window=8, ffn_width=32)
    config = IGRSR(backbone=sasrec, reasoner=Reasoner(width=16, layers=1, ffn_width=32), intents=intents)
    method = config.build(split.data.sizes)
    asked = [parameter.requires_grad for parameter in method.parameters()]
    told = flops_per_history(method, split.test, batch=len(split.test))
    assert told["encode"] > 2 * 2 * 4 * 16 * 16  # the projection alone: two maps of four intents
    assert [parameter.requires_grad for parameter in method.parameters()] == asked


# ---- training


def test_an_epoch_of_sasrec_by_hand() -> None:
    """Rows of one length: then a few batches are exactly what all of them are."""
    rows, L = 40, 6
    spans = cases([L + 1] * rows).history
    method = NextItem(backbone=TINY).build(DataSizes(N))
    told = flops_per_epoch(method, windows(spans, 12), positions=4 * L, seed=0, epoch=0)
    products = linear(rows * L, D, 3 * D) + linear(rows * L, D, D) + 2 * linear(rows * L, D, F)
    # a layer's gradient takes two products more, attention's five where forward took two; the loss has three in all
    wanted = 3 * products + attention(rows, L, L) * (1 + 5 / 2) + 3 * linear(rows * L, D, N)
    assert told == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("config", "products"),
    [
        (NextItem(), 3),
        (ReaRec(learning="prl", steps=2), 3),
        (ReaRec(learning="erl", steps=2), 3 + 4),
        (ReaRec(learning="prl", steps=2, draw_step=False), 3 * 3),
        (ReaRec(learning="erl", steps=2, draw_step=False), 3 + 4 * 3),
        (DTRec(supervision="none", max_steps=3, first_clusters=2, most_clusters=4), 3),
        (DTRec(supervision="none", max_steps=3, indicator_source="exact"), 3 + 2 * 4),
        (DTRec(supervision="none", max_steps=3, first_clusters=2, most_clusters=4, draw_step=False), 3 * 4),
        (DTRec(supervision="none", max_steps=3, indicator_source="exact", draw_step=False), 4 * 4),
    ],
    ids=["next_item", "prl", "erl", "prl-all", "erl-all", "dtrec", "dtrec-exact", "dtrec-all", "dtrec-all-exact"],
)
def test_a_training_step_takes_the_products_it_says(config: MethodConfig, products: int) -> None:
    """Over a large catalogue; the numbers are those of the docstrings and of docs/cost.md."""
    n_items, width = 20_000, 32
    tiny = SASRec(width=width, layers=1, heads=2, window=8, ffn_width=32, dropout=0.0)
    method = replace(config, backbone=tiny).build(DataSizes(n_items))
    batch = training_batch(cases([9] * 16, n_items).history)
    method.begin_epoch(0)
    with counter() as flops:
        method.loss(batch).total.backward()
    assert flops.get_total_flops() / linear(batch.weight, width, n_items) == pytest.approx(products, rel=0.05)


def test_both_stages_of_lares_take_the_products_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """3 a position, and 6 of (positions x positions); then 6 a case and step of a rollout, and one to judge each."""
    n_items, width, k, G = 8_000, 32, 3, 2
    monkeypatch.setattr(lares, "draw_depth", lambda mean: k)
    thin = LARES(
        **{"width": width, "pre_layers": 1, "core_layers": 1, "window": 8, "ffn_width": 32, "dropout": 0.0},
        reinforcement=Reinforcement(rollouts=G, filter_top=n_items),
    )
    batch = training_batch(cases([9] * 16, n_items // 2).history)

    def flops_of(stage: str, config: LARES, n_items: int) -> int:
        torch.manual_seed(0)
        method = config.build(DataSizes(n_items))
        method.begin_stage(stage)
        with counter() as flops:
            method.train().loss(batch).total.backward()
        return flops.get_total_flops()

    for stage, wanted in (("supervised", 3 * batch.weight), ("reinforced", (6 * k * G + G + 1) * 16)):
        more = flops_of(stage, thin, n_items) - flops_of(stage, thin, n_items // 2)  # layers cost the same in both
        assert more == wanted * linear(1, width, n_items // 2)
    apart = replace(thin, trajectory_weight=0.0, step_weight=0.0)
    aligned = flops_of("supervised", thin, n_items) - flops_of("supervised", apart, n_items)
    assert aligned == 6 * linear(batch.weight, width, batch.weight)


def test_looking_at_prototypes_takes_two_products_of_them_a_state() -> None:
    flops = []
    for most in (8, 64):
        tiny = SASRec(width=32, layers=1, heads=2, window=8, ffn_width=32, dropout=0.0)
        config = DTRec(
            backbone=tiny,
            supervision="none",
            first_clusters=2,
            most_clusters=most,
            cluster_speed=50.0,
            indicator_source="fine",
        )
        batch, method = training_batch(cases([9] * 16).history), config.build(DataSizes(N))
        method.begin_epoch(0)
        centres = int((method.prototypes.level(2)[1] > 0).sum())
        assert centres == most
        with counter() as products:
            method.loss(batch).total.backward()
        flops.append(products.get_total_flops())
    assert flops[1] - flops[0] == 2 * 4 * linear(batch.weight, 33, 64 - 8)  # one more column tells a prototype's size


def test_a_refined_look_also_turns_each_state_and_reads_another_column() -> None:
    tiny, K = SASRec(width=32, layers=1, heads=2, window=8, ffn_width=32, dropout=0.0), 16
    batch, flops = training_batch(cases([9] * 16).history), {}
    for source in ("coarse", "refined"):
        config = DTRec(backbone=tiny, supervision="none", indicator_source=source, indicator_clusters=K)  # type: ignore[arg-type]
        method = config.build(DataSizes(N))
        method.begin_epoch(0)
        assert (method.prototypes.level(3)[1] > 0).all()
        with counter() as products:
            method.loss(batch).total.backward()
        flops[source] = products.get_total_flops()
    looks = 4  # of the state before the first step, and of those after each of three
    more = linear(batch.weight, 32, 32) + 2 * linear(batch.weight, 1, K)
    assert flops["refined"] - flops["coarse"] == looks * more


def test_prototypes_take_four_products_of_the_clusters_in_the_batch() -> None:
    n_items, width, T = 20_000, 32, 3
    tiny = SASRec(width=width, layers=1, heads=2, window=8, ffn_width=32, dropout=0.0)
    base = DTRec(backbone=tiny, first_clusters=8, most_clusters=64, max_steps=T, draw_step=False)
    batch = training_batch(cases([9] * 16, n_items).history)
    flops: dict[str, int] = {}
    for supervision in ("none", "dynamic"):
        torch.manual_seed(0)
        warm = {"warmup_epochs": 0} if supervision == "dynamic" else {}
        method = replace(base, supervision=supervision, **warm).build(DataSizes(n_items))  # type: ignore[arg-type]
        method.begin_epoch(1)
        with counter() as products:
            method.loss(batch).total.backward()
        flops[supervision] = products.get_total_flops()
        if supervision == "dynamic":
            assert batch.targets_BL is not None
            targets = batch.targets_BL[batch.valid_BL()]
            clusters = sum(len(method.prototypes.clusters_of(t, targets).unique()) for t in range(T))
            assert method.prototypes.counts == cluster_counts(8, 64, 1.0, T, n_items)
    assert flops["dynamic"] - flops["none"] == 4 * linear(clusters, width, n_items)


# ---- nothing is passed over


class Seen(TorchDispatchMode):
    """Every operation that no composite hides."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self:
            parts = func.decompose(*args, **(kwargs or {}))
        if parts is not NotImplemented:
            return parts
        self.ops[func.overloadpacket] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name]().method.closed_form])
def test_what_is_fitted_in_closed_form_ranks_by_sums(name: str, split: Split) -> None:
    """They are no products, so none is counted."""
    method = METHODS[name]().method.build(split.data.sizes)
    method.fit_closed_form(split.train)
    assert flops_per_history(method, split.test) == {"encode": 0.0, "rank": 0.0}


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name]().method.closed_form])
def test_every_product_of_every_method_is_known(name: str, shop: Path) -> None:
    split = leave_last_out(read(shop))
    config = METHODS[name]().method
    method = built(name, split) if isinstance(config, TokenMethodConfig) else config.build(split.data.sizes)
    method.begin_epoch(9)
    with Seen() as seen:
        method.loss(training_batch(windows(split.train, method.window).take(np.arange(9)))).total.backward()
        with torch.inference_mode():
            thought = method.eval().user_states(history_batch(split.test.history.take(np.arange(9)), method.window))
            method.rank_of(thought, torch.zeros(9, dtype=torch.int64))
    words = ("mm", "mv", "dot", "attention", "conv", "gru", "lstm", "rnn", "einsum", "linear", "bilinear")
    products = {op for op in seen.ops if any(word in op.__name__ for word in words)}
    assert products <= set(counter().flop_registry)
    assert set(KIN) & products
    assert "mm" in {op.__name__ for op in products}


def test_losses_without_the_whole_catalogue_are_counted_too(split: Split) -> None:
    config = NextItem(backbone=TINY, loss=ItemLoss(kind="bce", negatives=7))
    rows = windows(split.train, 12)
    few = flops_per_epoch(config.build(split.data.sizes), rows, positions=64, seed=0, epoch=0)
    more = replace(config, loss=ItemLoss(kind="bce", negatives=14))
    many = flops_per_epoch(more.build(split.data.sizes), rows, positions=64, seed=0, epoch=0)
    positions = int((rows.lengths - 1).sum())
    assert many - few == pytest.approx(3 * linear(positions, D, 7))  # forward, and to states and items back


def test_products_of_sparse_matrices_are_not_taken_for_dense_ones() -> None:
    some = torch.eye(5).to_sparse_csr()
    with counter() as counting:
        some @ some
        torch.eye(5) @ torch.ones(5, 2)
    assert counting.get_total_flops() == 2 * 5 * 5 * 2
