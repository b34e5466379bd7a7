"""A comparison as one HTML page: no script, nothing loaded from elsewhere, readable by day and by night."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from forethought.escaping import html as escape
from forethought.escaping import printable
from forethought.reports import tables
from forethought.reports.tables import Sheet
from forethought.version import MADE_BY

if TYPE_CHECKING:
    from forethought.evaluation.compare import Comparison, Difference

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
svg { width: 100%; max-width: 60rem; height: auto; font: 13px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .tick { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--line); } svg .zero { stroke: var(--soft); stroke-dasharray: 4 3; }
svg .span { stroke: var(--mark); stroke-width: 2; } svg .dot { fill: var(--mark); }
svg .open .dot { fill: var(--page); stroke: var(--mark); stroke-width: 2; }
"""

# The plot, in user units of its viewBox: names on the left, numbers on the right, intervals between.
PLOT_WIDTH, LEFT, RIGHT, ROW, HEAD, FOOT = 960, 200, 720, 28, 8, 26
NAME_LENGTH = 26


def comparison_page(comparison: Comparison, title: str = "Comparison") -> str:
    """The whole page: protocol, an interval plot for each metric, all tables, and how to read them."""
    unusual = comparison.protocol.get("candidates") == "sampled" or comparison.protocol.get("noise")
    alarm = " sampled" if unusual else ""
    metrics = list(dict.fromkeys(gain.metric for gain in comparison.differences))
    plots = "\n".join(
        forest(metric, [g for g in comparison.differences if g.metric == metric], comparison.baseline)
        for metric in metrics
    )
    sheets = "\n".join(map(_table, tables.comparison_sheets(comparison)))
    notes = "\n".join(f'<p class="note">{escape(note)}</p>' for note in tables.notes(comparison))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{MADE_BY}">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="protocol{alarm}">{escape(tables.describe(comparison.protocol))}</p>
<h2>relative gain over {escape(comparison.baseline)}, with 95% intervals</h2>
<p class="note">A filled dot: below {tables.ALPHA} after Holm's correction. An open dot: not told apart from chance.</p>
{plots}
{sheets}
{notes}
</body>
</html>
"""


def forest(metric: str, gains: list[Difference], baseline: str) -> str:
    """Relative gains with their intervals, one row a method, as inline SVG; rows without a number are left out."""
    gains = [gain for gain in gains if all(map(math.isfinite, (gain.relative.mean, *gain.relative.ci95)))]
    if not gains:
        return f"<p>{escape(metric)}: the baseline is zero, so there is no relative gain.</p>"
    ticks = _ticks([0.0, *(end for gain in gains for end in (gain.relative.mean, *gain.relative.ci95))])

    def x(share: float) -> float:
        return round(LEFT + (share - ticks[0]) / (ticks[-1] - ticks[0]) * (RIGHT - LEFT), 1)

    bottom = HEAD + ROW * len(gains)
    grid = [
        f'<line class="{"grid" if tick else "zero"}" x1="{x(tick)}" x2="{x(tick)}" y1="{HEAD}" y2="{bottom}"/>'
        f'<text class="tick" x="{x(tick)}" y="{bottom + 16}" text-anchor="middle">{_percent(tick)}</text>'
        for tick in ticks
    ]
    rows = [_row(gain, HEAD + ROW * (place + 0.5), x) for place, gain in enumerate(gains)]
    label = escape(f"{metric}: relative gain over {baseline}")
    return "\n".join(
        [
            f"<figure><figcaption>{escape(metric)}</figcaption>",
            f'<svg viewBox="0 0 {PLOT_WIDTH} {bottom + FOOT}" role="img" aria-label="{label}">',
            *grid,
            *rows,
            "</svg></figure>",
        ]
    )


def _row(gain: Difference, y: float, x: Callable[[float], float]) -> str:
    share, (low, high) = gain.relative.mean, gain.relative.ci95
    name = printable(gain.method)
    name = name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"
    return (
        f'<g class="{"sure" if gain.p_holm < tables.ALPHA else "open"}"><title>{escape(gain.method)}</title>'
        f'<text x="{LEFT - 16}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
        f'<line class="span" x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot" cx="{x(share)}" cy="{y}" r="5"/>'
        f'<text x="{RIGHT + 24}" y="{y + 4}">{tables.interval(gain.relative, "+.1%")}</text></g>'
    )


def _ticks(shares: list[float]) -> list[float]:
    """Round numbers at even distances, zero among them, that enclose the given ones."""
    low, high = min(shares), max(shares)
    rough = max((high - low) / 5, 1e-4)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * place, 10) for place in range(first, max(last, first + 1) + 1)]


def _percent(share: float) -> str:
    return f"{100 * share:+.4g}%" if share else "0"


def _table(sheet: Sheet) -> str:
    def line(cells: list[str], tag: str) -> str:
        kinds = [' class="name"' if place < sheet.names else "" for place in range(len(cells))]
        inner = "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
        return f"<tr>{inner}</tr>"

    body = "\n".join(line(row, "td") for row in sheet.rows)
    return (
        f'<h2>{escape(sheet.title)}</h2>\n<div class="scroll"><table>\n<thead>{line(sheet.columns, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
