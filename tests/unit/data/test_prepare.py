"""A prepared folder is whole or not there at all, and gives back what was prepared."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forethought.data import prepare as preparing
from forethought.data.histories import Histories
from forethought.data.prepare import Filters, PrepareConfig, open_prepared, prepare
from forethought.data.reading import read
from forethought.data.splits import Split, SplitConfig
from forethought.errors import DataError


def table(n: int = 3000, times: bool = True) -> pl.DataFrame:
    """Many ties, some duplicates, some low ratings."""
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {"user_id": rng.integers(0, 120, n), "item_id": rng.integers(0, 80, n)}
    if times:
        columns["timestamp"] = rng.integers(0, 40, n) * 86_400
    return pl.DataFrame(columns | {"rating": rng.integers(1, 6, n)})


def assert_same(one: Split, other: Split) -> None:
    assert one.protocol == other.protocol
    assert one.data.data_hash == other.data.data_hash
    for spans, others in (
        (one.train, other.train),
        (one.valid.history, other.valid.history),
        (one.test.history, other.test.history),
    ):
        for field in ("users", "starts", "ends"):
            assert np.array_equal(getattr(spans, field), getattr(others, field))
        assert np.array_equal(spans.histories.items, others.histories.items)
    assert np.array_equal(one.valid.targets, other.valid.targets)
    assert np.array_equal(one.test.targets, other.test.targets)
    assert one.data.users.kind == other.data.users.kind
    assert one.data.items.id_list(range(one.data.n_items)) == other.data.items.id_list(range(other.data.n_items))


@pytest.mark.parametrize(
    ("times", "config"),
    [
        (True, SplitConfig()),
        (True, SplitConfig(ties="shuffle", seed=7)),
        (False, SplitConfig()),
        (True, SplitConfig(kind="temporal", valid_from=0.7, test_from=0.85, targets="all", cold_items="drop")),
        (True, SplitConfig(kind="temporal", valid_from="1970-01-20", test_from="1970-02-01", ties="shuffle", seed=2)),
    ],
)
def test_what_is_read_back_is_what_was_prepared(tmp_path: Path, times: bool, config: SplitConfig) -> None:
    keep = Filters(minimum_rating=2, duplicates="repeats", k_core=(4, 3))
    made = prepare(table(times=times), tmp_path / "shop", PrepareConfig(keep=keep, split=config))
    assert_same(made, open_prepared(tmp_path / "shop"))
    assert made.protocol["ties"] == config.ties
    stored = pl.read_parquet(tmp_path / "shop" / "interactions.parquet")
    assert stored.columns == ["user_id", "item_id", *(["timestamp"] if times else []), "position", "split"]
    assert stored.height == len(made.data)
    if config.kind == "leave_last_out":
        lasts = stored.group_by("user_id", maintain_order=True).agg(pl.col("split").cast(pl.String).tail(2), pl.len())
        assert lasts.filter(pl.col("len") >= 3)["split"].to_list() == [["valid", "test"]] * len(made.test)
        assert (stored["split"].cast(pl.String) == "train").sum() == made.train.lengths.sum()
    else:
        begin = {part: group["timestamp"].min() for (part,), group in stored.group_by("split")}
        assert begin["train"] < begin["valid"] < begin["test"]  # type: ignore[operator]


def test_shuffled_ties_are_frozen_in_the_file(tmp_path: Path) -> None:
    made = prepare(table(), tmp_path / "shop", PrepareConfig(split=SplitConfig(ties="shuffle", seed=7)))
    plain = read(tmp_path / "shop")
    assert np.array_equal(plain.histories.items, made.train.histories.items)
    assert not np.array_equal(plain.histories.items, read(table()).histories.items)


def test_the_facts_are_written_down(tmp_path: Path) -> None:
    source = tmp_path / "clicks.parquet"
    table().write_parquet(source)
    said: list[str] = []
    made = prepare(
        source, tmp_path / "shop", PrepareConfig(keep=Filters(minimum_rating=3, k_core=(5, 5))), report=said.append
    )
    facts = json.loads((tmp_path / "shop" / "prepared.json").read_text())
    kept = table().filter(pl.col("rating") >= 3).height
    assert [step["interactions"] for step in facts["steps"]] == [3000, kept, len(made.data)]
    assert facts["steps"][-1]["users"] == made.data.n_users
    assert facts["source"] == str(source)
    assert facts["split"]["kind"] == "leave_last_out"
    assert facts["data_hash"] == made.data.data_hash
    assert facts["forethought"]
    assert facts["leakage"]
    assert len(said) == 3


def test_items_and_their_vectors_come_along_in_order(tmp_path: Path) -> None:
    source = tmp_path / "raw"
    source.mkdir()
    table().write_parquet(source / "interactions.parquet")
    order = np.random.default_rng(1).permutation(90)  # ten more than anybody met
    pl.DataFrame({"item_id": order, "title": [f"item {i}" for i in order]}).write_parquet(source / "items.parquet")
    np.save(source / "item_text_embeddings.npy", order[:, None].astype(np.float16))
    prepare(source, tmp_path / "shop", PrepareConfig(keep=Filters(k_core=(5, 36))))
    items = pl.read_parquet(tmp_path / "shop" / "items.parquet")
    vectors = np.load(tmp_path / "shop" / "item_text_embeddings.npy")
    assert vectors.dtype == np.float16
    assert vectors[:, 0].tolist() == items["item_id"].to_list()
    assert items["title"].to_list() == [f"item {i}" for i in items["item_id"]]
    assert items["item_id"].to_list() == [i for i in order.tolist() if i in set(items["item_id"])]
    assert read(tmp_path / "shop").item_table["source_row"].to_list() == list(range(items.height))


def test_vectors_without_an_item_table_belong_to_nobody(tmp_path: Path) -> None:
    """Nothing says which row is whose, so they are no hindrance either."""
    (tmp_path / "raw").mkdir()
    table().write_parquet(tmp_path / "raw" / "interactions.parquet")
    np.save(tmp_path / "raw" / "item_text_embeddings.npy", np.ones((90, 2)))
    made = prepare(tmp_path / "raw", tmp_path / "shop", PrepareConfig(keep=Filters(k_core=(5, 36))))
    assert made.data.texts is None
    assert not (tmp_path / "shop" / "item_text_embeddings.npy").exists()


def test_uuids_survive(tmp_path: Path) -> None:
    users = [uuid.UUID(int=n) for n in (5, 1, 3)]
    frame = pl.DataFrame({"user_id": users * 4, "item_id": [uuid.UUID(int=n) for n in range(12)]})
    made = prepare(frame, tmp_path / "shop")
    assert made.data.users.id_list([0, 1, 2]) == sorted(users)
    assert_same(made, open_prepared(tmp_path / "shop"))


def test_large_tables_are_written_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = Histories.blocks
    monkeypatch.setattr(Histories, "blocks", lambda self: blocks(self, 300))
    made = prepare(table(), tmp_path / "shop", PrepareConfig(split=SplitConfig(ties="shuffle")))
    assert_same(made, open_prepared(tmp_path / "shop"))


def test_a_full_folder_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    out = tmp_path / "shop"
    prepare(table(), out)
    before = (out / "prepared.json").read_bytes()
    with pytest.raises(DataError, match="already there and not empty"):
        prepare(table(), out, PrepareConfig(split=SplitConfig(ties="shuffle")))
    assert (out / "prepared.json").read_bytes() == before
    prepare(table(), out, PrepareConfig(split=SplitConfig(ties="shuffle")), overwrite=True)
    assert (out / "prepared.json").read_bytes() != before
    assert [each.name for each in tmp_path.iterdir()] == ["shop"]


def test_a_folder_can_be_prepared_again_in_its_own_place(tmp_path: Path) -> None:
    prepare(table(), tmp_path / "shop")
    made = prepare(tmp_path / "shop", tmp_path / "shop", PrepareConfig(keep=Filters(k_core=(10, 10))), overwrite=True)
    assert_same(made, open_prepared(tmp_path / "shop"))


def test_a_prepared_folder_is_not_prepared_a_second_time_elsewhere(tmp_path: Path) -> None:
    prepare(table(), tmp_path / "shop")
    with pytest.raises(DataError, match="prepared already, with a split of its own"):
        prepare(tmp_path / "shop", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_nothing_is_left_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: Any) -> None:
        raise error

    out = tmp_path / "shop"
    prepare(table(), out)
    before = (out / "prepared.json").read_bytes()
    monkeypatch.setattr(preparing, "_write_vectors", fail)
    expected = DataError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        prepare(table(), out, overwrite=True)
    with pytest.raises(expected):
        prepare(table(), tmp_path / "other")
    assert [each.name for each in tmp_path.iterdir()] == ["shop"]
    assert (out / "prepared.json").read_bytes() == before


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files")
def test_a_disk_that_fills_up_is_one_sentence(tmp_path: Path) -> None:
    script = f"""
        import resource
        import numpy as np, polars as pl
        from forethought.data.prepare import prepare
        from forethought.errors import DataError
        frame = pl.DataFrame({{"user_id": np.arange(90_000) // 9, "item_id": np.arange(90_000) * 7919 % 5003}})
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            prepare(frame, {str(tmp_path / "shop")!r})
        except DataError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert "could not be written" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_damaged_folders_are_told_in_words(tmp_path: Path) -> None:
    out = tmp_path / "shop"
    with pytest.raises(DataError, match=r"holds no prepared\.json"):
        open_prepared(out)
    prepare(table(), out)
    whole = (out / "prepared.json").read_text()
    (out / "prepared.json").write_text(whole[:100])
    with pytest.raises(DataError, match="is damaged"):
        open_prepared(out)
    (out / "prepared.json").write_text(whole)
    pl.read_parquet(out / "interactions.parquet")[:-1].write_parquet(out / "interactions.parquet")
    with pytest.raises(DataError, match="not those that were prepared"):
        open_prepared(out)
