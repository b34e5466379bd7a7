"""Ranks that are kept beside results: every figure of a run follows from them, and so does every difference."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forethought.errors import RunError
from forethought.evaluation.compare import compare
from forethought.evaluation.report import Evaluation
from forethought.studies import ranks, results
from forethought.studies.differences import COMPARED, merged
from forethought.studies.runner import StudyContext, carry_out, write_page
from forethought.studies.study import Study
from forethought.studies.tables import results_table

VARIANTS = ("sasrec", "dtrec")


def study() -> Study:
    return Study("latent-reasoning", "T", "Q?", VARIANTS, lambda page, of: results_table(page, of, "latent-reasoning"))


def run_of(context: StudyContext, variant: str, seed: int = 0) -> tuple[dict, Path]:
    parts = json.loads((context.results / "runs" / f"{variant}-{context.split.data.name}-file-{seed}.json").read_text())
    return parts, context.results / "ranks" / parts["ranks"]["file"]


@pytest.mark.usefixtures("tiny")
def test_differences_follow_from_what_is_kept(context: StudyContext) -> None:
    """Models and their folders may be gone."""
    page = carry_out(study(), context, seeds=[0, 1])
    folders = [[context.runs / f"{v}-{context.split.data.name}-file-{seed}" for seed in (0, 1)] for v in VARIANTS]
    whole = {v: [Evaluation.read(folder) for folder in of] for v, of in zip(VARIANTS, folders, strict=True)}
    wanted = compare(whole, "sasrec", metrics=COMPARED).to_json()["differences"]
    (path,) = (context.results / "latent-reasoning").glob("differences-*.json")
    found = json.loads(path.read_text())["differences"]
    assert [{key: each[key] for key in wanted[0]} for each in found] == json.loads(json.dumps(wanted))
    pairs = [[run_of(context, v, seed)[1].name for v in VARIANTS] for seed in (0, 1)]
    assert all(each["ranks"] == pairs for each in found)

    told, page_was = path.read_bytes(), page.read_text()
    path.unlink()
    shutil.rmtree(context.runs)
    write_page(study(), context.results)
    assert path.read_bytes() == told
    assert page.read_text() == page_was


@pytest.mark.usefixtures("tiny")
def test_runs_from_before_ranks_were_kept_stand_beside_those_that_keep_them(context: StudyContext) -> None:
    carry_out(study(), context, seeds=[0])
    (path,) = (context.results / "latent-reasoning").glob("differences-*.json")
    before = json.loads(path.read_text())["differences"]
    for variant in VARIANTS:
        parts, kept = run_of(context, variant)
        file = context.results / "runs" / f"{variant}-{context.split.data.name}-file-0.json"
        file.write_text(json.dumps({key: value for key, value in parts.items() if key != "ranks"}))
        kept.unlink()
        path.unlink()
        write_page(study(), context.results, context.runs)
        found = json.loads(path.read_text())["differences"]
        assert [{**each, "ranks": None} for each in found] == [{**each, "ranks": None} for each in before]
        assert not any("ranks" in each for each in found)


@pytest.mark.usefixtures("tiny")
def test_ranks_hold_what_metrics_need_and_nobodys_name(context: StudyContext) -> None:
    carry_out(study(), context, seeds=[0], only=["sasrec"])
    parts, path = run_of(context, "sasrec")
    table, whole = pl.read_parquet(path), Evaluation.read(next(context.runs.iterdir()))
    assert table.columns == ["case", "rank"]
    rank = whole.cases["rank"].to_numpy()
    assert (rank > 20).any()
    assert np.array_equal(table["rank"].is_null().to_numpy(), rank > 20)
    assert np.array_equal(table["rank"].drop_nulls().to_numpy(), rank[rank <= 20])
    read = ranks.read(context.results, parts)
    assert read is not None
    for name in parts["metrics"]:
        assert np.array_equal(read.cases[name], whole.cases[name])
    users = whole.cases["user_id"].rle_id() + 1
    assert np.array_equal(read.cases["user_id"], users)


@pytest.mark.usefixtures("tiny")
def test_what_is_damaged_or_of_another_run_is_said(context: StudyContext) -> None:
    carry_out(study(), context, seeds=[0])
    parts, path = run_of(context, "dtrec")
    other, other_path = run_of(context, "sasrec")
    sound = path.read_bytes()
    turned = bytes([*sound[:60], sound[60] ^ 1, *sound[61:]])
    for content in (sound[:50], turned, other_path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"is damaged \(.*\): remove it with the JSON of its run"):
            write_page(study(), context.results)
    path.write_bytes(sound)
    mixed = {**parts, "ranks": other["ranks"]}
    with pytest.raises(RunError, match="holds other ranks than those of the run's metrics: remove it"):
        ranks.read(context.results, mixed)
    json_path = context.results / "runs" / f"dtrec-{context.split.data.name}-file-0.json"
    for wrong in ({"file": "../runs/x", "sha256": ""}, {"file": 3, "sha256": ""}, {"file": "x"}, "x"):
        json_path.write_text(json.dumps({**parts, "ranks": wrong}))
        with pytest.raises(RunError, match="is damaged"):
            write_page(study(), context.results)
    path.unlink()
    assert ranks.read(context.results, parts) is None
    assert ranks.read(context.results, {key: value for key, value in parts.items() if key != "ranks"}) is None


@pytest.mark.usefixtures("tiny")
def test_differences_of_runs_whose_cases_are_gone_stay(context: StudyContext) -> None:
    """So a published page grows by a row without the folders of its older ones."""
    carry_out(study(), context, seeds=[0])
    dataset = context.dataset
    before = results.differences(context.results, "latent-reasoning", dataset)
    for path in (context.results / "ranks").iterdir():
        path.unlink()
    write_page(study(), context.results)
    assert results.differences(context.results, "latent-reasoning", dataset) == before


def test_the_more_seeds_stand_and_p_is_corrected_over_all() -> None:
    def told(method: str, p: float, seeds: list[int], baseline: str = "first") -> dict:
        each = {"method": method, "metric": "ndcg@10", "p": p, "p_holm": p, "seeds": seeds}
        return {"baseline": baseline, "differences": [each]}

    old = {"baseline": "first", "differences": [d for m in "abz" for d in told(m, 0.03, [0, 1])["differences"]]}
    both = merged(old, told("b", 0.01, [2]), ["first", "b", "a"])["differences"]
    assert [(d["method"], d["p"], d["p_holm"]) for d in both] == [("b", 0.03, 0.06), ("a", 0.03, 0.06)]
    both = merged(old, told("b", 0.01, [0, 2]), ["first", "b", "a"])["differences"]
    assert [(d["method"], d["p"], d["p_holm"]) for d in both] == [("b", 0.01, 0.02), ("a", 0.03, 0.03)]
    alone = merged(old, told("b", 0.01, [2], "other"), ["other", "b", "a"])["differences"]
    assert [(d["method"], d["p"]) for d in alone] == [("b", 0.01)]
