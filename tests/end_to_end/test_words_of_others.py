"""Titles, ids and names as somebody else wrote them: each verb shows them and is commanded by none."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from rich.text import Text
from shell import Shell

from forethought.cli.shared import Bar, console
from forethought.escaping import printable
from forethought.evaluation.report import Evaluation
from forethought.recommender import load

TITLES = [
    *(
        "[/]",
        "[import]",
        "[link=https://a.example]click[/link]",
        "$5 pen_{ for $10",
        "\x1b[31mred",
        "\x9b31m",
        "a\nb\tc",
    ),
    *("\u202egpj.exe", "<script>alert(1)</script>", "a | b `c`", ":tada:", "\x00\ufffe", "漢字", "", r"\frac{"),
]
WORDS = ["--history", "i00001,i00002", "--target", "i00007", "--k", 20]


def entitled(run: Path, titles: Any) -> Path:
    """The run with other titles of its items, and categories that are called alike."""
    model = load(run)
    titles = pl.Series("title", [titles[row % len(titles)] for row in range(len(model.items))])
    labels = pl.Series("categories", [["all", TITLES[row % 5]] for row in range(len(model.items))])
    replace(model, item_table=model.item_table.with_columns(titles, labels)).save(run)
    return run


def lines_of(text: str) -> list[str]:
    assert all(printable(line) == line for line in text.splitlines())
    return text.splitlines()


def test_titles_with_brackets_end_explain_in_a_traceback(shell: Shell, run: Path) -> None:
    text = shell.ok("explain", entitled(run, TITLES), *WORDS)
    lines_of(text)
    told = shell.json("explain", run, *WORDS)
    assert {"[/]", "[import]", "\x1b[31mred"} & {each["title"] for each in told["answer"]}
    for each in told["answer"]:
        assert printable(each["title"])[:25] in text
    terminal = io.StringIO()
    model = load(run)
    Console(file=terminal, force_terminal=True, width=100).print(model.explain(["i00001"], target="i00007", k=20))
    shown = Text.from_ansi(terminal.getvalue())
    assert "[link=https://a.example]" in shown.plain
    assert "[import]" in shown.plain
    assert not any("link" in str(span.style) for span in shown.spans)


def test_recommend_prints_the_terminal_escapes_of_titles(shell: Shell, run: Path) -> None:
    words = ["recommend", entitled(run, TITLES), "--k", 30, "--unknown", "drop", "--history"]
    text = shell.ok(*words, "i00001,\x1b[2J,[/]")
    assert len(lines_of(text)) == 31
    assert "(unknown and left out: \\x1b[2J, [/])" in text
    for title in TITLES:
        assert f"  {printable(title)}\n" in text
    (found,) = shell.json(*words, "i00001,\x9b2J")
    assert found["history"] == ["i00001", "\x9b2J"]
    assert "\x9b" not in shell.ok(*words, "i00001,\x9b2J", "--json")


@pytest.mark.parametrize(
    "titles",
    [TITLES, [["Toy Story", "1995"], []], [b"\xff\x00bytes"], [{"de": "Zelt", "en": None}], [None], [7.5], [True]],
    ids=["nasty", "lists", "bytes", "records", "nulls", "numbers", "switches"],
)
def test_titles_of_any_kind_break_neither_lists_nor_pictures(shell: Shell, run: Path, titles: Any) -> None:
    entitled(run, titles)
    for ending in (".png", ".svg"):
        told = shell.json("explain", run, *WORDS, "--picture", run / f"way{ending}")
        assert all(each["title"] is None or isinstance(each["title"], str) for each in told["answer"])
    assert len(lines_of(shell.ok("recommend", run, "--history", "i00001", "--k", 3))) == 4


def test_an_error_repeats_no_terminal_escape(shell: Shell, run: Path) -> None:
    assert "\\x1b[2J" in shell.wrong("explain", run, "--history", "i00001,\x1b[2J")
    assert "no verb" in shell.wrong("tra\x1bin\n")
    said = shell.wrong("train", "sasrec", "--data", "no\x1b[2J\nwhere", "--out", run / "new")
    assert printable(said) == said


def test_remarks_take_no_name_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[/] [import] :tada: \x1b[31m: 7 users", style="yellow")
    assert capsys.readouterr().err == "[/] [import] :tada: \\x1b[31m: 7 users\n"
    with Bar() as bar:
        bar.named("[/] [import] \x1b[31m", 1, 2)
    assert bar.progress.columns[0](bar.progress.tasks[0]).plain == "[/] [import] \\x1b[31m"  # type: ignore[union-attr]


def test_the_doctor_repeats_no_terminal_escape(shell: Shell, tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("user_id,item\x1b[31m_id,b\x9b\n1,2,3\n")
    said = shell.run("doctor", table)
    assert said.code == 2
    assert lines_of(said.out)


def test_names_of_methods_and_data_in_every_form(shell: Shell, run: Path, tmp_path: Path) -> None:
    shell.ok("evaluate", run, "--resamples", 20)
    kept = Evaluation.read(run)
    replace(kept, protocol=kept.protocol | {"data": "<script>x</script>\n# |[a](b)\x1b[31m"}).write(run)
    other = shutil.copytree(run, tmp_path / "other")
    name = "[/]<b>|`\n\x1b[1m"
    for ending in (".html", ".md", ".json"):
        out = tmp_path / f"table{ending}"
        lines_of(shell.ok("compare", f"{name}={run}", f"other={other}", "--out", out))
        text = out.read_text(encoding="utf-8")
        lines_of(text)
        assert "written by forethought" in text
        if ending == ".json":
            assert json.loads(text)["baseline"] == name
            continue
        assert "<script>" not in text
        assert "<b>" not in text
        assert "&lt;b&gt;" in text
    assert "made" not in shell.json("compare", f"{name}={run}", f"other={other}")
