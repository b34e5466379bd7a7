"""Heads over tokens: what a state says of all codebooks at once, for methods whose tokens are a set (RPG, REG4Rec).

    x_i = MLP(e_1(c_i1) | .. | e_M(c_iM)) + sum_m e_m(c_im)                           what an encoder reads
    p_m(c | s) = softmax_c( cos(g_m(s), e_m(c)) / tau ),  g_m(s) = s + SiLU(W_m s)    what a state says of book m

The heads are those of RPG (arXiv 2506.05781, section 3.2), tied to the vectors that are read. What is trained is one
of two losses, or both:

    tokens    -mean_m ln p_m(c_m | s)                                     each codebook for itself, as RPG and REG4Rec
    items     -ln softmax_i( a sum_m ln p_m(c_im | s) )[i*]               the item among all items (of those that have
                                                                          the tokens decided so far), a is learned

A product of independent guesses is no distribution over items: it gives most of its mass to tuples that no item has,
and is not asked which of two items that share tokens is the better one. The softmax over the items there are asks just
that (`catalogue/token_softmax.py`), for about the time of a softmax over vectors.

Shapes: M codebooks, C codes a book, G categories, D width, P positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.catalogue.blocks import accumulator
from forethought.catalogue.losses import FewTargets
from forethought.catalogue.token_softmax import TokenBags, lse_among, token_lse
from forethought.methods.item_tokens import TokenItems, TokenLoss, TokenMethodConfig, TokenShape
from forethought.settings import Scale, SearchRange

FIRST_SCALE = 12.0  # of mean cosines in the softmax over items, learned from there on: about SASRec's 1 / temperature


class Named(NamedTuple):
    """What a state says of the books that are open; 0 of the others.

    Attributes:
        losses_PM: -ln p_m(c_m | s) of the true tokens.
        surest_PM: ln p_m of the token that is believed in most, true or not; without a gradient. None if nobody asks.
    """

    losses_PM: Tensor
    surest_PM: Tensor | None


@dataclass(frozen=True, kw_only=True)
class TokenHeadsConfig(TokenMethodConfig):
    """What methods with such heads share: which tokens, and how a state is held against them."""

    temperature: Annotated[Scale, SearchRange(0.03, 0.5, log=True)] = 0.1
    """Cosines between states and tokens are divided by it (tau)."""
    loss: TokenLoss = "items"
    """tokens: cross-entropy of each codebook, as in the papers; items: of the item among all items, whose score is
    theirs added up."""


class TokenHeads(TokenItems):
    """The tokens of all items, and the heads that name them; empty until `know`.

    Args:
        names_categories: whether a head names categories too, where items have some.
    """

    def __init__(self, n_items: int, width: int, config: TokenHeadsConfig, *, names_categories: bool = False) -> None:
        super().__init__(n_items, width, config)
        self.temperature, self.names_categories = config.temperature, names_categories
        self.names_items = config.loss == "items"
        self._bags: tuple[tuple[int, int, bool], TokenBags, Tensor | None] | None = None

    def know(self, shape: TokenShape) -> None:
        super().know(shape)
        D = self.width
        if self.names_items:
            first = math.log(FIRST_SCALE * self.temperature / self.codebooks)
            self.log_sharpness = nn.Parameter(torch.tensor(first))  # ln a
        self.heads_MDD = nn.Parameter(torch.zeros(self.codebooks, D, D))
        self.mix = nn.Sequential(nn.Linear(self.codebooks * D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))
        named = self.names_categories and shape.categories
        self.categories = nn.Linear(D, len(shape.categories)) if named else None

    def know_trained(self, train_counts_N: Tensor) -> None:
        super().know_trained(train_counts_N)
        self._bags = None  # the memory of a mask that is let go may be the next one's, which an address cannot tell

    def forward(self, items: Tensor) -> Tensor:
        """x_i of some items, [..., D]."""
        tokens = F.embedding(self.places(items), self.weight)
        return self.mix(tokens.flatten(-2)) + tokens.sum(-2)

    def codes_MCD(self) -> Tensor:
        """All tokens as heads compare them: directions alone."""
        return F.normalize(self.weight.view(self.codebooks, self.size, self.width), dim=-1)

    def logits(self, states_PD: Tensor) -> Tensor:
        """cos(g_m(s), e_m(c)) / tau, [P, M, C]."""
        hidden_MPD = F.silu(torch.matmul(states_PD, self.heads_MDD)) + states_PD
        return (F.normalize(hidden_MPD, dim=-1) / self.temperature @ self.codes_MCD().mT).transpose(0, 1)

    def log_probs(self, states: Tensor) -> Tensor:
        """ln p_m(c | s), [..., M, C]."""
        flat = self.logits(states.reshape(-1, self.width))
        return F.log_softmax(flat, dim=-1).view(*states.shape[:-1], self.codebooks, self.size)

    def log_probs_of(self, states: Tensor, books: Tensor) -> Tensor:
        """ln p_m(c | s) of one book of each state, [..., C]: the heads of the others cost nothing."""
        flat_PD, books_P, codes_MCD = states.reshape(-1, self.width), books.flatten(), self.codes_MCD()
        said_PC = flat_PD.new_zeros(len(flat_PD), self.size)
        for book in range(self.codebooks):
            rows = (books_P == book).nonzero()[:, 0]
            if len(rows):
                hidden = F.silu(flat_PD[rows] @ self.heads_MDD[book]) + flat_PD[rows]
                logits = F.normalize(hidden, dim=-1) / self.temperature @ codes_MCD[book].T
                said_PC = said_PC.index_copy(0, rows, F.log_softmax(logits, dim=-1).to(said_PC.dtype))
        return said_PC.view(*states.shape[:-1], self.size)

    def category_log_probs(self, states: Tensor) -> Tensor | None:
        """ln p(category | s), [..., G]; None where none are named."""
        return None if self.categories is None else F.log_softmax(self.categories(states), dim=-1)

    def named(
        self,
        states_PD: Tensor,
        codes_PM: Tensor,
        open_PM: Tensor | None = None,
        *,
        logits_PMC: Tensor | None = None,
        surest: bool = False,
    ) -> Named:
        """The true tokens of the books that are open, of all if nothing is said.

        Args:
            logits_PMC: of these states, where they are at hand; otherwise those of the open books are made.
            surest: whether the token that is believed in most is asked for, too.
        """
        if open_PM is None and logits_PMC is None:
            logits_PMC = self.logits(states_PD)
        if logits_PMC is not None:
            flat_XC = logits_PMC.transpose(0, 1).flatten(0, 1)  # as they lie in memory
            losses = F.cross_entropy(flat_XC, codes_PM.T.flatten(), reduction="none").view(codes_PM.T.shape).T
            believed = _surest(logits_PMC, codes_PM, losses) if surest else None
            return Named(losses if open_PM is None else losses.where(open_PM, 0.0), believed)
        assert open_PM is not None
        codes_MCD, losses, believed = self.codes_MCD(), [], []
        for book, open_P in enumerate(open_PM.T):  # a decided book costs nothing
            rows = open_P.nonzero()[:, 0]
            states, codes = states_PD[rows], codes_PM[rows, book]
            hidden = F.silu(states @ self.heads_MDD[book]) + states
            logits = F.normalize(hidden, dim=-1) / self.temperature @ codes_MCD[book].T
            lost = F.cross_entropy(logits, codes, reduction="none")
            losses.append(states_PD.new_zeros(len(states_PD)).index_put((rows,), lost))
            if surest:
                most = _surest(logits, codes, lost)
                believed.append(states_PD.new_zeros(len(states_PD)).index_put((rows,), most))
        return Named(torch.stack(losses, dim=1), torch.stack(believed, dim=1) if surest else None)

    def item_losses(
        self,
        logits_PMC: Tensor,
        items_P: Tensor,
        open_PM: Tensor | None = None,
        *,
        soft: FewTargets | None = None,
    ) -> Tensor:
        """-ln softmax_i( a sum_m ln p_m(c_im | s) )[item], [P]: what is common to all items of a state cancels out.

        Items that training never meets are not among those of the softmax: else it would be learned that what they are
        is never the answer. Where one of them is named, all are.

        Args:
            logits_PMC: what states say, `logits`.
            open_PM: where some books are decided, the softmax is over the items that have the item's tokens there, and
                the sum tells them apart by the books that are open: -ln p(item | s, those tokens).
            soft: targets beside the items, where no book is decided.
        """
        bags, row_of_N = self._bags_of(items_P)
        logits_PX = logits_PMC.flatten(1)
        table_PX = logits_PX.to(accumulator(logits_PX.dtype)) * self.log_sharpness.exp()

        def scores_P(named_P: Tensor) -> Tensor:
            return table_PX.gather(1, bags.places_NM[named_P].long()).sum(1)

        items_P = items_P if row_of_N is None else row_of_N[items_P]
        own_P = scores_P(items_P)
        if soft is not None:
            items_PK = soft.items_PK if row_of_N is None else row_of_N[soft.items_PK]
            own_P = soft.mixed_scores(own_P, torch.stack([scores_P(each_P) for each_P in items_PK.T], dim=1))
        if open_PM is None:
            return token_lse(table_PX, bags) - own_P
        return lse_among(table_PX, bags, items_P, open_PM) - own_P  # what all have in common cancels

    def _bags_of(self, items_P: Tensor) -> tuple[TokenBags, Tensor | None]:
        """Which items have which tokens, made once: of the items that training meets, with the row of each, or of all
        where others are named."""
        met_N = self.met_alone(items_P)
        key = self.codes_NM.data_ptr(), self.codes_NM._version, met_N is None
        if self._bags is None or self._bags[0] != key:
            codes_NM = self.codes_NM if met_N is None else self.codes_NM[met_N]
            self._bags = key, TokenBags.of(codes_NM, self.size), None if met_N is None else met_N.cumsum(0) - 1
        return self._bags[1:]

    @property
    def sharpness(self) -> float:
        return self.log_sharpness.detach().exp().item() if self.names_items else 1.0

    def table(self, log_probs: Tensor) -> Tensor:
        """What each token adds to the score of an item, of its log-probabilities."""
        return log_probs * self.log_sharpness.exp() if self.names_items else log_probs

    def category_losses(self, states_PD: Tensor, items_P: Tensor) -> Tensor | None:
        """-ln p(category of the item | s), [P]; None where none are named."""
        if self.categories is None:
            return None
        return F.cross_entropy(self.categories(states_PD), self.category_N[items_P], reduction="none")


def _surest(logits_XC: Tensor, codes_X: Tensor, losses_X: Tensor) -> Tensor:
    """max_c ln p(c), of ln p(c) = logit - (logit of the true one + its loss)."""
    logits_XC = logits_XC.detach()
    true_X = logits_XC.gather(-1, codes_X[..., None])[..., 0]
    return logits_XC.max(-1).values - true_X - losses_X.detach()
