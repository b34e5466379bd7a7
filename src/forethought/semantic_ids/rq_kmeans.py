"""Residual k-means: each book quantises what the books before it have left over. Ordered tokens without a network.

r_0 = y,   c_l = argmin_j || r_l - w_lj ||^2,   r_(l+1) = r_l - w_(l, c_l)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.data.progress import Report
from forethought.semantic_ids.kmeans import centres_of, chosen, nearest, squared_distances
from forethought.semantic_ids.tokenizer import Codebooks, Collisions, Tokenizer, TokenizerConfig


@dataclass(frozen=True, kw_only=True)
class RQKMeans(TokenizerConfig):
    """Residual k-means."""

    ordered = True

    codebooks: Codebooks = 3
    """Levels (M)."""
    collisions: Collisions = "counter"
    """As of every tokenizer; a counter is what TIGER has."""

    def build(self, width: int) -> ResidualTokenizer:
        return ResidualTokenizer(self, width)


class ResidualTokenizer(Tokenizer):
    """Books of residuals, in the space of the principal components."""

    words_MCD: Tensor

    def __init__(self, config: TokenizerConfig, width: int) -> None:
        super().__init__(config, width)
        self.register_buffer("words_MCD", torch.zeros(self.codebooks, self.size, self.components))

    @torch.no_grad()
    def learn(self, y_NP: Tensor, seed: int, observer: Report) -> None:
        left_NP = y_NP
        for book in range(self.codebooks):
            observer("codebooks", book, self.codebooks)
            self.words_MCD[book] = centres_of(left_NP, self.size, seed + book)
            left_NP = left_NP - self.words_MCD[book][_nearest(left_NP, self.words_MCD[book])]
        observer("codebooks", self.codebooks, self.codebooks)

    def assign(self, y_NP: Tensor) -> Tensor:
        return residual_codes(y_NP, self.words_MCD)

    def reconstruct(self, codes_NM: Tensor) -> Tensor:
        return chosen(codes_NM, self.words_MCD).sum(1)

    def added_errors(self, y_NP: Tensor, codes_NM: Tensor) -> Tensor:
        return residual_costs(y_NP, codes_NM, self.words_MCD)


def residual_codes(points_ND: Tensor, words_MCD: Tensor) -> Tensor:
    """The codes of points, book by book, int64 [N, M]."""
    codes = []
    for words_CD in words_MCD:
        codes.append(_nearest(points_ND, words_CD))
        points_ND = points_ND - words_CD[codes[-1]]
    return torch.stack(codes, dim=1)


def residual_costs(points_ND: Tensor, codes_NM: Tensor, words_MCD: Tensor) -> Tensor:
    """What another code in one book, the others staying, adds to the squared error of a sum of words, [N, M, C]."""
    words_NMD = chosen(codes_NM, words_MCD)
    left_ND = points_ND - words_NMD.sum(1)
    without_NMD = left_ND[:, None] + words_NMD
    return squared_distances(without_NMD, words_MCD) - left_ND.square().sum(-1)[:, None, None]


def _nearest(points_ND: Tensor, words_CD: Tensor) -> Tensor:
    return nearest(points_ND[:, None], words_CD[None])[:, 0]
