"""A run as one program of tensors: histories of item rows in, scores of all items out, or the k best of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from forethought.data.batches import Batch
from forethought.exporting.evidence import DenseEvidence
from forethought.exporting.folded import folded
from forethought.methods.interface import DenseStates, Method, UserRepresentation
from forethought.methods.item_tokens import PathMethod, TokenStates
from forethought.methods.reg4rec import REG4RecModel
from forethought.reasoning.halting import Halting

NEVER = torch.finfo(torch.float32).min
"""The score of an item that is no candidate."""


class ScoringProgram(nn.Module):
    """What `recommend` scores by, of a method whose constants are folded.

    Args:
        k: how many items are listed; None: the scores of all come out.
        exclude_history: whether items of a history are left out of its list.
    """

    places_NM: Tensor
    offsets_N: Tensor | None

    def __init__(self, method: Method, k: int | None = None, *, exclude_history: bool = False) -> None:
        super().__init__()
        self.k, self.exclude_history = k, exclude_history
        self.halting = _halting(method)
        evidence = method.evidence
        self.evidence = None if evidence is None or evidence.silent() else DenseEvidence(evidence)
        self.method = folded(method)
        if isinstance(self.method, PathMethod):
            tokens = self.method.tokens
            self.register_buffer("places_NM", tokens.places(torch.arange(tokens.n_items)))
            self.register_buffer("offsets_N", tokens.offsets())

    def forward(self, items: Tensor, lengths: Tensor, times: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Scores [B, N], or the rows [B, k] of the best items and their scores.

        Args:
            items: int64 [B, L], item rows, oldest first, padded on the right with any row.
            lengths: int64 [B], how many of them are real, 1 at least.
            times: int64 [B, L], Unix seconds, for methods that read them.
        """
        batch = Batch(items_BL=items, lengths_B=lengths, times_BL=times)
        scores_BN = self._scores(self.method.user_states(batch, self.halting), batch)
        if self.k is None:
            return scores_BN
        if self.exclude_history:
            real_BL = torch.arange(items.shape[1]) < lengths[:, None]
            own_BL = torch.where(real_BL, items, items[:, :1])  # padding repeats what is left out in any case
            scores_BN = scores_BN.scatter(1, own_BL, NEVER)
        best_BK, rows_BK = torch.topk(scores_BN, self.k)
        return rows_BK, best_BK

    def _scores(self, represented: UserRepresentation, batch: Batch) -> Tensor:
        if isinstance(represented, TokenStates):
            scores_BN, temperature, states_BD = self._token_scores(represented), 1.0, None
        else:
            assert isinstance(represented, DenseStates)
            catalogue, states_BD = self.method.catalogue(), represented.states_BD
            scores_BN, temperature = states_BD @ catalogue.comparable_ND.T, catalogue.temperature
            if catalogue.offsets_N is not None:
                scores_BN = scores_BN + catalogue.offsets_N
        if self.evidence is None:
            return scores_BN
        return scores_BN + temperature * self.evidence(batch.items_BL, batch.lengths_B, states_BD)

    def _token_scores(self, represented: TokenStates) -> Tensor:
        """The sum of what an item's tokens have, of the one path there is."""
        table_BX = represented.table_BPMC[:, 0].flatten(1)
        sums_BN = table_BX[:, self.places_NM[:, 0]]
        for places_N in self.places_NM.T[1:]:
            sums_BN = sums_BN + table_BX[:, places_N]
        if self.offsets_N is not None:
            sums_BN = sums_BN + self.offsets_N
        return sums_BN + represented.weights_BP


def _halting(method: Method) -> Halting | None:
    """That of the run; paths over tokens that count for nothing are not sought."""
    halting = method.resolve_halting(None)
    return replace(halting, max_steps=0) if halting is not None and isinstance(method, REG4RecModel) else halting
