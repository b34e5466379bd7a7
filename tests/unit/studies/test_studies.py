"""Studies on a tiny shop: what is missing is trained, what is done is not, and the page tells of all there is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_studies import QUICK, SMALL, TINY, said, study

from forethought import memory
from forethought.config import Recipe
from forethought.data.noise import Noise
from forethought.data.splits import leave_last_out, temporal
from forethought.decoding.beam import BeamSettings
from forethought.errors import ConfigError, DataError, RunError
from forethought.methods.ease import EASE
from forethought.methods.igr_sr import IGRSR
from forethought.methods.next_item import NextItem
from forethought.methods.popular import Popular
from forethought.methods.reg4rec import REG4Rec
from forethought.studies import results, runner, variants
from forethought.studies.catalogue import STUDIES
from forethought.studies.decoding import ways
from forethought.studies.results import DatasetKey
from forethought.studies.runner import StudyContext, carry_out, write_page
from forethought.studies.tables import results_table


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
    for text, why in (("{", ""), ("[1]", "it has no '{'"), ('{"variant": "sasrec"}', "it has no 'data'")):
        path.write_text(text)
        with pytest.raises(RunError, match=f"is damaged .*{why}.*: remove it, and the study makes it anew"):
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
    assert set(variants.canonical(STUDIES[name].variants).values()) <= set(variants.VARIANTS)


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
        del parts["ranks"]  # as in runs of before
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
