"""When to think: simulated shops that differ in one dial each, and what reasoning gains in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from forethought.data.shop import Shop
from forethought.studies.page import Page
from forethought.studies.results import Result
from forethought.studies.study import Study
from forethought.studies.tables import results_table

DEFAULT = "shop-default"


@dataclass(frozen=True)
class Dial:
    """A setting of the shop that is turned while all others stay at their defaults.

    Attributes:
        setting: of `Shop`.
        word: in the name of the data.
        label: in tables and under the picture.
        low, high: its least and its largest value here; the shop's default lies between them.
    """

    setting: str
    word: str
    label: str
    low: float
    high: float

    def values(self) -> tuple[float, float, float]:
        return self.low, getattr(Shop(), self.setting), self.high

    def place(self, value: float) -> str:
        """The name of the data of the shop with this value."""
        return DEFAULT if value == getattr(Shop(), self.setting) else f"shop-{self.word}-{value:g}"


DIALS = (
    Dial("intents_per_user", "purposes", "most purposes of a user", 1, 12),
    Dial("route_length", "route", "kinds of goods on a route", 3, 15),
    Dial("noise", "noise", "share of items at random", 0.0, 0.4),
    Dial("interactions_per_user", "history", "mean length of a history", 8.0, 50.0),
    Dial("items", "items", "items in the shop", 400, 3_000),
)


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    results_table(page, runs_of, STUDY.name)


STUDY = Study(
    name="when-to-think",
    title="When to think",
    question="What data makes thinking pay? One dial of the simulated shop is turned at a time: how many purposes a "
    "user has, how long a purpose's route is, how much is noise, how long histories are, how many items there are.",
    variants=("sasrec-level", "sasrec-deep-level", "rearec-prl-level", "dtrec-level", "lares-level"),
    write=write,
    shops={
        DEFAULT: Shop(),
        **{
            dial.place(value): replace(Shop(), **{dial.setting: value})
            for dial in DIALS
            for value in (dial.low, dial.high)
        },
    },
)
