"""A result as a file, in the form that the file's ending says: page, table or figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from forethought.errors import ConfigError, shown
from forethought.escaping import spreadsheet
from forethought.evaluation.compare import Comparison
from forethought.evaluation.report import Evaluation
from forethought.explaining.explanation import Explanation
from forethought.files import check_replaceable, replace_file, write_json
from forethought.reports.figures import figure_of
from forethought.reports.html import comparison_page
from forethought.reports.pictures import FORMATS, check_picture, save_figure
from forethought.reports.trajectory import write_trajectory
from forethought.tables.html import page, text_page
from forethought.version import MADE_BY

Result = Evaluation | Comparison | Explanation
FIRST_COLUMNS = ("by", "group", "cases"), ("metric", "method", "seeds"), ("place", "item_id", "title")  # of frames
FORMS = (".html", ".md", ".tex", ".csv", ".json", *FORMATS)


def save_results(result: Result, path: str | Path) -> Path:
    """Write an evaluation, a comparison or an explanation as its file's ending says; whole or not at all.

    Args:
        result: what is written.
        path: .html (a page that needs nothing else), .md and .tex (its tables), .csv (`to_frame()`), .json (all of it
            but an evaluation's cases), or a figure as .svg, .pdf or .png.

    Raises:
        ConfigError: another ending; or an explanation as Markdown or LaTeX, which it has no tables for.
        RunError: a file that we did not write lies there.
        MissingExtraError: a figure without matplotlib.
    """
    if not isinstance(result, Evaluation | Comparison | Explanation):
        raise ConfigError(f"An evaluation, a comparison or an explanation can be saved, but not {shown(result)}.")
    path = check_results_path(path)
    form = path.suffix.lower()
    if form in FORMATS:
        if isinstance(result, Explanation):
            write_trajectory(result, path)
        else:
            save_figure(figure_of(result), path)
    elif form == ".json":
        write_json(path, {"made": MADE_BY, **result.to_json()})
    elif form == ".csv":
        text = _csv(result)
        replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))
    else:
        text = _text(result, form)
        replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path


def check_results_path(path: str | Path) -> Path:
    """The path, if results can be written there; cheap, so ask before the work.

    Raises:
        ConfigError, RunError, MissingExtraError: as `save_results` has it.
    """
    path = Path(path)
    form = path.suffix.lower()
    if form not in FORMS:
        raise ConfigError(f"{path} ends in {path.suffix or 'nothing'}, but results are written as {', '.join(FORMS)}.")
    if form in FORMATS:
        return check_picture(path)
    if form != ".csv" or not _is_our_csv(path):
        check_replaceable(path)
    return path


def _is_our_csv(path: Path) -> bool:
    """Values alone hold no mark of ours, so that it is known by its columns."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline(100).startswith(tuple(",".join(columns).encode() for columns in FIRST_COLUMNS))


def _csv(result: Result) -> str:
    """Its frame, with names that no spreadsheet takes for formulas."""
    frame = result.to_frame()
    words = [name for name, kind in frame.schema.items() if kind == pl.String]
    safe = {name: [None if each is None else spreadsheet(each) for each in frame[name]] for name in words}
    return frame.with_columns(**{name: pl.Series(each, dtype=pl.String) for name, each in safe.items()}).write_csv()


def _text(result: Result, form: str) -> str:
    """Of a page or of tables."""
    if isinstance(result, Explanation):
        if form != ".html":
            raise ConfigError(f"An explanation is no table for a {form} file: write .html, .csv, .json or a picture.")
        return text_page(result, "Explanation")
    if form == ".html":
        return comparison_page(result) if isinstance(result, Comparison) else page(result.document(), "Evaluation")
    forms: dict[str, Callable[[], str]] = {
        ".md": lambda: f"{result.document().markdown()}\n<!-- {MADE_BY} -->\n",
        ".tex": lambda: f"% {MADE_BY}\n{result.document().latex()}",
    }
    return forms[form]()
