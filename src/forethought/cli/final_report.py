"""What a training shows at its end: where the run lies, and the validation part at lengths that were asked for."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forethought.cli.measuring import lengths
from forethought.cli.shared import print_json
from forethought.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from forethought.data.splits import Split
    from forethought.evaluation.report import Evaluation
    from forethought.recommender import Recommender


def cutoffs_of(options: Any) -> tuple[int, ...]:
    """The lengths of `--cutoffs`, checked before the data is read; none where it is not given.

    Raises:
        ConfigError: they are none, one is said twice, or nothing would be shown.
    """
    from forethought.evaluation.settings import EvaluationConfig

    if options.cutoffs is None:
        return ()
    if options.quiet and not options.json:
        raise ConfigError("--cutoffs would change nothing where nothing is shown: leave --quiet out, or add --json.")
    return EvaluationConfig(cutoffs=lengths(options.cutoffs)).cutoffs


def tell_outcome(model: Recommender, split: Split, options: Any, cutoffs: tuple[int, ...], view: Console) -> None:
    """What a training came to: as JSON, in words, or nothing, as the options say."""
    if options.json or not options.quiet:
        found = _on_validation(model, split, cutoffs) if cutoffs else None
        (_as_json if options.json else _in_words)(model, options.out, found, view)


def _as_json(model: Recommender, out: Path, found: Evaluation | None, _: Console) -> None:
    layers = {"ladq": model.progress()["ladq"]["history"]} if model.precision_report() else {}
    valid = {} if found is None else {"valid": {name: asdict(each) for name, each in found.metrics.items()}}
    print_json({"run": str(out), "parameters": model.n_parameters, **model.outcome(), **layers, **valid})


def _in_words(model: Recommender, out: Path, found: Evaluation | None, view: Console) -> None:
    if report := model.precision_report():
        view.print(report)
    if found is not None:
        document = found.document()
        sys.stdout.write(replace(document, tables=document.tables[:1], remarks=[]).text().rstrip() + "\n")
        sys.stdout.flush()
    view.print(f"The run lies in {out}; next: forethought evaluate {out}")


def _on_validation(model: Recommender, split: Split, cutoffs: tuple[int, ...]) -> Evaluation:
    from forethought.evaluation.settings import EvaluationConfig
    from forethought.runs import evaluate

    return evaluate(model, split, EvaluationConfig(part="valid", lists=False, cutoffs=cutoffs))
