"""What an explanation of token paths is made of, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forethought.explaining.parts import Category, ItemRef


@dataclass(frozen=True)
class Token:
    """A token, described by the items that share it.

    Attributes:
        codebook, token: its book and its number there, both from 0.
        size: how many items share it.
        items: those of them that training met most.
        category, brand: the labels that set these items apart; None where none does.
    """

    codebook: int
    token: int
    size: int
    items: list[ItemRef]
    category: Category | None
    brand: Category | None


@dataclass(frozen=True)
class Belief:
    """How likely a category is thought to be."""

    category: str
    probability: float


@dataclass(frozen=True)
class TokenStep:
    """A token that a path decided.

    Attributes:
        step: its number, from 1.
        probability: of this token in its codebook.
        confidence: of the most probable token of the codebook; above `probability` where the path took another one.
        belief: in categories before the token, the most probable first; none where the model believes in none.
        moved: how far the token moved that belief, as a share of the furthest that two beliefs can lie apart
            (Jensen-Shannon divergence over ln 2); None where nobody asked.
    """

    step: int
    token: Token
    probability: float
    confidence: float
    belief: list[Belief]
    moved: float | None


@dataclass(frozen=True)
class TokenPath:
    """A way of deciding tokens, and what it leads to.

    Attributes:
        weight: how likely its tokens are, as a share over all paths.
        carries: its share in the scores of the answer, the mean over the items by their probabilities; 0 of every path
            where paths count for nothing.
        steps: none where all tokens are named at once.
        items: the best candidates by this path alone.
    """

    weight: float
    carries: float
    steps: list[TokenStep]
    items: list[ItemRef]


@dataclass(frozen=True)
class PrunedToken:
    """A token that a path was about to decide and did not: the belief in categories would have jumped.

    Attributes:
        step: which one it would have been, from 1.
        before, after: the category most believed in, without the token and with it.
        moved: as a step has it.
        kept: True where all others were pruned too, and this one was taken nevertheless.
    """

    step: int
    token: Token
    before: str
    after: str
    moved: float
    kept: bool


@dataclass(frozen=True)
class TokenShare:
    """What a token of an item adds to its score.

    Attributes:
        score: log-probability, the mean over the paths by their share in this very score.
        probability: the same as a probability.
        overall: share of all items that have the token: what one would give it who knows nothing of the user.
    """

    codebook: int
    token: int
    score: float
    probability: float
    overall: float


@dataclass(frozen=True)
class TokenSum:
    """A score as the sum that it is: of its tokens, of `paths`, and of `unmet`.

    Attributes:
        tokens: in order of the codebooks.
        paths: 0 where all paths speak for the item alike, below it where few of them do.
        carried_by: the share in the score that each path has which is told of.
        unmet: of an item that training never met, how far it is lifted; below 0 where it is held back.
    """

    item: Any
    title: str | None
    score: float
    tokens: list[TokenShare]
    paths: float
    carried_by: list[float]
    unmet: float
