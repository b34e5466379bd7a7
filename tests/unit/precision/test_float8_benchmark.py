"""The script that times float8 on a GPU, tried where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "float8.py"


@pytest.mark.slow
def test_a_dry_run_measures_every_format_and_finds_real_products_to_be_emulated_ones(tmp_path: Path) -> None:
    out = tmp_path / "float8.json"
    subprocess.run([sys.executable, SCRIPT, "--dry", "--seconds", "0.1", "--out", out], check=True)
    report = json.loads(out.read_text())
    assert max(report["agreement"].values()) < 2e-6  # the order of sums, on some processors
    for table in ("layers", "steps"):
        for name in ("fp32", "bf16", "layer_bf16", "fp8", "fp8_fast"):
            assert report[table]["32"][name]["ms"] > 0


def test_without_a_gpu_it_says_so_in_a_sentence() -> None:
    command = [sys.executable, SCRIPT, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--dry" in done.stderr
    assert "Traceback" not in done.stderr
