"""A SASRec whose items three processes hold between them, trained by the one loop, in float64.

Twice: in one sitting, and stopped and resumed; a copy of the stopped run is left. Each process writes down what it held
of the items and their moments. The processes are forked, as imports take longer than the training, and told what
torchrun would tell them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric  # takes longest to import, and is needed in each process
from torch import distributed, multiprocessing

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.reading import read
from forethought.data.splits import leave_last_out
from forethought.methods.items import ItemLoss
from forethought.methods.next_item import NextItem
from forethought.runs import train
from forethought.training.interrupt import Interrupted
from forethought.training.loop import Fit
from forethought.training.progress import Quiet
from forethought.training.settings import Training

WORLD = 3
BACKBONE = SASRec(width=16, layers=1, heads=2, window=8, ffn_width=32, dropout=0.0)
# two rounds: a stage that begins with the best weights of another; batches of so few rows that some process has none;
# all that an update may consist of
METHOD = NextItem(backbone=BACKBONE, loss=ItemLoss(bias=True, smoothing=0.1), rounds=2)
SETTINGS: dict[str, Any] = {
    **{"epochs": 2, "batch_positions": 16, "warmup_steps": 5, "learning_rate": 1e-2, "checkpoint_every_s": 0},
    **{"weight_decay": 0.1, "clip_norm": 0.2, "precision": "32", "device": "cpu"},
}
STOP = 22  # steps: heard of at the next reading, in the second round and the middle of an epoch


class Stopping(Quiet):
    """Asks for a stop after so many steps, as Ctrl-C does."""

    left = STOP

    def step(self, losses: dict[str, float], positions: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def note(out: Path) -> None:
    """Have each process write down the sizes of its parameters and of their moments when a state is saved."""
    save = Fit._save

    def noting(fit: Fit, fabric: Fabric, optimiser: Any) -> None:
        moments = [list(entry["exp_avg"].shape) for entry in optimiser.optimizer.state_dict()["state"].values()]
        sizes = {name: list(parameter.shape) for name, parameter in fit.method.named_parameters()}
        text = json.dumps({"parameters": sizes, "moments": moments})
        (out / f"held-{fabric.global_rank}.json").write_text(text, encoding="utf-8")
        save(fit, fabric, optimiser)

    Fit._save = noting  # type: ignore[method-assign]


def work(rank: int, port: int, shop: str, folder: str) -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": 0}
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": WORLD, "LOCAL_WORLD_SIZE": WORLD}
    os.environ |= {name: str(value) for name, value in {**address, **world}.items()}
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    split, training, out = leave_last_out(read(shop)), Training(**SETTINGS, split_catalogue=True), Path(folder)
    note(out)
    train(Recipe(method=METHOD, training=training), split, out / "sitting")
    try:
        train(Recipe(method=METHOD, training=training), split, out / "stopped", observer=Stopping())
    except Interrupted:
        (out / f"stopped-{rank}").touch()
    if rank == 0:
        shutil.copytree(out / "stopped", out / "left")
    train(Recipe(method=METHOD, training=training), split, out / "stopped", resume=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at = free.getsockname()[1]
    multiprocessing.start_processes(work, (at, *sys.argv[1:]), nprocs=WORLD, start_method="fork")
