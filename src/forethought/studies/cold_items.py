"""Cold items and cold users: what recommends items that came after the training, and whom it knows little of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forethought.data.hold_out import drawn_items
from forethought.data.shop import Shop
from forethought.data.splits import Split
from forethought.escaping import Markdown
from forethought.recommender import Recommender
from forethought.studies import results
from forethought.studies.cold_measuring import CUT, METRICS, measured
from forethought.studies.page import Page, number
from forethought.studies.results import DatasetKey, Result
from forethought.studies.study import Study

SHARE = 0.1
RECALL, NDCG = METRICS
Figures = Mapping[str, Any]


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """A tenth of the items, drawn by the seed, as if they came after the training."""
    return {"share": SHARE} | measured(model, split, drawn_items(split.data.n_items, SHARE, seed))


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    page.say(
        f"{SHARE:.0%} of the items, drawn by the seed, are left out of the data altogether: neither training nor "
        "tokenizer sees an interaction, a feature or a row of theirs. Then they join by `forethought extend`, known by "
        "their features alone, and tokenised by the fitted tokenizer. All test cases are ranked among all items; a "
        "case is cold that is to find such an item. The bound is the same recipe trained on everything. In brackets "
        "95% intervals over users, which know nothing of the luck of a draw or of a seed. By the nats new "
        "items are lifted, or held back where that is below 0: first as the run itself has it (0 of methods over "
        "tokens; others found it with items shown without ids), then with `extend --lift-from` a third training of "
        "the recipe, which held out a tenth of the items that were left."
    )
    for dataset in results.places(runs_of):
        here = results.at(runs_of, dataset)
        runs = [run for of in here.values() for run in of if run.probe]
        if runs:
            _of_data(page, dataset, [(run, run.probe or {}) for run in runs])
            asked = {run.variant for run in runs}
            if missing := [variant for variant in runs_of if variant not in asked]:
                page.say(f"Not run here: {', '.join(missing)}.")


def _of_data(page: Page, dataset: DatasetKey, runs: Sequence[tuple[Result, Figures]]) -> None:
    page.heading(dataset)
    seeds = {run.seed: told for run, told in runs}
    for seed, told in seeds.items():
        cases, chance = told["cases"], told["chance"]
        by_chance = (
            ""
            if chance is None
            else (f" By chance a cold target has {RECALL} {number(chance[RECALL])} and {NDCG} {number(chance[NDCG])}.")
        )
        page.say(
            f"Seed {seed}: {told['items']:,} items come later; {cases['cold']:,} test cases are to find one of them, "
            f"{cases['warm']:,} another.{by_chance}"
        )
    page.say("**Cold targets.** Once the items have joined, beside the bound on the same cases:")
    head = ["variant", "seed", "nats", RECALL, "bound", "of the bound", NDCG, "bound", "of the bound", "times chance"]
    page.table(head, [[*of, *_cold(told, late)] for of, told, late in _joined(runs)])
    page.say(
        "**Warm targets.** Trained with fewer items and with the new ones among the candidates; barred: the same "
        f"ranking without the new ones, so that the difference is what they cost. Places: the share of all lists of "
        f"{CUT} that the new items take, beside what they take when trained on, and their share of the targets."
    )
    head = ["variant", "seed", "nats", RECALL, "barred", "bound", NDCG, "barred", "bound"]
    head += ["places of cold items", "when trained on", "share of targets"]
    page.table(head, [[*of, *_warm(told, late)] for of, told, late in _joined(runs)])
    page.say(
        "**Cold users.** Everything trained on; users by the length of their history, the shortest fifth first. "
        f"{NDCG}, in brackets how long histories are:"
    )
    _lengths(page, runs)


def _joined(runs: Sequence[tuple[Result, Figures]]) -> Iterator[tuple[list[object], Figures, Figures | None]]:
    """A row a run whose items joined, and one more where another run told how far they are lifted."""
    for run, told in runs:
        lifted = told.get("lifted")
        for late in (told["joined"], *([lifted] if lifted else [])):
            nats = f"{late['lift'] + 0.0:+g}" if late and "lift" in late else ""  # figures of before have none
            yield [run.variant, run.seed, nats], told, late


def _cold(told: Figures, late: Figures | None) -> list[object]:
    """Without features no item can join, so that none is ever found."""
    cells = list[object]()
    for metric in METRICS:
        bound = _mean(told["bound"]["cold"], metric)
        cells += ["0 (cannot)" if late is None else _mean(late["cold"], metric), bound]
        cells += ["" if late is None else _share(late["of_bound"][f"cold {metric}"])]
    if late is None or not late["cold"]:
        return [*cells, ""]
    return [*cells, f"{late['cold'][RECALL]['mean'] / told['chance'][RECALL]:.0f} x"]


def _warm(told: Figures, late: Figures | None) -> list[object]:
    cells = list[object]()
    for metric in METRICS:
        own = ["", ""] if late is None else [_mean(late["warm"], metric), _mean(late["barred"], metric)]
        cells += [*own, _mean(told["bound"]["warm"], metric)]
    cases = told["cases"]
    targets = cases["cold"] / (cases["cold"] + cases["warm"])
    return [*cells, "" if late is None else f"{late['lists']:.1%}", f"{told['bound']['lists']:.1%}", f"{targets:.1%}"]


def _lengths(page: Page, runs: Sequence[tuple[Result, Figures]]) -> None:
    most = max(len(told["by_length"]) for _, told in runs)
    rows = []
    for run, told in runs:
        cells = [
            f"{number(_value(g))} ({g['range'][0]}-{g['range'][1]}, {g['cases']:,} cases)" for g in told["by_length"]
        ]
        rows.append([run.variant, run.seed, *cells, *[""] * (most - len(cells))])
    page.table(["variant", "seed", "shortest", *[""] * (most - 2), "longest"][: most + 2], rows)


def _value(group: Figures) -> float:
    return group[NDCG]["mean"]


def _mean(figures: Figures | None, metric: str) -> Markdown | str:
    if figures is None:
        return ""
    low, high = figures[metric]["ci95"]
    return Markdown(f"**{figures[metric]['mean']:.4f}** [{low:.4f}, {high:.4f}]")


def _share(share: Figures | None) -> str:
    if share is None:
        return ""
    low, high = share["ci95"]
    return f"{share['mean']:.0%} [{low:.0%}, {high:.0%}]"


SHOP = "shop-cold"
STUDY = Study(
    name="cold-items",
    title="Cold items and cold users",
    question="What is recommended of items that nobody had met when a model was trained, once they have joined it by "
    "their features: by methods over tokens, by item vectors of features, by ids? What do the others lose by it? And "
    "how are users served of whom little is known?",
    variants=(
        *("sasrec-features", "sasrec", "rpg-m-8", "rpg-m-8-c-64", "rpg-m-8-c-64-apart", "rpg-m-8-c-16-apart"),
        *("reg4rec", "reg4rec-c-64-apart"),
    ),
    write=write,
    probe=probe,
    shops={SHOP: Shop(users=3_000, items=600, intents=24, interactions_per_user=12.0)},
    texts=True,
    anywhere=True,
)
