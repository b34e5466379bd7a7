"""A comparison as one HTML page: its tables, and above them a plot of intervals for each metric."""

from __future__ import annotations

import math
from collections.abc import Callable

from forethought.escaping import html as escape
from forethought.escaping import printable
from forethought.evaluation.compare import Comparison
from forethought.evaluation.summary import Difference
from forethought.evaluation.tables import ALPHA, interval_cell
from forethought.tables.html import page

# The plot, in user units of its viewBox: names on the left, numbers on the right, intervals between.
PLOT_WIDTH, LEFT, RIGHT, ROW, HEAD, FOOT = 960, 200, 720, 28, 8, 26
NAME_LENGTH = 26


def comparison_page(comparison: Comparison, title: str = "Comparison") -> str:
    """The whole page: protocol, an interval plot for each metric, all tables, and how to read them."""
    metrics = list(dict.fromkeys(gain.metric for gain in comparison.differences))
    plots = [
        forest(metric, [g for g in comparison.differences if g.metric == metric], comparison.baseline)
        for metric in metrics
    ]
    figures = [
        f"<h2>relative gain over {escape(comparison.baseline)}, with 95% intervals</h2>",
        f'<p class="note">A filled dot: below {ALPHA} after Holm\'s correction. '
        "An open dot: not told apart from chance.</p>",
        *plots,
    ]
    return page(comparison.document(), title, "\n".join(figures))


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
    rows = [_row(gain, baseline, HEAD + ROW * (place + 0.5), x) for place, gain in enumerate(gains)]
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


def _row(gain: Difference, baseline: str, y: float, x: Callable[[float], float]) -> str:
    share, (low, high) = gain.relative.mean, gain.relative.ci95
    pair = gain.method if gain.against == baseline else f"{gain.method} − {gain.against}"
    name = printable(pair)
    name = name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + "…"
    return (
        f'<g class="{"sure" if gain.p_holm < ALPHA else "open"}"><title>{escape(pair)}</title>'
        f'<text x="{LEFT - 16}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
        f'<line class="span" x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot" cx="{x(share)}" cy="{y}" r="5"/>'
        f'<text x="{RIGHT + 24}" y="{y + 4}">{interval_cell(gain.relative, "+.1%")}</text></g>'
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
