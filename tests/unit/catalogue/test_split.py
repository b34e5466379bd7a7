"""A catalogue split three ways over three processes comes to what the whole comes to, in every one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import split_catalogue
import split_table

Differences = list[dict[str, dict[str, float]]]


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> Differences:
    """Of each process from the whole, by how products are cut and by what was computed."""
    folder = tmp_path_factory.mktemp("split")
    done = subprocess.run(
        [sys.executable, split_catalogue.__file__, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((Path(folder) / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(3)]


@pytest.mark.parametrize("cut", ["one block", "blocks"])
@pytest.mark.parametrize(
    "what", [*(check.__name__ for check in split_catalogue.LOSSES), "training", "ranks", "lists", *split_table.NAMES]
)
def test_three_processes_equal_the_whole(what: str, cut: str, differences: Differences) -> None:
    """Values and gradients of losses; weights and moments after steps of Adam; ranks and lists; lookups and losses of
    an item table where each process has positions of its own: to 1e-12 in float64."""
    assert [told[cut][what] for told in differences] == pytest.approx([0.0] * 3, abs=1e-12)
