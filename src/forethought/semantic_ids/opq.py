"""Optimised product quantisation: a rotation of the inputs, cut into M blocks, each with a codebook of its own.

min over R, w of sum_i || y_i R - (w_(1, c_1), .., w_(M, c_M)) ||^2,   R R' = I

Source: Ge et al., CVPR 2013. The rotation begins with principal components dealt out in balance; then codes and
rotation are found in turns. Tokens are unordered, as RPG (arXiv 2506.05781) has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from forethought.data.progress import Report
from forethought.semantic_ids.balanced import balanced_blocks
from forethought.semantic_ids.kmeans import centres_of, chosen, nearest, squared_distances
from forethought.semantic_ids.tokenizer import Tokenizer, TokenizerConfig
from forethought.settings import Between

A_TURN = 4  # rounds of k-means between two rotations


@dataclass(frozen=True, kw_only=True)
class OPQ(TokenizerConfig):
    """Optimised product quantisation."""

    turns: Annotated[int, Between(0, 1_000)] = 10
    """How often the rotation is fitted to the codes; 0: it stays that of the balanced components."""

    def build(self, width: int) -> ProductTokenizer:
        return ProductTokenizer(self, width)


class ProductTokenizer(Tokenizer):
    """A rotation and a codebook a block."""

    rotation_PMD: Tensor
    words_MCD: Tensor

    def __init__(self, config: OPQ, width: int) -> None:
        super().__init__(config, width)
        self.turns = config.turns
        room = math.ceil(self.components / self.codebooks)
        self.register_buffer("rotation_PMD", torch.zeros(self.components, self.codebooks, room))
        self.register_buffer("words_MCD", torch.zeros(self.codebooks, self.size, room))

    @torch.no_grad()
    def learn(self, y_NP: Tensor, seed: int, observer: Report) -> None:
        blocks_MD = balanced_blocks(y_NP.var(0, correction=0), self.codebooks)
        self.rotation_PMD.zero_()
        for book, block in enumerate(blocks_MD.tolist()):
            for place, component in enumerate(block):
                if component >= 0:
                    self.rotation_PMD[component, book, place] = 1.0
        for turn in range(self.turns + 1):
            observer("rotations", turn, self.turns + 1)
            self._fit_words(self._rotated(y_NP), seed, first=turn == 0, last=turn == self.turns)
            if turn < self.turns:
                self._fit_rotation(y_NP)
        observer("rotations", self.turns + 1, self.turns + 1)

    def _fit_words(self, x_NMD: Tensor, seed: int, *, first: bool, last: bool) -> None:
        for book in range(self.codebooks):
            start = None if first else self.words_MCD[book].clone()
            choices = {} if last else {"rounds": A_TURN}
            self.words_MCD[book] = centres_of(x_NMD[:, book], self.size, seed + book, start_KD=start, **choices)

    def _fit_rotation(self, y_NP: Tensor) -> None:
        """Orthogonal Procrustes: R = U V' of the singular vectors of Y' W."""
        words_NMD = chosen(self.assign(y_NP), self.words_MCD)
        U, _, Vh = torch.linalg.svd((y_NP.T @ words_NMD.flatten(1)).double(), full_matrices=False)
        self.rotation_PMD.copy_((U @ Vh).view_as(self.rotation_PMD))

    def _rotated(self, y_NP: Tensor) -> Tensor:
        return (y_NP @ self.rotation_PMD.flatten(1)).view(len(y_NP), *self.words_MCD.shape[::2])

    def assign(self, y_NP: Tensor) -> Tensor:
        return nearest(self._rotated(y_NP), self.words_MCD)

    def reconstruct(self, codes_NM: Tensor) -> Tensor:
        return chosen(codes_NM, self.words_MCD).flatten(1) @ self.rotation_PMD.flatten(1).T

    def added_errors(self, y_NP: Tensor, codes_NM: Tensor) -> Tensor:
        distances_NMC = squared_distances(self._rotated(y_NP), self.words_MCD)
        return distances_NMC - distances_NMC.gather(2, codes_NM[..., None])
