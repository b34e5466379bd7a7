"""MPQ: M experts look at an item, each has a codebook of its own, and a gated sum of the words says the item again.

    e^r = E_r(v),   c^r = argmin_j || e^r - z_rj ||^2,   q = sum_r h_r(v) U_r z^r,   h = M softmax(W v),   v' = Dec(q)
    L = || v - v' ||^2 + beta sum_r || e^r - sg z^r ||^2 + lambda L_orth

REG4Rec (arXiv 2508.15308) has experts, codebooks, gate, reconstruction and orthogonality; the rest is ours. Words
follow the experts as moving averages instead of by a gradient. U_r is a map for each book, where the paper has none:
with the experts' first guess, the blocks of a balanced rotation of principal components, MPQ begins as product
quantisation and becomes better from there. From codes alone (`decode`) the gate is its mean over the items.

L_orth, `decorrelate`: of each expert's own block of components nothing is asked (split); xcov: covariances between
experts, over a batch, relative to those within; cosine: mean square cosine between experts of one item, which was
measured to keep codebooks no less alike (AMI .30 against .29) and is there to show it.

With a `behaviour_weight` a second stage follows, with the soft index of MMQ (`soft_index.py`): L goes on, and beside it
items, as mixtures of words, are to name what users took next in the training part. Words move along both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.data.progress import Report
from forethought.errors import DataError
from forethought.semantic_ids.balanced import balanced_blocks
from forethought.semantic_ids.ema_codebooks import EMACodebooks
from forethought.semantic_ids.kmeans import nearest, squared_distances
from forethought.semantic_ids.soft_index import next_contrast, soft_words
from forethought.semantic_ids.tokenizer import Tokenizer, TokenizerConfig, Unread
from forethought.settings import Between, Epoch, Epochs, Part, Scale, Weight, Width

REPAIR_EVERY = 10  # epochs
LEAST = 1e-8


@dataclass(frozen=True, kw_only=True)
class MPQ(TokenizerConfig):
    """Parallel quantisation by experts."""

    decorrelate: Literal["split_xcov", "split", "xcov", "cosine", "none"] = "split_xcov"
    """What keeps experts complementary: each sees its own block of a balanced rotation of principal components (split),
    covariances between them are trained away (xcov), or cosines between them (cosine)."""
    orthogonality: Weight = 0.3
    """Of L_orth (lambda)."""
    commitment: Weight = 0.25
    """Of experts staying near their words (beta)."""
    gate: bool = True
    """Words are weighted by what the item is; else all alike."""
    hidden: Width = 64
    """Of an expert; the decoder's is four times as wide."""
    epochs: Epoch = 40
    """Passes over all items after the continuous ones; 0: product quantisation of the balanced blocks."""
    continuous: Epoch = 5
    """Passes before there are words."""
    batch: Part = 1024
    """Items a step."""
    learning_rate: Annotated[float, Between(0, 1, above=True)] = 3e-3
    """Of AdamW, falling to zero along a cosine."""
    initial_scale: Scale = 0.1
    """Spread of the experts' corrections of their blocks to begin with."""
    behaviour_weight: Weight = 0.0
    """Of naming by soft indices what users took next, in a second stage (MMQ); 0: there is none."""
    behaviour_epochs: Epochs = 10
    """Passes over all items in that stage."""
    soft_temperature: Scale = 0.5
    """Of a soft index, in units of its book's mean squared error (tau); near 0 it is the nearest word alone."""

    @classmethod
    def unread(cls, values: Mapping[str, Any]) -> list[Unread]:
        unread = super().unread(values)
        if not values.get("behaviour_weight", cls.behaviour_weight):
            unread.append(("a second stage", "behaviour_weight", ("behaviour_epochs", "soft_temperature")))
        if values.get("decorrelate", cls.decorrelate) in ("split", "none"):
            unread.append(("something that decorrelates", "decorrelate split_xcov", ("orthogonality",)))
        if not values.get("epochs", cls.epochs):
            second = values.get("behaviour_weight", cls.behaviour_weight)  # a stage that reads the others
            others = () if second else ("commitment", "learning_rate", "batch", "orthogonality", "gate")
            unread.append(("passes over the items", "epochs", ("continuous", *others)))
        return unread

    @property
    def follows(self) -> bool:
        return self.behaviour_weight > 0

    def build(self, width: int) -> ParallelTokenizer:
        return ParallelTokenizer(self, width)


class ParallelTokenizer(Tokenizer):
    """Experts, codebooks, gate, decoder."""

    input_MI: Tensor
    mean_gate_M: Tensor

    def __init__(self, config: MPQ, width: int) -> None:
        super().__init__(config, width)
        self.config = config
        M, P = self.codebooks, self.components
        D, self.split = math.ceil(P / M), "split" in config.decorrelate
        inputs = D if self.split else P
        self.register_buffer("input_MI", torch.zeros(M, inputs, dtype=torch.int64))
        self.skip_MID = nn.Parameter(torch.zeros(M, inputs, D))
        self.first_MIH = nn.Parameter(torch.zeros(M, inputs, config.hidden))
        self.bias_MH = nn.Parameter(torch.zeros(M, config.hidden))
        self.second_MHD = nn.Parameter(torch.zeros(M, config.hidden, D))
        self.out_MDP = nn.Parameter(torch.zeros(M, D, P))
        self.gate = nn.Linear(P, M)
        self.correct = nn.Sequential(nn.Linear(P, 4 * config.hidden), nn.ReLU(), nn.Linear(4 * config.hidden, P))
        self.register_buffer("mean_gate_M", torch.ones(M))
        self.books = EMACodebooks(M, self.size, D)

    def learn(self, y_NP: Tensor, seed: int, observer: Report) -> None:
        self._initialise(y_NP)
        spread = y_NP.square().sum(-1).mean()
        config, draw = self.config, torch.Generator().manual_seed(seed)
        epochs = config.continuous + config.epochs if config.epochs else 0
        steps = epochs * math.ceil(len(y_NP) / config.batch)
        optimiser = torch.optim.AdamW(self.parameters(), lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
        for epoch in range(epochs):
            observer("epochs", epoch, epochs)
            quantised = epoch >= config.continuous
            if epoch == config.continuous:
                self.books.begin(self._all_experts(y_NP), seed)
            elif quantised and (epoch - config.continuous) % REPAIR_EVERY == 0:
                self.books.repair(self._all_experts(y_NP))
            for y_BP in _batches(y_NP, config.batch, draw):
                optimiser.zero_grad()
                (self.loss(y_BP, of=len(y_NP), quantised=quantised) / spread).backward()
                optimiser.step()
                schedule.step()
        if not epochs:
            self.books.begin(self._all_experts(y_NP), seed)
        if config.behaviour_weight:
            self._follow_behaviour(y_NP, spread, draw, observer)
        points_NMD = self._all_experts(y_NP)
        self.books.settle(points_NMD, 0 if config.behaviour_weight else 2)  # means would undo what moved the words
        with torch.no_grad():
            self.mean_gate_M.copy_(self.gates(y_NP).mean(0))
        observer("epochs", epochs, epochs)

    def _follow_behaviour(self, y_NP: Tensor, spread: Tensor, draw: torch.Generator, observer: Report) -> None:
        """The second stage: L, and L_next of pairs that are drawn from all there are."""
        follows_P2, config = self.follows_P2, self.config
        if follows_P2 is None or not len(follows_P2):
            raise DataError(
                "No item follows another in the training part, so that a second stage has nothing to learn from: leave "
                "behaviour_weight out."
            )
        map_XX = nn.Parameter(torch.eye(self.books.words_MCD.shape[0] * self.books.words_MCD.shape[2]))
        optimiser = torch.optim.AdamW([*self.parameters(), map_XX], lr=config.learning_rate)
        steps = config.behaviour_epochs * math.ceil(len(y_NP) / config.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step in range(steps):
            observer("steps of behaviour", step, steps)
            drawn = torch.randint(len(follows_P2), (min(config.batch, len(y_NP)),), generator=draw)
            first_B, next_B = follows_P2[drawn].T
            optimiser.zero_grad()
            loss = self.loss(y_NP[first_B], of=len(y_NP), quantised=True) / spread
            words_MCD = self.books.words_MCD.clone().requires_grad_()
            first_BX, next_BX = (
                soft_words(self.experts(y_NP[rows]), words_MCD, config.soft_temperature).flatten(1)
                for rows in (first_B, next_B)
            )
            (loss + config.behaviour_weight * next_contrast(first_BX, next_BX, map_XX, next_B)).backward()
            optimiser.step()
            schedule.step()
            assert words_MCD.grad is not None
            self.books.descend(spread * words_MCD.grad, len(y_NP))

    def loss(self, y_BP: Tensor, *, of: int, quantised: bool) -> Tensor:
        """L of a batch, in units of squared inputs; in training the words move as well.

        Args:
            of: how many items there are.
            quantised: else the experts' own outputs stand in for the words.
        """
        e_BMD = self.experts(y_BP)
        z_BMD, commitment = e_BMD, e_BMD.new_zeros(())
        if quantised:
            codes_BM = nearest(e_BMD.detach(), self.books.words_MCD)
            words_BMD = self.books.chosen(codes_BM)
            commitment = (e_BMD - words_BMD).square().sum((1, 2)).mean()
            z_BMD = e_BMD + (words_BMD - e_BMD).detach()
            self.books.follow(e_BMD.detach(), codes_BM, of)
        missed = (y_BP - self.say(z_BMD, self.gates(y_BP))).square().sum(-1).mean()
        spread = e_BMD.detach().square().sum((1, 2)).mean()
        orthogonality = spread * self.config.orthogonality * self._dependence(e_BMD)
        return missed + self.config.commitment * commitment + orthogonality

    def _dependence(self, e_BMD: Tensor) -> Tensor:
        if "xcov" in self.config.decorrelate:
            return cross_covariance(e_BMD)
        return mean_cosine(e_BMD) if self.config.decorrelate == "cosine" else e_BMD.new_zeros(())

    def experts(self, y_BP: Tensor) -> Tensor:
        """e, [B, M, D]: a linear map and a correction of it."""
        x_BMI = y_BP[:, self.input_MI]
        hidden_BMH = F.relu(torch.einsum("bmi,mih->bmh", x_BMI, self.first_MIH) + self.bias_MH)
        straight_BMD = torch.einsum("bmi,mid->bmd", x_BMI, self.skip_MID)
        return straight_BMD + torch.einsum("bmh,mhd->bmd", hidden_BMH, self.second_MHD)

    def gates(self, y_BP: Tensor) -> Tensor:
        """h, [B, M], 1 on average over the books."""
        if not self.config.gate:
            return y_BP.new_ones(len(y_BP), self.codebooks)
        return self.codebooks * self.gate(y_BP).softmax(-1)

    def say(self, z_BMD: Tensor, gate_BM: Tensor) -> Tensor:
        """Dec(q), [B, P]."""
        q_BP = torch.einsum("bmd,mdp->bp", z_BMD * gate_BM[..., None], self.out_MDP)
        return q_BP + self.correct(q_BP)

    def assign(self, y_NP: Tensor) -> Tensor:
        return nearest(self.experts(y_NP), self.books.words_MCD)

    def reconstruct(self, codes_NM: Tensor) -> Tensor:
        return self.say(self.books.chosen(codes_NM), self.mean_gate_M.expand(len(codes_NM), -1))

    def added_errors(self, y_NP: Tensor, codes_NM: Tensor) -> Tensor:
        """Among the experts' outputs, where codes are chosen."""
        distances_NMC = squared_distances(self.experts(y_NP), self.books.words_MCD)
        return distances_NMC - distances_NMC.gather(2, codes_NM[..., None])

    @torch.no_grad()
    def _all_experts(self, y_NP: Tensor) -> Tensor:
        return torch.cat([self.experts(y_BP) for y_BP in y_NP.split(4096)])

    @torch.no_grad()
    def _initialise(self, y_NP: Tensor) -> None:
        """Experts pass on their blocks, and the decoder puts them back in their places."""
        M, D, P = self.out_MDP.shape
        blocks_MD = balanced_blocks(y_NP.var(0, correction=0), M)
        for book, block in enumerate(blocks_MD.tolist()):
            real = [component for component in block if component >= 0]
            # a block without a component of its own looks at the largest ones
            seen = (real + [c for c in range(P) if c not in real])[:D] if self.split else list(range(P))
            seen += seen[:1] * (self.input_MI.shape[1] - len(seen))
            self.input_MI[book] = torch.tensor(seen)
            if not self.split:
                self.skip_MID[book] = torch.linalg.qr(torch.randn(P, P)).Q[:, :D]
                self.out_MDP[book] = self.skip_MID[book].T / math.sqrt(M * D / P)
                continue
            for place, component in enumerate(seen[:D]):
                self.skip_MID[book, place, place] = 1.0
                if component in real and place == seen.index(component):
                    self.out_MDP[book, place, component] = 1.0
        nn.init.normal_(self.first_MIH, std=1 / math.sqrt(self.input_MI.shape[1]))
        nn.init.normal_(self.second_MHD, std=self.config.initial_scale / math.sqrt(self.config.hidden))
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.correct[0].reset_parameters()  # type: ignore[operator]  of this seed, and not of when it was built
        nn.init.zeros_(self.correct[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.correct[2].bias)  # type: ignore[arg-type]


def cross_covariance(e_BMD: Tensor) -> Tensor:
    """Squares of covariances between experts, over those within them: 0 where no expert tells of another."""
    centred = e_BMD - e_BMD.mean(0)
    covariance = torch.einsum("bmd,bne->mdne", centred, centred) / len(e_BMD)
    squares_MM = covariance.square().sum((1, 3))
    within = squares_MM.diagonal().sum()
    return (squares_MM.sum() - within) / within.clamp_min(LEAST)


def mean_cosine(e_BMD: Tensor) -> Tensor:
    """Mean square cosine between two experts of an item."""
    M = e_BMD.shape[1]
    unit = F.normalize(e_BMD, dim=-1)
    squares_BMM = torch.einsum("bmd,bnd->bmn", unit, unit).square()
    own_BM = squares_BMM.diagonal(dim1=1, dim2=2)
    return (squares_BMM.sum((1, 2)) - own_BM.sum(1)).mean() / max(M * (M - 1), 1)


def _batches(y_NP: Tensor, batch: int, draw: torch.Generator) -> Iterator[Tensor]:
    """All rows once, in an order that is drawn."""
    for rows in torch.randperm(len(y_NP), generator=draw).split(batch):
        yield y_NP[rows]
