"""Other people's words made harmless for where they are shown: terminal, Markdown, HTML, LaTeX, spreadsheet, plot.

Titles, ids and the names of data sets, columns, categories and runs come from data. Each function takes any value and
gives text of its medium that shows the value and does nothing else: no colour, no link, no formula, no new line.
"""

from __future__ import annotations

import html as _html
import json
import re
import unicodedata
from urllib.parse import quote

JOINERS = "\u200c\u200d"  # parts of words in Persian and Hindi, and of emoji
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}
# What means something inside a line: signs of emphasis, code, mathematics, tables and headings; a bracket that ends
# the text of a link; tags and entities; bare addresses. An underscore inside a word means nothing.
MARKDOWN = re.compile(r"[\\`*~$|#<>&]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")
INSIDE_LINK = re.compile(rf"{MARKDOWN.pattern}|[\[\]]")
ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", ":": "&#58;", ".": "&#46;"}
FORMULA = re.compile(r"[=@]|[+-](?![\d.])")


class Markdown(str):
    """Text that is Markdown already and is not escaped again."""

    __slots__ = ()


def printable(value: object) -> str:
    r"""One line of plain text: what is not to be seen (control characters, escape sequences, changes of the writing
    direction, line ends, lone surrogates) is spelled out, as `\x1b` or `\u202e`."""
    text = str(value)
    return text if text.isprintable() else "".join(c if _is_seen(c) else _spelled(c) for c in text)


def printable_json(text: str) -> str:
    """The same JSON, its strings without characters that a terminal would obey."""
    lines = text.split("\n")
    return "\n".join(
        line if line.isprintable() else "".join(c if _is_seen(c) else json.dumps(c)[1:-1] for c in line)
        for line in lines
    )


def markdown(value: object) -> Markdown:
    """Text inside a line of Markdown, a heading or a cell of a table; a line must not begin with it."""
    return value if isinstance(value, Markdown) else Markdown(MARKDOWN.sub(_marked, printable(value)))


def code(value: object) -> Markdown:
    """A span of code in Markdown, whatever it holds."""
    text = printable(value)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if not text.strip() or text[0] in "` " or text[-1] in "` " else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}")


def link(value: object, target: str) -> Markdown:
    """A link in Markdown to a file beside the page."""
    return Markdown(f"[{INSIDE_LINK.sub(_marked, printable(value))}]({quote(target)})")


def html(value: object) -> str:
    """Text in HTML or SVG, between tags or in an attribute."""
    return _html.escape(printable(value))


def latex(value: object) -> str:
    """Text in LaTeX."""
    return "".join(LATEX.get(char, char) for char in printable(value))


def spreadsheet(value: object) -> str:
    """A cell of a CSV file, which is no formula where a spreadsheet opens it; numbers keep their signs."""
    text = printable(value)
    return f"'{text}" if FORMULA.match(text) else text


def plot(value: object) -> str:
    """Text in a figure of matplotlib, which takes what stands between two dollars for mathematics."""
    return printable(value).replace("$", r"\$")


def _is_seen(char: str) -> bool:
    return char.isprintable() or char in JOINERS or unicodedata.category(char) == "Zs"


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _marked(match: re.Match[str]) -> str:
    return ENTITIES.get(match[0], f"\\{match[0]}")
