"""Marked titles, brands and ids: what comes from data is shown as it stands, on terminals, pages and pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attack import attempts, calls, fixtures
from attack.calls import Call, Outcome
from attack.cases import Case
from attack.ground import Lane
from attack.verdict import CONTROL, Verdict

KIND = "marked titles"
TITLES = (
    *(
        "[/]",
        "[import] pen",
        "[link=file:///etc/passwd]pen[/link]",
        "[bold red]pen[/]",
        "[[x]]",
        "\\[x]",
        "$5 pen_{ for $10",
    ),
    *(
        "$\\frac{1}{0}$",
        "<script>alert(1)</script>",
        "a | b",
        "# head",
        "`code`",
        "![x](http://127.0.0.1/x)",
        "**pen**",
    ),
    *(
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "\x9b31m",
        "a\nb",
        "a\r\nb",
        "a\tb",
        "\u202eabc",
        "\x00",
        "\x08\x08",
        "ünï 日本 🎉",
    ),
)
ALIKE = {
    "lists": [["a", "b"]],
    "bytes": [b"\xff\xfe"],
    "structs": [{"a": 1}],
    "numbers": [1.5],
    "nulls": [None],
    "bools": [True],
}
STYLE = re.compile(r"\x1b\[[0-9;]*m")
SHOP, RUN = "marked/shop", "marked/run"
NAMES = ("<script>alert(1)</script>", "[/]", "a|b", "\x1b[31m", "a\nb", "$_{", "ünï")


def cases(lane: Lane) -> list[Case]:
    """Verbs that show what data says, on a shop whose titles are marked up, and on shops whose titles are no text."""
    made = []
    for what in ("titles", *ALIKE):
        if not (lane.master / "marked" / what).exists():
            lane.clear()
            lane.take("shop")
            calls.make(lane, lambda what=what: _write(what))
            (lane.master / "marked").mkdir(exist_ok=True)
            for run in ("run", "second"):
                words = fixtures.train("dtrec", run, "--seed", str(len(run)))
                ends = [calls.run(Call(each), lane) for each in (words, ("evaluate", run, "--resamples", "20"))]
                if ends[0].code:
                    made.append(_untrainable(what, ends[0]))
                    break
            lane.case.rename(lane.master / "marked" / what)
        made += _shown(what)
    return made


def _untrainable(what: str, outcome: Outcome) -> Case:
    """Said once by a case of its own: what was told when it was trained on."""

    def do(lane: Lane) -> Verdict:
        verdict = Verdict(counts={"malformed inputs": 1}, told=outcome.code == 2)
        if outcome.code != 2:
            verdict.add(f"train on a shop with {what} for titles: exit code {outcome.code}", outcome.err)
        return verdict

    return Case(KIND, f"{what}: train", do)


def _shown(what: str) -> Iterator[Case]:
    history = ("--history", "i00001,i00002,i00003")
    verbs = {
        "recommend": ("recommend", "run", *history, "--k", "24", "--exclude-history", "no"),
        "recommend --json": ("recommend", "run", *history, "--json"),
        "explain": ("explain", "run", *history, "--k", "24"),
        "explain --json": ("explain", "run", *history, "--json"),
        "explain .png": ("explain", "run", *history, "--picture", "p.png"),
        "explain .svg": ("explain", "run", *history, "--picture", "p.svg"),
        "doctor": ("doctor", "shop"),
        "prepare": ("prepare", "shop", "--out", "out"),
        "evaluate": ("evaluate", "run", "--data", "shop", "--resamples", "20"),
        "compare": ("compare", "a=run", "b=second"),
        "embed": ("embed", "shop", "--model", "encoder"),
    }
    for verb, words in verbs.items():
        for stdout in ("utf-8", "terminal"):
            yield attempts.case(
                KIND,
                f"{what}: {verb}, {stdout}",
                words,
                prepare=lambda lane: lane.take(
                    *((f"marked/{what}/{name}", name) for name in ("shop", "run", "second")), "encoder"
                ),
                outputs=("out", "p.png", "p.svg", "run", "shop"),
                check=lambda lane, outcome, verdict, verb=verb: _escaped(lane, outcome, verdict, verb, what),
                stdout=stdout,
                always=True,
            )
    if what != "titles":
        return
    for name in NAMES:
        for page in ("page.html", "page.md", "page.json"):
            yield attempts.case(
                KIND,
                f"compare {ascii(name)[1:-1]}=run --out {page}",
                ("compare", f"{name}=run", "b=second", "--out", page),
                prepare=lambda lane: lane.take(("marked/titles/run", "run"), ("marked/titles/second", "second")),
                outputs=(page,),
                check=lambda lane, outcome, verdict: _escaped(lane, outcome, verdict, "compare", "names"),
                always=True,
            )


def _escaped(lane: Lane, outcome: Outcome, verdict: Verdict, verb: str, what: str) -> None:
    """No control characters but our own colours, no markup that works, no word that vanished."""
    shown = STYLE.sub("", outcome.out)
    if CONTROL.search(shown):
        verdict.add(f"{verb}: control characters of {what} reach the terminal", ascii(shown)[:2000])
    if outcome.code == 0 and what == "titles" and verb in ("recommend", "explain") and "import" not in shown:
        verdict.add(f"{verb}: a word of a title vanished", shown[:2000])
    for path in (*lane.case.rglob("*.html"), *lane.case.rglob("*.md")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "<script>alert" in text:
            verdict.add(f"{verb}: markup of {what} works in {path.suffix}", str(path.name))
        if CONTROL.search(text):
            verdict.add(f"{verb}: control characters of {what} stand in {path.suffix}", str(path.name))


def _write(what: str) -> None:
    import polars as pl

    items = pl.read_parquet("shop/items.parquet")
    values = TITLES if what == "titles" else ALIKE[what]
    column = [values[n % len(values)] for n in range(items.height)]
    items = items.with_columns(title=pl.Series(column))
    if what == "titles":
        items = items.with_columns(
            brand=pl.Series(column[::-1]), categories=pl.Series([[each, "x"] for each in column])
        )
    items.write_parquet("shop/items.parquet")
