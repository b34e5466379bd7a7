"""Charts of a report that answer to the mouse, by Plotly (extra `report`); they work without a network.

The one file that is about Plotly. Names come from data: they are escaped, as Plotly takes them for markup.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forethought.errors import MissingExtraError
from forethought.escaping import html as escape
from forethought.evaluation.statistics import Estimate

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6b4c9a", "#222222")  # Okabe and Ito
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "hexagon")
MOST = len(COLOURS)  # lines that can be told apart


@dataclass(frozen=True)
class Line:
    """A named row of numbers, perhaps with 95% intervals."""

    name: str
    x: Sequence[Any]
    y: Sequence[float]
    ci95: Sequence[tuple[float, float]] | None = None
    hover: Sequence[str] | None = None


def script() -> str:
    """What draws the charts: Plotly itself, to stand once in a page.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtraError("plotly", "report", "A report") from error
    return f"<script>{get_plotlyjs()}</script>"


def lines(title: str, across: str, up: str, each: Sequence[Line], *, joined: bool = True, whole: bool = False) -> str:
    """A chart of up to eight lines, or with `joined=False` of points side by side; with bars where intervals are known.

    Args:
        title: what a screen reader says, and what stands above.
        across, up: what the axes are.
        each: at most `MOST`; the caller chooses, and says so.
        joined: whether what comes after each other is of one course.
        whole: whether what is across is counted in whole numbers.
    """
    assert len(each) <= MOST, "more lines than a legend can tell apart"
    traces = [_trace(line, place, joined=joined) for place, line in enumerate(each)]
    layout = {
        "template": "plotly_white",
        "height": 380,
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "xaxis": {"title": {"text": escape(across)}, **({"tickformat": ",d"} if whole else {})},
        "yaxis": {"title": {"text": escape(up)}, "rangemode": "tozero" if not joined else "normal"},
        "legend": {"orientation": "h", "y": 1.12},
        "showlegend": len(each) > 1,
        "scattermode": "overlay" if joined else "group",
    }
    return _drawn(traces, layout, title)


def _trace(line: Line, place: int, *, joined: bool) -> dict[str, Any]:
    colour, values = COLOURS[place], [_finite(value) for value in line.y]
    trace: dict[str, Any] = {
        "type": "scatter",
        "name": escape(line.name),
        "x": [escape(x) if isinstance(x, str) else x for x in line.x],
        "y": values,
        "mode": "lines+markers" if joined else "markers",
        "marker": {"color": colour, "symbol": SYMBOLS[place], "size": 9 if not joined else 6},
        "line": {"color": colour, "dash": DASHES[place % len(DASHES)]},
    }
    if line.ci95 is not None:
        over = [_finite(high - y) for (_, high), y in zip(line.ci95, line.y, strict=True)]
        under = [_finite(y - low) for (low, _), y in zip(line.ci95, line.y, strict=True)]
        trace["error_y"] = {"type": "data", "array": over, "arrayminus": under, "color": colour, "thickness": 1.2}
    if line.hover is not None:
        trace["text"] = [escape(words) for words in line.hover]
        trace["hovertemplate"] = "%{text}<extra></extra>"
    return trace


def of_estimates(name: str, estimates: Mapping[str, Estimate]) -> Line:
    """A line of numbers with their intervals."""
    known = list(estimates.values())
    return Line(name, list(estimates), [each.mean for each in known], [each.ci95 for each in known])


def _drawn(traces: list[dict[str, Any]], layout: dict[str, Any], title: str) -> str:
    import plotly.graph_objects as go

    figure = go.Figure(data=traces, layout=layout)
    config = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=config)
    return f'<figure role="img" aria-label="{escape(title)}"><figcaption>{escape(title)}</figcaption>{drawn}</figure>'


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
