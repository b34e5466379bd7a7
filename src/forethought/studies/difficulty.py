"""When to think: simulated shops that differ in one dial each, and what reasoning gains in each of them.

A method is held against three bars: a SASRec of one layer, one of as many layers as the method has steps and layers
(a step is one more pass through a layer), and one that trains as long as the dearest of the methods. Thinking pays
where it is ahead of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from forethought.data.shop import Shop
from forethought.studies import gains, results, verdicts
from forethought.studies.gains import Gains
from forethought.studies.page import COLOURS, Page, number
from forethought.studies.results import DatasetKey, Result
from forethought.studies.study import Study
from forethought.studies.tables import costs, mean_of_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEFAULT = "shop-default"
FAINT = ("#555555", "#a0a0a0")
LABELS = {
    "sasrec-level": "SASRec",
    "sasrec-deep-level": "SASRec of 4 layers",
    "sasrec-long-level": "SASRec for 48 epochs",
    "rearec-prl-level": "ReaRec-PRL (2 steps)",
    "dtrec-level": "DTRec (up to 3 steps)",
    "lares-level": "LARES (3 rounds)",
}


@dataclass(frozen=True)
class Dial:
    """A setting of the shop that is turned while all others stay as they are.

    Attributes:
        setting: of `Shop`.
        word: in the name of the data.
        label: in tables and under the picture.
        low, high: its least and its largest value; that of the shop that all dials share lies between them.
    """

    setting: str
    word: str
    label: str
    low: float
    high: float

    def places(self, base: Shop) -> dict[float, str]:
        """Names of the data by value, in rising order."""
        middle = getattr(base, self.setting)
        return {value: self._name(value) for value in (self.low, middle, self.high)} | {middle: DEFAULT}

    def _name(self, value: float) -> str:
        return f"shop-{self.word}-{value:g}"


DIALS = (
    Dial("intents_per_user", "purposes", "most purposes of a user", 1, 12),
    Dial("route_length", "route", "kinds of goods on a route", 3, 15),
    Dial("noise", "noise", "share of items at random", 0.0, 0.4),
    Dial("interactions_per_user", "history", "mean length of a history", 8.0, 50.0),
    Dial("items", "items", "items in the shop", 400, 3_000),
)


def shops(base: Shop, dials: Sequence[Dial]) -> dict[str, Shop]:
    turned = {
        name: replace(base, **{dial.setting: value}) for dial in dials for value, name in dial.places(base).items()
    }
    return {DEFAULT: base} | turned


def write(
    page: Page, runs_of: Mapping[str, Sequence[Result]], base: Shop, dials: Sequence[Dial], bars: Sequence[str]
) -> None:
    """The picture, what it comes to in sentences, and every figure behind them."""
    names = shops(base, dials)
    places = {place.data: place for place in results.places(runs_of) if place.data in names}
    variants = [variant for variant, runs in runs_of.items() if runs]
    over = gains.over_bars(page.folder, page.name, list(places.values()), bars)
    if over[bars[0]]:
        with page.plot("gain", _words(dials), axes=len(dials) + 1, across=3) as axes:
            _draw(axes, over[bars[0]], [variant for variant in variants if variant != bars[0]], bars, base, dials)
        thinking = [variant for variant in variants if variant not in bars]
        _conclude(page, over, thinking, base, dials)
    page.heading("Every shop")
    page.say(_protocol(base))
    runs_at = {name: results.at(runs_of, place) for name, place in places.items()}
    page.table(
        [
            "shop",
            "variant",
            "NDCG@10",
            *(f"over {label(bar)}" for bar in bars),
            "seeds",
            "ms a history",
            "training GFLOPs",
        ],
        [
            (
                name,
                label(variant),
                mean_of_seeds(runs, gains.METRIC),
                *_gained(name, variant, *over.values()),
                len(runs),
                *_spent(runs),
            )
            for name in names
            for variant, runs in runs_at.get(name, {}).items()
        ],
    )
    _shops_table(page, places, runs_at, base, dials)


def _conclude(
    page: Page, over: Mapping[str, Gains], thinking: Sequence[str], base: Shop, dials: Sequence[Dial]
) -> None:
    page.heading("What it comes to")
    page.say(verdicts.where_it_pays(over, thinking, label, lambda name: told_of(name, base, dials)))
    first, *_, longest = over
    if told := verdicts.alike(over[first], thinking, longest, label):
        page.say(told)
    page.table(
        ["variant", "against", "ahead in", "behind in", "not decided in"],
        verdicts.counted(over, label),
    )
    ends = {f"{dial.label}, {dial.low:g} to {dial.high:g}": (dial.low, dial.high) for dial in dials}
    turned = {
        told: (dial.places(base)[low], dial.places(base)[high])
        for dial, (told, (low, high)) in zip(dials, ends.items(), strict=True)
    }
    moves = {bar: verdicts.moves(of, thinking, turned) for bar, of in over.items()}
    page.heading("How gains move when a dial is turned")
    page.say(verdicts.what_moves(moves, label))
    page.table(
        ["dial", "variant", *(f"over {label(bar)}" for bar in over)],
        [
            (told, label(variant), *(verdicts.points(of.get((told, variant))) for of in moves.values()))
            for told in turned
            for variant in thinking
        ],
    )


def told_of(name: str, base: Shop, dials: Sequence[Dial]) -> str:
    """A shop in words, by what is turned in it."""
    for dial in dials:
        for value, place in dial.places(base).items():
            if place == name != DEFAULT:
                return f"{dial.label}: {value:g}"
    return "the default shop"


def label(variant: str) -> str:
    return LABELS.get(variant, variant)


def _draw(
    axes: Sequence[Axes], of: Gains, variants: Sequence[str], bars: Sequence[str], base: Shop, dials: Sequence[Dial]
) -> None:
    """A panel a dial, each with a scale of its own, and the legend in the last one's room."""
    *panels, legend = axes
    for panel, dial in zip(panels, dials, strict=True):
        places = dial.places(base)
        panel.axhline(0, color="#444444", linewidth=1)
        for row, variant in enumerate(variants):
            there = [(x, of[name, variant]) for x, name in enumerate(places.values()) if (name, variant) in of]
            means = [100 * gain.mean for _, gain in there]
            panel.errorbar(
                [x + 0.13 * (row - (len(variants) - 1) / 2) for x, _ in there],
                means,
                yerr=[
                    [mean - 100 * gain.low for mean, (_, gain) in zip(means, there, strict=True)],
                    [100 * gain.high - mean for mean, (_, gain) in zip(means, there, strict=True)],
                ],
                color=COLOURS[row] if variant not in bars else FAINT[row % 2],
                linestyle="-" if variant not in bars else "--",
                marker="so^Dv<>p"[row % 8],
                markersize=4.5,
                capsize=2.5,
                linewidth=1.2,
                label=label(variant),
            )
        panel.set_xticks(range(len(places)), [f"{value:g}" for value in places])
        panel.set_xlim(-0.4, len(places) - 0.6)
        panel.set_xlabel(dial.label)
        panel.set_ylabel("NDCG@10 over SASRec, %")
    legend.set_axis_off()
    legend.legend(
        *panels[0].get_legend_handles_labels(),
        loc="center",
        frameon=False,
        title="95% intervals over users;\neach panel has its own scale",
    )


def _words(dials: Sequence[Dial]) -> str:
    return (
        "Relative gain in NDCG@10 over a SASRec of one layer, with 95% intervals over users, by "
        f"{', '.join(dial.label for dial in dials)}; the middle value of each is the "
        "same shop, and each panel has a scale of its own"
    )


def _protocol(base: Shop) -> str:
    return (
        f"Shops of {base.users:,} users, all settings at their defaults but the one in the name; leave-last-out, full "
        "ranking, history excluded. Width 32, one layer and twelve epochs unless the name says otherwise, the best "
        "epoch by validation; nothing tuned, and LARES without its second stage, which would be epochs more. Gains are "
        "paired over users, averaged over the seeds that both have, with the 95% interval over users, which knows "
        "nothing of the luck of a seed; p after Holm over all shops and variants of a column. Ahead, behind, rises and "
        "falls: p below .05, else not decided. Milliseconds are those of a machine that had other work."
    )


def _gained(name: str, variant: str, *of: Gains) -> tuple[str, ...]:
    return tuple(str(each[name, variant]) if (name, variant) in each else "" for each in of)


def _spent(runs: Sequence[Result]) -> tuple[str, str]:
    trained = costs(runs, "training", "flops_per_epoch") * costs(runs, "training", "epochs")
    return number(costs(runs, "ms_per_history", "encode"), 3), number(trained / 1e9, 0)


def _shops_table(
    page: Page,
    places: Mapping[str, DatasetKey],
    runs_at: Mapping[str, Mapping[str, Sequence[Result]]],
    base: Shop,
    dials: Sequence[Dial],
) -> None:
    page.heading("What the shops are like")
    page.say("Nobody meets an item twice, so that short routes and small shops make histories shorter than was asked.")
    rows = []
    for dial in dials:
        for value, name in dial.places(base).items():
            if runs_at.get(name):
                protocol = next(iter(runs_at[name].values()))[0].parts["protocol"]
                length = results.aggregated(page.folder, page.name, places[name]).get("history_length")
                told = "" if length is None else number(length, 1)
                rows.append((dial.label, f"{value:g}", name, protocol["n_items"], protocol["n_cases"], told))
    page.table(["dial", "value", "shop", "items", "test cases", "mean test history"], rows)


def study(base: Shop, dials: Sequence[Dial], bars: Sequence[str], thinking: Sequence[str]) -> Study:
    return Study(
        name="when-to-think",
        title="When to think",
        question="What data makes thinking pay? One dial of the simulated shop is turned at a time: how many purposes "
        "a user has, how long a purpose's route is, how much is noise, how long histories are, how many items there "
        "are.",
        variants=(*bars, *thinking),
        write=partial(write, base=base, dials=dials, bars=bars),
        aggregate=partial(gains.against_bars, bars=bars),
        shops=shops(base, dials),
    )


STUDY = study(Shop(), DIALS, tuple(LABELS)[:3], tuple(LABELS)[3:])
