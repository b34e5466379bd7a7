"""A backbone with items of its own that is trained first and then read through, frozen or not.

It is a model of `next_item` or `masked_item`, trained inside another method or taken from a run folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from forethought.backbones.all import AnyBackbone, BidirectionalBackbone, CausalBackbone
from forethought.methods.items import ItemLoss
from forethought.methods.masked_item import MaskedItem, MaskedItemModel
from forethought.methods.next_item import NextItem, NextItemModel

Encoder = NextItemModel | MaskedItemModel
LEFT = ("items.bias", "items.unmet_nats")  # of the other run's lists of items, which nobody asks for here


def build_encoder(backbone: AnyBackbone, n_items: int, loss: ItemLoss, item_std: float) -> Encoder:
    """The model that trains this backbone alone."""
    if backbone.causal:
        alone = NextItem(backbone=cast("CausalBackbone", backbone), loss=loss, item_std=item_std)
        return NextItemModel(alone, n_items)
    hidden = MaskedItem(backbone=cast("BidirectionalBackbone", backbone), loss=loss, item_std=item_std)
    return MaskedItemModel(hidden, n_items, mask_last=True)


def train_parts(encoder: Encoder, *, pretraining: bool, later: bool) -> None:
    """What of it trains: all while it is pre-trained, what reads histories or nothing at all afterwards."""
    encoder.requires_grad_(pretraining)
    if not pretraining:
        encoder.items.weight.requires_grad_(later)
        if encoder.items.features is not None:
            encoder.items.features.requires_grad_(later)
        encoder.backbone.requires_grad_(later)


def rest(encoder: Encoder) -> None:
    """No unit is dropped; gradients still pass through."""
    encoder.eval()
    for part in encoder.modules():
        if isinstance(part, nn.GRU):  # drops nothing either way, and cuDNN's has no gradient in eval mode
            part.train()


def load_pretrained(encoder: Encoder, tensors: Mapping[str, Tensor]) -> None:
    """Take the weights of another run's encoder; a bias of its items stays behind where this one has none."""
    encoder.load_state_dict({name: tensors[name] for name in encoder.state_dict() if name not in LEFT}, strict=False)
