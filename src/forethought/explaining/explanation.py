"""What an explanation holds: step by step, what a model would have recommended and what it was near to.

Plain values, with the user's own ids; `to_json` has all of it (docs/explain.md). Its text tells the answer, how sure
each step was, how items moved, and what each step was near to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

import polars as pl
from rich.console import Group, RenderableType
from rich.text import Text

from forethought.escaping import printable
from forethought.explaining.cells import named_cells, or_blank, titled, typical
from forethought.explaining.evidence_view import item_sums, speakers
from forethought.explaining.frames import answer_frame
from forethought.explaining.parts import (
    Candidate,
    Certainty,
    Contribution,
    EvidenceUse,
    Intent,
    ItemRef,
    ItemSum,
    Plane,
    RankChange,
    Steering,
    Step,
)
from forethought.explaining.token_parts import PrunedToken, TokenPath, TokenSum
from forethought.explaining.token_view import (
    pruned_tokens,
    steering_sentences,
    token_paths,
    token_sentences,
    token_sums,
)
from forethought.reasoning.halting import ABOVE, READS, Halting
from forethought.tables.html import terminal_html
from forethought.tables.table import plain

Sum = TypeVar("Sum", ItemSum, TokenSum)

WIDTH = 100  # columns of plain text
SHOWN = 8  # items of a history, the last ones
MOVED = 10  # items whose ranks are shown, beside the target


@dataclass(frozen=True)
class Explanation:
    """How a model came from a history to its answer.

    Attributes:
        history: what was given, oldest first, unknown ids left out.
        dropped: ids that the model does not know.
        read: how many of the last items the model reads at once; earlier ones it has not seen; 0 where its answer is
            the same for everybody.
        history_excluded: whether the history's items are no candidates.
        halting: the rule that decided; None where the model does not reason.
        centroid: what a centroid is called, such as prototype; None where the method has none.
        answer: the k best items, as `recommend` gives them.
        answer_step: whose state the answer is, before evidence is added; None where it blends several.
        steps: 0 to T, those after the exit too; none where the score is a sum over the history.
        movements: the best items of any step, best in the answer first; the target among them.
        target: the item that was asked about.
        plane: where all of it lies; None where there are no states.
        intents: by slot, for methods that have intents.
        contributions: what the items of the history add to each score, those that add anything, most first; in the
            order of the movements. None where the score is no such sum, and nothing of it is.
        evidence: what speaks for items beside the model, in the order in which it was asked for.
        sums: how the model's own score and what evidence adds come to each score, in the order of the movements; None
            where no evidence adds anything.
        certainty: how sure the answer is where evidence or tokens are part of it; None where it is as sure as its step.
        paths: of methods over tokens, how tokens were decided, the path that weighs most first; None elsewhere.
        pruned: tokens that paths were about to decide and did not.
        token_sums: how the tokens of an item come to its score without evidence, in the order of the movements; None
            where items have none.
        steering: what the user wanted and what not; None where all items were welcome.
    """

    history: list[ItemRef]
    dropped: list[Any]
    read: int
    history_excluded: bool
    halting: Halting | None
    centroid: str | None
    answer: list[Candidate]
    answer_step: int | None
    steps: list[Step]
    movements: list[RankChange]
    target: ItemRef | None
    plane: Plane | None
    intents: list[Intent] = field(default_factory=list)
    contributions: list[list[Contribution]] | None = None
    evidence: list[EvidenceUse] = field(default_factory=list)
    sums: list[ItemSum] | None = None
    certainty: Certainty | None = None
    paths: list[TokenPath] | None = None
    pruned: list[PrunedToken] = field(default_factory=list)
    token_sums: list[TokenSum] | None = None
    steering: Steering | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON has it: null for what is not a number, text for UUIDs."""
        return _as_json(self)

    def to_frame(self) -> pl.DataFrame:
        """The answer, a row an item: its place, score, rank after each step, and what evidence added."""
        return answer_frame(self.answer, self.movements, self.sums, self.evidence, len(self.steps))

    def _repr_html_(self) -> str:
        return terminal_html(self, WIDTH)

    def __rich__(self) -> RenderableType:
        return _view(self)

    def __str__(self) -> str:
        return plain(self, WIDTH)


def _as_json(value: Any) -> Any:
    if isinstance(value, Halting):
        return _as_json(value.as_told())
    if is_dataclass(value):
        return {each.name: _as_json(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _view(explanation: Explanation) -> RenderableType:
    """All of it for Rich."""
    parts = [_history(explanation), _answer(explanation)]
    if explanation.token_sums is not None:
        parts.append(token_sums(_asked(explanation, explanation.token_sums)))
    if explanation.sums is not None:
        parts.append(item_sums(_asked(explanation, explanation.sums), explanation.evidence))
    if explanation.contributions is not None and explanation.read:
        each = zip(explanation.movements, explanation.contributions, strict=True)
        parts.append(speakers(list(each), explanation.evidence, _asked_items(explanation)))
    if explanation.paths is not None:
        parts += token_paths(explanation.paths)
    if explanation.pruned:
        parts.append(pruned_tokens(explanation.pruned))
    if explanation.steps:
        parts.append(_certainty(explanation))
    if len(explanation.steps) > 1 or explanation.target is not None:
        parts.append(_rank_changes(explanation))
    if explanation.centroid is not None:
        parts.append(_centroids(explanation))
    if explanation.intents:
        parts.append(_intents(explanation))
    spaced = [part for each in parts for part in (each, Text())]
    return Group(*spaced[:-1])


def _history(explanation: Explanation) -> RenderableType:
    table = titled("After", "item", "title")
    table.show_header = False
    hidden = len(explanation.history) - SHOWN
    if hidden > 0:
        table.add_row(f"{hidden} earlier", "", style="dim")
    for named in explanation.history[-SHOWN:]:
        table.add_row(*named_cells(named))
    notes = []
    if explanation.dropped:
        notes.append(f"Unknown and left out: {', '.join(map(printable, explanation.dropped))}.")
    if 0 < explanation.read < len(explanation.history):
        notes.append(f"The model reads the last {explanation.read} of {len(explanation.history)} items.")
    return Group(table, *map(Text, notes))


def _answer(explanation: Explanation) -> RenderableType:
    likely = {"probability": "probability"} if explanation.steps or explanation.paths is not None else {}
    table = titled("Next", "item", "title", score="score", **likely)
    for named in explanation.answer:
        cells = [] if named.probability is None else [f"{named.probability:.1%}"]
        table.add_row(*named_cells(named), f"{named.score:.3f}", *cells)
    return Group(table, Text(" ".join(_sentences(explanation))))


def _sentences(explanation: Explanation) -> Iterator[str]:
    last = len(explanation.steps) - 1
    if last < 0 and explanation.read == 0:
        yield "The model reads no history: its answer is the same for everybody."
    elif explanation.paths is not None:
        yield from token_sentences(explanation.paths, explanation.certainty)
    elif last < 0:
        yield "A score is the sum of what the items of the history add to it."
    elif last == 0:
        read = "and its intents" if explanation.intents else "alone"
        yield f"The answer is read off the history {read}, without further steps."
    elif explanation.answer_step is None:
        yield "The answer blends the states of several steps."
    elif explanation.answer_step < last:
        yield f"It stopped after step {explanation.answer_step} of {last}{_why(explanation)}."
        yield "Later steps show what it would have thought."
    else:
        yield f"The answer is that of step {explanation.answer_step}, the last one."
    if explanation.sums is not None:
        own = ": steps are the model's own" if last > 0 else ""
        yield f"Evidence is added to it{own}."
    elif explanation.evidence:
        yield "Evidence adds nothing: all its weights are 0."
    if explanation.steering is not None:
        yield from steering_sentences(explanation.steering)
    if explanation.history_excluded:
        counting = ", but count in the probabilities" if explanation.steps else ""
        yield f"Items of the history are no candidates{counting}."


def _why(explanation: Explanation) -> str:
    halting, step = explanation.halting, explanation.steps[explanation.answer_step or 0]
    if halting is None:
        return ""
    if halting.rule == "arh" and step.halt is not None:
        return f", where the halting net said {step.halt:.2f}, more than {halting.threshold:g}"
    if (name := READS.get(halting.rule)) is not None and step.read is not None:
        side = "more" if halting.rule in ABOVE else "less"
        return f", where the {name} it reads was {step.read[name]:.3f}, {side} than {halting.threshold:g}"
    return f" by the rule {halting.rule!r}"


def _asked(explanation: Explanation, sums: list[Sum]) -> list[Sum]:
    """Those of the answer and of the target."""
    asked = _asked_items(explanation)
    return [each for each in sums if each.item in asked]


def _asked_items(explanation: Explanation) -> list[Any]:
    return [each.item for each in (*explanation.answer, *([explanation.target] if explanation.target else []))]


def _certainty(explanation: Explanation) -> RenderableType:
    """Columns that hold nothing are left out."""
    steps = explanation.steps
    sure = [*steps, *([explanation.certainty] if explanation.certainty else [])]
    columns = {
        "entropy": [f"{s.entropy_nats:.2f} nats" for s in sure],
        "of ln N": [f"{s.entropy:.0%}" for s in sure],
        "on history": [f"{s.on_history:.0%}" for s in sure],
        "KL": [or_blank(s.consistency) for s in steps],
        "change": [or_blank(s.change) for s in steps],
        "p(halt)": [or_blank(s.halt) for s in steps],
    }
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    table = titled("How sure", "step", **{name: name for name in filled}, end="left")
    for step, *cells in zip(steps, *[cells[: len(steps)] for cells in filled.values()], strict=True):
        table.add_row(str(step.step), *cells, _fate(step, explanation), style=_style(step))
    if explanation.certainty:
        table.add_row("answer", *[cells[-1] if len(cells) > len(steps) else "" for cells in filled.values()], "")
    legend = "Entropy: 0 nats is certain, ln N knows nothing. On history: probability on items met already."
    if "KL" in filled:
        legend += " KL: how far the prediction moved since the step before; change: how far the state did."
    return Group(table, Text(legend, style="dim"))


def _fate(step: Step, explanation: Explanation) -> str:
    if not step.taken:
        return "not taken"
    return "stops here" if step.step == explanation.answer_step and len(explanation.steps) > 1 else ""


def _rank_changes(explanation: Explanation) -> RenderableType:
    apart = explanation.answer_step is None or explanation.sums is not None  # the answer is no step's
    marks = {
        s.step: "*" if s.step == explanation.answer_step and len(explanation.steps) > 1 and not apart else ""
        for s in explanation.steps
    }
    blended = {"answer": "answer*" if explanation.steps else "rank"} if apart else {}
    table = titled(
        "Ranks, step by step" if explanation.steps else "Ranks",
        "item",
        "title",
        **{f"s{s}": f"step {s}{mark}" for s, mark in marks.items()},
        **blended,
    )
    target = None if explanation.target is None else explanation.target.item
    rows = [m for place, m in enumerate(explanation.movements) if place < MOVED or m.item == target]
    for moved in rows:
        ranks = [*moved.ranks, *([moved.rank] if blended else [])]
        cells = ["no" if rank is None else f"{rank:g}" for rank in ranks]
        item, title = named_cells(moved)
        is_target = moved.item == target
        table.add_row(Text("> ") + item if is_target else item, title, *cells, style="bold" if is_target else "")
    notes = []
    if target is not None:
        gone = explanation.history_excluded and any(named.item == target for named in explanation.history)
        why = " It is in the history, so it is no candidate and has no rank." if gone else ""
        notes.append(Text(f"> is the target.{why}"))
    if len(explanation.movements) > len(rows):
        notes.append(Text(f"{len(explanation.movements) - len(rows)} more items were among the best of some step."))
    return Group(table, *notes)


def _centroids(explanation: Explanation) -> RenderableType:
    numbers = {name: name for name in ("cosine", "probability", "items")}
    table = titled(f"Nearest {explanation.centroid}s", "step", **numbers, what="left")
    for step in explanation.steps:
        for place, each in enumerate(step.centroids):
            number = f"{step.step} of {step.n_centroids}" if place == 0 else ""
            cells = (
                f"{each.similarity:.2f}",
                f"{each.probability:.1%}",
                f"{each.size:,}",
                Text(typical(each.category, each.central)),
            )
            table.add_row(number, *cells, style=_style(step))
    legend = "Probability: how much of the step's prediction lies on its items."
    return Group(table, Text(legend, style="dim"))


def _intents(explanation: Explanation) -> RenderableType:
    """Those leaned on most first."""
    table = titled("Intents", "intent", weight="weight", what="left")
    for each in sorted(explanation.intents, key=lambda intent: -intent.weight):
        table.add_row(str(each.number + 1), f"{each.weight:.0%}", Text(typical(each.category, each.items)))
    legend = (
        "Weight: share of the last item's attention. Beside it: what the model would recommend by that intent alone."
    )
    return Group(table, Text(legend, style="dim"))


def _style(step: Step) -> str:
    return "" if step.taken else "dim"
