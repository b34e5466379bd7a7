"""Draws overview.svg, the picture at the top of the README: from a history over steps to chosen items.

It needs nothing but Python: `python docs/pictures/overview.py` writes it anew. Its colours are told apart by lightness
as well, and it has a light and a dark set, chosen by the reader's own setting.
"""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT = 960, 400
STYLE = """
  text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink) }
  .small { font-size: 12.5px; fill: var(--soft) }
  .head { font-weight: 600; font-size: 15px }
  .box { fill: var(--paper); stroke: var(--line); stroke-width: 1.5 }
  .step { fill: var(--step); stroke: var(--line); stroke-width: 1.5 }
  .chosen { fill: var(--chosen); stroke: var(--line); stroke-width: 1.5 }
  .bar { fill: var(--bar) }
  .way { stroke: var(--soft); stroke-width: 1.8; fill: none; marker-end: url(#tip) }
  .tip { fill: var(--soft) }
  .ground { fill: var(--ground) }
  svg { --ink: #1d2430; --soft: #4d5a6d; --line: #8794a8; --paper: #ffffff; --ground: #f4f6f9;
        --step: #d9e8fb; --chosen: #fde6bf; --bar: #3f7fd0 }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #eef2f8; --soft: #b4c0d2; --line: #6d7b91; --paper: #1c2431; --ground: #11161f;
          --step: #1f3d66; --chosen: #6b4a12; --bar: #7fb2f5 }
  }
"""
HISTORY = ("head torch", "rain jacket", "tent pegs")
STEPS = (
    ("step 1", "Outdoor", (0.45, 0.3, 0.25, 0.2)),
    ("step 2", "Camping", (0.75, 0.35, 0.2, 0.1)),
    ("step 3", "tents", (1.0, 0.5, 0.1, 0.05)),
)
CHOSEN = (("1", "dome tent"), ("2", "camping mat"), ("3", "tarpaulin"))
ROAD = (
    ("your table", "CSV, Parquet, SQL"),
    ("train", "stop, resume, repeat"),
    ("evaluate", "intervals, paired tests"),
    ("explain", "step by step"),
    ("serve", "HTTP, and a page"),
)


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{words}</text>'


def box(x: float, y: float, width: float, height: float, kind: str = "box") -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" class="{kind}"/>'


def way(x: float, y: float, to: float) -> str:
    return f'<path d="M{x:g} {y:g}H{to:g}" class="way"/>'


def history() -> list[str]:
    parts = [text(40, 44, "a history", "head")]
    for number, item in enumerate(HISTORY):
        y = 66 + 52 * number
        parts += [box(40, y, 150, 40), text(115, y + 25, item, anchor="middle")]
    return [*parts, text(40, 240, "of anybody, met or new", "small")]


def steps() -> list[str]:
    """Each step with what it leans to: four bars that become one."""
    parts = [text(254, 44, "thinks, from coarse to fine, and stops when it is sure", "head")]
    for number, (name, label, bars) in enumerate(STEPS):
        x = 254 + 148 * number
        parts += [box(x, 66, 120, 144, "step"), text(x + 60, 90, name, "small", "middle")]
        for place, share in enumerate(bars):
            height = 68 * share
            parts.append(
                f'<rect x="{x + 20 + 21 * place:g}" y="{172 - height:g}" width="15" height="{height:g}" class="bar"/>'
            )
        parts.append(text(x + 60, 198, label, anchor="middle"))
        if number:
            parts.append(way(x - 26, 138, x - 5))
    return [*parts, text(254, 240, "every step can be asked what it would have recommended", "small")]


def chosen() -> list[str]:
    parts = [text(736, 44, "chosen items", "head")]
    for number, (rank, item) in enumerate(CHOSEN):
        y = 66 + 52 * number
        kind = "chosen" if number == 0 else "box"
        parts += [box(736, y, 184, 40, kind), text(754, y + 25, rank, "small"), text(780, y + 25, item)]
    return [*parts, text(736, 240, "of all that is in stock", "small")]


def road() -> list[str]:
    parts = []
    for number, (name, about) in enumerate(ROAD):
        x = 40 + 181 * number
        parts += [box(x, 296, 156, 68), text(x + 78, 324, name, "head", "middle")]
        parts.append(text(x + 78, 347, about, "small", "middle"))
        if number:
            parts.append(way(x - 22, 330, x - 5))
    return parts


def picture() -> str:
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t d">',
        '<title id="t">What Forethought does</title>',
        '<desc id="d">A history of three items goes through three steps of reasoning, each surer than the one before, '
        "to three chosen items. Below, the way of a table: train, evaluate, explain, serve.</desc>",
        f"<style>{STYLE}</style>",
        f'<defs>{tip}<path d="M0 0L8 4L0 8z" class="tip"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="14" class="ground"/>',
        *history(),
        way(198, 138, 247),
        *steps(),
        way(678, 138, 729),
        *chosen(),
        *road(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
