"""The pages that are made at every build: one for each verb from its own help, and the reference of all public names.

They stand in folders that git ignores, so that nobody can edit them and they cannot grow stale.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import forethought as ft
from forethought.cli import VERBS

WIDTH = "100"  # columns of the help as the pages show it
API_KINDS = (
    ("Functions", "read, split, train, evaluate, recommend"),
    ("Objects", "what the functions take and give"),
    ("Configurations", "settings, each checked when it is given"),
    ("Errors", "what is raised when the caller can mend it"),
)


def write(docs: Path) -> None:
    """Write all of them; a page that has not changed keeps its time, so that it is not built again."""
    pages = {docs / "verbs" / f"{verb}.md": verb_page(verb) for verb in VERBS}
    pages[docs / "verbs" / "index.md"] = verb_index()
    pages[docs / "api.md"] = api_page()
    for lesson in sorted((docs / "tutorials").glob("*.py")):
        pages[lesson.with_suffix(".md")] = tutorial_page(lesson)
        pages[lesson.with_suffix(".ipynb")] = notebook(lesson)
    for path, text in pages.items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for old in (docs / "verbs").glob("*.md"):
        if old not in pages:
            old.unlink()


def verb_page(verb: str) -> str:
    """What `forethought VERB --help` says, as a page; `train` shows the options of one method too."""
    page = f"# forethought {verb}\n\n{_sentence(VERBS[verb])}\n\n```text\n{help_of(verb)}\n```\n"
    if verb != "train":
        return page
    return f"{page}\n## For example: forethought train sasrec\n\n```text\n{help_of(verb, 'sasrec')}\n```\n"


def verb_index() -> str:
    rows = "".join(f"| [{verb}]({verb}.md) | {what} |\n" for verb, what in VERBS.items())
    entries = "\n".join(VERBS)
    return (
        "# The verbs\n\nEach page is what `forethought VERB --help` says.\n\n| verb | what it does |\n|---|---|\n"
        f"{rows}\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"
    )


def help_of(verb: str, *more: str) -> str:
    """The help of a verb, without the frame's colours, as wide as a page."""
    spoken = io.StringIO()
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS=WIDTH, NO_COLOR="1")
    try:
        with contextlib.redirect_stdout(spoken), contextlib.suppress(SystemExit):
            importlib.import_module(f"forethought.cli.{verb}").run([*more, "--help"])
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return "\n".join(line.rstrip() for line in spoken.getvalue().strip().splitlines())


def api_page() -> str:
    """All public names of the package, by kind, each from its docstring."""
    named = {name: getattr(ft, name) for name in ft.__dir__() if not name.startswith("_")}
    kinds: dict[str, list[str]] = {kind: [] for kind, _ in API_KINDS}
    for name, value in named.items():
        kinds[_kind(value)].append(name)
    parts = [
        f"## {kind}\n\n{_sentence(about)}\n\n" + "\n".join(_entry(name, named[name]) for name in kinds[kind])
        for kind, about in API_KINDS
    ]
    head = "# Python reference\n\nEvery name of `import forethought as ft`.\n\n"
    return head + "\n".join(parts)


def tutorial_page(lesson: Path) -> str:
    """A notebook in the percent format as a page: its words as they are, its code in blocks."""
    cells = percent_cells(lesson.read_text(encoding="utf-8"))
    parts = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in cells]
    page = "\n\n".join(parts)
    return f"{page}\n\nAs a notebook: {{download}}`{lesson.stem}.ipynb`, or `docs/tutorials/{lesson.name}`.\n"


def percent_cells(text: str) -> Iterable[tuple[str, str]]:
    """The cells of a notebook in the percent format, as (markdown or code, text)."""
    for cell in text.split("\n# %%")[1:] if not text.startswith("# %%") else ("\n" + text).split("\n# %%")[1:]:
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            yield "markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
        elif body.strip():
            yield "code", body.strip()


def notebook(lesson: Path) -> str:
    """The same as a Jupyter notebook, without outputs."""
    cells: list[dict[str, Any]] = []
    for number, (kind, text) in enumerate(percent_cells(lesson.read_text(encoding="utf-8"))):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text}
        cells.append(cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []})
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def _kind(value: Any) -> str:
    from forethought.settings import Settings

    if not inspect.isclass(value):
        return "Functions"
    if issubclass(value, Exception):
        return "Errors"
    return "Configurations" if issubclass(value, Settings) else "Objects"


def _entry(name: str, value: Any) -> str:
    directive = "autofunction" if not inspect.isclass(value) else "autoclass"
    return f"### {name}\n\n```{{eval-rst}}\n.. {directive}:: forethought.{name}\n```\n"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
