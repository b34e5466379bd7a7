"""The end of `make quickstart`: two runs side by side, which of them is better, and how that one comes to its answer.

    python docs/quickstart.py SHOP RUN RUN FOLDER

The validation part chooses, and the test part says what the choice was worth, be it a disappointment.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import forethought as ft
from forethought.reports.story import write_story

METRIC = "ndcg@10"
HISTORY = ["i00002", "i00003"]


def on_validation(run: Path, split: Any) -> float:
    config = ft.EvaluationConfig(part="valid", lists=False, resamples=2)
    return ft.evaluate(run, split, config).metrics[METRIC].mean


def verdict(better: str, other: str, valid: dict[str, float], test: Any) -> str:
    """Which was chosen, and what the test part says of it.

    Args:
        valid: NDCG@10 on the validation part, by name.
        test: the difference on the test part, the chosen one less the other.
    """
    low, high = test.absolute.ci95
    if low > 0:
        worth = "there it is better too"
    elif high < 0:
        worth = "there it is WORSE: the validation part chose the wrong one"
    else:
        worth = "which decides nothing: the interval holds zero"
    return (
        f"Chosen by the validation part: {better} (NDCG@10 {valid[better]:.4f}, {other} {valid[other]:.4f}).\n"
        f"On the test part {better} less {other} is {test.absolute.mean:+.4f} [{low:+.4f}, {high:+.4f}], {worth}."
    )


def main(shop: Path, runs: list[Path], pictures: Path) -> str:
    """Tell all of it, and draw how both come to their answers; the name of the run that was chosen."""
    split = ft.leave_last_out(ft.read(shop))
    valid = {run.name: on_validation(run, split) for run in runs}
    folders = {run.name: run for run in sorted(runs, key=lambda run: -valid[run.name])}
    better, other = folders
    tested = {name: ft.evaluate(folder, split) for name, folder in folders.items()}
    (difference,) = ft.compare(tested, baseline=other, metrics=[METRIC]).differences
    print(verdict(better, other, valid, difference))
    print(f"\nWhat {better} recommends, and why:\n")
    told = {name: ft.load(folder).explain(HISTORY) for name, folder in folders.items()}
    print(told[better])
    for name, each in told.items():
        print(f"A picture of how {name} answers: {write_story(each, pictures / f'story-{name}.png')}")
    return better


if __name__ == "__main__":
    shop, first, second, pictures = map(Path, sys.argv[1:])
    main(shop, [first, second], pictures)
