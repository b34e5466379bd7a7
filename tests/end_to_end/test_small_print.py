"""A k-core of nothing, a copy that counted as a seed, a Ctrl-C taken for a broken table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from shell import Shell

from forethought.data import doctor
from forethought.data.filters import k_core
from forethought.data.reading import read
from forethought.errors import ConfigError, DataError
from forethought.evaluation.compare import compare
from forethought.evaluation.report import Evaluation


@pytest.mark.parametrize("cores", [(-1, 5), (5, 0), (5, -5)])
def test_a_negative_k_core_filters_nothing_and_is_refused(
    shell: Shell, shop: Path, tmp_path: Path, cores: tuple[int, int]
) -> None:
    said = shell.wrong("prepare", shop, "--out", tmp_path / "out", "--k-core", *cores)
    assert f"k_core is {cores}, but must be 2 values, each a whole number from 1 to" in said
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"s is .*, but must be a whole number from 1"):
        k_core(read(shop), *cores)


def test_a_copy_of_a_run_is_not_another_seed(shell: Shell, run: Path, tmp_path: Path) -> None:
    shell.ok("evaluate", run, "--resamples", 20)
    other = Path(shutil.copytree(run, tmp_path / "other"))
    third = Path(shutil.copytree(run, tmp_path / "third"))
    said = shell.wrong("compare", f"a={run}", f"a={other}", f"b={third}")
    assert "One evaluation of 'a' was given twice and would count as two seeds: give it once." in said
    assert shell.ok("compare", f"a={run}", f"b={other}")
    evaluation = Evaluation.read(run)
    with pytest.raises(DataError, match="was given twice"):
        compare({"a": [evaluation, evaluation], "b": evaluation})
    shell.ok("evaluate", other, "--resamples", 20)  # measured anew: its timings are its own
    assert shell.ok("compare", f"a={run}", f"a={other}", f"b={third}")


def raises(kind: type[BaseException], said: str) -> Any:
    def fails(*_: object, **__: object) -> None:
        raise kind(said)

    return fails


@pytest.mark.parametrize(
    ("source", "where", "kind", "said"),
    [
        ("sql: SELECT 1 AS user_id", "forethought.data.sql.relation_frame", RuntimeError, "Query interrupted"),
        ("SHOP", "forethought.data.doctor._ids", pl.exceptions.ComputeError, "KeyboardInterrupt: "),
        ("SHOP", "forethought.data.doctor._shape", KeyboardInterrupt, ""),
    ],
)
def test_ctrl_c_is_no_problem_of_the_table(
    shell: Shell,
    shop: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    where: str,
    kind: type[BaseException],
    said: str,
) -> None:
    monkeypatch.setattr(where, raises(kind, said))
    source = str(shop) if source == "SHOP" else source
    told = shell.run("doctor", source)
    assert (told.code, told.out) == (130, "")
    assert told.err.split() == ["Stopped."]
    with pytest.raises(KeyboardInterrupt):
        doctor.diagnose(source)
