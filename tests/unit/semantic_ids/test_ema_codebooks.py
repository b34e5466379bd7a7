"""Codebooks as moving averages, and the repair of codes that nobody takes."""

from __future__ import annotations

import numpy as np
import torch
from token_toys import points

from forethought.semantic_ids.ema_codebooks import EMACodebooks
from forethought.semantic_ids.kmeans import nearest


def begun(points_NMD: torch.Tensor, size: int = 4) -> EMACodebooks:
    books = EMACodebooks(points_NMD.shape[1], size, points_NMD.shape[2])
    books.begin(points_NMD, seed=0)
    return books


def test_averages_in_numpy() -> None:
    x = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(0))
    books = begun(x)
    counts, sums = books.counts_MC.numpy().copy(), books.sums_MCD.numpy().copy()
    batch = x[:10] + 1
    codes = nearest(batch, books.words_MCD)
    books.follow(batch, codes, of=40, decay=0.9)
    for book in range(2):
        for code in range(4):
            taken = batch[codes[:, book] == code, book].numpy()
            n = 0.9 * counts[book, code] + 0.1 * 4 * len(taken)
            s = 0.9 * sums[book, code] + 0.1 * 4 * taken.sum(0)
            np.testing.assert_allclose(books.counts_MC[book, code], n, rtol=1e-5)
            np.testing.assert_allclose(books.words_MCD[book, code], s / n, rtol=1e-4, atol=1e-5)


def test_they_begin_where_k_means_ends() -> None:
    x = points(120, 4)[:, None]
    books = begun(x, size=6)
    codes = nearest(x, books.words_MCD)
    assert torch.equal(books.counts_MC[0], torch.bincount(codes[:, 0], minlength=6).float())
    torch.testing.assert_close(books.sums_MCD, books.words_MCD * books.counts_MC[..., None])


def test_a_dead_code_goes_where_the_error_is_largest() -> None:
    x = points(120, 4)[:, None]
    books = begun(x, size=6)
    books.words_MCD[0, 2] = 1e6
    error = (x[:, 0] - books.words_MCD[0][nearest(x, books.words_MCD)[:, 0]]).square().sum(-1)
    assert books.repair(x, unused_only=True) == 1
    torch.testing.assert_close(books.words_MCD[0, 2], x[error.argmax(), 0])
    assert int((nearest(x, books.words_MCD) == 2).sum()) > 0
    assert books.repair(x, unused_only=True) == 0


def test_all_codes_dead_but_one() -> None:
    x = points(200, 4)[:, None]
    books = begun(x, size=8)
    books.words_MCD[0, 1:] = 1e6
    books.settle(x, rounds=3)
    assert len(nearest(x, books.words_MCD).unique()) == 8


def test_words_settle_at_the_means_of_their_points() -> None:
    x = points(200, 4)[:, None]
    books = begun(x, size=4)
    books.words_MCD += 0.1
    books.settle(x, rounds=30)
    codes = nearest(x, books.words_MCD)[:, 0]
    means = torch.stack([x[codes == k, 0].mean(0) for k in range(4)])
    torch.testing.assert_close(books.words_MCD[0], means, rtol=1e-4, atol=1e-3)


def test_fewer_distinct_points_than_codes_need_no_repair() -> None:
    x = torch.tensor([[0.0], [0.0], [1.0]])[:, None]
    books = begun(x, size=5)
    assert books.repair(x) == 0


def test_words_alone_are_saved() -> None:
    assert set(EMACodebooks(2, 3, 4).state_dict()) == {"words_MCD"}
