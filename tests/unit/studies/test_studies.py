"""Studies on a tiny shop: what is missing is trained, what is done is not, and the page tells of all there is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from forethought import memory
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import Batch
from forethought.data.noise import KINDS, Noise
from forethought.data.splits import Split, leave_last_out, temporal
from forethought.decoding.beam import BeamSettings
from forethought.errors import ConfigError, DataError, RunError
from forethought.methods.dtrec import DTRec
from forethought.methods.ease import EASE
from forethought.methods.igr_sr import IGRSR
from forethought.methods.next_item import NextItem
from forethought.methods.popular import Popular
from forethought.methods.reg4rec import REG4Rec
from forethought.runs import train
from forethought.studies import clusters, halting, halting_page, intent_probing, length, results, runner, variants
from forethought.studies.catalogue import STUDIES
from forethought.studies.decoding import ways
from forethought.studies.results import DatasetKey
from forethought.studies.runner import StudyContext, carry_out, write_page
from forethought.studies.tables import results_table
from forethought.training.progress import Quiet
from forethought.training.settings import Training

SMALL = SASRec(width=16, heads=2, window=8, ffn_width=32)
QUICK = Training(epochs=2, batch_positions=128, learning_rate=5e-3, warmup_steps=5)
TINY = {
    "sasrec": Recipe(method=NextItem(backbone=SMALL), training=QUICK),
    "dtrec": Recipe(
        method=DTRec(backbone=replace(SMALL, input_norm=True), first_clusters=4, most_clusters=12), training=QUICK
    ),
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variants that train in a second; the third is the first under another name."""
    few = {name: (lambda recipe=recipe: recipe) for name, recipe in TINY.items()}
    few["dtrec-again"] = few["dtrec"]
    for module in (variants, runner):
        monkeypatch.setattr(module, "VARIANTS", few)


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine shows no CUDA device")
on_every_device = pytest.mark.parametrize("context", ["cpu", pytest.param("cuda", marks=NO_GPU)], indirect=True)


@pytest.fixture
def context(split: Split, tmp_path: Path, request: pytest.FixtureRequest) -> StudyContext:
    said: list[str] = []
    device = getattr(request, "param", "auto")
    return StudyContext(
        split, tmp_path / "results", tmp_path / "runs", said.append, Quiet, "forethought study x --data shop", device
    )


def study(*names: str, of: str = "latent-reasoning", **changed: Any) -> Any:
    return replace(STUDIES[of], variants=names, **changed)


def said(context: StudyContext) -> list[str]:
    return context.say.__self__  # type: ignore[attr-defined]


@pytest.mark.usefixtures("tiny")
def test_a_study_from_nothing_to_its_page_and_on(context: StudyContext) -> None:
    page = carry_out(study("sasrec", "dtrec", "dtrec-again"), context, seeds=[0])
    name = f"dtrec-{context.split.data.name}-file-0"
    told = json.loads((context.results / "runs" / f"{name}.json").read_text())
    assert {"command", "commit", "config", "protocol", "metrics", "cost", "training", "machine", "date"} <= told.keys()
    assert told["protocol"]["data_hash"] == context.split.data.data_hash
    assert "groups" not in told  # which would be most of it, and stand in the run folder's own metrics.json
    assert "groups" in json.loads((context.runs / name / "metrics.json").read_text())
    assert len(list((context.results / "runs").glob("*.json"))) == 2  # the same recipe is trained once
    text = page.read_text()
    for row in ("| sasrec | 1 |", "| dtrec | 1 |", "| dtrec-again | 1 |"):
        assert row in text
    assert "p 1.000" in text or "p 0." in text  # differences to the first row
    for plot in page.parent.glob("*.svg"):
        assert plot.read_text().startswith("<?xml")
        assert f"({plot.name})" in text
    assert [line for line in said(context) if "training" in line] == [
        f"{v}-{context.split.data.name}-file-0: training" for v in ("sasrec", "dtrec")
    ]

    # a fresh checkout: results are there, run folders are not
    shutil.rmtree(context.runs)
    said(context).clear()
    assert carry_out(study("sasrec", "dtrec", "dtrec-again"), context, seeds=[0]).read_text() == text
    assert said(context) == []
    carry_out(study("sasrec", "dtrec"), context, seeds=[0, 1], only=["sasrec"])
    assert said(context) == [f"sasrec-{context.split.data.name}-file-1: {what}" for what in ("training", "evaluating")]
    assert "| sasrec | 2 |" in page.read_text()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", ["beauty/2014", "../../x", "..", "a\nb", "x" * 300])
def test_a_name_that_is_a_path_leads_nowhere(name: str, context: StudyContext, tmp_path: Path) -> None:
    other = replace(context, split=replace(context.split, data=replace(context.split.data, name=name)))
    with pytest.raises(DataError, match="files are called after it: choose a name"):
        carry_out(study("sasrec"), other, seeds=[0])
    assert list(tmp_path.iterdir()) == []
    carry_out(study("sasrec", "dtrec"), context, seeds=[0], only=["sasrec"])
    before = sorted(tmp_path.rglob("*"))
    path = next((context.results / "runs").glob("*.json"))
    parts = json.loads(path.read_text())
    for changed in ({"data": name}, {"ties": name}, {"seed": name}, {"variant": name}, {"data": ["a"]}, {"seed": None}):
        path.write_text(json.dumps(parts | changed))
        with pytest.raises(RunError, match=f"is damaged .its {next(iter(changed))} cannot be .*: remove it"):
            write_page(study("sasrec", "dtrec"), context.results, context.runs)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("tiny")
def test_a_name_with_a_blank_and_brackets_serves(context: StudyContext) -> None:
    name = "Beauty 2014 [5-core]"
    context = replace(context, split=replace(context.split, data=replace(context.split.data, name=name)))
    page = carry_out(study("sasrec", "dtrec"), context, seeds=[0])
    assert f"dtrec-{name}-file-0" in page.read_text().replace("\\[", "[").replace("\\]", "]")
    assert (context.results / "latent-reasoning" / f"differences-{name}-file.json").is_file()


@pytest.mark.usefixtures("tiny")
def test_a_training_killed_before_its_first_state_begins_anew(context: StudyContext) -> None:
    carry_out(study("sasrec"), context, seeds=[0])
    (folder,) = context.runs.iterdir()
    for name in ("model.safetensors", "log.jsonl", "README.md", "metrics.json", "per_user.parquet"):
        (folder / name).unlink()
    shutil.rmtree(folder / "state")
    shutil.rmtree(context.results)
    carry_out(study("sasrec"), context, seeds=[0])
    assert (folder / "model.safetensors").is_file()


@pytest.mark.usefixtures("tiny")
def test_what_the_data_cannot_serve_is_left_out_unless_asked_for(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (variants, runner):
        monkeypatch.setitem(module.VARIANTS, "texts", lambda: Recipe(method=IGRSR(intents="texts"), training=QUICK))
    page = carry_out(study("sasrec", "texts"), context, seeds=[0])
    assert said(context)[0].startswith("texts is left out. There are no text vectors of items beside the data")
    assert "| texts |" not in page.read_text()
    with pytest.raises(DataError, match="no text vectors"):
        carry_out(study("sasrec", "texts"), context, seeds=[0], only=["texts"])


@pytest.mark.usefixtures("tiny")
def test_another_configuration_is_not_passed_off(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out(study("sasrec"), context, seeds=[0])
    other = replace(TINY["sasrec"], method=NextItem(backbone=replace(SMALL, dropout=0.1)))
    for module in (variants, runner):
        monkeypatch.setitem(module.VARIANTS, "sasrec", lambda: other)
    with pytest.raises(RunError, match="of another configuration of sasrec: remove it"):
        carry_out(study("sasrec"), context, seeds=[0])
    with pytest.raises(RunError, match="of another configuration of sasrec"):  # neither is it averaged with other seeds
        carry_out(study("sasrec"), context, seeds=[1])
    with pytest.raises(ConfigError, match="has no variant 'dtrek'; it has sasrec"):
        carry_out(study("sasrec"), context, seeds=[0], only=["dtrek"])
    longer = replace(TINY["sasrec"], training=replace(QUICK, epochs=3))
    for module in (variants, runner):
        monkeypatch.setitem(module.VARIANTS, "sasrec", lambda: longer)
    with pytest.raises(RunError, match="of another configuration of sasrec: remove it"):
        carry_out(study("sasrec"), context, seeds=[0])
    noisy = replace(TINY["sasrec"], noise=Noise(share=0.3))
    for module in (variants, runner):
        monkeypatch.setitem(module.VARIANTS, "sasrec", lambda: noisy)
    with pytest.raises(RunError, match="of another configuration of sasrec: remove it"):
        carry_out(study("sasrec"), context, seeds=[0])
    path = next((context.results / "runs").glob("*.json"))
    for text, said in (("{", ""), ("[1]", "it has no '{'"), ('{"variant": "sasrec"}', "it has no 'data'")):
        path.write_text(text)
        with pytest.raises(RunError, match=f"is damaged .*{said}.*: remove it, and the study makes it anew"):
            write_page(study("sasrec"), context.results)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metrics", "recall@10", "mean"), ""),
        (("metrics", "ndcg@10", "ci95"), [0.1]),
        (("valid", "ndcg@10"), None),
        (("training", "trained_s"), "x"),
        (("cost", "ms_per_history", "encode"), "x"),
        (("protocol", "n_items"), []),
        (("commit",), 1),
    ],
)
def test_a_figure_that_is_no_number_is_no_result(context: StudyContext, path: tuple[str, ...], value: Any) -> None:
    carry_out(study("sasrec"), context, seeds=[0])
    file = next((context.results / "runs").glob("*.json"))
    inner = parts = json.loads(file.read_text())
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file.write_text(json.dumps(parts))
    with pytest.raises(RunError, match=rf"is damaged \(.*{path[0]}.*: remove it, and the study makes it anew"):
        write_page(study("sasrec"), context.results)


@pytest.mark.usefixtures("tiny")
def test_settings_newer_than_a_run_are_as_they_were(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out(study("sasrec"), context, seeds=[0])
    path = next((context.results / "runs").glob("*.json"))
    told = json.loads(path.read_text())
    del told["config"]["method"]["rounds"], told["config"]["training"]["patience"], told["config"]["noise"]
    path.write_text(json.dumps(told))
    carry_out(study("sasrec"), context, seeds=[0])
    twice = replace(TINY["sasrec"], method=NextItem(backbone=SMALL, rounds=2))
    for module in (variants, runner):
        monkeypatch.setitem(module.VARIANTS, "sasrec", lambda: twice)
    with pytest.raises(RunError, match="of another configuration of sasrec"):
        carry_out(study("sasrec"), context, seeds=[0])


@pytest.mark.usefixtures("tiny")
def test_a_study_trains_on_noise(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (variants, runner):
        monkeypatch.setitem(module.VARIANTS, "dtrec", lambda: replace(TINY["sasrec"], noise=Noise(share=0.3)))
    carry_out(study("sasrec", "dtrec"), context, seeds=[0])
    clean, noisy = (
        json.loads(next((context.results / "runs").glob(f"{v}-*.json")).read_text()) for v in ("sasrec", "dtrec")
    )
    assert noisy["config"]["noise"] == {"kind": "replace", "share": 0.3, "seed": 0}
    assert clean["config"]["noise"] is None
    assert noisy["metrics"] != clean["metrics"]


@pytest.mark.usefixtures("tiny")
def test_other_data_and_other_splits_are_not_passed_off(context: StudyContext) -> None:
    data = context.split.data
    by_time, later = (temporal(data, valid_from=at, test_from=0.9) for at in (0.7, 0.8))
    carry_out(study("sasrec"), context, seeds=[0])
    carry_out(study("sasrec"), replace(context, split=by_time), seeds=[0])  # a place of its own
    names = sorted(path.stem for path in (context.results / "runs").glob("*.json"))
    assert names == [f"sasrec-{data.name}-{cut}-0" for cut in ("file", "temporal")]
    fewer = leave_last_out(data.where(np.arange(len(data)) > 50))
    assert fewer.data.name == data.name
    for other in (later, fewer):
        with pytest.raises(RunError, match="of other data or another split than those given: choose another folder"):
            carry_out(study("sasrec"), replace(context, split=other), seeds=[1])


@pytest.mark.usefixtures("tiny")
def test_results_that_cannot_be_written_are_not_trained_for(context: StudyContext, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"is a file, but a folder is to be written to: choose another folder"):
        carry_out(study("sasrec"), replace(context, results=tmp_path / "file"), seeds=[0])
    assert said(context) == []


def test_the_depth_told_of_is_chosen_on_validation() -> None:
    """The eager point looks sound on the test part only; of the sound ones the first has the fewest steps there."""

    def point(way: str, steps: float, test: float, valid: float, valid_steps: float) -> dict[str, Any]:
        of = {"relative": test, "relative_ci95": [test, test]}
        told = {
            "way": way,
            "rule": "arh",
            "threshold": steps,
            "steps": steps,
            "flops": 10 * steps,
            "ms": steps,
            "ndcg@10": 1 + test,
            **of,
        }
        return told | {"valid": {"steps": valid_steps, "relative": valid, "relative_ci95": [valid, valid]}}

    fixed = point("fixed depth", 3.0, 0.0, 0.0, 3.0) | {"rule": "fixed"}
    points = [point("ARH", 1.0, 0.5, -0.2, 1.0), point("ARH", 1.5, -0.3, 0.0, 1.4), point("ARH", 1.2, 0.0, 0.0, 1.6)]
    deepest = fixed | {"steps": 6.0, "flops": 60.0, "ms": 15.0, "ndcg@10": 0.5}
    said = halting_page.verdict({"best_fixed": 3, "curve": [fixed, deepest, *points]})
    assert "the threshold 1.5. On the test part it takes 1.50 steps" in said
    assert "NDCG@10 -30.0% [-30.0%, -30.0%], steps saved 50.0%, FLOPs saved 50.0%, time saved 50.0%" in said
    assert "taking all 6 steps: NDCG@10 +40.0%, steps saved 75.0%, FLOPs saved 75.0%, time saved 90.0%" in said
    nothing = points[0]["valid"] | {"relative_ci95": [None, None]}
    assert "no ARH point" in halting_page.verdict({"best_fixed": 3, "curve": [fixed, points[0] | {"valid": nothing}]})


@on_every_device
@pytest.mark.usefixtures("tiny")
def test_halting_curves(context: StudyContext) -> None:
    page = carry_out(study("dtrec", of="halting"), context, seeds=[0])
    told = json.loads(next((context.results / "halting").glob("dtrec-*.json")).read_text())
    fixed = [p for p in told["curve"] if p["way"] == "fixed depth"]
    assert [p["steps"] for p in fixed] == [0, 1, 2, 3]
    assert [p["flops"] for p in fixed] == sorted(p["flops"] for p in fixed)
    assert fixed[told["best_fixed"]]["relative"] == 0
    assert {p["way"] for p in told["curve"]} >= {"soft", "ARH", "change (REE)", "entropy"}
    still = [n for n in told["misread"] if n["amount"] == 0]
    assert {n["rule"] for n in still} >= {"arh", "change", "entropy"}
    assert all(n["same_exit"] == 1.0 and n["relative"] == 0 for n in still)
    noisy = [n for n in told["misread"] if (n["kind"], n["amount"]) == ("bias", 2.0)]
    assert any(n["same_exit"] < 1 for n in noisy)
    assert told["fitted"].startswith("On the validation part arh needs")
    bounds, text = told["bounds"], page.read_text()
    assert bounds["oracle"]["ndcg@10"] >= max(p["ndcg@10"] for p in fixed)
    assert bounds["oracle"]["steps_at_no_loss"] <= told["best_fixed"]
    assert all(p["relative_ci95"][0] <= p["relative"] <= p["relative_ci95"][1] for p in bounds["learnt"])
    assert "An oracle that knows what comes next".lower() in text.lower()
    assert [p["oracle"]["ndcg@10"] for p in fixed[:2]] == pytest.approx([p["ndcg@10"] for p in fixed[:2]])
    for point in [p for p in told["curve"] if p["rule"] != "soft"]:
        assert point["oracle"]["ndcg@10"] >= point["ndcg@10"] - 1e-9, "no rule is above it"
        assert point["oracle"]["steps"] <= point["steps"] + 1e-9
        assert set(point["steps_by"]) == {"length", "entropy", "rank"}
        assert list(point["steps_quantiles"].values()) == sorted(point["steps_quantiles"].values())
    summary = text.split("## What is saved at no loss")[1].split("\n## ")[0]
    assert "| oracle saves at most |" in summary
    rows = [line.split(" | ") for line in summary.splitlines() if line.startswith("| dtrec-")]
    assert [row[1:3] for row in rows] == [[str(told["best_fixed"]), name] for name in halting_page.CHOSEN.values()]
    assert "| by entropy before the first step | difference |" in text
    assert "| fixed depth |" in text
    assert "| ARH, fitted on validation |" in text
    assert "At one deviation, under noise" in text
    assert told["fitted"] in text


def test_the_page_of_halting_is_made_of_what_is_committed(tmp_path: Path) -> None:
    """Results of before quartiles, oracles and errors in deviations were asked for."""
    kept = Path(__file__).parents[3] / "docs" / "results"
    for part in ("runs", "halting"):
        (tmp_path / part).mkdir()
        for path in (kept / part).glob("dtrec*.json"):
            shutil.copy(path, tmp_path / part)
    text = write_page(STUDIES["halting"], tmp_path).read_text(encoding="utf-8")
    assert "| dtrec-amazon_beauty_2014-shuffle-0 | 1 | ARH | 0.3 | 1.33 |" in text


@pytest.mark.usefixtures("tiny")
def test_halting_curves_of_one_step(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to decide, so there are fixed depths and nothing under noise."""
    one = replace(TINY["dtrec"], method=replace(TINY["dtrec"].method, max_steps=1))
    monkeypatch.setitem(variants.VARIANTS, "dtrec", lambda: one)
    carry_out(study("dtrec", of="halting"), context, seeds=[0])
    told = json.loads(next((context.results / "halting").glob("dtrec-*.json")).read_text())
    assert [p["steps"] for p in told["curve"] if p["way"] == "fixed depth"] == [0, 1]
    assert told["misread"] == []
    assert told["fitted"] is None


@on_every_device
@pytest.mark.usefixtures("tiny")
def test_noise_curves(context: StudyContext) -> None:
    page = carry_out(study("sasrec", "dtrec", of="noise"), context, seeds=[0])
    told = {
        path.name.partition("-")[0]: json.loads(path.read_text())
        for path in (context.results / "noise").glob("*-0.json")
    }
    assert {(p["kind"], p["share"]) for p in told["sasrec"]["points"]} == set(product(KINDS, (0.1, 0.2, 0.3)))
    assert told["sasrec"]["seeds"] == told["dtrec"]["seeds"] == [0, 1, 2, 3, 4]
    run = json.loads(next((context.results / "runs").glob("sasrec-*.json")).read_text())
    assert told["sasrec"]["clean"] == {name: run["metrics"][name] for name in ("recall@10", "ndcg@10")}
    aggregated = json.loads(next((context.results / "noise").glob("related-*.json")).read_text())
    point = next(p for p in told["dtrec"]["points"] if (p["kind"], p["share"]) == ("swap", 0.3))
    other = next(p for p in told["sasrec"]["points"] if (p["kind"], p["share"]) == ("swap", 0.3))
    less = other["drops"]["ndcg@10"]["mean"] - point["drops"]["ndcg@10"]["mean"]
    assert aggregated["dtrec"]["swap 0.3 ndcg@10"]["mean"] == pytest.approx(less)
    text, plot = page.read_text(), next(page.parent.glob("noise-*.svg"))
    assert "| swap | dtrec | " in text.split("How many points of a hundred less than `sasrec`")[1]
    assert f"({plot.name})" in text
    absolute = text.split("How many points of a hundred less")[0]
    rows = {tuple(line.split(" | ")[:2]): line for line in absolute.splitlines() if line.startswith("| ")}
    for variant, kind in product(told, KINDS):
        point = next(p for p in told[variant]["points"] if (p["kind"], p["share"]) == (kind, 0.2))
        row = rows[f"| {kind}", variant]
        assert f" {point['metrics']['recall@10']['mean']:.4f} " in row
        low, high = point["drops"]["ndcg@10"]["ci95"]
        assert f"{point['drops']['ndcg@10']['mean']:.1%} [{low:.1%}, {high:.1%}]" in row


def test_the_peak_is_what_was_held_at_once() -> None:
    def work() -> None:
        one = torch.ones(1000, 1000)  # 4 MB
        two = one + 1
        del one
        three = torch.cat([two, two])
        del two, three
        torch.ones(500, 1000)

    work()  # what is freed stays with the process, and must not hide the second time
    assert length.peak_mb(work, torch.device("cpu")) == pytest.approx(12.0, rel=1e-3)


@on_every_device
@pytest.mark.usefixtures("tiny")
def test_what_long_histories_cost(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length, "REPEATS", 3)
    page = carry_out(study("sasrec", "dtrec", of="long-histories"), context, seeds=[0])
    told = json.loads(next((context.results / "long-histories").glob("sasrec-*-0.json")).read_text())
    assert (told["window"], told["items"]) == (8, 8)
    assert told["ms"] > 0
    assert told["mb"] > 80 * told["window"] * SMALL.width * 4 / 1e6 / 2  # more than the embedded histories alone
    assert f"| sasrec | 8 | 8 | {told['ms']:.2f} |" in page.read_text()


def test_chance_takes_so_many_steps() -> None:
    for steps in (1.2, 2.0, 2.9):
        p = halting._chance(steps, 3)
        assert p + 2 * p * (1 - p) + 3 * (1 - p) ** 2 == pytest.approx(steps)


@on_every_device
@pytest.mark.usefixtures("tiny")
def test_clusters_beside_categories(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "COUNTS", (5, 10, 3000))
    monkeypatch.setattr(clusters, "SHOWN", {5: 5, 10: 3})
    page = carry_out(study("sasrec", of="clusters"), context, seeds=[0])
    told = json.loads(next((context.results / "clusters").glob("sasrec-*.json")).read_text())
    assert {a["k"] for a in told["agreement"]} == {5, 10}
    assert "| 5 | level 1 |" in page.read_text()
    sheet = next(context.runs.glob(f"sasrec-*/{clusters.SHEET}")).read_text()
    assert len(list(context.results.glob("clusters-sasrec-*.svg"))) == 1
    assert "## k = 10" in sheet
    assert sheet.count("- **") == 5 + 3


def test_agreement_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    cluster, category = rng.integers(0, 4, 60), rng.integers(0, 3, 60).astype(str)
    category[:10] = ""
    got = clusters.agreement(cluster, category)
    table = contingency_matrix(category[10:], cluster[10:])
    assert got["purity"] == pytest.approx(table.max(axis=0).sum() / 50)
    assert got["ami"] == pytest.approx(adjusted_mutual_info_score(category[10:], cluster[10:]))
    same = clusters.agreement(cluster, cluster.astype(str))
    assert (same["purity"], same["ami"]) == (1.0, pytest.approx(1.0))
    assert same["purity_by_chance"] < 0.6


def test_seeds_are_averaged() -> None:
    runs = [
        results.Result("a", DatasetKey("d", "file"), seed, {"metrics": {"ndcg@10": {"mean": mean}}})
        for seed, mean in enumerate((0.1, 0.2, 0.6))
    ]
    mean, spread = results.over_seeds(runs, "ndcg@10")
    assert mean == pytest.approx(0.3)
    assert spread == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_of_known_variants(name: str) -> None:
    if "lares" not in variants.VARIANTS and "lares" in STUDIES[name].variants:
        pytest.skip("lares is not there yet")
    for variant in STUDIES[name].variants:
        assert variants.canonical(variant) in variants.VARIANTS


@pytest.mark.parametrize("name", ["halting", "long-histories", "intent-probing"])
@pytest.mark.usefixtures("tiny")
def test_probes_read_histories_where_the_model_is(
    name: str, context: StudyContext, monkeypatch: pytest.MonkeyPatch, split: Split
) -> None:
    """On a GPU the batches of a probe must lie there too, and what it measures must come back."""
    moved: list[torch.device] = []
    to = Batch.to
    monkeypatch.setattr(Batch, "to", lambda batch, device: moved.append(device) or to(batch, device))
    monkeypatch.setattr(length, "REPEATS", 2)
    config = IGRSR(backbone=SMALL) if name == "intent-probing" else TINY["dtrec"].method
    model = train(Recipe(method=config, training=QUICK), split, context.runs / "run")
    moved.clear()
    if name == "intent-probing":
        intent_probing.read(model.method, split.test)  # type: ignore[arg-type]
    elif name == "halting":
        halting._trace(model.method, split.test)
    else:
        length.probe(model, split, 0)
    assert moved
    assert set(moved) == {model.device}


@pytest.mark.usefixtures("tiny")
def test_what_is_fitted_in_closed_form_stands_in_the_same_table(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (variants, runner):
        monkeypatch.setitem(module.VARIANTS, "popular", lambda: Recipe(method=Popular()))
        monkeypatch.setitem(module.VARIANTS, "ease", lambda: Recipe(method=EASE()))
    page = carry_out(study("sasrec", "popular", "ease"), context, seeds=[0, 1]).read_text()
    rows = {line.split("|")[1].strip(): line.split("|") for line in page.splitlines() if line.startswith("| ")}
    assert float(rows["popular"][4].strip().split("**")[1]) > 0
    assert [cell.strip() for cell in rows["popular"][-4:-1]] == ["", "0.0", "0"]
    assert "| 0 (0) |" in page
    monkeypatch.setattr(memory, "machine_memory", lambda: 100)
    for module in (variants, runner):
        monkeypatch.setitem(module.VARIANTS, "larger", lambda: Recipe(method=EASE(regularisation=2.0)))
    carry_out(study("sasrec", "larger"), context, seeds=[0])
    assert any(each.startswith("larger is left out. Fitting EASE to 40 items needs about") for each in said(context))


@pytest.mark.parametrize("own", [{}, {"theta": 0.1, "rollbacks": 1}, {"corp": False}, {"order": "random", "seed": 3}])
def test_every_way_of_decoding_is_one_that_a_configuration_takes(own: dict[str, Any]) -> None:
    """None keeps a setting that the way leaves without effect, which would be refused."""
    trained = REG4Rec(steps=4, decoding=BeamSettings(**own))
    tried = dict(ways(trained, 8))
    assert tried["paths alone"] == trained
    assert {each.steps for each in tried.values()} == {1, 2, 4, 8}
    assert any(each.decoding.corp != trained.decoding.corp for each in tried.values())


@pytest.mark.usefixtures("tiny")
def test_what_was_not_run_is_named_and_cuts_of_the_same_data_stand_side_by_side(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (variants, runner):
        monkeypatch.setitem(module.VARIANTS, "popular", lambda: Recipe(method=Popular()))
    page = carry_out(study("sasrec", "dtrec", "popular"), context, only=["sasrec", "dtrec"], seeds=[0]).read_text()
    assert "Not run here: popular." in page
    assert "cut in several ways" not in page
    for path in (context.results / "runs").glob("*.json"):  # as if the ties had been shuffled
        parts = json.loads(path.read_text())
        parts["metrics"]["ndcg@10"]["mean"] = {"sasrec": 0.04, "dtrec": 0.05}[parts["variant"]]
        name = path.name.replace("-file-", "-shuffle-")
        path.with_name(name).write_text(json.dumps(parts | {"ties": "shuffle"}))
    page = runner.write_page(study("sasrec", "dtrec", "popular"), context.results).read_text()
    table = page.split("cut in several ways")[1].splitlines()
    head = next(line for line in table if line.startswith("| variant"))
    at = [cell.strip() for cell in head.split("|")].index("ties shuffled")
    rows = {line.split("|")[1].strip(): line.split("|")[at].strip() for line in table if line.startswith("| ")}
    assert rows["sasrec"] == "0.0400"
    assert rows["dtrec"] == "0.0500 (+25.0%)"


@pytest.mark.usefixtures("tiny")
def test_a_place_where_nothing_of_the_study_ran_is_left_out(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ran with ties in file order, and what the study is not about with ties shuffled as well."""
    for module in (variants, runner):
        monkeypatch.setitem(module.VARIANTS, "popular", lambda: Recipe(method=Popular()))
    asked = study("sasrec", "dtrec", "popular", write=partial(results_table, study="x", about="pop"))
    carry_out(asked, context, seeds=[0])
    for path in (context.results / "runs").glob("*.json"):
        parts = json.loads(path.read_text())
        if parts["variant"] != "popular":
            shuffled = path.with_name(path.name.replace("-file-", "-shuffle-"))
            shuffled.write_text(json.dumps(parts | {"ties": "shuffle"}))
    page = write_page(asked, context.results).read_text()
    assert ", ties in file order\n" in page
    assert ", ties shuffled\n" not in page
    page = write_page(replace(asked, write=partial(results_table, study="x")), context.results).read_text()
    assert ", ties shuffled\n" in page
