"""When to think: simulated shops that differ in one dial each, and what reasoning gains in each of them.

A method is held against a SASRec of one layer and against one of as many layers as it has steps and layers, since a
step is one more pass through a layer. Thinking pays where it is ahead of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from forethought.data.shop import Shop
from forethought.studies import gains, results
from forethought.studies.gains import Gain, Gains, Verdict
from forethought.studies.page import COLOURS, Page, number
from forethought.studies.results import DatasetKey, Result
from forethought.studies.study import Study
from forethought.studies.tables import costs, mean_of_seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEFAULT = "shop-default"
LABELS = {
    "sasrec-level": "SASRec, 1 layer",
    "sasrec-deep-level": "SASRec, 4 layers",
    "sasrec-long-level": "SASRec, 48 epochs",
    "rearec-prl-level": "ReaRec-PRL, 2 steps",
    "dtrec-level": "DTRec, up to 3 steps",
    "lares-level": "LARES, 3 rounds",
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


def write(page: Page, runs_of: Mapping[str, Sequence[Result]], base: Shop, dials: Sequence[Dial]) -> None:
    """The picture, what it comes to in sentences, and every figure behind them."""
    names = shops(base, dials)
    places = {place.data: place for place in results.places(runs_of) if place.data in names}
    variants = [variant for variant, runs in runs_of.items() if runs]
    first, *others = variants or [""]
    over_first = gains.over_first(page.folder, page.name, list(places.values()))
    over_second = gains.over_second(page.folder, page.name, list(places.values()))
    if over_first:
        with page.plot("gain", _words(dials), axes=len(dials) + 1, across=3) as axes:
            _draw(axes, over_first, others, base, dials)
        page.heading("What it comes to")
        for sentence in conclusions(over_first, over_second, others, base, dials):
            page.say(sentence)
    page.heading("Every shop")
    page.say(_protocol(base, first))
    runs_at = {name: results.at(runs_of, place) for name, place in places.items()}
    page.table(
        ["shop", "variant", "NDCG@10", "over the first", "over the second", "seeds", "ms a history", "s an epoch"],
        [
            (
                name,
                label(variant),
                mean_of_seeds(runs, gains.METRIC),
                *_gained(name, variant, over_first, over_second),
                len(runs),
                *_times(runs),
            )
            for name in names
            for variant, runs in runs_at.get(name, {}).items()
        ],
    )
    _shops_table(page, places, runs_at, base, dials)


def label(variant: str) -> str:
    return LABELS.get(variant, variant)


def conclusions(
    over_first: Gains, over_second: Gains, others: Sequence[str], base: Shop, dials: Sequence[Dial]
) -> list[str]:
    """What the figures decide, in sentences that say so where they decide nothing."""
    second, *thinking = others
    both = [
        f"{label(variant)} in {name}"
        for (name, variant), gain in over_first.items()
        if variant != second and gain.verdict() == _verdict(over_second, name, variant) == "ahead"
    ]
    deeper = [name for (name, variant), gain in over_first.items() if variant == second and gain.verdict() == "ahead"]
    said = [
        f"**Thinking pays, beyond what as many layers pay, in {_listed(both)}.**"
        if both
        else f"**In none of these shops is a method that thinks ahead of both SASRecs: not decided, or not so.** "
        f"{label(second)} is ahead of the first in {_listed(deeper)}.",
    ]
    if both:
        said[0] += f" {label(second)} is ahead of the first in {_listed(deeper)}."
    lines = [f"- {label(second)}: against the first {_counted(over_first, second)}."]
    lines += [
        f"- {label(variant)}: against the first {_counted(over_first, variant)}; against {label(second)} "
        f"{_counted(over_second, variant)}."
        for variant in thinking
    ]
    said.append("\n".join(lines))
    said.append("\n".join(_turned(over_first, others, base, dials, "the first")))
    said.append("\n".join(_turned(over_second, thinking, base, dials, label(second))))
    return [sentence for sentence in said if sentence]


def _turned(of: Gains, variants: Sequence[str], base: Shop, dials: Sequence[Dial], against: str) -> list[str]:
    """How gains move from each dial's least value to its largest; a family of tests of its own."""
    moves: dict[tuple[str, str], Gain] = {}
    for dial in dials:
        low, *_, high = dial.places(base).values()
        for variant in variants:
            if (low, variant) in of and (high, variant) in of:
                moves[dial.label, variant] = gains.change(of[low, variant], of[high, variant])
    moves = dict(zip(moves, gains.with_holm(list(moves.values())), strict=True))
    words: dict[Verdict, str] = {"ahead": "rises", "behind": "falls", "not decided": "not decided"}
    lines = []
    for dial in dials:
        low, *_, high = dial.places(base)
        told = [
            f"{label(variant)} {words[move.verdict()]} ({100 * move.mean:+.1f} points "
            f"[{100 * move.low:+.1f}, {100 * move.high:+.1f}], p {move.p:.3f})"
            for variant in variants
            if (move := moves.get((dial.label, variant))) is not None
        ]
        if told:
            lines.append(f"- {dial.label}, from {low:g} to {high:g}: {'; '.join(told)}.")
    return [f"How the gain over {against} moves when a dial is turned:", "", *lines] if lines else []


def _verdict(of: Gains, name: str, variant: str) -> Verdict:
    gain = of.get((name, variant))
    return "not decided" if gain is None else gain.verdict()


def _counted(of: Gains, variant: str) -> str:
    verdicts = [gain.verdict() for (_, other), gain in of.items() if other == variant]
    if not verdicts:
        return "not measured"
    counts = [f"{word} in {verdicts.count(word)}" for word in ("ahead", "behind", "not decided")]
    return f"{', '.join(counts)} of {len(verdicts)} shops"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none of them"


def _draw(axes: Sequence[Axes], of: Gains, variants: Sequence[str], base: Shop, dials: Sequence[Dial]) -> None:
    """A panel a dial, all with the same scale, and the legend in the last one's room."""
    *panels, legend = axes
    drawn = [100 * bound for (_, v), gain in of.items() if v in variants for bound in (gain.low, gain.high)]
    room = 0.05 * (max(*drawn, 0.0) - min(*drawn, 0.0))
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
                color="#777777" if row == 0 else COLOURS[row - 1],
                linestyle="--" if row == 0 else "-",
                marker="so^Dv<>p"[row % 8],
                markersize=4.5,
                capsize=2.5,
                linewidth=1.2,
                label=label(variant),
            )
        panel.set_xticks(range(len(places)), [f"{value:g}" for value in places])
        panel.set_xlim(-0.4, len(places) - 0.6)
        panel.set_ylim(min(*drawn, 0.0) - room, max(*drawn, 0.0) + room)
        panel.set_xlabel(dial.label)
        panel.set_ylabel("NDCG@10 over SASRec, %")
    legend.set_axis_off()
    legend.legend(*panels[0].get_legend_handles_labels(), loc="center", frameon=False, title="bars: 95% over users")


def _words(dials: Sequence[Dial]) -> str:
    return (
        "Relative gain in NDCG@10 over a SASRec of one layer, with 95% intervals over users, by "
        f"{', '.join(dial.label for dial in dials)}; the middle value of each is the same shop"
    )


def _protocol(base: Shop, first: str) -> str:
    return (
        f"Shops of {base.users:,} users, all settings at their defaults but the one in the name; leave-last-out, full "
        f"ranking, history excluded. Width 32, twelve epochs for everybody, one schedule, the best of them by "
        f"validation; nothing tuned. The first is {label(first)}; gains are paired over users, averaged over the seeds "
        "that both have, with the 95% interval over users, which knows nothing of the luck of a seed; p after Holm "
        "over all shops and methods of a column. Ahead, behind, rises and falls: p below .05; else not decided."
    )


def _gained(name: str, variant: str, *of: Gains) -> tuple[str, ...]:
    return tuple(str(each[name, variant]) if (name, variant) in each else "" for each in of)


def _times(runs: Sequence[Result]) -> tuple[str, str]:
    ms, s = costs(runs, "ms_per_history", "encode"), costs(runs, "training", "s_per_epoch")
    return number(ms, 3), number(s, 2)


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


def study(base: Shop, dials: Sequence[Dial], variants: Sequence[str]) -> Study:
    """The first variant is what all are held against, the second the one of as many layers."""
    return Study(
        name="when-to-think",
        title="When to think",
        question="What data makes thinking pay? One dial of the simulated shop is turned at a time: how many purposes "
        "a user has, how long a purpose's route is, how much is noise, how long histories are, how many items there "
        "are.",
        variants=variants,
        write=partial(write, base=base, dials=dials),
        aggregate=gains.against_second,
        shops=shops(base, dials),
    )


STUDY = study(Shop(), DIALS, tuple(LABELS))
