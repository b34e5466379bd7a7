"""Runs every peer in a process of its own and gathers what they measured. Standard library only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .environments import REQUIREMENTS, InstallError, ensure

HERE = Path(__file__).resolve().parent
PEERS = tuple(REQUIREMENTS)
TIMEOUT_S = 1800
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_peers(
    data_folder: Path,
    out: Path,
    repetitions: int = 3,
    *,
    peers: Iterable[str] = PEERS,
    batches: int = 0,
    whole_epoch: bool = False,
    threads: int = 2,
    environments: Path = Path(".bench"),
    timeout_s: float = TIMEOUT_S,
) -> dict[str, dict[str, Any]]:
    """Measure the peers one after another, never two at a time.

    Args:
        data_folder: what `export.py` wrote.
        out: folder for one JSON and one log per peer.
        repetitions: of training, and of evaluation; the figures are their medians.
        batches: training batches in a repetition; 0 is a tenth of an epoch.
        whole_epoch: time whole epochs instead.
        environments: folder of the virtual environments, made on first use.
        timeout_s: of one peer, installation aside.

    Returns:
        By peer: epoch_s, eval_s, peak_rss_mb, startup_s, latency_ms {p50, p99}, version, epoch_share, repetitions and
        more (see README.md); or {"error": reason} for a peer that could not be installed or run.
    """
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    for peer in peers:
        print(f"{peer}: preparing its environment", file=sys.stderr, flush=True)
        try:
            python = ensure(peer, environments)
        except InstallError as error:
            results[peer] = {"error": f"could not be installed: {error}"}
            continue
        print(f"{peer}: measuring", file=sys.stderr, flush=True)
        options = ["--repetitions", str(repetitions), "--batches", str(batches), "--threads", str(threads)]
        if whole_epoch:
            options.append("--whole-epoch")
        results[peer] = _run(
            [str(python), str(HERE / f"{peer}_run.py"), "--data", str(data_folder.resolve()), *options],
            out.resolve() / peer,
            threads,
            timeout_s,
        )
    return results


def _run(command: list[str], stem: Path, threads: int, timeout_s: float) -> dict[str, Any]:
    """Run one peer's script; `stem` is the path of its JSON and its log, without their suffixes."""
    result, log = stem.with_suffix(".json"), stem.with_suffix(".log")
    result.unlink(missing_ok=True)
    command = [*command, "--out", str(result)]
    # CPU against CPU, whatever the machine has; and nothing of our own environment may leak into theirs.
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    variables |= dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"CUDA_VISIBLE_DEVICES": ""}
    try:
        with log.open("w") as file:
            subprocess.run(command, env=variables, stdout=file, stderr=subprocess.STDOUT, check=True, timeout=timeout_s)
        return json.loads(result.read_text())
    except subprocess.TimeoutExpired:
        return {"error": f"no end within {timeout_s:.0f} s (see {log.name})"}
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return {"error": f"failed: {lines[-1] if lines else error} (see {log.name})"}


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """The table of the peers; one that failed has its reason in place of figures."""
    lines = [
        "| peer | version | batch | share of an epoch timed | s/epoch | full ranking, s | peak RSS, MB | start-up, s "
        "| one user, p50 / p99 ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for peer, r in results.items():
        if "error" in r:
            lines.append(f"| {peer} | {r['error'].replace('|', '/')} | | | | | | | |")
            continue
        latency = f"{r['latency_ms']['p50']:.1f} / {r['latency_ms']['p99']:.1f}"
        lines.append(
            f"| {peer} | {r['version']} | {r['batch_size']} | {r['repetitions']} x {r['epoch_share']:.2f} "
            f"| {r['epoch_s']:.0f} | {r['eval_s']:.1f} | {r['peak_rss_mb']:,.0f} | {r['startup_s']:.1f} | {latency} |"
        )
    return "\n".join(lines) + "\n"
