"""Fixed depths dealt by chance, against all shares of all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from forethought.studies.depth_mixes import DepthMix, best_mix


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("steps", [0.0, 0.4, 1.0, 1.7, 3.0])
def test_no_mix_with_no_more_steps_is_worth_more(seed: int, steps: float) -> None:
    valid_D = np.random.default_rng(seed).random(4)
    found = best_mix(valid_D.tolist(), steps)
    worth = float(found.quality(valid_D))
    assert (1 - found.share) * found.shallow + found.share * found.deep <= steps + 1e-12
    for a in range(4):
        for b in range(4):
            for share in np.linspace(0, 1, 101):
                if (1 - share) * a + share * b <= steps:
                    assert (1 - share) * valid_D[a] + share * valid_D[b] <= worth + 1e-12


def test_a_mix_by_hand() -> None:
    assert best_mix([0.0, 4.0, 5.0, 4.5], 1.25) == DepthMix(1, 2, 0.25)
    assert best_mix([0.0, 1.0, 5.0, 4.5], 1.0) == DepthMix(0, 2, 0.5), "past a depth that is worth little"
    best = best_mix([0.0, 4.0, 5.0, 4.5], 2.6)
    assert best.quality(np.array([0.0, 4.0, 5.0, 4.5])) == 5.0, "no more steps than pay"
    values_Dn = np.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(DepthMix(0, 1, 0.25).quality(values_Dn), [0.75, 0.25])
