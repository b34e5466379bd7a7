"""The failure signatures: silent where all is well, one sentence each where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from forethought.catalogue.catalogue import Catalogue
from forethought.reasoning.diagnostics import mean_cosine, of_halting, of_prototypes, of_trajectory, steps_taken
from forethought.reasoning.halting import Halting
from forethought.reasoning.prototypes import Prototypes


def test_likeness_is_a_sum_of_cosines() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    wanted = sum(x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True))
    assert mean_cosine(torch.from_numpy(a), torch.from_numpy(b)).item() == pytest.approx(wanted)


def test_flat_trajectories() -> None:
    assert of_trajectory(0.9).warnings == []
    assert "nearly the same (mean cosine 0.999)" in of_trajectory(0.9991).warnings[0]


@pytest.mark.parametrize(
    ("halting", "steps", "soft", "said"),
    [
        ({}, [1] * 19 + [2], 2.0, "95% of the validation cases stop after step 1 of 3 at the threshold 0.5, so that"),
        ({}, [1] * 18 + [2] * 2, 2.0, None),
        ({}, [3] * 20, 2.0, "100% of the validation cases stop after step 3 (the last) of 3 at the threshold"),
        ({}, [2] * 20, 2.0, "stop after step 2 of 3"),
        ({"min_steps": 0}, [0] * 20, 2.0, "stop before the first step of 3"),
        ({"max_steps": 2}, [2] * 20, 2.0, "stop after step 2 (the last) of 2"),
        ({"max_steps": 1}, [1] * 20, 2.0, None),
        ({"rule": "fixed"}, [3] * 20, 3.0, None),
        ({"rule": "random"}, [3] * 20, 3.0, None),
        ({"rule": "soft"}, [3] * 20, 2.0, None),
        ({"rule": "soft"}, [3] * 20, 2.99, "All of the weight lies on one step, so that depth adapts to nobody"),
    ],
)
def test_halting_without_a_choice(halting: dict, steps: list[int], soft: float, said: str | None) -> None:
    way = Halting(**halting)
    figures = {"soft_steps": soft, **steps_taken(way, np.array(steps, np.float32))}
    warnings = of_halting(figures, way, 3).warnings
    assert warnings == [] if said is None else said in warnings[0]


@pytest.mark.parametrize(
    ("halting", "soft", "ways"),
    [
        ({}, 2.0, {"--delta-within", "forethought align"}),
        ({}, 1.01, {"--delta-within", "forethought align", "ponder_weight"}),
        ({}, 2.96, {"--delta-within", "forethought align", "ponder_weight"}),
        ({"rule": "entropy"}, 1.01, {"--delta-within"}),
        ({"min_steps": 0}, 2.0, {"--delta-within"}),
    ],
)
def test_who_adapts_to_nobody_is_told_what_can_be_done(halting: dict, soft: float, ways: set[str]) -> None:
    figures = {"soft_steps": soft, "valid_steps_p50": 1.0, "valid_steps_alike": 1.0}
    (told,) = of_halting(figures, Halting(**halting), 3).warnings
    assert {way for way in ("--delta-within", "forethought align", "ponder_weight") if way in told} == ways


def test_steps_taken_by_hand() -> None:
    steps = np.array([1, 1, 2, 3, 3, 3, 3, 3, 3, 3], np.float32)
    told = steps_taken(Halting(), steps)
    assert told == {
        "valid_steps": pytest.approx(2.5),
        **{"valid_steps_p10": 1.0, "valid_steps_p50": 3.0, "valid_steps_p90": 3.0},
        "valid_steps_alike": 0.7,
    }
    assert steps_taken(None, steps) == steps_taken(Halting(rule="fixed"), steps) == {}


def made(levels: list[torch.Tensor]) -> Prototypes:
    prototypes = Prototypes([len(level) for level in levels], 40, 4, unit=False)
    prototypes.centres_KD[:] = torch.cat(levels)
    prototypes.sizes_K[:] = 2
    return prototypes


def test_prototypes_by_hand() -> None:
    torch.manual_seed(0)
    centres, items = torch.randn(5, 4), torch.randn(40, 4)
    diagnostics = of_prototypes(made([centres, centres * 3]), Catalogue(items, temperature=0.5))
    unit = (centres / centres.norm(dim=-1, keepdim=True)).numpy()
    cosines = [unit[a] @ unit[b] for a in range(5) for b in range(5) if a != b]
    assert diagnostics.figures["prototype_cosine_1"] == pytest.approx(np.mean(cosines), abs=1e-6)
    wanted = entropy(softmax((centres @ items.T / 0.5).numpy(), axis=1), axis=1).mean()
    assert diagnostics.figures["target_entropy_1"] == pytest.approx(wanted, rel=1e-5)
    assert diagnostics.figures["target_entropy_2"] < diagnostics.figures["target_entropy_1"]
    assert diagnostics.warnings == []


def test_prototypes_meet_biases_in_full() -> None:
    torch.manual_seed(0)
    centres, items = torch.randn(5, 4), torch.randn(40, 4)
    diagnostics = of_prototypes(made([centres]), Catalogue(items[:, :-1], items[:, -1], temperature=0.5))
    scores = centres[:, :-1] @ items[:, :-1].T / 0.5 + items[:, -1]
    assert diagnostics.figures["target_entropy_1"] == pytest.approx(
        entropy(softmax(scores.numpy(), axis=1), axis=1).mean()
    )


def test_prototypes_that_are_one_or_turn_coarse() -> None:
    torch.manual_seed(0)
    items, one = torch.randn(40, 4), torch.ones(5, 4) + torch.randn(5, 4) * 0.01
    diagnostics = of_prototypes(made([one * 2, one * 0.1]), Catalogue(items, temperature=0.5))
    assert "5 prototypes of step 1 are nearly one" in diagnostics.warnings[0]
    assert "prototypes of step 2 say less than those of step 1" in diagnostics.warnings[1]
