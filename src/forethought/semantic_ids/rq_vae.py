"""RQ-VAE: an autoencoder whose latent vector is quantised level by level. Ordered tokens, as TIGER has them.

    z = Enc(y),   codes and zhat by residuals of z,   y' = Dec(z + sg(zhat - z))
    L = || y - y' ||^2 + beta || z - sg zhat ||^2      summed over the levels' residuals

TIGER (arXiv 2305.05065). An independent reproduction saw raw unit vectors collapse to one code: hence standardised
inputs, AdamW, k-means to begin with and repair of dead codes. Words follow as moving averages instead of by a gradient,
and the network reads principal components.

With a `collaborative_weight` or a `diversity_weight` it is LETTER's tokenizer (arXiv 2405.07314), L + a L_CF + b L_div
of `token_contrasts.py`. The paper's L_CF has the vectors of a trained SASRec or LightGCN; ours are those that
tokenizers read, as many numbers of each as a latent vector has, largest singular values first. Before there are words
the latent vector stands in for the quantised one. L is taken as a share of what there is to say, each book's L_div as
one of the book's, and latent vectors in units of the inputs, so that a and b are of one scale whatever the inputs are
of; the paper's, .02 and .0001, are of another. The words, which have no gradient otherwise, descend along L_div by the
step that their averages are of. They then stay where training left them, since means of their points would undo what
moved them. Collisions go as ours do, without the paper's Sinkhorn step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from forethought.data.progress import Report
from forethought.errors import ConfigError, DataError
from forethought.memory import check_room
from forethought.semantic_ids.ema_codebooks import EMACodebooks
from forethought.semantic_ids.kmeans import chosen
from forethought.semantic_ids.rq_kmeans import residual_codes, residual_costs
from forethought.semantic_ids.token_contrasts import collaborative_contrast, diversity_contrast, even_groups
from forethought.semantic_ids.tokenizer import Codebooks, Collisions, Tokenizer, TokenizerConfig, Unread
from forethought.settings import Between, Epochs, Part, Scale, Weight, Width

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
    collaborative_weight: Weight = 0.0
    """Of LETTER's collaborative term (a): quantised vectors point to whom the item is met with; 0: none."""
    diversity_weight: Weight = 0.0
    """Of LETTER's diversity term (b): words of a book crowd in groups of one size; 0: none."""
    diversity_groups: Annotated[int, Between(2, 32_768)] = 10
    """Groups of each book's words, at most half as many as there are codes (K)."""
    contrast_temperature: Scale = 0.1
    """Of both terms' softmaxes, where the product of vectors of usual length that point the same way is 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.collaborative_weight and self.collaborative == "none":
            raise ConfigError(
                "Without collaborative vectors the collaborative term has nothing to point to: leave collaborative "
                "none out, or collaborative_weight."
            )
        if self.diversity_weight and self.diversity_groups > self.size // 2:
            raise ConfigError(
                f"With {self.size} codes a book diversity_groups is {self.diversity_groups}, but must be at most "
                f"{self.size // 2}, so that no code is alone in its group."
            )

    @classmethod
    def unread(cls, values: Mapping[str, Any]) -> list[Unread]:
        unread = super().unread(values)
        if not values.get("diversity_weight", cls.diversity_weight):
            unread.append(("the diversity term", "diversity_weight", ("diversity_groups",)))
            if not values.get("collaborative_weight", cls.collaborative_weight):
                both = "collaborative_weight or diversity_weight"
                unread.append(("a term of LETTER's", both, ("contrast_temperature",)))
        return unread

    def build(self, width: int) -> ResidualAutoencoder:
        return ResidualAutoencoder(self, width)


class ResidualAutoencoder(Tokenizer):
    """Encoder, books of residuals, decoder."""

    def __init__(self, config: RQVAE, width: int) -> None:
        super().__init__(config, width)
        if config.diversity_weight:
            check_room(16 * self.size**2, f"The diversity term of {self.size:,} codes a book", "give smaller ones")
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
        self.groups_MC: Tensor | None = None  # of the words, as this epoch began

    def learn(self, y_NP: Tensor, seed: int, observer: Report) -> None:
        for layer in (*self.encoder, *self.decoder):
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()  # of this seed, and not of when it was built
        config, draw = self.config, torch.Generator().manual_seed(seed)
        spread = y_NP.square().sum(-1).mean()
        met_ND = self._met() if config.collaborative_weight else None
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
            if epoch >= config.continuous and config.diversity_weight:
                groups = [even_groups(words_CD, config.diversity_groups, seed) for words_CD in self.books.words_MCD]
                self.groups_MC = torch.stack(groups)
            for rows in torch.randperm(len(y_NP), generator=draw).split(config.batch):
                optimiser.zero_grad()
                loss, said_BD = self.loss(y_NP[rows], of=len(y_NP), quantised=epoch >= config.continuous)
                share = loss / spread
                if met_ND is not None:
                    contrast = collaborative_contrast(
                        said_BD / spread.sqrt(), met_ND[rows], config.contrast_temperature
                    )
                    share = share + config.collaborative_weight * contrast
                share.backward()
                optimiser.step()
                schedule.step()
        self._settle_books(y_NP)
        observer("epochs", epochs, epochs)

    def loss(self, y_BP: Tensor, *, of: int, quantised: bool) -> tuple[Tensor, Tensor]:
        """L of a batch, in units of squared inputs, and zhat [B, D], whose gradient is that of z.

        In training the words move as well.
        """
        z_BD = self.encoder(y_BP)
        if not quantised:
            return (y_BP - self.decoder(z_BD)).square().sum(-1).mean(), z_BD
        codes_BM = residual_codes(z_BD.detach(), self.books.words_MCD)
        words_BMD = self.books.chosen(codes_BM)
        left_BMD = _left_over(z_BD, words_BMD)
        commitment = (left_BMD - words_BMD).square().sum((1, 2)).mean()
        self.books.follow(left_BMD.detach(), codes_BM, of)
        if self.config.diversity_weight:
            self._crowd(codes_BM, of)
        said_BD = z_BD + (words_BMD.sum(1) - z_BD).detach()
        missed = (y_BP - self.decoder(said_BD)).square().sum(-1).mean()
        return missed + self.config.commitment * commitment, said_BD

    def _crowd(self, codes_BM: Tensor, of: int) -> None:
        """One step of the words along L_div, which nothing else has a gradient of."""
        assert self.groups_MC is not None
        config = self.config
        words_MCD = self.books.words_MCD.clone().requires_grad_()
        with torch.enable_grad():
            for words_CD, groups_C, codes_B in zip(words_MCD, self.groups_MC, codes_BM.T, strict=True):
                shares_C = torch.bincount(codes_B, minlength=self.size) / len(codes_B)
                unit = words_CD.detach()[codes_B].square().sum(-1).mean()  # what this book says on average
                contrast = diversity_contrast(words_CD, groups_C, shares_C, config.contrast_temperature)
                (config.diversity_weight * unit * contrast).backward()
        assert words_MCD.grad is not None
        self.books.descend(words_MCD.grad, of)

    def _met(self) -> Tensor:
        """Collaborative vectors as wide as latent ones, [N, D], of mean square length 1; zeros fill up narrow ones."""
        met_NE, D = self.collaborative_NE, self.config.latent
        met_ND = torch.zeros(1, D) if met_NE is None else nn.functional.pad(met_NE, (0, max(0, D - met_NE.shape[1])))
        met_ND = met_ND[:, :D].to(self.mean_F)
        if not bool(met_ND.any()):
            raise DataError(
                "No two items were met near each other in the training part, so that the collaborative term has no "
                "vectors to point to: leave collaborative_weight out."
            )
        return met_ND / met_ND[met_ND.any(1)].square().sum(-1).mean().sqrt()

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
        rounds = 0 if self.config.diversity_weight else 2  # means would undo what moved the words
        for book in range(self.codebooks):
            self.books.settle_book(book, left_ND, rounds)
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
