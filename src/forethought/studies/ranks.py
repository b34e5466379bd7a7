"""Where each case's target stood, kept beside a run's JSON: its metrics and differences follow from it without a model.

A rank behind the longest list of any metric scores nothing in all of them and is left out, so that a file has some
kilobytes. No ids are kept: cases stand in the order of the split, which the data hash and the split of the run settle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from forethought.data.sources import read_parquet
from forethought.errors import ConfigError, RunError
from forethought.evaluation.metrics import CUTS, named
from forethought.evaluation.report import Evaluation
from forethought.files import first_line, replace_file, sha256_of
from forethought.settings import check_keys

FOLDER = "ranks"
MEND = "remove it with the JSON of its run, and the study makes both anew"


def check(told: Any) -> None:
    """Refuse what a run's JSON says of its ranks where no `keep` said it.

    Raises:
        ConfigError: it names no file of theirs.
    """
    file = check_keys(told, {"file": str, "sha256": str}, "ranks")["file"]
    if Path(file).name != file or not file.endswith(".parquet"):  # it leads nowhere else
        raise ConfigError(f"ranks.file cannot be {file!r}")


def keep(results: Path, name: str, evaluation: Evaluation) -> dict[str, str]:
    """Write the ranks of a run's cases, and tell which file they are in.

    Args:
        name: the run's; a part of the checksum follows it, so that one that is trained anew leaves the file which
            older differences were computed from.

    Raises:
        RunError: the folder cannot be written.
    """
    ranks = pl.when(pl.col("rank") <= max(CUTS)).then(pl.col("rank")).cast(pl.Float32)
    evaluation.cases.select(pl.col("case").cast(pl.UInt32), rank=ranks).write_parquet(table := BytesIO())
    summed = sha256(table.getvalue()).hexdigest()
    file = f"{name}-{summed[:8]}.parquet"
    replace_file(results / FOLDER / file, lambda path: path.write_bytes(table.getvalue()))
    return {"file": file, "sha256": summed}


def without_ids(evaluation: Evaluation) -> Evaluation:
    """The same with numbers in the order of the split for users, and 0 for every target, as those that are kept."""
    cases = evaluation.cases.with_columns(user_id=(pl.col("case") == 0).cum_sum(), target_id=pl.lit(0))
    return replace(evaluation, cases=cases)


def read(results: Path, run: Mapping[str, Any]) -> Evaluation | None:
    """The evaluation of a run from its ranks, without ids; None where it kept none, or the file does not lie there.

    Args:
        run: what its JSON says.

    Raises:
        RunError: the file is damaged, or of another run.
    """
    if not (told := run.get("ranks")) or not (path := results / FOLDER / told["file"]).is_file():
        return None
    try:
        if sha256_of(path) != told["sha256"]:
            raise ValueError("it is not what was written")
        table = read_parquet(path)
        rank = table["rank"].cast(pl.Float64).fill_null(np.inf)
        scores = {name: named(name)(rank.to_numpy()) for name in run["metrics"]}
        cases = table.with_columns(user_id=pl.lit(0), target_id=pl.lit(0), rank=rank, **scores)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path} is damaged ({first_line(error).rstrip('.')}): {MEND}.") from error
    try:
        return without_ids(Evaluation.from_json({**run, "groups": {}}, cases))
    except RunError as error:
        raise RunError(f"{path} holds other ranks than those of the run's metrics: {MEND}.") from error
