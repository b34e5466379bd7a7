"""A run leaves the library: as an ONNX file, as a PyTorch program, or as vectors for a database.

A program is written, opened again from its file and held against the library before the folder gets its name: what
does not agree is not written.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from forethought.data.splits import Split
from forethought.errors import ConfigError, RunError
from forethought.exporting.check import Agreement, Program, agreement, latency_ms, library_scores
from forethought.exporting.exportable import check_exportable, check_vectors
from forethought.exporting.histories import Trial, inputs_of, trial
from forethought.exporting.items import IDS_FILE, TABLE_FILE, write_items
from forethought.exporting.onnx_file import check_packages, open_onnx, write_onnx
from forethought.exporting.program import ScoringProgram
from forethought.exporting.readme import program_readme, vectors_readme
from forethought.exporting.traced import opened, saved, traced
from forethought.exporting.vectors import NEIGHBOURS_FILE, QUERIES_FILE, ranked_vectors, write_queries, write_vectors
from forethought.files import read_json, write_json
from forethought.folders import check_own, replace_folder
from forethought.recommender import Recommender, load
from forethought.settings import Count, check_all
from forethought.version import MADE_BY, MARK

Target = Literal["onnx", "torch", "parquet"]
METADATA_FILE, README_FILE = "metadata.json", "README.md"
NEIGHBOURS = 20  # of each item and kind
ONNX_FILE, TORCH_FILE = "model.onnx", "model.pt2"
WRITTEN = (
    *(METADATA_FILE, README_FILE, IDS_FILE, TABLE_FILE),
    *(ONNX_FILE, f"{ONNX_FILE}.data", TORCH_FILE, NEIGHBOURS_FILE, QUERIES_FILE),
)


@dataclass(frozen=True)
class Exported:
    """An export that lies in a folder.

    Attributes:
        about: what its `metadata.json` says.
    """

    folder: Path
    about: dict[str, Any]


def export(
    run: str | Path | Recommender,
    out: str | Path,
    to: Target = "onnx",
    *,
    k: int | None = None,
    split: Split | None = None,
    histories: str | Path | None = None,
    neighbours: int | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a run as something that needs this library no more.

    Args:
        to: `onnx` (ONNX Runtime), `torch` (a `torch.export` program), or `parquet` (vectors and neighbours).
        k: a program lists so many items and their scores, the history left out if the run was trained so; None: it
            gives the scores of all items.
        split: whose test histories a program is tried on; None: histories that are drawn.
        histories: with `parquet` a table of histories, as `recommend_table` reads it, whose query vectors are written.
        neighbours: with `parquet` of each item and kind, so many at most; None: 20.
        overwrite: replace an earlier export.

    Raises:
        ConfigError: the method cannot be exported so, or a package is missing.
        DataError: the folder is in use, or the histories cannot be read.
        RunError: there is no such run, or what was made of it does not agree with it; then nothing is written.
    """
    check_all(out=(out, str | Path), to=(to, Target), k=(k, Count | None), split=(split, Split | None))
    check_all(
        histories=(histories, str | Path | None), neighbours=(neighbours, Count | None), overwrite=(overwrite, bool)
    )
    _check_options(to, k, histories, neighbours)
    model, out = run if isinstance(run, Recommender) else load(run, device="cpu"), Path(out)
    check_own(out, WRITTEN, _is_ours, "an export", overwrite=overwrite)
    if k is not None and k > len(model.items):
        raise ConfigError(f"k is {k}, but the run knows {len(model.items):,} items: give as many at most.")
    if to == "parquet":
        check_vectors(model.method)
    else:
        check_exportable(model.method)
        if to == "onnx":
            check_packages()
    with replace_folder(out, overwrite=overwrite) as folder:
        about = _about(model, to)
        if to == "parquet":
            about |= _vectors(model, folder, histories, neighbours or NEIGHBOURS)
            text = vectors_readme(about)
        else:
            about |= _program(model, folder, to, k, trial(model, split))
            write_items(model, folder)
            text = program_readme(about)
        write_json(folder / METADATA_FILE, about)
        (folder / README_FILE).write_text(text, encoding="utf-8")
    return Exported(out, about)


def _check_options(to: Target, k: int | None, histories: str | Path | None, neighbours: int | None) -> None:
    if to == "parquet" and k is not None:
        raise ConfigError("Vectors list no items, so k would change nothing: leave it out (--k), or export a program.")
    if to != "parquet" and histories is not None:
        raise ConfigError(
            "Histories become query vectors with parquet alone: leave them out (--histories), or export to parquet."
        )
    if to != "parquet" and neighbours is not None:
        raise ConfigError(
            "Neighbours are listed with parquet alone: leave them out (--neighbours), or export to parquet."
        )


def _is_ours(folder: Path) -> bool:
    try:
        about = read_json(folder / METADATA_FILE, "")
    except RunError:
        return False
    return isinstance(about, dict) and str(about.get("made", "")).startswith(MARK)


def _about(model: Recommender, to: Target) -> dict[str, Any]:
    """What every export says of its run."""
    config, evidence = model.config.method, model.method.evidence
    backbone = getattr(config, "backbone", None)
    name = type(config).__name__ if backbone is None else f"{type(config).__name__} on {type(backbone).__name__}"
    return {
        "made": MADE_BY,
        "to": to,
        "run": "a run" if model.folder is None else model.folder.resolve().name,
        "weights": model.weights_sum,
        "method": name,
        "data": model.about["data"],
        "data_hash": model.about["data_hash"],
        "items": len(model.items),
        "window": model.method.window,
        "reads_times": model.method.inputs.times,
        "evidence": evidence is not None and not evidence.silent(),
        "torch": torch.__version__,
    }


def _vectors(model: Recommender, folder: Path, histories: str | Path | None, neighbours: int) -> dict[str, Any]:
    counts = write_vectors(model, folder, min(neighbours, max(1, len(model.items) - 1)))
    about: dict[str, Any] = {
        "dimensions": ranked_vectors(model).shape[1],
        "bias": model.method.catalogue().offsets_N is not None,
        "similarity": "inner product",
        "neighbours": counts,
    }
    return about if histories is None else about | write_queries(model, histories, folder)


def _program(model: Recommender, folder: Path, to: Target, k: int | None, tried: Trial) -> dict[str, Any]:
    """Write the program and hold it against the library.

    Raises:
        RunError: it does not agree.
    """
    there = model.method.device.type == "cpu"
    method = model.method if there else copy.deepcopy(model.method).cpu()  # the caller's stays where it is
    exclude = bool(model.about["exclude_history"])
    exported = traced(ScoringProgram(method, k, exclude_history=exclude))
    inputs = ["items", "lengths", *(["times"] if method.inputs.times else [])]
    outputs = ["scores"] if k is None else ["best", "scores"]
    about: dict[str, Any] = {"inputs": inputs, "outputs": outputs, "k": k}
    about["exclude_history"] = exclude and k is not None
    if to == "onnx":
        about["opset"] = write_onnx(exported, folder / ONNX_FILE, inputs, outputs)
    else:
        saved(exported, folder / TORCH_FILE)
    opener: Callable[[Path], Program] = open_onnx if to == "onnx" else opened
    program = opener(folder / (ONNX_FILE if to == "onnx" else TORCH_FILE))
    shown = agreement(program, method, tried, k, exclude_history=exclude)
    if not shown.holds:
        raise RunError(_disagreement(shown))
    about["check"] = asdict(shown)
    about["latency"] = {
        "threads": torch.get_num_threads(),
        "library_ms": latency_ms(lambda batch: library_scores(method, batch), tried),
        "exported_ms": latency_ms(lambda batch: program(inputs_of(batch)), tried),
    }
    return about


def _disagreement(shown: Agreement) -> str:
    return (
        f"The exported program does not agree with the run: scores differ by {shown.max_abs_difference:.1e} "
        f"({shown.tolerance:.1e} is allowed), and {shown.different_lists} of {shown.histories} lists are others; "
        "nothing was written."
    )
