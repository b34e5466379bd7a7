from __future__ import annotations

import numpy as np
import torch

from forethought.reasoning.chain import History
from forethought.reasoning.profiles import TextProfiles

N, E, M = 9, 5, 3
ROWS = [[3, 1, 4, 7, 5], [2, 7], [8]]  # nothing is told of 7


def made() -> tuple[TextProfiles, np.ndarray]:
    texts = np.random.default_rng(0).normal(size=(N, E)) + 3.0
    texts[7] = 0.0
    profiles = TextProfiles(N, E, M).double()
    profiles.set_features(torch.from_numpy(texts))
    return profiles, texts


def history() -> History:
    lengths = [len(row) for row in ROWS]
    items = torch.tensor([row + [0] * (5 - len(row)) for row in ROWS])
    return History(items, torch.tensor(lengths))


def by_hand(texts: np.ndarray, row: list[int], m: int) -> np.ndarray:
    told = np.delete(texts, 7, axis=0)
    weight, total = 0.0, np.zeros(E)
    for age, item in enumerate(reversed(row)):
        if item == 7:
            continue
        about = texts[item] - told.mean(0)
        w = 1.0 if m == M - 1 else 2.0 ** (-age / 2.0**m)
        weight, total = weight + w, total + w * np.sqrt(E) * about / np.linalg.norm(about)
    return total / weight


def test_profiles_are_means_with_memories_of_their_own() -> None:
    profiles, texts = made()
    at_end = profiles(history(), everywhere=False).raw_BPMD
    everywhere = profiles(history(), everywhere=True).raw_BPMD
    assert at_end.shape == (3, 1, M, E)
    assert everywhere.shape == (3, 5, M, E)
    for b, row in enumerate(ROWS):
        for m in range(M):
            assert np.allclose(at_end[b, 0, m], by_hand(texts, row, m), atol=1e-12)
            for j in range(len(row)):
                assert np.allclose(everywhere[b, j, m], by_hand(texts, row[: j + 1], m), atol=1e-12)


def test_a_history_without_texts_has_no_profile() -> None:
    profiles, _ = made()
    nothing = History(torch.tensor([[7, 7, 0]]), torch.tensor([2]))
    assert not profiles(nothing, everywhere=False).raw_BPMD.any()
    assert not TextProfiles(N, E, 1)(history(), everywhere=True).raw_BPMD.any()  # nobody has met the data yet


def test_texts_of_long_ago_still_count() -> None:
    profiles, _ = made()
    old = History(torch.tensor([[3] + [7] * 400]), torch.tensor([401]))
    found = profiles(old, everywhere=False).raw_BPMD[0, 0]
    assert torch.allclose(found, profiles.texts_NE[3].expand(M, E))


def test_one_profile_weighs_all_alike() -> None:
    profiles = TextProfiles(N, E, 1).double()
    profiles.set_features(torch.randn(N, E))
    found = profiles(History(torch.tensor([[1, 2, 3]]), torch.tensor([3])), everywhere=False).raw_BPMD
    assert torch.allclose(found[0, 0, 0], profiles.texts_NE[[1, 2, 3]].mean(0))
