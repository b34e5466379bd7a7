"""Noise on histories, held against what it promises of every single one of them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.data import noise as module
from forethought.data.histories import Cases, Histories, Spans
from forethought.data.noise import KINDS, Noise, NoiseKind, uniform
from forethought.errors import ConfigError, DataError

N = 60
SHARES = (0.1, 0.2, 0.3, 0.65, 1.0)
kinds = pytest.mark.parametrize("kind", KINDS)


def cases(lengths: list[int], *, seed: int = 0, times: bool = True) -> Cases:
    """Users with so many known items and a target behind them, and one more item that nobody asks for."""
    random = np.random.default_rng(seed)
    made = Histories.from_lists([random.choice(N, n + 2, replace=False) for n in lengths])
    dated = 1000 * np.arange(len(made.items), dtype=np.int64) if times else None
    histories = Histories(made.items, made.offsets, dated)
    ends = histories.ends - 2
    return Cases(Spans(histories, np.arange(len(lengths)), histories.starts, ends), histories.items[ends])


MANY = cases(np.random.default_rng(1).integers(1, 15, 300).tolist())


def rounded(share: float, n: int) -> int:
    """Half up, in whole hundredths, so that no float is near."""
    return (round(100 * share) * n + 50) // 100


def times_of(rows: Spans, row: int) -> list[int]:
    assert rows.histories.times is not None
    return rows.histories.times[rows.starts[row] : rows.ends[row]].tolist()


def is_subsequence(short: list, long: list) -> bool:
    rest = iter(long)
    return all(item in rest for item in short)


# ---- each kind, history by history


@kinds
@pytest.mark.parametrize("share", SHARES)
def test_what_every_kind_promises(kind: NoiseKind, share: float) -> None:
    noise = Noise(kind=kind, share=share, seed=4)
    noisy = noise.on_cases(MANY, N)
    assert noisy.targets is MANY.targets
    assert noisy.met is MANY.history
    assert np.array_equal(noisy.history.users, MANY.history.users)
    for row, (n, drawn) in enumerate(
        zip(MANY.history.lengths.tolist(), noise.drawn(MANY.history.lengths), strict=True)
    ):
        old, new, target = MANY.history[row].tolist(), noisy.history[row].tolist(), int(MANY.targets[row])
        clocks, ticks = times_of(MANY.history, row), times_of(noisy.history, row)
        k = rounded(share, n)
        assert ticks == sorted(ticks)
        assert len(ticks) == len(new) >= 1
        added = list((Counter(new) - Counter(old)).elements())
        assert target not in new
        assert not set(added) & set(old)
        behind = noisy.history.ends[row]
        assert noisy.history.histories.items[behind] == target
        assert noisy.history.histories.dated()[behind] == MANY.history.histories.dated()[MANY.history.ends[row]]
        if kind == "replace":
            assert sum(a != b for a, b in zip(old, new, strict=True)) == len(added) == k
            assert ticks == clocks
        elif kind == "insert":
            assert len(new) == n + k == n + len(added)
            assert is_subsequence(old, new)
            assert set(ticks) == set(clocks)
            when = dict(zip(old, clocks, strict=True))
            for at, item in enumerate(new):  # as what stands before it, or behind it where nothing does
                before = [when[i] for i in new[:at] if i in when]
                assert ticks[at] == (when[item] if item in when else before[-1] if before else clocks[0])
        elif kind == "delete":
            k = min(k, n - 1)
            assert len(new) == n - k
            assert is_subsequence(list(zip(new, ticks, strict=True)), list(zip(old, clocks, strict=True)))
        else:
            k = 0 if n < 2 else 2 if k == 1 else k
            assert Counter(new) == Counter(old)
            assert sum(a != b for a, b in zip(old, new, strict=True)) == k
            assert ticks == clocks
        assert drawn == k


@kinds
def test_without_times_there_are_none(kind: NoiseKind) -> None:
    plain = cases([5, 9, 3], times=False)
    noisy = Noise(kind=kind, share=0.4).on_cases(plain, N)
    timed = Noise(kind=kind, share=0.4).on_cases(cases([5, 9, 3]), N)
    assert noisy.history.histories.times is None
    assert np.array_equal(noisy.history.histories.items, timed.history.histories.items)


@pytest.mark.parametrize(("share", "n", "drawn"), [(0.1, 4, 0), (0.1, 5, 1), (0.2, 2, 0), (0.2, 3, 1), (0.15, 10, 2)])
def test_a_half_rounds_up_and_short_histories_may_go_free(share: float, n: int, drawn: int) -> None:
    assert Noise(kind="replace", share=share).drawn(np.array([n])) == [drawn]


@kinds
def test_no_share_changes_nothing(kind: NoiseKind) -> None:
    noisy = Noise(kind=kind, share=0.0).on_cases(MANY, N)
    assert all(np.array_equal(noisy.history[r], MANY.history[r]) for r in range(len(MANY)))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.sampled_from(KINDS), st.sampled_from(SHARES))
def test_any_lengths(lengths: list[int], kind: NoiseKind, share: float) -> None:
    """Rows without any history too."""
    made = cases(lengths)
    noisy = Noise(kind=kind, share=share).on_cases(made, N)
    assert len(noisy) == len(made)
    assert ((noisy.history.lengths > 0) == (made.history.lengths > 0)).all()


# ---- what a draw depends on


@kinds
def test_a_draw_depends_on_seed_and_user_alone(kind: NoiseKind, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Noise(kind=kind, share=0.3, seed=7)
    whole = noise.on_cases(MANY, N)
    order = np.random.default_rng(0).permutation(len(MANY))
    shuffled = noise.on_cases(MANY.take(order), N)
    alone = [noise.on_cases(MANY.take(np.array([row])), N) for row in range(20)]
    monkeypatch.setattr(module, "BLOCK", 10)
    blocks = noise.on_cases(MANY, N)
    assert np.array_equal(blocks.history.histories.items, whole.history.histories.items)
    assert np.array_equal(blocks.history.histories.dated(), whole.history.histories.dated())
    for place, row in enumerate(order):
        assert np.array_equal(shuffled.history[place], whole.history[row])
    assert all(np.array_equal(alone[row].history[0], whole.history[row]) for row in range(20))
    other = replace(noise, seed=8).on_cases(MANY, N)
    assert not all(np.array_equal(other.history[r], whole.history[r]) for r in range(len(MANY)))
    twins = Cases(replace(MANY.history, users=MANY.history.users + 1), MANY.targets)
    assert not all(np.array_equal(noise.on_cases(twins, N).history[r], whole.history[r]) for r in range(len(MANY)))


def test_the_same_numbers_in_another_process() -> None:
    told = uniform(3, 1, np.array([0, 5, -1]), np.array([2, 2, 0])).tolist()
    code = (
        "import numpy as np; from forethought.data.noise import uniform; "
        "print(uniform(3, 1, np.array([0, 5, -1]), np.array([2, 2, 0])).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(told)


def test_the_mixer_against_whole_numbers() -> None:
    """SplitMix64 in Python's own integers."""
    mask = 2**64 - 1

    def number(*words: int) -> float:
        state, words = words[0] & mask, words[1:]
        for word in words:
            state = (state + 0x9E3779B97F4A7C15 * ((word + 1) & mask)) & mask
            state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
            state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
            state ^= state >> 31
        return (state >> 11) / 2**53

    users, places = np.array([0, 1, 12345, -1]), np.array([0, 7, 3, 9])
    wanted = [number(2**64 + 5, 2, u, p) for u, p in zip(users.tolist(), places.tolist(), strict=True)]
    assert uniform(2**64 + 5, 2, users, places).tolist() == wanted


@pytest.mark.parametrize("kind", ["replace", "insert", "delete"])
def test_a_larger_share_holds_the_draws_of_a_smaller_one(kind: NoiseKind) -> None:
    few, many = (Noise(kind=kind, share=share).on_cases(MANY, N) for share in (0.2, 0.5))
    for row in range(len(MANY)):
        old, a, b = (set(rows[row].tolist()) for rows in (MANY.history, few.history, many.history))
        assert a - old <= b - old  # what came in
        assert old - a <= old - b  # what went


@kinds
def test_positions_are_drawn_evenly(kind: NoiseKind) -> None:
    """Each of five positions in a fifth of the histories; of a swap, each item moves to each of the others alike."""
    users = 20_000
    made = Histories(np.tile(np.arange(6, dtype=np.int32), users), 6 * np.arange(users + 1))
    five = Cases(Spans(made, np.arange(users), made.starts, made.ends - 1), np.full(users, 5, np.int32))
    noisy = Noise(kind=kind, share=0.2 if kind != "swap" else 0.4).on_cases(five, N).history
    table = noisy.histories.items.reshape(users, -1)[:, :-1]
    if kind == "replace":
        counts = (table != np.arange(5)).sum(axis=0)
    elif kind == "insert":
        counts = (table > 5).sum(axis=0)  # 6 places
    elif kind == "delete":
        counts = np.array([(table != item).all(axis=1).sum() for item in range(5)])
    else:
        pairs = [(a, b) for a in range(5) for b in range(a + 1, 5)]
        counts = np.array([((table[:, a] == b) & (table[:, b] == a)).sum() for a, b in pairs])
    assert counts.sum() == users
    assert np.abs(counts - users / len(counts)).max() < 5 * np.sqrt(users / len(counts))


def test_longer_swaps_go_round_one_ring() -> None:
    users = 500
    made = Histories(np.tile(np.arange(6, dtype=np.int32), users), 6 * np.arange(users + 1))
    five = Cases(Spans(made, np.arange(users), made.starts, made.ends - 1), np.full(users, 5, np.int32))
    table = Noise(kind="swap", share=1.0).on_cases(five, N).history.histories.items.reshape(users, -1)[:, :-1]
    for row in table.tolist():
        at, seen = 0, []
        while at not in seen:
            seen, at = [*seen, at], row[at]
        assert len(seen) == 5
    assert len({tuple(row) for row in table.tolist()}) == 24  # all rings there are


def test_items_are_drawn_evenly_from_what_is_free() -> None:
    users, n_items = 30_000, 12
    made = Histories(np.tile(np.array([7, 0, 3, 11, 5], np.int32), users), 5 * np.arange(users + 1))
    same = Cases(Spans(made, np.arange(users), made.starts, made.ends - 1), np.full(users, 5, np.int32))
    noisy = Noise(kind="replace", share=0.25).on_cases(same, n_items).history
    drawn = noisy.histories.items[~np.isin(noisy.histories.items, [7, 0, 3, 11, 5])]
    counts = np.bincount(drawn, minlength=n_items)
    free = [1, 2, 4, 6, 8, 9, 10]
    assert counts.sum() == counts[free].sum() == users
    assert np.abs(counts[free] - users / 7).max() < 5 * np.sqrt(users / 7)


# ---- training


@kinds
def test_training_noise_leaves_held_out_items_alone(kind: NoiseKind) -> None:
    histories = MANY.history.histories
    train = Spans(histories, np.arange(len(MANY)), histories.starts, histories.ends - 2)
    before = histories.items.copy()
    noisy = Noise(kind=kind, share=0.3, seed=1).on_training(train, N)
    assert np.array_equal(histories.items, before)
    changed = 0
    for row in range(len(train)):
        held_out = set(histories.items[train.ends[row] : histories.ends[row]].tolist())
        new = noisy[row].tolist()
        assert not set(new) & held_out
        assert len(times_of(noisy, row)) == len(new) >= 1
        changed += new != train[row].tolist()
    assert changed > len(train) / 2
    assert noisy.users is train.users
    again = Noise(kind=kind, share=0.3, seed=1).on_training(train, N)
    assert np.array_equal(again.histories.items, noisy.histories.items)


def test_noise_upon_noise_still_knows_the_clean_history() -> None:
    twice = Noise(kind="insert", share=0.3).on_cases(Noise(kind="delete", share=0.5).on_cases(MANY, N), N)
    assert twice.met is MANY.history
    for row in range(len(MANY)):
        deleted = set(MANY.history[row].tolist()) - set(twice.history[row].tolist())
        assert len(deleted) == min(rounded(0.5, len(MANY.history[row])), len(MANY.history[row]) - 1)  # none comes back
    some = twice.take(np.array([3, 1]))
    assert some.met[0].tolist() == MANY.history[3].tolist()


# ---- what is refused, and how fast it is


def test_what_cannot_be() -> None:
    for wrong, sentence in (
        ({"kind": "rplace"}, "Noise's kind is 'rplace', but must be one of replace, .* Did you mean 'replace'"),
        ({"share": 1.5}, "Noise's share is 1.5, but must be a number from 0 to 1"),
        ({"share": float("nan")}, "share is nan"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            Noise(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="noise_seeds is 0"):
        Noise().seeds(0)
    assert [noise.seed for noise in Noise(seed=3).seeds(3)] == [3, 4, 5]
    full = Histories.from_lists([np.arange(5)])
    everything = Cases(Spans(full, np.array([0]), np.array([0]), np.array([4])), np.array([4], np.int32))
    with pytest.raises(DataError, match=r"A user has met all 5 items, .* use noise that deletes or swaps"):
        Noise(share=0.5).on_cases(everything, 5)
    assert len(Noise(kind="delete", share=0.5).on_cases(everything, 5).history[0]) == 2


def test_many_users_take_no_time() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(6, 14, 22_000)
    made = Histories(random.integers(0, 12_000, lengths.sum()).astype(np.int32), np.append(0, np.cumsum(lengths)))
    known = Cases(Spans(made, np.arange(len(made)), made.starts, made.ends - 1), made.items[made.ends - 1])
    spent = []
    for _ in range(3):
        begin = time.process_time()
        Noise().on_cases(known, 12_000)
        spent.append(time.process_time() - begin)
    assert min(spent) < 1.0  # 0.2 s on one idle core


def test_nobody_is_trained_on_the_noise_of_the_test() -> None:
    noise = Noise(kind="replace", share=0.5, seed=0)
    whole = MANY.history.histories
    rows = Spans(whole, np.arange(len(MANY)), whole.starts, MANY.history.ends)
    trained, tested = noise.on_training(rows, N), noise.on_cases(MANY, N).history
    pairs = [
        (trained.histories.items[a : a + n], tested.histories.items[b : b + n], whole.items[c : c + n])
        for a, b, c, n in zip(trained.starts, tested.starts, rows.starts, rows.lengths, strict=True)
    ]
    both = sum(int(((one != clean) & (other != clean)).sum()) for one, other, clean in pairs)
    alike = sum(int(((one == other) & (one != clean)).sum()) for one, other, clean in pairs)
    assert both > 300
    assert alike < 0.06 * both  # about one in 50 free items, by chance
