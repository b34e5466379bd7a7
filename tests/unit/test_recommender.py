"""The object people hold: ids in, ids out, and a sentence for whatever is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from run_tools import reseal

from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError, RunError
from forethought.evaluation.settings import EvaluationConfig
from forethought.recommender import Recommender, load
from forethought.runs import evaluate, split_of, train
from forethought.training.interrupt import Interrupted
from forethought.training.progress import Quiet
from forethought.training.settings import Training


def some_ids(model: Recommender, *rows: int) -> list[Any]:
    return model.items.id_list(rows)


@pytest.fixture(scope="module")
def with_times(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    backbone = HSTU(width=16, layers=1, head_width=8, window=8)
    return train(
        Recipe(method=backbone, training=replace(quick, epochs=1)), split, tmp_path_factory.mktemp("hstu") / "run"
    )


# ---- a fresh process, with the data gone

FRESH = """
import json, sys
import forethought as ft
found = ft.load(sys.argv[1]).recommend(json.loads(sys.argv[2]), k=5)
print(json.dumps([[one.items, one.scores] for one in found]))
"""


def test_a_fresh_process_without_the_data(
    sasrec: SASRec, quick: Training, processes: dict[str, str], tmp_path: Path
) -> None:
    shop = Shop(users=60, items=30, seed=1).write(tmp_path / "shop")
    here = train(Recipe(method=sasrec, training=quick), leave_last_out(read(shop)), tmp_path / "run")
    shutil.rmtree(shop)
    (tmp_path / "run").rename(tmp_path / "moved")
    histories = [some_ids(here, 3, 1, 4), some_ids(here, 1)]  # users nobody has seen
    arguments = ["python", "-c", FRESH, str(tmp_path / "moved"), json.dumps(histories)]
    done = subprocess.run(arguments, env=processes, capture_output=True, text=True, check=True)
    for (items, scores), wanted in zip(json.loads(done.stdout), here.recommend(histories, k=5), strict=True):
        assert items == wanted.items
        assert scores == pytest.approx(wanted.scores, abs=1e-5)
    with pytest.raises(DataError, match="There is no file or folder"):
        split_of(load(tmp_path / "moved"))


# ---- ids

KINDS: dict[str, Callable[[int], Any]] = {
    "string": "sku/{:03d} é".format,
    "integer": lambda i: 10**12 + 7 * i,
    "uuid": lambda i: uuid.uuid5(uuid.NAMESPACE_URL, str(i)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_come_back_as_they_went_in(kind: str, sasrec: SASRec, quick: Training, tmp_path: Path) -> None:
    made = Shop(users=60, items=30, seed=1).generate().interactions
    number = {item: n for n, item in enumerate(made["item_id"].unique().sort())}
    ids = [KINDS[kind](number[item]) for item in made["item_id"]]
    column = pl.Series("item_id", [i.bytes for i in ids] if kind == "uuid" else ids)
    made.with_columns(column).write_parquet(tmp_path / "table.parquet")
    train(Recipe(method=sasrec, training=quick), leave_last_out(read(tmp_path / "table.parquet")), tmp_path / "run")
    model, known = load(tmp_path / "run"), set(ids)
    (found,) = model.recommend([ids[:3]], k=6)
    assert found.history == ids[:3]
    assert len(found.items) == 6
    assert set(found.items) <= known - set(ids[:3])
    assert {type(item) for item in found.items} == {type(ids[0])}
    (other,) = model.recommend([ids[:3]], k=6, deny=found.items[:2], allow=found.items)
    assert other.items == found.items[2:]
    assert model.items.kind == kind


def test_unknown_items_are_named_or_dropped(trained: Recommender) -> None:
    one, two = some_ids(trained, 5, 6)
    with pytest.raises(DataError, match=r"History 1 has items that the model does not know: 'x', 7; ids look like 'i"):
        trained.recommend([[one], ["x", two, 7]])
    found, empty, plain = trained.recommend([["x", two, 7], ["y"], [two]], k=3, unknown="drop")
    assert found.dropped == ["x", 7]
    assert found.history == ["x", two, 7]
    assert found.items == plain.items
    assert (empty.items, empty.scores, empty.dropped) == ([], [], ["y"])
    assert all(not one.items for one in trained.recommend([["x"], ["y"]], unknown="drop"))
    with pytest.raises(ConfigError, match="unknown is 'ignore', but must be one of error, drop"):
        trained.recommend([[one]], unknown="ignore")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"'a', 'b', 'c', 'd', 'e' and 2 more"):
        trained.recommend([list("abcdefg")])


@pytest.mark.parametrize(
    "odd", [None, 3.0, float("nan"), True, np.float64(2), b"i1", ("i1",), ["i1"]], ids=lambda h: type(h).__name__
)
def test_odd_ids_are_unknown_and_named(trained: Recommender, odd: Any) -> None:
    with pytest.raises(DataError, match="History 0 has items that the model does not know"):
        trained.recommend([[odd]])
    with pytest.raises(DataError, match="The deny list has items that the model does not know"):
        trained.recommend([some_ids(trained, 0)], deny=[odd], strict_lists=True)


def test_seven_is_not_seven_point_nought(sasrec: SASRec, quick: Training, tmp_path: Path) -> None:
    made = Shop(users=60, items=30, seed=1).generate().interactions
    table = made.with_columns(item_id=pl.col("item_id").str.slice(1).cast(pl.Int64))
    model = train(Recipe(method=sasrec, training=quick), leave_last_out(read(table)), tmp_path / "run")
    (seven,) = some_ids(model, 7)
    (plain,) = model.recommend([[seven]])
    assert model.recommend([np.array([seven])])[0].items == plain.items
    for odd in (float(seven), str(seven), True, None):
        with pytest.raises(DataError, match="does not know"):
            model.recommend([[odd]])


@pytest.mark.parametrize(
    "histories", ["i1", ["i1", "i2"], [7, 8], [b"i1"], [None], [["i1"], "i2"]], ids=lambda h: type(h).__name__
)
def test_histories_are_lists_of_lists(trained: Recommender, histories: Any) -> None:
    with pytest.raises(DataError, match="Histories are a list of lists of item ids"):
        trained.recommend(histories)


def test_empty_histories(trained: Recommender) -> None:
    assert trained.recommend([]) == []
    with pytest.raises(DataError, match="History 1 is empty: give at least one item"):
        trained.recommend([some_ids(trained, 1), []])


def test_any_iterable_is_a_history(trained: Recommender) -> None:
    ids = some_ids(trained, 3, 1, 2)
    wanted = trained.recommend([ids, ids])
    assert trained.recommend(np.array(ids) for _ in range(2)) == wanted  # type: ignore[arg-type]
    assert trained.recommend([pl.Series(ids), tuple(ids)]) == wanted


# ---- candidates


def test_lists_of_what_is_in_stock_hold_items_that_the_model_never_saw(trained: Recommender) -> None:
    history, (one, two) = some_ids(trained, 3), some_ids(trained, 5, 6)
    with pytest.warns(UserWarning, match=r"^Of 3 items in the allow list 1 are not known to the model .* 'new'\.$"):
        (allowed,) = trained.recommend([history], allow=["new", one, two])
    assert sorted(allowed.items) == [one, two]
    with pytest.warns(UserWarning, match="Of 2 items in the deny list 2 are not known"):
        (denied,) = trained.recommend([history], deny=["new", 7])
    assert denied == trained.recommend([history])[0]
    with pytest.raises(DataError, match=r"The allow list has no item that the model knows, .* ids look like 'i"):
        trained.recommend([history], allow=["new", 7])
    for name in ("allow", "deny"):
        with pytest.raises(DataError, match=f"The {name} list has items that the model does not know: 'new'"):
            trained.recommend([history], strict_lists=True, **{name: ["new", one]})
    with pytest.raises(ConfigError, match="strict_lists is 'yes'"):
        trained.recommend([history], strict_lists="yes")  # type: ignore[arg-type]


def test_allow_deny_and_history(trained: Recommender) -> None:
    history, everything = some_ids(trained, 3, 1, 3), some_ids(trained, *range(len(trained.items)))
    (found,) = trained.recommend([history], k=1000)
    assert sorted(found.items) == sorted(set(everything) - set(history))  # k is larger than the catalogue
    assert found.scores == sorted(found.scores, reverse=True)
    (all_of_them,) = trained.recommend([history], k=1000, exclude_history=False)
    assert sorted(all_of_them.items) == sorted(everything)
    (denied,) = trained.recommend([history], k=1000, deny=found.items[:3])
    assert denied.items == found.items[3:]
    (allowed,) = trained.recommend([history], k=1000, allow=[*found.items[::-4], history[0]])
    assert allowed.items == [item for item in found.items if item in found.items[::-4]]
    assert trained.recommend([history], allow=[])[0].items == []
    assert trained.recommend([history], allow=[], strict_lists=True)[0].items == []
    for k in (0, -1, 2.5, "3", None):
        with pytest.raises(ConfigError, match="must be a whole number from 1 to"):
            trained.recommend([history], k=k)  # type: ignore[arg-type]


def test_one_equals_many(trained: Recommender, split: Split) -> None:
    histories = [some_ids(trained, *split.test.history[n]) for n in range(40)]
    many = trained.recommend(histories, k=5)
    for history, wanted in zip(histories, many, strict=True):
        (one,) = trained.recommend([history], k=5)
        assert one.items == wanted.items
        assert one.scores == pytest.approx(wanted.scores, abs=1e-5)


def test_lists_are_those_of_the_evaluation(trained: Recommender, split: Split) -> None:
    """Whoever's target stands at rank r finds it r-th in the list."""
    cases = evaluate(trained, split, EvaluationConfig(resamples=50)).cases
    histories = [some_ids(trained, *split.test.history[n]) for n in range(len(cases))]
    for rank, target, found in zip(cases["rank"], cases["target_id"], trained.recommend(histories, k=40), strict=True):
        assert found.items.index(target) + 1 == rank


# ---- times


def test_models_that_read_times(with_times: Recommender) -> None:
    ids, times = some_ids(with_times, 3, 1, 4), [10**9, 10**9 + 60, 10**9 + 10**7]
    (found,) = with_times.recommend([ids], times=[times])
    (sooner,) = with_times.recommend([ids], times=[[t // 1000 for t in times]])
    assert found.scores != sooner.scores
    (dropped,) = with_times.recommend([[ids[0], "x", *ids[1:]]], times=[[times[0], 5, *times[1:]]], unknown="drop")
    assert dropped.items == found.items
    for given, said in (
        (None, "This model reads the time of each interaction"),
        ([], "There are 1 histories but 0 lists of times"),
        ([times[:2]], "History 0 has 3 items but 2 times"),
        ([["2014-01-01"] * 3], "History 0 has times that are no whole numbers, or too large: give Unix seconds"),
        ([[1.5, None, 3]], "History 0 has times that are no whole numbers"),
    ):
        with pytest.raises(DataError, match=said):
            with_times.recommend([ids], times=given)  # type: ignore[arg-type]


def test_other_models_leave_times_alone(trained: Recommender) -> None:
    ids = some_ids(trained, 3, 1, 4)
    assert trained.recommend([ids], times=[[1]]) == trained.recommend([ids])


# ---- folders


def test_save_and_load(trained: Recommender, split: Split, tmp_path: Path) -> None:
    again = load(trained.save(tmp_path / "deep" / "copy"))
    assert again.config == trained.config
    assert again.item_table.equals(trained.item_table)
    histories = [some_ids(trained, *split.test.history[n]) for n in range(9)]
    assert again.recommend(histories) == trained.recommend(histories)
    assert again.outcome() == {}
    assert trained.outcome().keys() == {"epochs", "best_epoch", "valid_ndcg@10", "trained_s"}
    assert again.n_parameters == sum(p.numel() for p in trained.method.parameters())
    titles = dict(again.titles())
    assert len(titles) == len(again.items)
    assert all(titles.values())


def keep(share: float) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def rewrite(old: str, new: str) -> Callable[[Path], Any]:
    def break_it(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return break_it


def fewer_items(path: Path) -> None:
    pl.read_parquet(path).head(-1).write_parquet(path)


def other_column(path: Path) -> None:
    pl.read_parquet(path).rename({"item_id": "sku"}).write_parquet(path)


def then_reseal(break_it: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """The same, with checksums that fit what was broken."""

    def broken(path: Path) -> None:
        break_it(path)
        reseal(path.parent)

    return broken


def sealed(old: str, new: str) -> Callable[[Path], Any]:
    return then_reseal(rewrite(old, new))


def zero_bytes(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("model.safetensors", keep(0.5), "is damaged"),
    ("model.safetensors", keep(0.001), "is damaged"),
    ("model.safetensors", keep(0), "is damaged"),
    ("model.safetensors", zero_bytes, "is damaged"),
    ("model.safetensors", Path.unlink, r"has no model\.safetensors, though its training has found weights"),
    ("items.parquet", keep(0.5), "is damaged"),
    ("items.parquet", keep(0.9), "is damaged"),
    ("items.parquet", keep(0), "is damaged"),
    ("items.parquet", zero_bytes, "is damaged"),
    ("items.parquet", fewer_items, "is damaged"),
    ("items.parquet", other_column, "items.parquet is not the one that its weights were trained with"),
    ("items.parquet", then_reseal(other_column), "is damaged .*item_id"),
    ("items.parquet", Path.unlink, r"has no items\.parquet"),
    ("config.json", keep(0.5), r"config\.json is damaged"),
    ("config.json", keep(0), r"config\.json is damaged"),
    ("config.json", zero_bytes, r"config\.json is damaged"),
    ("config.json", Path.unlink, r"has no config\.json: give a folder that forethought train has written"),
    ("config.json", lambda path: path.write_text("[1, 2]"), r"is not a run of this version \(format 2, "),
    ("config.json", rewrite('"format": 2', '"format": 1'), "is not a run of this version"),
    ("config.json", rewrite('"heads"', '"hedas"'), "config.json is not the one that its weights were trained with"),
    ("config.json", sealed('"heads"', '"hedas"'), r"hedas is not a setting of SASRec\. Did you mean 'heads'"),
    ("config.json", sealed('"width": 16', '"width": 15'), "must be a multiple of its 2 heads"),
    ("config.json", sealed('"width": 16', '"width": 32'), "is damaged"),
    ("config.json", sealed('"about"', '"abuot"'), "it has no 'about'"),
    ("config.json", sealed('"exclude_history": true,\n', '"exclude": 1,\n'), "about has no 'exclude_history'"),
    ("config.json", sealed('"id_kind": "string"', '"id_kind": "string", "more": 1'), ""),
]


@pytest.mark.parametrize(("name", "break_it", "said"), DAMAGE)
def test_damaged_folders(
    trained: Recommender, tmp_path: Path, name: str, break_it: Callable[[Path], Any], said: str
) -> None:
    assert trained.folder is not None
    shutil.copytree(trained.folder, tmp_path / "run")
    break_it(tmp_path / "run" / name)
    if not said:  # what a later version may add does no harm
        load(tmp_path / "run")
        return
    with pytest.raises(RunError, match=said) as told:
        load(tmp_path / "run")
    assert "\n" not in str(told.value)
    assert str(told.value).endswith(".")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no run folder"):
        load(tmp_path / "none")


def test_unfinished_runs(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    """Stopped in its first epoch, a run has no model yet; it says how to get one."""

    class Stop(Quiet):
        steps = 0

        def step(self, losses: dict[str, float], positions: int) -> None:
            self.steps += 1
            if self.steps == 2:  # the state of the first is saved
                raise Interrupted

    often = replace(quick, checkpoint_every_s=1e-9)
    with pytest.raises(Interrupted):
        train(Recipe(method=sasrec, training=often), split, tmp_path / "run", observer=Stop())
    with pytest.raises(RunError, match="its training has not finished a first epoch; go on with --resume"):
        load(tmp_path / "run")


def test_no_pickle_is_ever_read(trained: Recommender, tmp_path: Path) -> None:
    assert trained.folder is not None
    shutil.copytree(trained.folder, tmp_path / "run")
    torch.save(trained.method.state_dict(), tmp_path / "run" / "model.safetensors")
    with pytest.raises(RunError, match="is damaged"):
        load(tmp_path / "run")


def test_evaluate_refuses_other_items(trained: Recommender) -> None:
    other = leave_last_out(read(Shop(users=60, items=30, seed=1).generate().interactions))
    with pytest.raises(DataError, match=r"has 30 items and the run was trained on 40 .* not the same ones"):
        evaluate(trained, other)
    with pytest.raises(ConfigError, match="part is 'tset', but must be one of valid, test"):
        evaluate(trained, other, EvaluationConfig(part="tset"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "history", [{"i00001", "i00002"}, frozenset({"i00001"}), {"i00001": 1}], ids=lambda h: type(h).__name__
)
def test_a_set_is_no_history(trained: Recommender, history: Any) -> None:
    with pytest.raises(DataError, match=r"History 1 is a .*, which has no order: give a list, oldest first"):
        trained.recommend([["i00001"], history])
    with pytest.raises(DataError, match="oldest first"):
        trained.explain(history)
    with pytest.raises(DataError, match="a list of lists"):
        trained.recommend(history)


@pytest.mark.parametrize("choice", ["no", 0, 1.0])
def test_a_word_for_exclude_history_is_refused(trained: Recommender, choice: Any) -> None:
    with pytest.raises(ConfigError, match=r"exclude_history is .*, but must be True or False or None"):
        trained.recommend([["i00001"]], exclude_history=choice)
    with pytest.raises(ConfigError, match=r"exclude_history is .*, but must be True or False or None"):
        trained.explain(["i00001"], exclude_history=choice)


# ---- weights that stay in their file


@pytest.mark.parametrize("kept", ["trained", "with_times"])
def test_mapped_weights_say_the_same(kept: str, request: pytest.FixtureRequest) -> None:
    run: Recommender = request.getfixturevalue(kept)
    assert run.folder is not None
    copied, mapped = load(run.folder), load(run.folder, mapped=True)
    histories = [run.items.id_list([3, 1, 4]), run.items.id_list([5])]
    times = [[1_700_000_000, 1_700_000_100, 1_700_000_200], [1_700_000_000]]
    for one, other in zip(
        copied.recommend(histories, 5, times=times), mapped.recommend(histories, 5, times=times), strict=True
    ):
        assert one == other
    assert all(map(mapping_of(run.folder / "model.safetensors"), mapped.method.parameters()))
    assert not any(map(mapping_of(run.folder / "model.safetensors"), copied.method.parameters()))


def mapping_of(file: Path) -> Callable[[torch.Tensor], bool]:
    """Whether a tensor lies in this file, by the list of this process's mappings."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not list what is mapped")
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(file))]
    ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    return lambda tensor: any(first <= tensor.data_ptr() < last for first, last in ranges)


def test_a_run_knows_what_was_popular_lately(trained: Recommender, split: Split) -> None:
    table = trained.item_table
    times = split.train.histories.dated()
    inside = split.train.inside()
    late = inside & (times > times[inside].max() - 28 * 86_400)
    wanted = np.bincount(split.train.histories.items[late], minlength=len(table))
    assert table["recent_count"].to_list() == wanted.tolist()
    assert 0 < table["recent_count"].sum() < table["train_count"].sum()


def test_what_is_no_folder_is_said() -> None:
    with pytest.raises(ConfigError, match="folder is 5, but must be text or a path"):
        load(5)  # type: ignore[arg-type]
