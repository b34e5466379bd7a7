"""RQ-VAE: an autoencoder whose latent vector is quantised level by level. Ordered tokens, as TIGER has them.

    z = Enc(y),   codes and zhat by residuals of z,   y' = Dec(z + sg(zhat - z))
    L = || y - y' ||^2 + beta || z - sg zhat ||^2      summed over the levels' residuals

TIGER (arXiv 2305.05065). An independent reproduction saw raw unit vectors collapse to one code: hence standardised
inputs, AdamW, k-means to begin with and repair of dead codes. Words follow as moving averages instead of by a gradient,
and the network reads principal components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from forethought.data.progress import Report
from forethought.semantic_ids.ema_codebooks import EMACodebooks
from forethought.semantic_ids.kmeans import chosen
from forethought.semantic_ids.rq_kmeans import residual_codes, residual_costs
from forethought.semantic_ids.tokenizer import Codebooks, Collisions, Tokenizer, TokenizerConfig
from forethought.settings import Between, Epochs, Part, Weight, Width

REPAIR_EVERY = 10  # epochs


@dataclass(frozen=True, kw_only=True)
class RQVAE(TokenizerConfig):
    """Residual quantisation in the latent space of an autoencoder."""

    ordered = True

    codebooks: Codebooks = 3
    """Levels (M)."""
    collisions: Collisions = "counter"
    """As of every tokenizer; a counter is what TIGER has."""
    latent: Width = 32
    """Numbers of the latent vector."""
    hidden: Width = 256
    """Of the encoder's first layer and the decoder's last; the ones between are half as wide."""
    commitment: Weight = 0.25
    """Of the latent vector staying near its words (beta)."""
    epochs: Epochs = 100
    """Passes over all items."""
    continuous: Annotated[int, Between(0, 1_000_000)] = 10
    """Passes before there are words."""
    batch: Part = 1024
    """Items a step."""
    learning_rate: Annotated[float, Between(0, 1, above=True)] = 3e-3
    """Of AdamW, falling to zero along a cosine."""

    def build(self, width: int) -> ResidualAutoencoder:
        return ResidualAutoencoder(self, width)


class ResidualAutoencoder(Tokenizer):
    """Encoder, books of residuals, decoder."""

    def __init__(self, config: RQVAE, width: int) -> None:
        super().__init__(config, width)
        self.config = config
        P, H, D = self.components, config.hidden, config.latent
        half = max(1, H // 2)
        self.encoder = nn.Sequential(
            *(nn.Linear(P, H), nn.ReLU(), nn.Linear(H, half), nn.ReLU(), nn.Linear(half, D)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(D, half), nn.ReLU(), nn.Linear(half, H), nn.ReLU(), nn.Linear(H, P)),
        )
        self.books = EMACodebooks(self.codebooks, self.size, D)

    def learn(self, y_NP: Tensor, seed: int, observer: Report) -> None:
        for layer in (*self.encoder, *self.decoder):
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()  # of this seed, and not of when it was built
        config, draw = self.config, torch.Generator().manual_seed(seed)
        spread = y_NP.square().sum(-1).mean()
        epochs = config.continuous + config.epochs
        steps = epochs * math.ceil(len(y_NP) / config.batch)
        optimiser = torch.optim.AdamW(self.parameters(), lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for epoch in range(epochs):
            observer("epochs", epoch, epochs)
            if epoch == config.continuous:
                self._begin_books(y_NP, seed)
            elif epoch > config.continuous and (epoch - config.continuous) % REPAIR_EVERY == 0:
                self.books.repair(self._residuals(y_NP))
            for rows in torch.randperm(len(y_NP), generator=draw).split(config.batch):
                optimiser.zero_grad()
                loss = self.loss(y_NP[rows], of=len(y_NP), quantised=epoch >= config.continuous)
                (loss / spread).backward()
                optimiser.step()
                schedule.step()
        self._settle_books(y_NP)
        observer("epochs", epochs, epochs)

    def loss(self, y_BP: Tensor, *, of: int, quantised: bool) -> Tensor:
        """L of a batch, in units of squared inputs; in training the words move as well."""
        z_BD = self.encoder(y_BP)
        if not quantised:
            return (y_BP - self.decoder(z_BD)).square().sum(-1).mean()
        codes_BM = residual_codes(z_BD.detach(), self.books.words_MCD)
        words_BMD = self.books.chosen(codes_BM)
        left_BMD = _left_over(z_BD, words_BMD)
        commitment = (left_BMD - words_BMD).square().sum((1, 2)).mean()
        self.books.follow(left_BMD.detach(), codes_BM, of)
        said_BP = self.decoder(z_BD + (words_BMD.sum(1) - z_BD).detach())
        return (y_BP - said_BP).square().sum(-1).mean() + self.config.commitment * commitment

    def assign(self, y_NP: Tensor) -> Tensor:
        return residual_codes(self.encoder(y_NP), self.books.words_MCD)

    def reconstruct(self, codes_NM: Tensor) -> Tensor:
        return self.decoder(self.books.chosen(codes_NM).sum(1))

    def added_errors(self, y_NP: Tensor, codes_NM: Tensor) -> Tensor:
        """Among latent vectors, where codes are chosen."""
        return residual_costs(self.encoder(y_NP), codes_NM, self.books.words_MCD)

    @torch.no_grad()
    def _begin_books(self, y_NP: Tensor, seed: int) -> None:
        left_ND = self.encoder(y_NP)
        for book in range(self.codebooks):
            self.books.begin_book(book, left_ND, seed + book)
            words_MCD = self.books.words_MCD[book : book + 1]
            left_ND = left_ND - chosen(residual_codes(left_ND, words_MCD), words_MCD)[:, 0]

    @torch.no_grad()
    def _settle_books(self, y_NP: Tensor) -> None:
        """One after the other, as a codeword that moves moves what the books behind it have to quantise."""
        left_ND = self.encoder(y_NP)
        for book in range(self.codebooks):
            self.books.settle_book(book, left_ND)
            words_MCD = self.books.words_MCD[book : book + 1]
            left_ND = left_ND - chosen(residual_codes(left_ND, words_MCD), words_MCD)[:, 0]

    @torch.no_grad()
    def _residuals(self, y_NP: Tensor) -> Tensor:
        """What each book has to quantise, [N, M, D]."""
        z_ND = self.encoder(y_NP)
        return _left_over(z_ND, self.books.chosen(residual_codes(z_ND, self.books.words_MCD)))


def _left_over(z_BD: Tensor, words_BMD: Tensor) -> Tensor:
    """The residual before each level, [B, M, D]."""
    before_BMD = words_BMD.cumsum(1) - words_BMD
    return z_BD[:, None] - before_BMD
