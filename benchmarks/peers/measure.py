"""What the three peer scripts share: their arguments, the stopwatch, and the shape of their result.

Runs inside a peer's own environment, so it needs nothing but the standard library. Every script imports it before the
peer, so `STARTED` is the moment the script began.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
LOAD_BEFORE = os.getloadavg()[0]

# The model and objective of the comparison; each script hands these to its peer under the peer's own names.
WIDTH = 64
LAYERS = 2
HEADS = 2
WINDOW = 50
DROPOUT = 0.5
LEARNING_RATE = 1e-3
TOP_K = 10

WARM_UP_BATCHES = 3
DEFAULT_SHARE = 0.1  # of an epoch, in each repetition
LATENCY_WARM_UP = 10

Request = Callable[[Any], Any]


def parse_arguments(peer: str, batch_size: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"Measure SASRec with full cross-entropy in {peer}.")
    parser.add_argument("--data", type=Path, required=True, help="folder written by benchmarks/export.py")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--batches", type=int, default=0, help="training batches in one repetition (0: a tenth of an epoch)"
    )
    parser.add_argument("--whole-epoch", action="store_true", help="time whole epochs, not a share")
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--requests", type=int, default=200, help="single-user requests timed for the latency")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.data = arguments.data.resolve()
    arguments.out = arguments.out.resolve()
    # RecBole reads the command line of whatever script imports it.
    sys.argv = sys.argv[:1]
    return arguments


class Stopwatch:
    """Times training from inside the peer's own loop.

    The peer's loop calls `batch_starts` before each step; between two calls lies everything that one batch costs, from
    its loading to the optimiser's step. After `WARM_UP_BATCHES` the batches fall into repetitions of equal length.
    With `whole_epoch` it is `epoch_starts` and `epoch_ends` that count.
    """

    def __init__(self, arguments: argparse.Namespace, epoch_rows: int) -> None:
        self.batch_size: int = arguments.batch_size
        self.repetitions: int = arguments.repetitions
        self.whole_epoch: bool = arguments.whole_epoch
        self.epoch_rows = epoch_rows
        self.epoch_batches = math.ceil(epoch_rows / self.batch_size)
        # The last batch of an epoch may be short, so it is never among those timed.
        most = (self.epoch_batches - WARM_UP_BATCHES - 1) // self.repetitions
        if most < 1 and not self.whole_epoch:
            raise SystemExit(
                f"an epoch of {self.epoch_batches} batches is too short to time in part; use --whole-epoch"
            )
        self.batches = min(arguments.batches or math.ceil(DEFAULT_SHARE * self.epoch_batches), most)
        self.starts: list[float] = []
        self.losses: list[float] = []
        self._epochs: list[float] = []
        self._epoch_start = 0.0

    @property
    def passes(self) -> int:
        """Epochs to begin."""
        return self.repetitions if self.whole_epoch else 1

    @property
    def limit(self) -> int | None:
        """Batches to draw in a pass; one more than those timed, because its start ends the last of them."""
        return None if self.whole_epoch else WARM_UP_BATCHES + self.repetitions * self.batches + 1

    def batch_starts(self) -> None:
        self.starts.append(time.perf_counter())

    def epoch_starts(self) -> None:
        self._epoch_start = time.perf_counter()

    def epoch_ends(self) -> None:
        self._epochs.append(time.perf_counter() - self._epoch_start)

    def epoch_seconds(self) -> list[float]:
        """Seconds of a whole epoch, by each repetition."""
        if self.whole_epoch:
            return self._epochs
        edges = [self.starts[WARM_UP_BATCHES + r * self.batches] for r in range(self.repetitions + 1)]
        # By rows, not by batches: the short last batch of the epoch is not charged as a full one.
        scale = self.epoch_rows / (self.batches * self.batch_size)
        return [(after - before) * scale for before, after in pairwise(edges)]

    def result(self) -> dict[str, Any]:
        seconds = self.epoch_seconds()
        few = max(1, min(5, len(self.losses) // 3))
        first, last = statistics.fmean(self.losses[:few]), statistics.fmean(self.losses[-few:])
        share = 1.0 if self.whole_epoch else self.batches * self.batch_size / self.epoch_rows
        return {
            "startup_s": self.starts[0] - STARTED,
            "epoch_s": statistics.median(seconds),
            "epoch_s_each": seconds,
            "epoch_share": share,
            "epoch_rows": self.epoch_rows,
            "epoch_batches": self.epoch_batches,
            "batch_size": self.batch_size,
            "batches_timed": None if self.whole_epoch else self.batches,
            "repetitions": self.repetitions,
            "loss_first": first,
            "loss_last": last,
            "learns": last < first,
            "train_peak_rss_mb": peak_rss_mb(),
        }


class LightningTimer:
    """The hooks by which Lightning tells the stopwatch; to be mixed into the Callback of a peer's own Lightning."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self.stopwatch = stopwatch

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.stopwatch.epoch_starts()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.stopwatch.batch_starts()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.stopwatch.losses.append(float(outputs["loss"]))

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.stopwatch.epoch_ends()


def repeat(action: Callable[[], Any], repetitions: int) -> tuple[list[float], Any]:
    """Seconds of each run of `action`, and what the last one returned."""
    seconds, value = [], None
    for _ in range(repetitions):
        start = time.perf_counter()
        value = action()
        seconds.append(time.perf_counter() - start)
    return seconds, value


def latency_ms(request: Request, users: Sequence[Any], requests: int) -> dict[str, float]:
    """p50 and p99 in ms of `request(user)`, one user at a time, users taken evenly from the whole list."""
    step = max(1, len(users) // (requests + LATENCY_WARM_UP))
    chosen = [users[(i * step) % len(users)] for i in range(requests + LATENCY_WARM_UP)]
    times = sorted(repeat(lambda user=user: request(user), 1)[0][0] * 1e3 for user in chosen[LATENCY_WARM_UP:])
    return {"p50": times[len(times) // 2], "p99": times[min(len(times) - 1, math.ceil(0.99 * len(times)) - 1)]}


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    # A child's ru_maxrss starts from its parent's, so a large bench.py would show up in it; VmHWM does not.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def write_result(
    arguments: argparse.Namespace,
    *,
    package: str,
    import_s: float,
    training: dict[str, Any],
    evaluation: tuple[list[float], dict[str, float]],
    latency: dict[str, float],
    protocol: dict[str, Any],
) -> None:
    """Write the JSON of one peer. `evaluation` is the seconds of each repetition and the metrics it gave."""
    eval_seconds, metrics = evaluation
    result = {
        "version": version(package),
        "torch": version("torch"),
        "python": platform.python_version(),
        "threads": arguments.threads,
        # Of the last minute before the start: well above 0 means that others were computing too.
        "load_before": LOAD_BEFORE,
        "import_s": import_s,
        **training,
        "eval_s": statistics.median(eval_seconds),
        "eval_s_each": eval_seconds,
        # Of a model trained for a fraction of an epoch or a few: shows that it runs, not how good the peer is.
        "metrics_after_timing": metrics,
        "latency_ms": latency,
        "peak_rss_mb": peak_rss_mb(),
        "protocol": protocol,
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: result[key] for key in ("epoch_s", "eval_s", "peak_rss_mb", "startup_s", "latency_ms")}))
