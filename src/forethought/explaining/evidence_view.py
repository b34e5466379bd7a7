"""What an explanation shows of evidence, and of scores that are sums over the history: who speaks, and how loudly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from forethought.escaping import printable
from forethought.explaining.cells import named_cells, narrow, short, titled
from forethought.explaining.parts import Contribution, EvidenceUse, ItemSum, RankChange

SPEAKING = 3  # items of a history that are shown to speak for one of the answer


def speakers(
    spoken: Sequence[tuple[RankChange, list[Contribution]]], evidence: Sequence[EvidenceUse], asked: Collection[Any]
) -> RenderableType:
    """What speaks for those items that are asked about; kinds of evidence one below the other.

    Args:
        spoken: items with what items of the history add to their scores, most first.
        evidence: its kinds; without any the score is a sum over the history.
    """
    kinds = [kind.name for kind in evidence] or [None]
    table = titled("What speaks for them", "item", "title", by="left")
    table.show_header = False
    if evidence:
        narrow(table)
    for named, contributions in spoken:
        if named.item in asked:
            by = {kind: [each for each in contributions if each.by == kind] for kind in kinds}
            lines = [_speakers(kind, speaking) for kind, speaking in by.items() if speaking]
            nothing = "the model alone" if evidence else "nothing"
            table.add_row(*named_cells(named), Text("\n".join(lines) or nothing))
    legend = _counted(evidence, [each for _, row in spoken for each in row])
    return Group(table, *([Text(legend, style="dim")] if legend else []))


def _speakers(kind: str | None, contributions: list[Contribution]) -> str:
    told = [f"{each.score:+.3f} {_spoken(each)}" for each in contributions[:SPEAKING]]
    if len(contributions) > SPEAKING:
        told.append(f"{sum(each.score for each in contributions[SPEAKING:]):+.3f} others")
    return "; ".join(told) if kind is None else f"{_called(kind)}: {'; '.join(told)}"


def _spoken(of: Contribution) -> str:
    """Who speaks, and by what; what is popular speaks for itself, and needs no name."""
    return f"met {of.met:,}" if of.met is not None and of.near is None else f"{short(of)}{_basis(of)}"


def _basis(of: Contribution) -> str:
    """What a contribution is made of, in brackets."""
    if of.near is not None:
        return f" (met {of.met:,}, near {of.near:,})"
    return "" if of.cosine is None else f" (cosine {of.cosine:.2f})"


def _counted(evidence: Sequence[EvidenceUse], contributions: list[Contribution]) -> str:
    """What the brackets say."""
    legend = []
    for kind in evidence:
        if kind.window is not None:
            side = "behind it" if kind.directed else "from it"
            most = f"{kind.window} place{'s' * (kind.window > 1)} {side}"
            legend.append(
                f"Met: how often training has that item; near: how often the recommended one stands at most {most} "
                "there, in pairs of places, close ones weighing more."
            )
        if any(each.met is not None and each.near is None and each.by == kind.name for each in contributions):
            when = "" if kind.weeks is None else f"in the last {kind.weeks:g} week{'s' * (kind.weeks != 1)} of "
            legend.append(f"{_called(kind.name).capitalize()}: met so many times {when or 'in '}training.")
    if any(each.cosine is not None for each in contributions):
        legend.append("Cosine: how alike the two items' vectors are.")
    if evidence:
        last = max(kind.read for kind in evidence)
        legend.append(
            f"The last {last} items speak, later ones louder." if last > 1 else "The last item speaks." * last
        )
    return " ".join(legend)


def item_sums(sums: Sequence[ItemSum], evidence: Sequence[EvidenceUse]) -> RenderableType:
    """How the model's own scores and what evidence adds come to the scores of some items."""
    kinds = [kind.name for kind in evidence]
    numbers = {"model": "model", "rank": "its rank"} | {f"+ {kind}": f"+ {_called(kind)}" for kind in kinds}
    table = narrow(titled("Sums", "item", "title", **numbers, score="= score"))
    for each in sums:
        rank = "no" if each.model_rank is None else f"{each.model_rank:g}"
        added = [f"{each.added[kind]:.3f}" if each.added[kind] else "" for kind in kinds]
        table.add_row(*named_cells(each), f"{each.model:.3f}", rank, *added, f"{each.score:.3f}")
    weights = "; ".join(map(_weighed, evidence))
    return Group(table, Text(f"Most that evidence adds: {weights}.", style="dim"))


def _weighed(kind: EvidenceUse) -> str:
    gate = "" if kind.gate is None else f" x gate {kind.gate:.2f}"
    return f"{_called(kind.name)} {kind.most:.3f} (weight {kind.weight:.2f}{gate})"


def _called(kind: str) -> str:
    """A kind of evidence, by its name."""
    return printable(kind).replace("_", "-")
