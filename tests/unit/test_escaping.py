"""Whatever data holds, its words are shown and do nothing else; and every file that verbs replace carries our mark."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.cbook import is_math_text

from forethought.data.titles import titles
from forethought.escaping import (
    Markdown,
    code,
    html,
    latex,
    link,
    markdown,
    plot,
    printable,
    printable_json,
    spreadsheet,
)
from forethought.studies.page import Page

ANY_TEXT = st.text(st.characters(), max_size=30) | st.text("`*_[](){}<>&|\\~$#!:/ wab.\n\x1b\u202e", max_size=30)
COMMANDS = "\x00\x07\t\n\r\x1b\x7f\x85\x9b\u061c\u200b\u200e\u2028\u202e\u2066\ufeff\ud800\U000e0041\ufffe"


@pytest.mark.parametrize("char", COMMANDS)
def test_a_terminal_is_given_nothing_to_obey(char: str) -> None:
    shown = printable(f"a{char}b")
    assert shown.isprintable()
    assert shown == f"a{ascii(char)[1:-1]}b"


@pytest.mark.parametrize("word", ["Grüße", "漢字", "🏕️ 👩‍🚀", "می‌خواهم", "שלום", "50\u00a0000\u202f€", "a  b", ""])
def test_words_of_any_language_stay_as_they_are(word: str) -> None:
    assert printable(word) == word
    assert printable_json(json.dumps(word, ensure_ascii=False)) == json.dumps(word, ensure_ascii=False)


@given(ANY_TEXT)
def test_json_on_a_terminal_keeps_its_value_and_commands_nothing(text: str) -> None:
    shown = printable_json(json.dumps({text: [text]}, ensure_ascii=False, indent=2))
    assert json.loads(shown) == {text: [text]}
    assert printable(shown.replace("\n", "")) == shown.replace("\n", "")
    shown.encode()  # a lone surrogate could not be written


@given(ANY_TEXT)
def test_markdown_shows_a_name_and_nothing_else(text: str) -> None:
    (paragraph,) = [t for t in MarkdownIt("gfm-like", {"linkify": False}).parse(f"x {markdown(text)} x") if t.children]
    assert paragraph.children is not None
    assert {token.type for token in paragraph.children} == {"text"}
    assert "".join(token.content for token in paragraph.children) == f"x {printable(text)} x"


@given(ANY_TEXT)
def test_markdown_code_and_links_hold_any_name(text: str) -> None:
    parser = MarkdownIt("gfm-like", {"linkify": False})
    (inline,) = [token for token in parser.parse(f"x {code(text)} {link(text, 'a b)|.json')} x") if token.children]
    kinds = [token.type for token in inline.children or []]
    assert [kind for kind in kinds if kind != "text"] == ["code_inline", "link_open", "link_close"]
    (shown,) = [token.content for token in inline.children or [] if token.type == "code_inline"]
    assert shown.strip() == printable(text).strip()


@given(ANY_TEXT, ANY_TEXT)
def test_a_table_of_a_page_stays_a_table(one: str, two: str) -> None:
    page = Page(Path(), "page", "Title", "Question?")
    page.table([one, "b"], [[two, code(one)], [Markdown("**1** | 2"), 0.5]])
    parsed = MarkdownIt("gfm-like", {"linkify": False}).parse("\n".join(page.lines))
    assert [token.type for token in parsed].count("td_open") == 4
    assert [token.type for token in parsed].count("th_open") == 2


@given(ANY_TEXT)
def test_html_shows_a_name_and_nothing_else(text: str) -> None:
    said: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            said.append(f"{tag} {attrs}")

        def handle_data(self, data: str) -> None:
            said.append(data)

    reader = Reader()
    reader.feed(f'<p title="{html(text)}">.{html(text)}</p>')
    reader.close()
    assert said == [f"p {[('title', printable(text))]}", f".{printable(text)}"]


@given(ANY_TEXT)
def test_a_plot_draws_dollars_and_no_mathematics(text: str) -> None:
    assert not is_math_text(plot(text))
    assert plot(text).replace(r"\$", "$") == printable(text)


def test_latex_prints_its_own_signs() -> None:
    assert latex(r"50% of $5_{a}^b & #1 ~ \x <|>") == (
        r"50\% of \$5\_\{a\}\textasciicircum{}b \& \#1 \textasciitilde{} \textbackslash{}x "
        r"\textless{}\textbar{}\textgreater{}"
    )


@pytest.mark.parametrize("cell", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-x", "=\x1b"])
def test_a_cell_is_no_formula(cell: str) -> None:
    assert spreadsheet(cell) == "'" + printable(cell)


@pytest.mark.parametrize("cell", ["-0.5 [-0.6, -.4]", "+1.2%", "-.5", "–", "a=b", "", "i00001"])
def test_numbers_and_names_stay_cells(cell: str) -> None:
    assert spreadsheet(cell) == cell


@pytest.mark.parametrize(
    ("column", "read"),
    [
        (pl.Series(["a", None]), ["a", None]),
        (pl.Series([7, None]), ["7", None]),
        (pl.Series([None, None], dtype=pl.Null), [None, None]),
        (pl.Series([b"a", b"\xff\x00"]), ["a", "\\xff\x00"]),
        (pl.Series([["a", None, "b"], []]), ["a, b", None]),
        (pl.Series([[[b"a"], [b"b"]], None], dtype=pl.List(pl.List(pl.Binary))), ["a, b", None]),
        (pl.Series([{"de": "a", "en": None}, {"de": None, "en": None}]), ["a", None]),
        (pl.Series([["a", "b"]], dtype=pl.Array(pl.String, 2)), ["a, b"]),
        (pl.Series(["a"], dtype=pl.Categorical), ["a"]),
    ],
)
def test_titles_of_any_kind_are_read(column: pl.Series, read: list[str | None]) -> None:
    assert titles(pl.DataFrame({"item_id": range(len(column)), "title": column})) == read
    assert titles(pl.DataFrame({"item_id": [1]})) is None


def test_the_words_of_a_page_are_no_markdown(tmp_path: Path) -> None:
    page = Page(tmp_path, "page", "Title", "Question?")
    page.heading("<script>alert(1)</script>\n# [x](y)")
    text = page.write().read_text()
    assert not re.search(r"<script|^# \[|(?<!\\)\]\(", text, re.MULTILINE)
