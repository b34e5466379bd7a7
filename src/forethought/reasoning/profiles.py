"""Intents without an encoder: what a user's latest items were about, told by their texts.

    T_m(j) = sum_i 2^(-(j - i) / h_m) t_i / sum_i 2^(-(j - i) / h_m)        h_m = 1, 2, 4, ... items, the last infinite

M profiles of a history up to position j, each the mean of its items' text vectors t with a memory of its own: the first
is nearly the last item, the last weighs all alike. Nothing here is learned; the method's projection reads it (IGR-SR
leaves open where intents come from, arXiv 2512.14034, section 3.1).

Shapes: B rows, L positions, P places (every position, or the last alone), M intents, E width of the text vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.reasoning.chain import History
from forethought.reasoning.intents import Intents


class TextProfiles(nn.Module):
    """An `IntentSource` made of item texts; they are saved with the method."""

    item_dims: ClassVar[Mapping[str, int]] = {"texts_NE": 0}
    texts_NE: Tensor
    halving_M: Tensor

    def __init__(self, n_items: int, width: int, intents: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("texts_NE", torch.zeros(n_items, width))
        halving_M = 0.5 ** torch.arange(intents, dtype=self.texts_NE.dtype)  # 1 / h
        halving_M[-1] = 0.0
        self.register_buffer("halving_M", halving_M, persistent=False)

    def set_features(self, vectors_NE: Tensor) -> None:
        """Keep item texts: centred, since sentence encoders share a large mean; as long as a vector of unit normals.

        Args:
            vectors_NE: zeros where an item has no text; such items have none here either.
        """
        vectors_NE = vectors_NE.to(self.texts_NE)
        told_N1 = vectors_NE.any(dim=1, keepdim=True)
        mean_E = vectors_NE.sum(0) / told_N1.sum().clamp_min(1)
        self.texts_NE.copy_(F.normalize(vectors_NE - mean_E, dim=1) * told_N1 * self.width**0.5)

    def join(self, vectors_NE: Tensor, first: int) -> bool:
        """Take texts of the items from row `first` on out of centred vectors of unit length; whether they are those.

        They are if the items before have the same texts by them.
        """
        texts_NE = vectors_NE.to(self.texts_NE) * self.width**0.5
        if texts_NE.shape != self.texts_NE.shape or not torch.allclose(
            texts_NE[:first], self.texts_NE[:first], atol=1e-3
        ):
            return False
        self.texts_NE[first:] = texts_NE[first:]
        return True

    def forward(self, history: History, *, everywhere: bool) -> Intents:
        """Profiles at every position, or of whole rows; items without a text weigh nothing in them."""
        items_BL, lengths_B, _ = history
        at_L = torch.arange(items_BL.shape[1], device=items_BL.device)
        ends_BP = at_L.expand_as(items_BL) if everywhere else lengths_B[:, None] - 1
        age_BPL = (ends_BP[:, :, None] - at_L)[:, :, None]
        texts_BLE = self.texts_NE[items_BL]
        told_BL = texts_BLE.any(dim=-1)
        counts = (age_BPL >= 0) & told_BL[:, None, None]
        latest = age_BPL.masked_fill(~counts, items_BL.shape[1]).amin(-1, keepdim=True)  # the scale cancels out below
        weights_BPML = torch.exp2(-(age_BPL - latest).clamp_min(0) * self.halving_M[:, None]) * counts
        total_BPM1 = weights_BPML.sum(-1, keepdim=True)
        found_BPME = torch.einsum("bpml,ble->bpme", weights_BPML, texts_BLE)
        return Intents(found_BPME / total_BPM1.masked_fill(total_BPM1 == 0, 1.0))
