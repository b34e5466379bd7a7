"""The study of alignment: what its page says of how aligning went."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from forethought.alignment.kinds import filled
from forethought.alignment.settings import Alignment
from forethought.studies.aligned_variants import ALIGNED
from forethought.studies.alignment import _how_it_went, epochs_of
from forethought.studies.page import Page
from forethought.studies.results import DatasetKey, Result

FIRST = {"reward_step_hit": 0.25, "reward_path": 0.5, "kl": 0.001, "valid_ndcg@10": 0.4, "valid_recall@50": 0.9}
LAST = {"reward_step_hit": 0.75, "reward_path": 0.625, "kl": 0.0625, "valid_ndcg@10": 0.375, "valid_recall@50": 0.875}


def test_the_rows_named_long_are_what_align_does_by_default() -> None:
    for name, method, kind in (
        ("reg4rec-aligned-long", "reg4rec", "paths"),
        ("dtrec-exit-0-aligned", "dtrec-exit-0", "halting"),
    ):
        of, settings = ALIGNED[name]
        assert of == method
        long = replace(Alignment(), **settings)
        assert replace(long, kl_weight=None, rate=None, delta_within=None) == Alignment()
        assert filled(kind, long) == filled(kind, Alignment())
    short = replace(Alignment(), **ALIGNED["reg4rec-aligned"][1])
    assert (short.rate, short.batches, short.epochs, short.patience) == (0.03, 50, 6, 3)  # as published


def test_epochs_are_read_off_the_log_of_aligning(tmp_path: Path) -> None:
    plain = {"loss": 1.0, "valid_ndcg@10": 0.1}
    lines = [plain, FIRST | {"loss": 2.0, "entropy": 3.0}, LAST]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert epochs_of(SimpleNamespace(folder=tmp_path)) == [FIRST, LAST]  # type: ignore[arg-type]


def test_the_page_tells_what_was_earned_where_no_weights_were_kept(tmp_path: Path) -> None:
    key, page = DatasetKey("shop-paths", "file"), Page(tmp_path, "alignment", "t", "q")
    kept, other = {"training": {"best_epoch": 0}}, {"training": {"best_epoch": 2}}
    plain = Result("reg4rec", key, 0, other, {"epochs": []})
    runs = [plain, Result("aligned", key, 0, kept, {"epochs": [FIRST, LAST]}), Result("short", key, 1, other, None)]
    runs.append(Result("again", key, 1, other, {"epochs": [FIRST]}))
    _how_it_went(page, key, runs)
    rows = [line for line in page.lines if line.startswith(("| aligned", "| again", "| reg4rec", "| short"))]
    assert rows == [
        "| aligned | 0 | 2 | none: the weights it began with | 0.2500 to 0.7500 |  |  | 0.5000 to 0.6250 "
        "| 0.0010 to 0.0625 | 0.4000 to 0.3750 | 0.9000 to 0.8750 |",
        "| again | 1 | 1 | 2 | 0.2500 |  |  | 0.5000 | 0.0010 | 0.4000 | 0.9000 |",
    ]


def test_a_page_without_aligned_runs_has_no_such_table(tmp_path: Path) -> None:
    page = Page(tmp_path, "alignment", "t", "q")
    before = list(page.lines)
    _how_it_went(page, DatasetKey("shop-paths", "file"), [Result("reg4rec", DatasetKey("a", "file"), 0, {}, {})])
    assert page.lines == before


def test_many_rows_have_room_in_a_picture(tmp_path: Path) -> None:
    page, heights = Page(tmp_path, "alignment", "t", "q"), []
    for names in (3, 30):
        plot = page.plot(f"of-{names}", "t", names=names)
        with plot:
            heights.append(plot.figure.get_figheight())
    few, many = heights
    assert few == 3.8
    assert many >= 30 * 0.2
