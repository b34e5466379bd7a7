"""Evidence as a program without sparse matrices: what the last items of a history say of others, added up in a row.

The same sums as `methods/item_evidence.py` has, over all items at once: K neighbours of each of the last A items of B
histories are added into rows of N numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forethought.data.evidence import LISTED
from forethought.methods.item_evidence import LEAST, NOTHING, ItemEvidence


class DenseEvidence(nn.Module):
    """The tables and weights of a method's evidence."""

    weights_E: Tensor
    gate_ED: Tensor | None

    def __init__(self, evidence: ItemEvidence) -> None:
        super().__init__()
        self.last, self.recency, self.n_items = evidence.last, evidence.recency, evidence.n_items
        self.kinds = [shape.kind for shape in evidence.shapes]
        start = 0
        for e, shape in enumerate(evidence.shapes):
            columns, start = slice(start, start + shape.neighbours), start + shape.neighbours
            items_NK, values_NK = evidence.items_NK[:, columns].cpu(), evidence.values_NK[:, columns].cpu()
            if shape.kind in LISTED:
                values_NK = torch.zeros(self.n_items).index_add(0, items_NK[:, 0].long(), values_NK[:, 0])
            self.register_buffer(f"items_{e}", items_NK.long())
            self.register_buffer(f"values_{e}", values_NK.clone())
        self.register_buffer("weights_E", evidence.weights_E.detach().cpu().clone())
        gate = evidence.gate_ED
        self.register_buffer("gate_ED", None if gate is None else gate.detach().cpu().clone())

    def forward(self, items_BL: Tensor, lengths_B: Tensor, states_BD: Tensor | None) -> Tensor:
        """What is added to the logits of all items, [B, N].

        Args:
            states_BD: comparable ones, for a gate.
        """
        back_A = torch.arange(self.last)
        at_BA = lengths_B[:, None] - 1 - back_A
        heard_BA = (self.recency ** back_A.float()) * (at_BA >= 0)
        items_BA = items_BL.gather(1, at_BA.clamp_min(0))
        weights_BE = self.weights_E.expand(lengths_B.shape[0], -1)
        if self.gate_ED is not None and states_BD is not None:
            weights_BE = weights_BE * (states_BD.float() @ self.gate_ED.T).exp()
        said_BN = torch.zeros(1)
        for e, kind in enumerate(self.kinds):
            items_NK, values_NK = getattr(self, f"items_{e}"), getattr(self, f"values_{e}")
            said = values_NK[None] if kind in LISTED else self._said(items_NK, values_NK, items_BA, heard_BA)
            said_BN = said_BN + said * weights_BE[:, e, None]
        return said_BN

    def _said(self, items_NK: Tensor, values_NK: Tensor, items_BA: Tensor, heard_BA: Tensor) -> Tensor:
        """Rows of a table mixed, the largest number of each mixture being 1; too little is not heard."""
        values_BAK = values_NK[items_BA] * heard_BA[..., None]
        sums_BN = torch.zeros(items_BA.shape[0], self.n_items)
        sums_BN = sums_BN.scatter_add(1, items_NK[items_BA].flatten(1), values_BAK.flatten(1))
        largest_B1 = sums_BN.amax(1, keepdim=True)
        heard_BN = sums_BN >= (LEAST * largest_B1).clamp_min(NOTHING)
        return torch.where(heard_BN, sums_BN / largest_B1.clamp_min(NOTHING), 0.0)
