"""A backbone with items of its own that is trained first and then read through, frozen or not.

It is trained here as `next_item` and `masked_item` train theirs, or taken from a run folder of one of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from forethought.backbones.all import AnyBackbone
from forethought.data.batches import Batch
from forethought.methods.items import ItemLoss, ItemTable
from forethought.reasoning.mask_sampler import MaskSampler


class Encoder(nn.Module):
    """An item table and a backbone; one that looks both ways also has a [MASK]."""

    def __init__(self, config: AnyBackbone, n_items: int, loss: ItemLoss, item_std: float) -> None:
        super().__init__()
        self.items = ItemTable(n_items, config.width, loss, item_std)
        self.backbone = config.build()
        self.mask = None if self.backbone.causal else nn.Parameter(torch.randn(config.width) * item_std)
        self.window = config.window - (not self.backbone.causal)  # a slot is the [MASK]'s

    def loss(self, batch: Batch) -> Tensor:
        """The next item at every position (`NextItem`), or hidden items of each row (`MaskedItem`): 3 products."""
        assert batch.targets_BL is not None
        if self.mask is None:
            real_BL = batch.valid_BL()
            states = self.backbone.encode(self.items(batch.items_BL), batch.lengths_B, times=batch.times_BL).states_BLD
            targets_P = batch.targets_BL[real_BL]
            weights_P = self.items.weight.new_full(targets_P.shape, 1.0 / batch.weight)
            return self.items.loss_of(states[real_BL], targets_P, weights_P)
        mask_sampler, lengths_B = MaskSampler(), batch.lengths_B + 1
        items_BN = torch.cat([batch.items_BL[:, :1], batch.targets_BL], dim=1)
        hidden_BN = mask_sampler.draw(lengths_B, items_BN.shape[1])
        x_BND = torch.where(hidden_BN[..., None], self.mask, self.items(items_BN))
        states_PD = self.backbone.encode(x_BND, lengths_B).states_BLD[hidden_BN]
        weights_B = batch.lengths_B / mask_sampler.expected(lengths_B) / batch.weight
        weights_P = weights_B[:, None].expand_as(hidden_BN)[hidden_BN].to(self.mask.dtype)
        return self.items.loss_of(states_PD, items_BN[hidden_BN], weights_P)

    def user_states(self, batch: Batch) -> Tensor:
        """What it would recommend from by itself, [B, D]."""
        x_BLD, lengths_B = self.items(batch.items_BL), batch.lengths_B
        if self.mask is not None:  # [MASK] behind the history
            x_BLD = torch.cat([x_BLD, torch.zeros_like(x_BLD[:, :1])], dim=1)
            at_L = torch.arange(x_BLD.shape[1], device=x_BLD.device)
            x_BLD = torch.where((at_L == lengths_B[:, None])[..., None], self.mask, x_BLD)
            lengths_B = lengths_B + 1
        states = self.backbone.encode(x_BLD, lengths_B, times=batch.times_BL, last_only=True).states_BLD
        return self.items.states(states[:, 0])

    def learn(self, *, pretraining: bool, later: bool) -> None:
        """What of it trains: all while it is pre-trained, what reads histories or nothing at all afterwards."""
        self.requires_grad_(pretraining)
        if not pretraining:
            self.items.weight.requires_grad_(later)
            self.backbone.requires_grad_(later)

    def rest(self) -> None:
        """No unit is dropped; gradients still pass through."""
        self.eval()
        for part in self.modules():
            if isinstance(part, nn.GRU):  # drops nothing either way, and cuDNN's has no gradient in eval mode
                part.train()

    def load_pretrained(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of another run's encoder; a bias of its items stays behind where this one has none."""
        self.load_state_dict({name: tensors[name] for name in self.state_dict() if name != "items.bias"}, strict=False)
