"""DTRec's halting and readouts against one row at a time (arXiv 2512.14036)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from whole_dtrec import BACKBONES, features_of, given, last_items, readouts, start_features

from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.methods.dtrec import DTRec
from forethought.methods.items import ItemLoss
from forethought.reasoning.halting import Halting
from forethought.reasoning.indicator_noise import IndicatorNoise
from forethought.runs import train
from forethought.training.progress import Quiet
from forethought.training.settings import Training
from row_per_prefix import chain_states, logits


@pytest.mark.parametrize("indicator_source", ["exact", "coarse", "refined", "fine"])
@pytest.mark.parametrize(("backbone", "readout"), [*((name, "mean") for name in BACKBONES), ("gru4rec", "last")])
def test_rows_stop_where_they_would_alone(backbone: str, readout: str, indicator_source: str, split: Split) -> None:
    """Hard exit: the first step whose p_halt is over delta, else T; the state is that step's (eq. 10)."""
    model, batch, rows = given(split, backbone, indicator_source=indicator_source, max_steps=4, readout=readout)
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        states = [r[last] for r in readouts(model, rows)]
        halts = model.head(features_of(model, states, last_items(rows)[last]))
    between = halts[:, :-1].flatten().sort().values[len(halts) : len(halts) + 2]
    threshold = between.mean().item()  # not on any row's probability
    thought = model.user_states(batch, Halting(threshold=threshold))
    wanted = [next((t for t in (1, 2, 3) if p[t - 1] > threshold), 4) for p in halts]
    assert thought.steps_B.tolist() == wanted
    assert len(set(wanted)) > 1
    exits = torch.stack([states[t][row] for row, t in enumerate(wanted)])
    torch.testing.assert_close(thought.states_BD, F.normalize(exits, dim=-1))
    traced = model.user_states(batch, Halting(threshold=threshold), trace=True)
    assert torch.equal(traced.steps_B, thought.steps_B)
    assert traced.trace is not None
    torch.testing.assert_close(traced.trace.halts_PT, halts)
    torch.testing.assert_close(traced.trace.states_PSD, torch.stack(states, 1))


@pytest.mark.parametrize("rule", ["arh", "fixed", "change"])
@pytest.mark.parametrize("loss", [ItemLoss(), ItemLoss(bias=True), ItemLoss(cosine=False, temperature=1.0)])
def test_a_weighted_readout_mixes_the_scores_of_the_steps_taken(loss: ItemLoss, rule: str, split: Split) -> None:
    """sum_{j <= exit} w_j y_j / sum_{j <= exit} w_j, w as in training; what is left goes to the last step."""
    model, batch, rows = given(split, indicator_source="exact", loss=loss, readout="weighted", max_steps=4)
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        states = [r[last] for r in chain_states(model, rows)]
        h = model.head(features_of(model, states))
        threshold = h[:, 0].sort().values[2:4].mean().item()  # half of the rows stop at once
        halting = Halting(rule=rule, threshold=threshold if rule == "arh" else 0.1)
        reasoned = model.user_states(batch, halting)
        steps = reasoned.steps_B.tolist()
        if rule == "arh":
            assert steps == [next((t for t in (1, 2, 3) if p[t - 1] > threshold), 4) for p in h]
            assert len(set(steps)) > 1
        wanted = []
        for row, taken in enumerate(steps):
            left, mixed, total = 1.0, 0.0, 0.0
            for t in range(1, taken + 1):
                w = left if t == 4 else left * float(h[row, t - 1])
                left, total = left - w, total + w
                scores = logits(states[t][row], model.items.weight, loss, model.items.bias)
                mixed = mixed + w * scores
            wanted.append(mixed / total)
        got = model.catalogue().scores(reasoned.states_BD) / loss.temperature
        torch.testing.assert_close(got, torch.stack(wanted))
        traced = model.user_states(batch, halting, trace=True)
        torch.testing.assert_close(traced.states_BD, reasoned.states_BD)
        assert torch.equal(traced.steps_B, reasoned.steps_B)


@pytest.mark.parametrize("readout", ["mean", "last", "weighted"])
def test_rows_may_stop_before_their_first_step(readout: str, split: Split) -> None:
    """p_halt of r_0 knows its entropy; who stops there recommends by r_0, and the others go on as they would."""
    halting = Halting(min_steps=0)
    model, batch, rows = given(split, indicator_source="exact", max_steps=3, readout=readout, halting=halting)
    model.head.mean.copy_(torch.tensor([0.9, 0.3, 0.6]))  # what is unknown is read as this
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        states = [r[last] for r in (chain_states(model, rows) if readout == "weighted" else readouts(model, rows))]
        start = model.head(start_features(model, states[0]))
        h = torch.cat([start[:, None], model.head(features_of(model, states))], 1)
        threshold = start.sort().values[2:4].mean().item()
        wanted = [next((t for t in range(3) if p[t] > threshold), 3) for p in h]
        reasoned = model.user_states(batch, replace(halting, threshold=threshold))
        assert reasoned.steps_B.tolist() == wanted
        assert 0 in wanted
        assert max(wanted) > 0
        for row, taken in enumerate(wanted):
            state = F.normalize(states[taken][row], dim=-1)
            if readout == "weighted":
                w, left = [], 1.0
                for t in range(taken + 1):
                    w.append(left * float(h[row, t]) if t < 3 else left)
                    left -= w[-1]
                state = sum(w[t] * F.normalize(states[t][row], dim=-1) for t in range(taken + 1)) / sum(w)
            torch.testing.assert_close(reasoned.states_BD[row], state)
        traced = model.user_states(batch, replace(halting, threshold=threshold), trace=True)
        assert torch.equal(traced.steps_B, reasoned.steps_B)
        torch.testing.assert_close(traced.states_BD, reasoned.states_BD)
        assert traced.trace is not None
        assert traced.trace.first == 0
        torch.testing.assert_close(traced.trace.halts_PT, h)
        torch.testing.assert_close(traced.trace.states_PSD, torch.stack(states, 1))
        assert traced.trace.indicators_PT3[:, 0, 1:].isnan().all()
        soft = model.user_states(batch, replace(halting, rule="soft")).states_BD
        w = torch.stack([h[:, 0], *((1 - h[:, :t]).prod(1) * h[:, t] for t in (1, 2)), (1 - h[:, :3]).prod(1)], 1)
        mixed = sum(w[:, t, None] * F.normalize(states[t], dim=-1) for t in range(4))
        torch.testing.assert_close(soft, mixed)


def test_every_step_is_read_by_its_own_means(split: Split) -> None:
    """In inference as in training: p_halt by hand, with the buffers of that step, and where rows then stop."""
    model, batch, rows = given(split, indicator_source="exact", max_steps=3, halting_inputs="per_step")
    torch.manual_seed(1)
    model.head.mean.copy_(torch.rand(4, 3) * 0.5)
    model.head.variance.copy_(torch.rand(4, 3) * 0.1)
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        x_PT3 = features_of(model, [r[last] for r in readouts(model, rows)])
        z = (x_PT3 - model.head.mean[1:]) / (model.head.variance[1:] + 1e-8).sqrt()
        h = model.head.down(model.head.up(z.clamp(-5, 5)).relu())[..., 0].sigmoid()
        traced = model.user_states(batch, Halting(rule="arh"), trace=True).trace
        assert traced is not None
        torch.testing.assert_close(traced.halts_PT, h)
        threshold = h[:, :2].flatten().sort().values[4:6].mean().item()
        wanted = [next((t for t in (1, 2) if p[t - 1] > threshold), 3) for p in h]
        assert model.user_states(batch, Halting(threshold=threshold)).steps_B.tolist() == wanted
        assert len(set(wanted)) > 1
        shifted = Halting(threshold=threshold, noise=IndicatorNoise(bias=1.0))
        z = (z + 1.0).clamp(-5, 5)
        h = model.head.down(model.head.up(z).relu())[..., 0].sigmoid()
        misread = model.user_states(batch, replace(shifted, max_steps=3), trace=True).trace
        assert misread is not None
        torch.testing.assert_close(misread.halts_PT, h)


def test_the_log_tells_hard_steps_beside_soft_ones(split: Split, quick: Training, tmp_path: Path) -> None:
    """At a threshold that everybody is over the log has one step for all, and a sentence says what to do."""
    said: list[str] = []

    class Listening(Quiet):
        def warn(self, sentence: str) -> None:
            said.append(sentence)

    config = DTRec(backbone=BACKBONES["gru4rec"], first_clusters=4, most_clusters=12, halting=Halting(threshold=0.01))
    train(Recipe(method=config, training=quick), split, tmp_path / "run", observer=Listening())
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in [line for line in lines if "valid_ndcg@10" in line]:
        assert [line[f"valid_steps{part}"] for part in ("", "_p10", "_p50", "_p90", "_alike")] == [1.0] * 5
        assert 1 < line["soft_steps_p10"] <= line["soft_steps_p50"] <= line["soft_steps_p90"] < 3
    assert any(
        "100% of the validation cases stop after step 1 of 3 at the threshold 0.01" in each
        and "forethought evaluate --delta-within" in each
        and "forethought align" in each
        for each in said
    )


def test_rules_of_change_cannot_stop_before_there_was_any(split: Split) -> None:
    model, batch, _ = given(split)
    for rule, least in (("change", 1), ("entropy", 0), ("random", 0)):
        steps = model.user_states(batch, Halting(rule=rule, threshold=1e6, min_steps=0)).steps_B
        assert steps.tolist() == [least] * 6


def test_all_steps_weighted_are_soft_halting(split: Split) -> None:
    model, batch, _ = given(split, indicator_source="exact", readout="weighted", max_steps=3)
    with torch.no_grad():
        whole = model.user_states(batch, Halting(rule="fixed")).states_BD
        torch.testing.assert_close(whole, model.user_states(batch, Halting(rule="soft")).states_BD)


@pytest.mark.parametrize("loss", [ItemLoss(), ItemLoss(bias=True), ItemLoss(cosine=False, temperature=1.0)])
def test_soft_halting_mixes_the_scores(loss: ItemLoss, split: Split) -> None:
    """The final scores are sum_t w_t (r_t . e / tau + b), w as in training."""
    model, batch, rows = given(split, indicator_source="exact", loss=loss)
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        states = [r[last] for r in readouts(model, rows)]
        h = model.head(features_of(model, states))
        w = torch.stack([h[:, 0], (1 - h[:, 0]) * h[:, 1], (1 - h[:, 0]) * (1 - h[:, 1])], 1)
        items = model.items
        wanted = sum(w[:, t, None] * logits(states[t + 1], items.weight, loss, items.bias) for t in range(3))
        got = model.catalogue().scores(model.user_states(batch, Halting(rule="soft")).states_BD)
        torch.testing.assert_close(got / loss.temperature, wanted)


def test_the_configured_delta_is_obeyed_by_a_direct_call(split: Split) -> None:
    """Not only where an evaluation hands the halting over."""
    assert DTRec().halting.threshold == 0.3
    steps = {}
    for threshold in (0.0, 0.3, 1.0):
        model, batch, _ = given(split, halting=Halting(threshold=threshold))
        steps[threshold] = model.user_states(batch).steps_B.tolist()
        assert steps[threshold] == model.user_states(batch, Halting(threshold=threshold)).steps_B.tolist()
    assert steps[0.0] == [1] * 6
    assert steps[1.0] == [3] * 6
