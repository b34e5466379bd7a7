"""Peak memory of training and evaluating in a fresh process, beside what the interpreter and torch take alone.

python benchmarks/memory.py DATA
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace

from peers.measure import peak_rss_mb


def main() -> None:
    import torch  # noqa: F401

    base = peak_rss_mb()
    from forethought.data.reading import read
    from forethought.data.splits import leave_last_out
    from forethought.recipes import alone
    from forethought.runs import evaluate, train
    from forethought.training.settings import Training

    split = leave_last_out(read(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        model = train(replace(alone("sasrec"), training=Training(epochs=1)), split, f"{folder}/run")
        trained = peak_rss_mb()
        evaluate(model, split)
    print(json.dumps({"base_rss_mb": base, "train_rss_mb": trained, "peak_rss_mb": peak_rss_mb()}))


if __name__ == "__main__":
    main()
