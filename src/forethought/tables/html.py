"""A document as one HTML page: no script, nothing loaded from elsewhere, readable by day and by night."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from forethought.escaping import html as escape
from forethought.tables.table import Document, Table
from forethought.version import MADE_BY

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #667085; --line: #d8dce3; --page: #fff; --mark: #2459c4;
  --alarm: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ec; --soft: #98a2b3; --line: #3a404b; --page: #16181d;
  --mark: #84adff; --alarm: #fda29b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
.protocol, .note { color: var(--soft); } .sampled { color: var(--alarm); font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
.name { text-align: left; } th { color: var(--soft); font-weight: 600; }
figure { margin: 1rem 0; } figcaption { font-weight: 600; }
figure > svg { width: 100%; max-width: 60rem; height: auto; font: 13px system-ui, sans-serif; }
figure > svg text { fill: var(--ink); } figure > svg .tick { fill: var(--soft); font-size: 11px; }
figure > svg .grid { stroke: var(--line); } figure > svg .zero { stroke: var(--soft); stroke-dasharray: 4 3; }
figure > svg .span { stroke: var(--mark); stroke-width: 2; } figure > svg .dot { fill: var(--mark); }
figure > svg .open .dot { fill: var(--page); stroke: var(--mark); stroke-width: 2; }
"""


def page(document: Document, title: str, figures: str = "") -> str:
    """The whole page: protocol, figures, all tables, and how to read them.

    Args:
        figures: HTML that stands above the tables.
    """
    alarm = " sampled" if document.alarm else ""
    tables = "\n".join(map(table, document.tables))
    remarks = "\n".join(f'<p class="note">{escape(remark)}</p>' for remark in document.remarks)
    protocol = f'<p class="protocol{alarm}">{escape(document.protocol)}</p>'
    return page_of(title, "\n".join([protocol, figures, tables, remarks]))


def text_page(view: RenderableType, title: str) -> str:
    """What the terminal would show, as a page."""
    return page_of(title, terminal_html(view))


def page_of(title: str, body: str, head: str = "") -> str:
    """A page around what is HTML already; `head` is further HTML of its head."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{MADE_BY}">
<title>{escape(title)}</title>
{head}<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def fragment(document: Document) -> str:
    """The tables of a document without a page around them, as notebooks show it."""
    tables = "".join(f"<h4>{escape(each.title)}</h4>{grid(each)}" for each in document.tables)
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in document.remarks)
    return f"<div><p>{escape(document.protocol)}</p>{tables}{remarks}</div>"


def terminal_html(view: RenderableType, width: int = 100) -> str:
    """What the terminal would show, with its colours."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, record=True, force_terminal=True, color_system="standard")
    console.print(view)
    form = '<pre style="line-height: 1.3; overflow-x: auto">{code}</pre>'
    return console.export_html(inline_styles=True, code_format=form)


def table(shown: Table) -> str:
    """A table under its title."""
    return f'<h2>{escape(shown.title)}</h2>\n<div class="scroll">{grid(shown)}</div>'


def grid(shown: Table) -> str:
    """A table alone."""

    def line(cells: list[str], tag: str) -> str:
        kinds = [' class="name"' if place < shown.names else "" for place in range(len(cells))]
        inner = "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr>{inner}</tr>"

    body = "\n".join(line(row, "td") for row in shown.rows)
    return f"<table>\n<thead>{line(shown.columns, 'th')}</thead>\n<tbody>\n{body}\n</tbody></table>"
