"""Earlier windows: a history longer than the window shown as a random stretch of it, by SSE-PT++'s rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import Batch, earlier, training_batch, windows
from forethought.data.histories import Histories, Spans
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.ease import EASE
from forethought.methods.interface import Losses
from forethought.methods.next_item import NextItemModel
from forethought.runs import train
from forethought.training.settings import Training

LENGTHS, WINDOW = (3, 5, 6, 9, 1, 20), 4
WHOLE = Histories.from_lists([list(range(100 * n, 100 * n + length)) for n, length in enumerate(LENGTHS)]).all()
ROWS = windows(WHOLE, WINDOW, every=False)


def shown(rows: Spans) -> list[tuple[int, ...]]:
    return [tuple(rows[row].tolist()) for row in range(len(rows))]


def test_a_long_history_begins_anywhere_before_its_last_window() -> None:
    """With chance p_s at one of 1 .. t - T, all alike; else its last T; a short one stays as it is."""
    draws, share = 4000, 0.3
    seen: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(len(ROWS))]
    for draw in range(draws):
        for row, items in enumerate(shown(earlier(ROWS, WHOLE, share, 0, draw, 1))):
            seen[row][items] += 1
    histories = [list(range(100 * n, 100 * n + length)) for n, length in enumerate(LENGTHS) if length > 1]
    assert len(seen) == len(histories)
    for counts, history in zip(seen, histories, strict=True):
        t = len(history) - 1  # transitions, each an input with its target
        wanted = {tuple(history[-(WINDOW + 1) :]): 1.0 if t <= WINDOW else 1 - share}
        for v in range(1, t - WINDOW + 1):
            wanted[tuple(history[v - 1 : v + WINDOW])] = share / (t - WINDOW)
        assert counts.keys() == wanted.keys()
        for items, chance in wanted.items():
            error = 4.5 * (chance * (1 - chance) / draws) ** 0.5
            assert counts[items] / draws == pytest.approx(chance, abs=error + 1e-12)


def test_stretches_follow_from_seed_epoch_and_batch() -> None:
    many = ROWS.take(np.repeat(np.arange(len(ROWS)), 5))
    assert earlier(many, WHOLE, 0.0, 0, 0, 1) is many
    first, again, seed, epoch, batch = (
        earlier(many, WHOLE, 0.5, *draw).starts.tolist()
        for draw in [(0, 1, 2), (0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3)]
    )
    assert first == again
    assert len({tuple(each) for each in (first, seed, epoch, batch)}) == 4
    parts = [training_batch(earlier(many, WHOLE, 0.5, 0, 1, 2), rank=rank, world=2) for rank in (0, 1)]
    assert sum(int(part.lengths_B.sum()) for part in parts) == parts[0].weight


def test_training_sees_long_histories_whole(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of three: places that no last window holds are trained on, in other epochs others."""
    epochs: list[set[int]] = []
    loss = NextItemModel.loss

    def losing(self: NextItemModel, batch: Batch) -> Losses:
        assert batch.starts_B is not None
        for start, length in zip(batch.starts_B.tolist(), batch.lengths_B.tolist(), strict=True):
            epochs[-1] |= set(range(start, start + length))
        return loss(self, batch)

    monkeypatch.setattr(NextItemModel, "loss", losing)
    monkeypatch.setattr(NextItemModel, "begin_epoch", lambda *_: epochs.append(set()))
    short = replace(sasrec, window=3)
    for share in (0.0, 1.0):
        epochs.clear()
        training = replace(quick, epochs=3, patience=3, all_windows=False, earlier_windows=share)
        train(Recipe(method=short, training=training), split, tmp_path / f"run-{share}")
        last = windows(split.train, 3, every=False)
        held = {place for start, end in zip(last.starts, last.ends - 1, strict=True) for place in range(start, end)}
        if share:
            assert len(epochs[0] - held) > 50
            assert len(epochs[0] ^ epochs[1]) > 50
        else:
            assert epochs == [held] * 3


def test_what_would_do_nothing_is_refused(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="With all_windows every stretch of a long history is a row of its own"):
        Training(earlier_windows=0.3)
    with pytest.raises(ConfigError, match=r"earlier_windows is 1\.5, but must be a number from 0 to 1"):
        Training(earlier_windows=1.5, all_windows=False)
    longest = int(split.train.lengths.max()) - 1
    training = replace(quick, all_windows=False, earlier_windows=0.3, epochs=1)
    said = rf"the longest trains {longest} items, and the window has {longest}\), so that there is no earlier one"
    with pytest.raises(ConfigError, match=said):
        train(Recipe(method=replace(sasrec, window=longest), training=training), split, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"training\.earlier_windows would change nothing"):
        train(Recipe(method=EASE(), training=Training(earlier_windows=0.5, all_windows=False)), split, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(Recipe(method=replace(sasrec, window=longest - 1), training=training), split, tmp_path / "run")
