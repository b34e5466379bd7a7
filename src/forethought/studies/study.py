"""What a study is: which variants are trained, what is looked at in each, and the page that tells of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forethought.data.shop import Shop
from forethought.data.splits import Split
from forethought.recommender import Recommender
from forethought.studies.page import Page
from forethought.studies.results import Result

Probe = Callable[[Recommender, Split, int], dict[str, Any]]
"""(trained model, its split, seed) -> figures, as JSON takes them."""


@dataclass(frozen=True)
class Study:
    """An experiment as a declaration.

    Attributes:
        name: what the command line calls it.
        title, question: of its page.
        variants: names in `variants.VARIANTS`; the others are held against the first.
        write: makes the page of all results, those of other data sets and seeds included.
        probe: what is measured on each trained variant beside its metrics, once.
        relate: what is found in the run folders of one place together, by variant; kept as JSON for the page.
        shops: the simulated shops it makes and trains on, by the name of their data; without any, who asks for the
            study says what it is to train on.
        texts: whether vectors of the titles' words lie beside its shops.
        anywhere: whether it may also train on what is given, in place of its own shops.
        needs: module, package and extra that the probe cannot do without; asked for before anything is trained.
    """

    name: str
    title: str
    question: str
    variants: Sequence[str]
    write: Callable[[Page, Mapping[str, Sequence[Result]]], None]
    probe: Probe | None = None
    aggregate: Callable[[Mapping[str, Sequence[Path]]], dict[str, Any]] | None = None
    shops: Mapping[str, Shop] = field(default_factory=dict)
    texts: bool = False
    anywhere: bool = False
    needs: tuple[str, str, str] | None = None
