"""The words for what is decided token by token, for whoever sells the items and trains no model.

Tokens are written book:number, as `--forbid-token` takes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from forethought.escaping import printable
from forethought.explaining.cells import named_cells, narrow, short, titled
from forethought.explaining.parts import Category, Certainty, Steering
from forethought.explaining.token_parts import PrunedToken, Token, TokenPath, TokenShare, TokenStep, TokenSum

BEST, WORST = 3, 2  # tokens of an item that are shown
PRUNED = 8  # tokens that are shown
BRIEF = 24  # letters of a title among several


def token_sentences(paths: list[TokenPath], certainty: Certainty | None) -> Iterator[str]:
    """What a score is, and how sure the answer."""
    steps = max((len(path.steps) for path in paths), default=0)
    if steps and not any(path.carries for path in paths):
        yield (
            "A score is how likely the item's tokens are, all named at once from the history: paths were found to "
            "count for nothing, and show what would be decided."
        )
    elif steps:
        yield f"A score is how likely the item's tokens are, with {steps} of them decided on each path."
    else:
        yield "A score is how likely the item's tokens are, all named at once from the history."
    if certainty is not None:
        alike = max(round(math.exp(certainty.entropy_nats)), 1)
        yield f"The answer is as open as a draw among {alike:,} item{'s' * (alike > 1)}."


def steering_sentences(steering: Steering) -> Iterator[str]:
    """What was asked for."""
    wanted = [f"of {_named(steering.only)}"] if steering.only else []
    wanted += [f"none of {_named(steering.never)}"] if steering.never else []
    for tokens, how in ((steering.wanted, "with"), (steering.forbidden, "none with")):
        if tokens:
            names = ", ".join(f"{book}:{token}" for book, token in tokens)
            wanted.append(f"{how} the token{'s' * (len(tokens) > 1)} {names}")
    if wanted:
        are = "is a candidate" if steering.candidates == 1 else "are candidates"
        yield f"{steering.candidates:,} item{'s' * (steering.candidates != 1)} {are}: {', '.join(wanted)}."


def _named(labels: list[str]) -> str:
    return " or ".join(map(printable, labels))


def token_sums(sums: list[TokenSum]) -> RenderableType:
    """What speaks for each item, token by token."""
    table = narrow(titled("Token by token", "item", "title", by="left"))
    table.show_header = False
    for each in sums:
        lines = _shares(each.tokens)
        lines += _carrier(each.carried_by)
        lines += _unmet(each.unmet)
        table.add_row(*named_cells(each), Text("\n".join(lines)))
    legend = (
        "How likely the model finds the tokens of an item, written codebook:token. Against: less likely than for "
        "somebody of whom nothing is known."
    )
    return Group(table, Text(legend, style="dim"))


def _carrier(carried_by: list[float]) -> list[str]:
    """Which path has most of a score; nothing where there is but one."""
    if len(carried_by) < 2:
        return []
    share, path = max((share, -number) for number, share in enumerate(carried_by, start=1))
    return [f"{_percent(share)} of it by path {-path}" if share >= 0.5 else "most of it by other paths"]


def _unmet(nats: float) -> list[str]:
    """Of an item that training never met."""
    return [f"{'lifted' if nats > 0 else 'held back'} by {abs(nats):g} nats, as training never met it"] if nats else []


def _shares(tokens: list[TokenShare]) -> list[str]:
    ordered = sorted(tokens, key=lambda each: -each.score)
    believed = [each for each in ordered if each.probability >= each.overall]
    doubted = [each for each in reversed(ordered) if each.probability < each.overall]
    lines = []
    for word, some, most in (("for", believed, BEST), ("against", doubted, WORST)):
        if some:
            more = f" and {len(some) - most} more" if len(some) > most else ""
            listed = ", ".join(f"{each.codebook}:{each.token} {_percent(each.probability)}" for each in some[:most])
            lines.append(f"{word}: {listed}{more}")
    return lines


def token_paths(paths: list[TokenPath]) -> list[RenderableType]:
    """One below the other, those on which anything was decided."""
    stepped = [path for path in paths if path.steps]
    views: list[RenderableType] = [_path(number, path) for number, path in enumerate(stepped, start=1)]
    if not views:
        return []
    legend = (
        "The weight of a path is how likely its tokens are; an item may well have its score from a light one. Sure: "
        "how likely the token was among those of its codebook. Before it: the categories that the model believed in. "
        "Moved: how far the token moved that belief, of the furthest there is."
    )
    spaced = [part for view in views for part in (view, Text())]
    return [Group(*spaced, Text(legend, style="dim"))]


def _path(number: int, path: TokenPath) -> RenderableType:
    carries = f"{_percent(path.carries)} of the answer, " if path.carries else ""
    title = f"Path {number}: {carries}{_percent(path.weight)} of the weight"
    believes = any(step.belief for step in path.steps)
    columns = {"sure": "sure"} | ({"belief": "left", "moved": "moved"} if believes else {})
    table = titled(title, "step", "token", what="left", **columns)
    for step in path.steps:
        row = [str(step.step), f"{step.token.codebook}:{step.token.token}", Text(described(step.token)), _sure(step)]
        if believes:
            beliefs = "\n".join(f"{_percent(each.probability)} {printable(each.category)}" for each in step.belief)
            row += [Text(beliefs), "" if step.moved is None else _percent(step.moved)]
        table.add_row(*row)
    if believes:
        table.columns[4].header = "before it"
    if not path.carries:  # the answer has nothing of it
        return table
    leads = "; ".join(short(each) for each in path.items)
    return Group(table, Text(f"It leads to: {leads or 'no candidate'}"))


def _sure(step: TokenStep) -> str:
    if step.probability >= step.confidence * (1 - 1e-6):
        return _percent(step.probability)
    return f"{_percent(step.probability)}\n(best {_percent(step.confidence)})"


def described(token: Token) -> str:
    """The labels that set its items apart, and those of them that are met most."""
    said = [_label(token.category), _label(token.brand, "brand ")]
    items = f"{token.size:,} item{'s' * (token.size != 1)}"
    return f"{', '.join(filter(None, [items, *said]))}\n{'; '.join(short(each, BRIEF) for each in token.items)}"


def _label(category: Category | None, what: str = "") -> str:
    return "" if category is None else f"{what}{printable(category.label)} {category.share:.0%}"


def pruned_tokens(pruned: list[PrunedToken]) -> RenderableType:
    """What was not followed, and why."""
    table = titled("Taken back", "step", "token", what="left", moved="moved", why="left")
    for each in pruned[:PRUNED]:
        why = f"{printable(each.before)} would have become {printable(each.after)}"
        if each.before == each.after:
            why = f"{printable(each.before)} would have been believed in to another degree"
        why += "; kept, as nothing better was left" if each.kept else ""
        what = Text(described(each.token).partition("\n")[0])
        table.add_row(
            str(each.step), f"{each.token.codebook}:{each.token.token}", what, _percent(each.moved), Text(why)
        )
    more = f" {len(pruned) - PRUNED} more were." if len(pruned) > PRUNED else ""
    legend = f"Tokens that were likely, but with which the belief in categories would have jumped too far.{more}"
    return Group(table, Text(legend, style="dim"))


def _percent(share: float) -> str:
    """With a decimal where it says something."""
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}" if share >= 0.0005 else "<0.1%"
