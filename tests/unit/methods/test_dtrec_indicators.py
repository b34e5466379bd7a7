"""What DTRec's halting net reads: indicators of prototypes, kept with a run and joined by new items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stopping import StopsAt
from whole_dtrec import BACKBONES, given

from forethought.config import Recipe
from forethought.data.batches import training_batch, windows
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import RunError
from forethought.methods.dtrec import DTRec
from forethought.methods.take_over import take_over
from forethought.reasoning.halting import Halting
from forethought.recommender import load
from forethought.runs import train
from forethought.training.interrupt import Interrupted
from forethought.training.settings import Training


def test_indicators_of_prototypes_of_their_own_see_the_same_whatever_k_is(split: Split) -> None:
    """With the counts of HPS changed, the same items are looked at through the same prototypes."""
    read = {}
    for first in (4, 6):
        model, batch, _ = given(split, indicator_clusters=5, supervision="none")
        config = replace(model.config, first_clusters=first)
        torch.manual_seed(0)
        other = config.build(split.data.sizes).double()
        other.load_state_dict({k: v for k, v in model.state_dict().items() if "prototypes" not in k}, strict=False)
        other.begin_epoch(0)
        other.eval()
        assert other.prototypes.counts[0] == first
        assert len(other.prototypes.level(3)[0]) == 5
        trace = other.user_states(batch, Halting(rule="fixed"), trace=True).trace
        assert trace is not None
        read[first] = trace.indicators_PT3
    torch.testing.assert_close(read[4], read[6])


@pytest.mark.parametrize("indicator_source", ["coarse", "refined", "fine"])
def test_without_hps_the_indicators_still_have_prototypes(indicator_source: Any, split: Split) -> None:
    """They are what a coarse indicator source looks at, whether or not a loss looks at them too."""
    model, batch, _ = given(split, supervision="none", indicator_source=indicator_source)
    assert int(model.prototypes.made_in) == 0
    assert model.prototypes.sizes_K.sum() == 3 * split.data.n_items
    trace = model.user_states(batch, Halting(rule="fixed"), trace=True).trace
    assert trace is not None
    assert trace.indicators_PT3[..., 0].std() > 0  # of centres that are all zero each state thinks the same


def test_refined_indicators_are_kept_with_a_run(split: Split, quick: Training, tmp_path: Path) -> None:
    """Stopped within an epoch, a training goes on with what was measured at its beginning; a loaded run halts alike."""
    config = DTRec(backbone=BACKBONES["gru4rec"], first_clusters=4, most_clusters=12, indicator_source="refined")
    recipe = Recipe(method=config, training=replace(quick, checkpoint_every_s=1e-9, precision="32", device="cpu"))
    whole = train(recipe, split, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(recipe, split, tmp_path / "run", observer=StopsAt(4))
    resumed, again = train(recipe, split, tmp_path / "run", resume=True), load(tmp_path / "whole")
    for name, tensor in whole.method.state_dict().items():
        assert torch.equal(resumed.method.state_dict()[name], tensor), name
        assert torch.equal(again.method.state_dict()[name], tensor), name
    batch = training_batch(windows(split.train, 12).take(np.arange(6)))
    traces = [run.method.user_states(batch, trace=True).trace for run in (whole, again)]
    assert torch.equal(traces[0].indicators_PT3, traces[1].indicators_PT3)


def test_items_that_join_may_end_a_history_that_is_looked_at(split: Split) -> None:
    """They are put into clusters, old histories are seen as before, and a twin of an item is seen as it is."""
    model, batch, _ = given(split, indicator_source="refined")
    n = split.data.n_items
    grown = model.config.build(DataSizes(n + 1)).double().eval()
    take_over(grown, model, torch.arange(n), trains=False)
    twin = int(batch.items_BL[0, batch.lengths_B[0] - 1])
    grown.items.weight.data[n] = model.items.weight.data[twin]
    grown.join_items(n)
    assert grown.spread is not None
    assert grown.spread.cluster_N[n] == grown.prototypes.cluster_TN[0, n] == model.prototypes.cluster_TN[0, twin]
    items_BL = batch.items_BL.clone()
    items_BL[0, batch.lengths_B[0] - 1] = n
    wanted = model.user_states(batch, trace=True).trace
    assert wanted is not None
    for given_batch in (batch, replace(batch, items_BL=items_BL)):
        trace = grown.user_states(given_batch, trace=True).trace
        assert trace is not None
        torch.testing.assert_close(
            trace.indicators_PT3[..., 1:], wanted.indicators_PT3[..., 1:]
        )  # entropies are told in ln N, which has grown


@pytest.mark.parametrize("source", ["fine", "coarse", "refined"])
def test_a_model_without_prototypes_says_that_it_was_never_trained(split: Split, source: str) -> None:
    config = DTRec(backbone=BACKBONES["gru4rec"], first_clusters=4, most_clusters=12, indicator_source=source)  # type: ignore[arg-type]
    model, batch = config.build(split.data.sizes), training_batch(windows(split.train, 12).take(np.arange(6)))
    with pytest.raises(RunError, match="has none before its training begins: train it"):
        model.user_states(batch)
