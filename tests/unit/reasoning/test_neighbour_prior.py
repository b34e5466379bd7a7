"""The prior of neighbours over latent steps against whole distributions (ManCAR, arXiv 2602.20093)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forethought.backbones.gru4rec import GRU4Rec
from forethought.config import Recipe
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.neighbours import Neighbours, co_occurrence
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.items import ItemLoss
from forethought.methods.outside import SideInformation
from forethought.methods.rearec import ReaRec, ReaRecModel
from forethought.reasoning.halting import Halting
from forethought.reasoning.neighbour_prior import NeighbourPrior
from forethought.recommender import load
from forethought.run_costs import training_cost
from forethought.runs import train
from forethought.training.settings import Training
from row_per_prefix import chain_states, logits, prefix_rows

K = 3


def given(split: Split, prior: NeighbourPrior, **settings: Any) -> tuple[ReaRecModel, Batch, Batch, Neighbours]:
    """A model in float64 that was told the neighbours, a batch, its prefixes as rows, and the neighbours: of some items
    fewer than are asked for, of one none."""
    torch.manual_seed(0)
    backbone, settings = GRU4Rec(width=16, window=12, dropout=0.0), {"draw_step": False, "steps": K} | settings
    model = ReaRec(backbone=backbone, prior=prior, **settings).build(split.data.sizes).double()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3
    near = co_occurrence(split.train, split.data.n_items, most=6)
    batch = training_batch(windows(split.train, model.window).take(np.arange(6)))
    near.values_NK[batch.items_BL[0, 0]] = 0.0
    near.values_NK[batch.items_BL[0, 1], 2:] = 0.0
    model.fit_side_information(SideInformation(target_counts_N=torch.ones(split.data.n_items), near=near))
    return model, batch, prefix_rows(batch), near


def prior_of(t: int, last: int, target: int, near: Neighbours, config: NeighbourPrior) -> torch.Tensor:
    """q_t, [N]."""
    candidates = [target]
    for item, value in zip(near.items_NK[last], near.values_NK[last], strict=True):
        if value > 0 and len(candidates) <= config.neighbours:
            candidates.append(int(item))
    each = np.exp(-np.arange(len(candidates)) / (config.spread * (K + 1 - t)))
    q_N = torch.zeros(len(near), dtype=torch.float64)
    for item, share in zip(candidates, each / each.sum(), strict=True):
        q_N[item] += share
    return q_N


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("prior", [NeighbourPrior(weight=0.7, neighbours=4, spread=2.0), NeighbourPrior(weight=2.0)])
def test_the_prior_adds_its_mean_divergence_over_steps(
    split: Split, same_gradients: Any, prior: NeighbourPrior, smoothing: float
) -> None:
    """Loss less what it is without a prior = weight mean_t KL(q_t || p_t), but for the entropies of q_t."""
    loss = ItemLoss(bias=True, smoothing=smoothing)
    model, batch, rows, near = given(split, prior, loss=loss, temperature_scale=1.5)
    last = rows.items_BL[torch.arange(len(rows.lengths_B)), rows.lengths_B - 1].tolist()
    assert any(near.values_NK[item, 0] == 0 for item in last)
    assert any(int(target) in near.items_NK[item] for item, target in zip(last, rows.targets_BL, strict=True))

    def wanted() -> torch.Tensor:
        plain = replace(model.config, prior=NeighbourPrior())
        model.config, guided = plain, model.config
        total = model.loss(batch).total
        model.config = guided
        N = len(near)
        for t, state in enumerate(chain_states(model, rows)):
            scores = logits(state, model.items.weight, loss) / 1.5 ** (K - t) + model.items.bias
            log_p = scores.log_softmax(-1)
            for p, (item, target) in enumerate(zip(last, rows.targets_BL.tolist(), strict=True)):
                q_N = (1 - smoothing) * prior_of(t, item, target, near, prior) + smoothing / N
                total = total - prior.weight / (K + 1) / len(last) * (q_N * log_p[p]).sum()
        return total

    same_gradients(model, lambda: model.loss(batch).total, wanted)


def test_priors_narrow_towards_the_last_step(split: Split) -> None:
    """By default the item that follows has .63 of the last prior, and .2 of that of four steps before (T = 4)."""
    model, batch, _, near = given(split, NeighbourPrior(weight=1.0), steps=4)
    busy = int(np.argmax((near.values_NK > 0).sum(1)))
    assert model.prior is not None
    steps, ones = torch.arange(5), torch.ones(5, 1, dtype=torch.float64)
    targets = model.prior.of(steps, torch.full((5,), busy), torch.full((5,), int(batch.items_BL[0, 0])), ones)
    n = 1 + min(10, int((near.values_NK[busy] > 0).sum()))
    for t, share in enumerate(targets.shares_PK[:, 0].tolist()):
        g = 5 - t
        assert share == pytest.approx((1 - np.exp(-1 / g)) / (1 - np.exp(-n / g)), rel=1e-9)


def test_drawn_steps_have_priors_of_their_own(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default one step of each position is trained: on average that is the loss of all, prior included."""
    model, batch, _, _ = given(split, NeighbourPrior(weight=0.7))
    assert batch.targets_BL is not None
    one = Batch(batch.items_BL[:1, 1:2], torch.tensor([1]), batch.targets_BL[:1, 1:2], None, None, 1)
    wanted = model.loss(one).total.item()
    model.config = replace(model.config, draw_step=True)
    got, shares = 0.0, torch.zeros(0)
    for step in range(K + 1):

        def draw(share_PS: torch.Tensor, n: int, step: int = step) -> torch.Tensor:
            nonlocal shares
            shares = share_PS[0]
            return torch.full((len(share_PS), n), step)

        monkeypatch.setattr(torch, "multinomial", draw)
        value = model.loss(one).total.item()
        got += float(shares[step]) * value
    assert got == pytest.approx(wanted, rel=1e-9)


def test_a_run_counts_neighbours_of_its_training_part(split: Split, tmp_path: Path) -> None:
    """They are noted by a checksum, count in training alone, and its model stops where predictions settle."""
    method = ReaRec(backbone=GRU4Rec(width=8, window=8), prior=NeighbourPrior(weight=0.5, neighbours=5))
    training = Training(epochs=1, device="cpu")
    run = train(Recipe(method=method, training=training), split, tmp_path / "run")
    plain = train(Recipe(method=replace(method, prior=NeighbourPrior()), training=training), split, tmp_path / "plain")
    assert "neighbours" in run.about["references"]
    assert "neighbours" not in plain.about["references"]
    names = [name for name, _ in run.method.named_parameters()]
    assert names == [name for name, _ in plain.method.named_parameters()]
    assert run.weights_sum != plain.weights_sum
    histories = [run.items.id_list(split.test.history[0])]
    still = run.recommend(histories, k=3, halting=Halting(rule="consistency", threshold=10.0))
    assert len(still[0].items) == 3
    assert training_cost(load(tmp_path / "run"), split)["flops_per_epoch"] > 0  # a loaded run needs no neighbours


def test_settings_that_would_do_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"prior of neighbours weighs nothing.*--prior.weight"):
        NeighbourPrior(neighbours=3)
    with pytest.raises(ConfigError, match="choose learning prl, or leave the prior out"):
        ReaRec(learning="erl", prior=NeighbourPrior(weight=0.1))
    with pytest.raises(ConfigError, match="spread is 0"):
        NeighbourPrior(weight=0.1, spread=0.0)
