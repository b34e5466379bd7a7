"""What tokens are worth, as far as can be told before a method is trained on them.

    reconstruction   sum of || x - decoded x ||^2 over that of || x - mean ||^2, of standardised inputs, in the codes as
                     the tokenizer gave them and as they are after collisions were resolved
    codes in use     share of the codes of a book that any item has, and the perplexity exp(H) of a book, over C
    collisions       share of items that share their tuple, before and after
    redundancy       mean adjusted mutual information of two books
    behaviour        how often two items that follow each other have a token in common, over how often items do that
                     follow each other no more (the same items, paired anew)
    categories       share of items whose category is the commonest of their code, mean over the books

Thresholds are ours: what was seen on Amazon Beauty to go with good and bad recommendations, or printed in the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from torch import Tensor

from forethought.data.splits import Split
from forethought.semantic_ids.leaf_categories import UNKNOWN
from forethought.semantic_ids.mutual_information import adjusted_mutual_information
from forethought.semantic_ids.token_table import TokenTable
from forethought.semantic_ids.tokenizer import Tokenizer
from forethought.tables.table import Document, Table

GOOD, WATCH, BAD = "good", "watch", "bad"
GREEDY, MET, NAMED = "greedy", "met", "named"  # what remarks ask for: collisions greedy, who meets whom, categories
PAIRS_OF_BOOKS = 28  # whose mutual information is taken, all of 8; of more, as many drawn evenly


@dataclass(frozen=True)
class Quality:
    """Figures of a table of tokens; None where there is nothing to measure by.

    Attributes:
        items, codebooks, size: N, M and C, a counter included in M.
        error, error_after: relative squared error, before and after collisions were resolved.
        active, perplexity: of each book, as a share of the codes that could be in use.
        collisions, collisions_after: share of items.
        largest_group, largest_group_after: items.
        moved: share of items whose tokens were changed to tell them apart.
        redundancy: mean adjusted mutual information of two books; None for one book.
        shared, by_chance: mean share of tokens that items have in common which follow each other, and the same items
            paired anew.
        pairs: items that follow each other, how many.
        purity, largest_category: mean over the books, and of a single group of all items.
    """

    items: int
    codebooks: int
    size: int
    error: float
    error_after: float
    active: list[float]
    perplexity: list[float]
    collisions: float
    collisions_after: float
    largest_group: int
    largest_group_after: int
    moved: float
    redundancy: float | None
    shared: float | None
    by_chance: float | None
    pairs: int
    purity: float | None
    largest_category: float | None

    @property
    def distortion(self) -> float:
        """How much telling items apart added to the error, as a share of it."""
        return self.error_after / self.error - 1 if self.error > 0 else 0.0

    @property
    def lift(self) -> float | None:
        """How many times as many tokens are in common as by chance."""
        return self.shared / self.by_chance if self.shared is not None and self.by_chance else None

    def verdicts(self) -> list[Verdict]:
        """Every figure with its word."""
        figures = [(figure, figure.of(self)) for figure in FIGURES]
        return [Verdict(figure.name, value, figure.shown(value), figure.word(value)) for figure, value in figures
                if value is not None]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """All figures, and what is said of them."""
        told = {each.name: each.word for each in self.verdicts()}
        return {**asdict(self), "distortion": self.distortion, "lift": self.lift, "verdicts": told}

    def document(self, title: str, done: Collection[str] = ()) -> Document:
        """For the terminal, text and Markdown.

        Args:
            done: what was done already (`GREEDY`, `MET`, `NAMED`), so that no remark asks for it.
        """
        rows = [[each.name, each.shown, each.word] for each in self.verdicts()]
        table = Table(title, ["figure", "value", "verdict"], rows)
        remarks = [figure.advice(done) for figure in FIGURES if _word_of(self, figure) in (WATCH, BAD)]
        about = f"{self.items:,} items, {self.codebooks} codebooks of {self.size:,}"
        if self.pairs:
            about += f"; {self.pairs:,} pairs of items that follow each other in the validation part"
        return Document(about, [table], remarks)


@dataclass(frozen=True)
class Verdict:
    """A figure, how it is written, and whether it is good, to be watched or bad."""

    name: str
    value: float
    shown: str
    word: str


@dataclass(frozen=True)
class Figure:
    """A figure with the values where it ceases to be good, and begins to be bad; more is worse if `good < bad`."""

    name: str
    of: Callable[[Quality], float | None]
    good: float
    bad: float
    form: str
    remark: str
    remedy: str = ""
    """What the remark asks for; where that was done already, `remark_else` stands in its place."""
    remark_else: str = ""

    def shown(self, value: float) -> str:
        return self.form.format(value)

    def word(self, value: float) -> str:
        sign = 1 if self.good < self.bad else -1
        if sign * value <= sign * self.good:
            return GOOD
        return WATCH if sign * value <= sign * self.bad else BAD

    def advice(self, done: Collection[str]) -> str:
        return self.remark_else if self.remedy in done else self.remark


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


FIGURES = (
    Figure("reconstruction error", lambda q: q.error, 0.5, 0.8, "{:.3f}",
           "Codes say little of the inputs: give more codebooks or larger ones."),
    Figure("codes in use", lambda q: _mean(q.active), 0.99, 0.9, "{:.1%}",
           "Codes that no item has are lost: train longer, or give fewer codes a book."),
    Figure("perplexity over codes", lambda q: _mean(q.perplexity), 0.7, 0.4, "{:.2f}",
           "A few codes have most of the items: inputs with a few large groups do that; look at the features."),
    Figure("collisions", lambda q: q.collisions, 0.09, 0.2, "{:.1%}",
           "Many items share their tokens before they are told apart: give features that tell more, or more codes."),
    Figure("largest group", lambda q: float(q.largest_group), 64, 256, "{:,.0f}",
           "A large group of items shares its tokens: nothing that was read tells them apart."),
    Figure("collisions left", lambda q: q.collisions_after, 0.0, 0.02, "{:.1%}",
           "Items with equal tokens stay tied in every ranking: choose collisions greedy.", GREEDY,
           "Items with equal tokens stay tied in every ranking, as no free ones lay one code away: give more codes."),
    Figure("added by telling apart", lambda q: q.distortion, 0.01, 0.03, "{:+.2%}",
           "Telling items apart moved their tokens far from what they are: fewer collisions would need less of it."),
    Figure("redundancy of codebooks", lambda q: q.redundancy, 0.25, 0.4, "{:.3f}",
           "Codebooks say much the same: split the components between them (decorrelate), or give fewer codebooks."),
    Figure("tokens shared with what follows, times chance", lambda q: q.lift, 3.0, 1.5, "{:.1f}",
           "Items that follow each other share hardly more tokens than any two: collaborative vectors bring that.", MET,
           "Items that follow each other share hardly more tokens than any two, although collaborative vectors were "
           "read: there may be too few interactions, or too few codes."),
    Figure("purity of categories, times one group", lambda q: _over(q.purity, q.largest_category), 1.5, 1.15, "{:.2f}",
           "Codes mix the categories: read categories or texts among the features.", NAMED,
           "Codes mix the categories, although they or texts were read: give more codes, or fewer other features."),
)  # fmt: skip


def _over(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _word_of(quality: Quality, figure: Figure) -> str | None:
    value = figure.of(quality)
    return None if value is None else figure.word(value)


def quality(
    table: TokenTable,
    tokenizer: Tokenizer,
    values_NF: Tensor,
    pairs_P2: np.ndarray | None = None,
    categories_N: np.ndarray | None = None,
) -> Quality:
    """Measure tokens.

    Args:
        table: as they came out, collisions resolved.
        values_NF: raw inputs of the items.
        pairs_P2: items that follow each other, best of a part that the tokens were not made of.
        categories_N: the category of each item, -1 where there is none.
    """
    before = TokenTable(tokenizer.encode(values_NF).cpu(), table.size, table.ordered)
    own_NM = table.codes_NM[:, : before.codebooks].cpu()  # without a counter
    codes_NM = table.codes_NM.cpu().numpy()
    inputs_NF = tokenizer.standardised(values_NF)
    spread = float((inputs_NF - inputs_NF.mean(0)).square().sum())
    moved = float((own_NM != before.codes_NM).any(1).float().mean())
    error = _error(tokenizer, before.codes_NM, inputs_NF, spread)
    pairs = None if pairs_P2 is None or not len(pairs_P2) else pairs_P2
    shared, chance = (None, None) if pairs is None else shared_tokens(own_NM.numpy(), pairs, table.size)
    purity, largest = (None, None) if categories_N is None else purities(own_NM.numpy(), categories_N)
    return Quality(
        items=table.n_items,
        codebooks=table.codebooks,
        size=table.size,
        error=error,
        error_after=_error(tokenizer, own_NM, inputs_NF, spread) if moved else error,
        active=[_active(codes_N, table.size) for codes_N in own_NM.numpy().T],
        perplexity=[_perplexity(codes_N, table.size) for codes_N in own_NM.numpy().T],
        collisions=before.collisions(),
        collisions_after=table.collisions(),
        largest_group=int(before.group_sizes().max()),
        largest_group_after=int(table.group_sizes().max()),
        moved=moved,
        redundancy=redundancy(codes_NM[:, : before.codebooks]),
        shared=shared,
        by_chance=chance,
        pairs=0 if pairs is None else len(pairs),
        purity=purity,
        largest_category=largest,
    )


def following_pairs(split: Split) -> np.ndarray:
    """Last item of a history and the item that came next, of the validation part, int64 [P, 2]; repeats left out."""
    history = split.valid.history
    some = history.ends > history.starts
    pairs = np.stack([history.histories.items[history.ends[some] - 1], split.valid.targets[some]], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int64)


def shared_tokens(codes_NM: np.ndarray, pairs_P2: np.ndarray, size: int) -> tuple[float, float]:
    """Mean share of tokens that the two of a pair have in common, and if the second ones were dealt out anew."""
    first_PM, second_PM = codes_NM[pairs_P2[:, 0]], codes_NM[pairs_P2[:, 1]]
    chances = [
        float(np.bincount(a_P, minlength=size) @ np.bincount(b_P, minlength=size)) / len(pairs_P2) ** 2
        for a_P, b_P in zip(first_PM.T, second_PM.T, strict=True)
    ]
    return float((first_PM == second_PM).mean()), _mean(chances)


def purities(codes_NM: np.ndarray, categories_N: np.ndarray) -> tuple[float | None, float | None]:
    """Share of items whose category is the commonest of their code, mean over books; and the largest category's.

    None where there are no two categories, which every code would keep to.
    """
    known = categories_N != UNKNOWN
    if len(np.unique(categories_N[known])) < 2:
        return None, None
    categories, codes = categories_N[known], codes_NM[known]
    count = int(categories.max()) + 1
    pure = []
    for codes_N in codes.T:
        table = np.zeros((int(codes_N.max()) + 1, count), np.int64)
        np.add.at(table, (codes_N, categories), 1)
        pure.append(table.max(1).sum() / len(categories))
    return _mean(pure), float(np.bincount(categories).max() / len(categories))


def redundancy(codes_NM: np.ndarray) -> float | None:
    """Mean adjusted mutual information of two books."""
    both = list(combinations(range(codes_NM.shape[1]), 2))
    if not both:
        return None
    step = max(1, len(both) // PAIRS_OF_BOOKS)
    return _mean([adjusted_mutual_information(codes_NM[:, a], codes_NM[:, b]) for a, b in both[::step]])


def _error(tokenizer: Tokenizer, codes_NM: Tensor, inputs_NF: Tensor, spread: float) -> float:
    missed = sum(
        float((inputs - tokenizer.decode(codes)).square().sum())
        for inputs, codes in zip(inputs_NF.split(4096), codes_NM.split(4096), strict=True)
    )
    return missed / spread


def _active(codes_N: np.ndarray, size: int) -> float:
    return len(np.unique(codes_N)) / min(size, len(codes_N))


def _perplexity(codes_N: np.ndarray, size: int) -> float:
    share = np.bincount(codes_N) / len(codes_N)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum())) / min(size, len(codes_N))
