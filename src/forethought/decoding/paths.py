"""`Paths`: what a search came to, for ranking items and for explaining how."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.catalogue.sparse_scores import SparseScores
from forethought.decoding.token_scores import Merge, TokenScorer


@dataclass(frozen=True, eq=False)
class Pruned:
    """Tokens that paths were about to decide and did not: the belief in categories moved further than was allowed.

    Attributes:
        rows_E, steps_E, books_E, tokens_E: which row, after how many tokens, and what it was.
        jensen_shannon_E: how far the belief moved, in nats.
        before_E, after_E: the category that was most believed in without the token and with it.
        kept_E: True where all others were pruned too, and the best one was taken nevertheless.
    """

    rows_E: Tensor
    steps_E: Tensor
    books_E: Tensor
    tokens_E: Tensor
    jensen_shannon_E: Tensor
    before_E: Tensor
    after_E: Tensor
    kept_E: Tensor


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths of T tokens each, the most probable of a row first.

    Attributes:
        books_BPT, tokens_BPT: what was decided, in this order.
        log_probs_BP: of all that was decided; -inf where a row has fewer paths.
        table_BPMC: the whole row of each book as it stood when the book was decided; after the last token for others.
        confidence_BPT: probability of the best token of the book that was decided.
        categories_BTPG: log-probabilities of the categories before each token, where there are any.
        jensen_shannon_BPT: how far the belief in categories moved with each token, in nats; NaN where nobody asked.
        pruned: what was not followed, where paths were pruned.
    """

    books_BPT: Tensor
    tokens_BPT: Tensor
    log_probs_BP: Tensor
    table_BPMC: Tensor
    confidence_BPT: Tensor
    categories_BTPG: Tensor | None
    jensen_shannon_BPT: Tensor
    pruned: Pruned | None

    @classmethod
    def unstepped(cls, table_BPMC: Tensor) -> Paths:
        """Paths on which nothing is decided: all books are read at once."""
        rows = table_BPMC.shape[:2]
        none_BPT = table_BPMC.new_empty(*rows, 0)
        whole_BPT = none_BPT.long()
        return cls(whole_BPT, whole_BPT, table_BPMC.new_zeros(rows), table_BPMC, none_BPT, None, none_BPT, None)

    @property
    def weights_BP(self) -> Tensor:
        """Log-weights that sum to one; alike where all paths of a row are at -inf."""
        least = torch.finfo(self.log_probs_BP.dtype).min
        sure_BP = self.log_probs_BP.clamp(min=least).log_softmax(-1)
        dead_B1 = (self.log_probs_BP == -torch.inf).all(-1, keepdim=True)
        return torch.where((self.log_probs_BP == -torch.inf) & ~dead_B1, -torch.inf, sure_BP)

    def scorer(self, codes_NM: Tensor, merge: Merge = "mixture", added: SparseScores | None = None) -> TokenScorer:
        """All items, ranked by the rows of all paths."""
        return TokenScorer(self.table_BPMC, self.weights_BP, codes_NM, merge, added)


def distinct(books_BPT: Tensor, tokens_BPT: Tensor) -> Tensor:
    """The share of a row's paths that are not another one's, [B], of what each decides."""
    keys_BPT = books_BPT * 65_536 + tokens_BPT
    same_BPP = (keys_BPT[:, :, None] == keys_BPT[:, None]).all(-1)
    first_BP = same_BPP.int().argmax(-1) == torch.arange(keys_BPT.shape[1], device=keys_BPT.device)
    return first_BP.double().mean(1)
