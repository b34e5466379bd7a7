"""Codebooks that follow the points they stand for as moving averages, with repair of codes that nobody takes.

    n_j <- g n_j + (1 - g) |points of j|,   s_j <- g s_j + (1 - g) sum of points of j,   w_j = s_j / n_j

Source: van den Oord et al., NeurIPS 2017, appendix A.1. Shapes: B points, M books, C codes, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.semantic_ids.kmeans import centres_of, chosen, nearest

DECAY = 0.99
DEAD = 0.03  # of the mean count: a code taken less often is put elsewhere
SMOOTHING = 1e-5  # of a count, so that a code without points keeps its word


class EMACodebooks(nn.Module):
    """M books of C words; the words alone are part of what is saved."""

    words_MCD: Tensor
    counts_MC: Tensor
    sums_MCD: Tensor

    def __init__(self, codebooks: int, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("words_MCD", torch.zeros(codebooks, size, width))
        self.register_buffer("counts_MC", torch.zeros(codebooks, size), persistent=False)
        self.register_buffer("sums_MCD", torch.zeros(codebooks, size, width), persistent=False)

    @torch.no_grad()
    def begin(self, points_NMD: Tensor, seed: int) -> None:
        """k-means of all points, book by book; the averages begin at what it comes to."""
        for book in range(len(self.words_MCD)):
            self.begin_book(book, points_NMD[:, book], seed + book)

    @torch.no_grad()
    def begin_book(self, book: int, points_ND: Tensor, seed: int) -> None:
        """k-means of one book."""
        size = self.words_MCD.shape[1]
        words_CD = centres_of(points_ND, size, seed)
        codes_N = nearest(points_ND[:, None], words_CD[None])[:, 0]
        counts_C = torch.bincount(codes_N, minlength=size).to(points_ND)
        share = len(points_ND) / max(float(counts_C.sum()), 1.0)
        self.words_MCD[book] = words_CD
        self.counts_MC[book] = counts_C * share
        self.sums_MCD[book] = words_CD * self.counts_MC[book][:, None]

    def chosen(self, codes_BM: Tensor) -> Tensor:
        """The words of these codes, [B, M, D]."""
        return chosen(codes_BM, self.words_MCD)

    @torch.no_grad()
    def follow(self, points_BMD: Tensor, codes_BM: Tensor, of: int, decay: float = DECAY) -> None:
        """Move the averages towards a batch, whose counts are scaled to those of `of` points."""
        size = self.words_MCD.shape[1]
        taken_BMC = F.one_hot(codes_BM, size).to(points_BMD)
        scale = of / len(points_BMD)
        self.counts_MC.lerp_(taken_BMC.sum(0) * scale, 1 - decay)
        self.sums_MCD.lerp_(torch.einsum("bmc,bmd->mcd", taken_BMC, points_BMD) * scale, 1 - decay)
        seen_MC = self.counts_MC > SMOOTHING
        means_MCD = self.sums_MCD / self.counts_MC.clamp_min(SMOOTHING)[..., None]
        self.words_MCD.copy_(torch.where(seen_MC[..., None], means_MCD, self.words_MCD))

    @torch.no_grad()
    def descend(self, gradient_MCD: Tensor, of: int, decay: float = DECAY) -> None:
        """Move the words against the gradient of a term that stands beside their mean squared error.

        `follow` is a step of gradient descent on the mean of || x - w ||^2 over `of` points: n_j points pull at w_j
        with 2 n_j (mean - w_j) / of, of which it goes (1 - g) of / (2 n_j). This goes as far along the other gradient.
        """
        counts_MC = self.counts_MC.clamp_min(DEAD * of / self.words_MCD.shape[1])  # a word of no points flies off
        self.words_MCD.sub_((1 - decay) * of / (2 * counts_MC[..., None]) * gradient_MCD)
        self.sums_MCD.copy_(self.words_MCD * self.counts_MC[..., None])  # averages go on from there

    @torch.no_grad()
    def settle(self, points_NMD: Tensor, rounds: int = 2) -> int:
        """Words become means of the points that take them, and dead codes go where the error is largest.

        Returns:
            How many codes were repaired.
        """
        return sum(self.settle_book(book, points_NMD[:, book], rounds) for book in range(len(self.words_MCD)))

    @torch.no_grad()
    def settle_book(self, book: int, points_ND: Tensor, rounds: int = 2) -> int:
        """The same for one book."""
        repaired = 0
        for _ in range(rounds):
            repaired += self._repair_book(book, points_ND, unused_only=False)
            _to_means(self.words_MCD[book], points_ND)
        return repaired + self._repair_book(book, points_ND, unused_only=True)

    @torch.no_grad()
    def repair(self, points_NMD: Tensor, *, unused_only: bool = False) -> int:
        """Put codes that hardly a point takes onto the points that lie farthest from their words.

        Args:
            unused_only: leave those that take a few.

        Returns:
            How many there were.
        """
        repaired = 0
        for book in range(len(self.words_MCD)):
            repaired += self._repair_book(book, points_NMD[:, book], unused_only)
        return repaired

    def _repair_book(self, book: int, points_ND: Tensor, unused_only: bool) -> int:
        words_CD = self.words_MCD[book]
        repaired = 0
        for _ in range(8):  # a code put onto a crowd of equal points may leave another one without any
            codes_N = nearest(points_ND[:, None], words_CD[None])[:, 0]
            counts_C = torch.bincount(codes_N, minlength=len(words_CD))
            least = 1.0 if unused_only else max(1.0, DEAD * len(points_ND) / len(words_CD))
            dead = (counts_C < least).nonzero()[:, 0]
            error_N = (points_ND - words_CD[codes_N]).square().sum(-1)
            far = _distinct_far(points_ND, error_N, len(dead))
            if not len(far):
                return repaired
            self._place(book, dead[: len(far)], points_ND[far])
            repaired += len(far)
            unused_only = True  # what was just put somewhere takes few, and stays
        return repaired

    def _place(self, book: int, codes: Tensor, words: Tensor) -> None:
        mean_count = self.counts_MC[book].mean().clamp_min(1.0)
        self.words_MCD[book, codes] = words
        self.counts_MC[book, codes] = mean_count
        self.sums_MCD[book, codes] = words * mean_count


def _to_means(words_CD: Tensor, points_ND: Tensor) -> None:
    codes_N = nearest(points_ND[:, None], words_CD[None])[:, 0]
    counts_C = torch.bincount(codes_N, minlength=len(words_CD))
    sums_CD = torch.zeros_like(words_CD).index_add_(0, codes_N, points_ND)
    words_CD.copy_(torch.where(counts_C[:, None] > 0, sums_CD / counts_C.clamp_min(1)[:, None], words_CD))


def _distinct_far(points_ND: Tensor, error_N: Tensor, most: int) -> Tensor:
    """Rows of the points with the largest errors, at most so many, no two of them equal and none without an error."""
    rows = torch.argsort(error_N, descending=True, stable=True)[: 4 * most]
    rows = rows[error_N[rows] > 1e-10 * (1 + points_ND[rows].square().sum(-1))]
    if not len(rows):
        return rows
    _, group = torch.unique(points_ND[rows], dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(rows)).scatter_reduce(0, group, torch.arange(len(rows)), "amin")
    return rows[first.sort().values][:most]
