"""What gains over several bars decide, in words that say so where they decide nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from forethought.studies.gains import Gain, Gains, Verdict, change, with_holm

MOVES: dict[Verdict, str] = {"ahead": "rises", "behind": "falls", "not decided": "not decided"}
Label = Callable[[str], str]


def where_it_pays(over: Mapping[str, Gains], thinking: Sequence[str], label: Label, told_of: Label) -> str:
    """In which places which method is ahead of every bar, and which bar is ahead of the first."""
    first, *bars = over
    names = list(dict.fromkeys(name for name, _ in over[first]))
    paid: dict[str, str] = {}
    for variant in thinking:
        won = [name for name in names if all(_verdict(of, name, variant) == "ahead" for of in over.values())]
        if won:
            paid[label(variant)] = _places(won, names, told_of)
    if paid:
        told = f"**Thinking pays, ahead of every bar (p below .05): {'; '.join(map(' '.join, paid.items()))}.**"
    else:
        told = (
            f"**Thinking pays in none of these {len(names)} shops: no method that thinks is ahead of every bar there.**"
        )
    for bar in bars:
        ahead = [name for name in names if _verdict(over[first], name, bar) == "ahead"]
        told += f" {label(bar)}, without thinking, is ahead of {label(first)} {_places(ahead, names, told_of)}."
    return told


def alike(of: Gains, thinking: Sequence[str], bar: str, label: Label) -> str:
    """Whether a method gains where a bar does: what both find need not be thought. Ranks, as single places tower."""
    told = []
    for variant in thinking:
        shared = [(of[name, variant].mean, of[name, bar].mean) for name, v in of if v == variant and (name, bar) in of]
        if len(shared) > 2:
            ranks_n2 = np.argsort(np.argsort(np.array(shared), axis=0), axis=0)
            apart = float(((ranks_n2[:, 0] - ranks_n2[:, 1]) ** 2).sum())
            told.append(f"{label(variant)} {1 - 6 * apart / (len(shared) ** 3 - len(shared)):.2f}")  # Spearman's
    words = f"Does a method gain where {label(bar)} does? Rank correlation of their gains over the shops"
    return f"{words}: {', '.join(told)}." if told else ""


def counted(over: Mapping[str, Gains], label: Label) -> list[tuple[object, ...]]:
    """Rows of a table: each variant against each bar, in how many places it is ahead, behind, and not decided."""
    rows = []
    for bar, of in over.items():
        for variant in dict.fromkeys(variant for _, variant in of):
            all_of = [gain.verdict() for (_, other), gain in of.items() if other == variant]
            counts = (all_of.count(word) for word in ("ahead", "behind", "not decided"))
            rows.append((label(variant), label(bar), *counts))
    return rows


def moves(of: Gains, thinking: Sequence[str], turned: Mapping[str, tuple[str, str]]) -> Gains:
    """How gains move from one place to another, by what is turned between them; a family of tests of its own."""
    moved = {
        (told, variant): change(of[low, variant], of[high, variant])
        for told, (low, high) in turned.items()
        for variant in thinking
        if (low, variant) in of and (high, variant) in of
    }
    return dict(zip(moved, with_holm(list(moved.values())), strict=True))


def what_moves(moved: Mapping[str, Gains], label: Label) -> str:
    """The moves that are decided the same way over every bar."""
    first = next(iter(moved.values()))
    decided = []
    for told, variant in first:
        verdict = _verdict(first, told, variant)
        if verdict != "not decided" and all(_verdict(of, told, variant) == verdict for of in moved.values()):
            decided.append(f"the gain of {label(variant)} {MOVES[verdict]} with {told}")
    if not decided:
        return "No move is decided over every bar: on which dial thinking depends is not decided."
    return f"Decided over every bar: {'; '.join(decided)}. No other move is."


def points(move: Gain | None) -> str:
    """A move in percentage points, with what is decided of it."""
    if move is None:
        return ""
    bounds = f"[{100 * move.low:+.1f}, {100 * move.high:+.1f}]"
    return f"{MOVES[move.verdict()]}: {100 * move.mean:+.1f} points {bounds}, p {move.p:.3f}"


def _verdict(of: Gains, name: str, variant: str) -> Verdict:
    gain = of.get((name, variant))
    return "not decided" if gain is None else gain.verdict()


def _places(names: Sequence[str], of: Sequence[str], told_of: Label) -> str:
    """Places by what they are, where they are few."""
    if not names:
        return "nowhere"
    few = f" ({', '.join(map(told_of, names))})" if len(names) <= 3 else ""
    return f"in {len(names)} of {len(of)} shops{few}"
