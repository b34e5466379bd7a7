"""`python -m benchmarks.peers --data FOLDER --out FOLDER`: the peers alone, without our own side of the benchmark."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .runner import PEERS, TIMEOUT_S, markdown, run_peers


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder written by benchmarks/export.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for peers.json, peers.md and the logs")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batches", type=int, default=0, help="training batches a repetition (0: a tenth of an epoch)")
    parser.add_argument("--whole-epoch", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--environments", type=Path, default=Path(".bench"))
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds for one peer")
    arguments = parser.parse_args()
    results = run_peers(
        arguments.data,
        arguments.out,
        arguments.repetitions,
        peers=arguments.peers,
        batches=arguments.batches,
        whole_epoch=arguments.whole_epoch,
        threads=arguments.threads,
        environments=arguments.environments,
        timeout_s=arguments.timeout,
    )
    (arguments.out / "peers.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.out / "peers.md").write_text(markdown(results))
    print(markdown(results), end="")


if __name__ == "__main__":
    main()
