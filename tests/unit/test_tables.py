"""One document in every medium: the same cells, and nothing that the medium would obey."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from forethought.escaping import printable, spreadsheet
from forethought.tables import html
from forethought.tables.table import Document, Table, plain

NASTY = Table("[/] | <b>\x1b", ["name", "50%"], [["$a_{|}", "+0.5 [0.1, 0.9]"], ["[b]", "–"], ["=1+1", "-0.5"]])
TOLD = Document("data [/] <i>\n", [NASTY, Table("other", ["a", "b", "c"], [["x", "y", "1"]], names=2)], ["A * remark."])
CELLS = st.lists(st.lists(st.text(st.characters(), max_size=8), min_size=2, max_size=2), min_size=1, max_size=3)


class Cells(HTMLParser):
    """The texts of th and td, and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("th", "td") and data != "\n":
            self.cells[-1] += data


def test_plain_text_by_hand() -> None:
    told = Document("protocol", [Table("title", ["", "@5"], [["recall", "0.1"], ["x", "12.25"]])], ["Remark."])
    assert told.text() == "protocol\n\ntitle\n           @5\nrecall    0.1\nx       12.25\n\nRemark."
    bare = Document("protocol", [Table("title", ["a column"], [])])
    assert bare.text() == "protocol\n\ntitle\na column\n"


def test_a_sentence_is_one_line_of_text_however_long() -> None:
    long = "so many words " * 30 + "end."
    told = Document(long, [Table("title", ["a column"], [])], [long, "Remark."])
    assert told.text().splitlines() == [long, "", "title", "a column", "", long, "Remark."]


def test_the_terminal_shows_a_document_as_its_text() -> None:
    out = io.StringIO()
    Console(file=out, width=140, color_system=None).print(TOLD)
    assert [line.rstrip() for line in out.getvalue().splitlines()] == TOLD.text().splitlines()
    assert "[/] | <b>\\x1b" in TOLD.text()
    assert plain(TOLD, 20) != TOLD.text()


def test_an_alarm_catches_the_eye() -> None:
    for alarm, style in ((True, "sampled"), (False, "protocol")):
        page = html.page(Document("p", [], alarm=alarm), "T")
        assert re.findall(r'<p class="(\w+(?: sampled)?)">', page) == ["protocol sampled" if alarm else style]


@given(CELLS)
def test_csv_is_read_again(rows: list[list[str]]) -> None:
    table = Table("title", ["a", "b"], rows)
    assert list(csv.reader(io.StringIO(table.csv()))) == [["a", "b"], *([*map(spreadsheet, row)] for row in rows)]


@given(CELLS)
def test_markdown_and_html_have_the_same_cells(rows: list[list[str]]) -> None:
    table = Table("title", ["a", "b"], rows)
    wanted = ["a", "b", *(printable(cell).strip() for row in rows for cell in row)]
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(table.markdown())
    inside = [tokens[n + 1] for n, token in enumerate(tokens) if token.type in ("th_open", "td_open")]
    assert ["".join(child.content for child in cell.children or []).strip() for cell in inside] == wanted
    read = Cells(html.table(table))
    assert [cell.strip() for cell in read.cells] == wanted
    assert set(read.tags) == {"h2", "div", "table", "thead", "tbody", "tr", "th", "td"}


def test_a_latex_table_is_for_booktabs() -> None:
    assert NASTY.latex() == "\n".join(
        [
            r"\begin{table}",
            r"\caption{[/] \textbar{} \textless{}b\textgreater{}\textbackslash{}x1b}",
            r"\begin{tabular}{lr}",
            r"\toprule",
            r"name & 50\% \\",
            r"\midrule",
            r"\$a\_\{\textbar{}\} & +0.5 [0.1, 0.9] \\",
            r"{}[b] & – \\",  # else the bracket would be the height of the line before
            r"=1+1 & -0.5 \\",
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )
    assert TOLD.latex().startswith(
        "Protocol: data [/] \\textless{}i\\textgreater{}\\textbackslash{}n\n\n\\begin{table}"
    )
    assert r"\begin{tabular}{llr}" in TOLD.latex()
    assert TOLD.latex().endswith("A * remark.\n")


@pytest.mark.parametrize("text", [html.page(TOLD, "<T>"), TOLD.markdown(), TOLD.latex(), TOLD.text()])
def test_no_medium_lets_a_name_through(text: str) -> None:
    assert all(line.isprintable() for line in text.splitlines())
    assert "=1+1" in text
    if "<html" in text:
        assert "<b>" not in text
        assert "<i>" not in text
