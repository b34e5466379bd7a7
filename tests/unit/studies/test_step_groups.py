"""Who takes more steps: groups by hand, and their difference against a bootstrap in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from forethought.backbones.gru4rec import GRU4Rec
from forethought.data.splits import Split
from forethought.evaluation.ranking import rank_cases
from forethought.methods.dtrec import DTRec
from forethought.methods.items import ItemLoss
from forethought.reasoning.halting import Halting
from forethought.studies.step_groups import difference_words, sizes_of, steps_by


def test_the_last_group_less_the_first() -> None:
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(40), 5)
    lengths, steps = random.integers(1, 30, 200), random.integers(1, 4, 200).astype(np.float32)
    steps[lengths > 24] = 3
    by = steps_by(steps, {"length": lengths}, users)["length"]
    order = [sorted(lengths.tolist()).index(v) + (lengths == v).sum() / 2 for v in lengths]  # middle quantiles
    fifth = np.array([int(5 * at / 200) for at in order])
    assert by["means"] == {f"G{g + 1}": pytest.approx(steps[fifth == g].mean()) for g in range(5)}
    assert by["difference"] == pytest.approx(steps[fifth == 4].mean() - steps[fifth == 0].mean())
    draws = []
    for _ in range(3000):
        rows = np.concatenate([np.flatnonzero(users == user) for user in random.integers(0, 40, 40)])
        last, first = steps[rows][fifth[rows] == 4], steps[rows][fifth[rows] == 0]
        draws.append(last.mean() - first.mean())
    np.testing.assert_allclose(by["ci95"], np.quantile(draws, [0.025, 0.975]), atol=0.05)
    assert difference_words(by) == f"{by['difference']:+.2f} [{by['ci95'][0]:+.2f}, {by['ci95'][1]:+.2f}]"


def test_one_group_has_no_difference() -> None:
    by = steps_by(np.ones(6), {"length": np.full(6, 4)}, np.arange(6))["length"]
    assert by == {"means": {"G3": 1.0}, "difference": None, "ci95": None}
    assert difference_words(by) == "unknown"


@pytest.mark.parametrize("loss", [ItemLoss(), ItemLoss(cosine=False, bias=True, temperature=0.7)])
def test_hardness_is_that_of_the_first_state_alone(loss: ItemLoss, split: Split) -> None:
    """Entropy of the whole softmax in float64, whatever the method looks at, and the rank without a step."""
    torch.manual_seed(0)
    config = DTRec(backbone=GRU4Rec(width=16, window=12, dropout=0.0), loss=loss, first_clusters=4, most_clusters=12)
    model = config.build(split.data.sizes).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.begin_epoch(0)
    cases = split.test.take(np.arange(30))
    sizes = sizes_of(model, cases, exclude_history=True)
    still = rank_cases(model, cases, exclude_history=True, halting=Halting(rule="fixed", max_steps=0))
    assert sizes["rank"].tolist() == still.ranks.tolist()
    assert sizes["length"].tolist() == cases.history.lengths.tolist()
    weights, entropies = model.items.weight.detach().double(), []
    for row in range(30):
        history = torch.from_numpy(np.asarray(cases.history[row])[-12:].astype(np.int64))[None]
        lengths = torch.tensor([history.shape[1]])
        with torch.no_grad():
            state = model.backbone.encode(model.items(history), lengths)[0][0, -1].double()
        e, r = (weights / weights.norm(dim=1, keepdim=True), state / state.norm()) if loss.cosine else (weights, state)
        scores = e @ r / loss.temperature
        if loss.bias:
            scores = scores + model.items.bias.detach().double()
        p = scores.softmax(0).numpy()
        entropies.append(-sum(x * math.log(x) for x in p) / math.log(len(weights)))
    np.testing.assert_allclose(sizes["entropy"], entropies, rtol=1e-5)
