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


STAGED = """
import sys
from dataclasses import replace
import torch
torch.set_num_threads(1)
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.reading import read
from forethought.data.splits import leave_last_out
from forethought.methods.interface import Stage
from forethought.methods.next_item import NextItemModel
from forethought.runs import train
from forethought.training.settings import Training

NextItemModel.stages = lambda method: (Stage(name="first", epochs=1), Stage(name="second", epochs=1))
NextItemModel.begin_stage = lambda method, name: method.backbone.requires_grad_(name == "first")
backbone = SASRec(width=16, layers=1, window=8, ffn_width=32, dropout=0.0)
settings = Training(batch_positions=12, warmup_steps=5, learning_rate=1e-2)
train(Recipe(method=backbone, training=settings), leave_last_out(read(sys.argv[1])), sys.argv[2])
"""


@pytest.mark.slow
def test_two_processes_go_through_the_stages_of_one(shop: Path, processes: dict[str, str], tmp_path: Path) -> None:
    """Each stage is wrapped anew, for what trains in it."""
    script = tmp_path / "staged.py"
    script.write_text(STAGED)
    alone, together = tmp_path / "alone", tmp_path / "together"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for words, out in ((["python"], alone), (launcher, together)):
        done = subprocess.run(
            [*words, str(script), str(shop), str(out)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=processes | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": ""},
        )
        assert done.returncode == 0, done.stderr
    for name in ("state/first.safetensors", "model.safetensors"):
        weights = load_file(together / name)
        for key, tensor in load_file(alone / name).items():
            if key.endswith("qkv.bias"):  # as above
                weights[key][16:32] = tensor[16:32]
            torch.testing.assert_close(weights[key], tensor, rtol=0, atol=1e-4)
    logs = [[json.loads(line)["stage"] for line in (run / "log.jsonl").open()] for run in (alone, together)]
    assert logs == [[1, 2], [1, 2]]
