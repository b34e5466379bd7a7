"""Two processes of `torchrun` make the updates of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from forethought.cli import main

# 12 positions are one long row or a few short ones: many batches have fewer rows than there are processes.
SETTINGS = {"width": 16, "layers": 1, "window": 8, "dropout": 0, "epochs": 2, "batch-positions": 12, "warmup-steps": 5}
OPTIONS = [*(word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))), "--json"]


def test_two_processes_give_the_weights_of_one(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    main(["train", "sasrec", "--data", str(shop), "--out", str(alone), "--quiet", *OPTIONS])
    told = json.loads(capsys.readouterr().out)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "forethought"]
    done = subprocess.run(
        [sys.executable, *launcher, "train", "sasrec", "--data", str(shop), "--out", str(together), *OPTIONS],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("valid ndcg@10") == 3  # two epochs and the last word, from one process only
    found = json.loads(done.stdout)
    assert found["epochs"] == told["epochs"] == 2
    assert found["valid_ndcg@10"] == pytest.approx(told["valid_ndcg@10"], abs=1e-5)
    weights = load_file(together / "model.safetensors")
    for name, tensor in load_file(alone / "model.safetensors").items():
        if name.endswith("qkv.bias"):  # softmax ignores the keys' bias: its gradient is rounding, which Adam magnifies
            weights[name][16:32] = tensor[16:32]
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-5)
    losses = [[json.loads(line)["loss"] for line in (run / "log.jsonl").open()] for run in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    (state,) = (together / "state").glob("state-*")
    assert {"random/0/cpu", "random/1/cpu"} <= load_file(state).keys()
