"""SSE-PT: SASRec with a vector a user, kept from overfitting by sharing (Wu et al., RecSys 2020, arXiv 1908.05435).

    z_t = [e_item ; e_user] + p_t                                        input, d = d_i + d_u wide
    x_t = f(z_1 .. z_t) = [a_t ; b_t]                                    SASRec's blocks of that width
    score(x_t, j) = x_t . [e_j ; e_user] = a_t . e_j + b_t . e_user

The last term is the same for all items. So it changes no order over them and no softmax, and cross-entropy, its
gradients and ranking are exactly those of a_t . e_j: they need a catalogue of width d_i alone. A loss that judges each
item by itself (BCE, the paper's) does feel it and is given it as a constant of the state. With `cosine` each half is
compared by direction, cos(a_t, e_j) + cos(b_t, e_user); the joined vector's length would depend on the item.

Stochastic shared embeddings: in training a row's user is replaced by one drawn from all, with probability
`replace_user`, and each input item likewise with `replace_item`. Never when it recommends. A replaced user is replaced
throughout his row, in the input and in b_t . e_user.

A user's vector is a common one plus his own, which begins at zero, so that a user without training interactions speaks
for nobody in particular. Somebody unknown (`users_B` -1, as bare histories are) gets the mean of all users' vectors:
the centre of what the encoder was trained on, where zeros would be a place that it has never seen.

Deviations: full cross-entropy by default; vectors are not multiplied by the root of their width (`scale_inputs` does:
an item's where it is read, a user's where his is scored too); items that are replaced keep their true labels
(`labels_too` does as the authors' code, whose thresholds are chances to KEEP). The recipe `sse-pt-authors` has all of
this as there, but for the blocks (theirs norm queries alone and go on from them, and have no map and no dropout behind
the attention) and for the users' common vector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.backbones.sasrec import SASRec
from forethought.catalogue.catalogue import Catalogue
from forethought.data.batches import Batch, replace_randomly
from forethought.data.interactions import DataSizes
from forethought.errors import ConfigError
from forethought.methods.configuration import MethodConfig
from forethought.methods.interface import DenseStates, Inputs, Losses, Method
from forethought.methods.items import ItemLoss, ItemTable
from forethought.reasoning.halting import Halting
from forethought.settings import Scale, SearchRange, Share, Width


@dataclass(frozen=True, kw_only=True)
class SSEPT(MethodConfig):
    """Configuration: SASRec over items and users joined, and how often either is replaced."""

    backbone: SASRec = field(default_factory=lambda: SASRec(width=128, input_norm=True))
    """The encoder of histories; its width d is that of an item and a user together."""
    loss: ItemLoss = field(default_factory=ItemLoss)
    """What each position is trained on; the paper's is `ItemLoss(kind="bce", negatives=1, cosine=False,
    temperature=1.0)`."""
    user_width: Width = 64
    """d_u, width of a user's vector; an item's d_i is what it leaves of the backbone's (the paper: the same)."""
    replace_user: Annotated[Share, SearchRange(0.5, 1.0)] = 0.92
    """Chance that a training row's user is REPLACED by a random one, 0 to 1 (the authors' example: they keep 0.08)."""
    replace_item: Share = 0.0
    """Chance that an input item is REPLACED by a random one in training, 0 to 1 (their example: they keep 0.9)."""
    labels_too: bool = False
    """A replaced item changes labels too: what it is to name becomes random, and it is what the position before it is
    to name (the authors' code)."""
    scale_inputs: bool = False
    """Multiply an item's vector by the root of its width where it is read, and a user's by that of his everywhere (the
    authors' code)."""
    item_std: Scale = 0.02
    """Spread of the initial vectors of items and of the users' common one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.user_width >= self.backbone.width:
            raise ConfigError(
                f"SSE-PT's user_width is {self.user_width}, but must be below the backbone's width of "
                f"{self.backbone.width}, which holds an item and a user: lower it or widen the backbone."
            )

    def build(self, sizes: DataSizes) -> SSEPTModel:
        if sizes.n_users < 1:
            raise ConfigError("SSE-PT keeps a vector a user and cannot be built for none: give DataSizes both numbers.")
        return SSEPTModel(self, sizes.n_items, sizes.n_users)


class UserTable(nn.Module):
    """One vector a user: a common one, and his own."""

    of_its_training: ClassVar[tuple[str, ...]] = ("own",)  # a run folder does not say whose they are

    def __init__(self, n_users: int, width: int, std: float) -> None:
        super().__init__()
        self.common = nn.Parameter(torch.randn(width) * std)
        self.own = nn.Parameter(torch.zeros(n_users, width))

    def forward(self, users_B: Tensor) -> Tensor:
        """[B, D]; -1 is somebody unknown, whose own vector is the mean of all."""
        own_BD = F.embedding(users_B.clamp_min(0), self.own)
        unknown_B = users_B < 0
        if unknown_B.any():
            own_BD = torch.where(unknown_B[:, None], self.own.mean(0), own_BD)
        return self.common + own_BD


class SSEPTModel(Method):
    inputs = Inputs(users=True)

    def __init__(self, config: SSEPT, n_items: int, n_users: int) -> None:
        super().__init__()
        self.config = config
        self.item_width = config.backbone.width - config.user_width
        self.items = ItemTable(n_items, self.item_width, config.loss, config.item_std)
        self.users = UserTable(n_users, config.user_width, config.item_std)
        self.backbone = config.backbone.build()
        self.window = config.backbone.window

    def loss(self, batch: Batch) -> Losses:
        """As of a plain SASRec with items of width d_i: 3 products with full cross-entropy."""
        batch = self.shared(batch) if self.training else batch
        a_BLD, b_BLD, users_BD = self._read(batch)
        alone = self.config.loss.kind in ("bce", "gbce")
        return self.items.next_item_loss(a_BLD, batch, self._user_scores(b_BLD, users_BD) if alone else None)

    def shared(self, batch: Batch) -> Batch:
        """The batch as stochastic shared embeddings show it."""
        assert batch.users_B is not None
        assert batch.targets_BL is not None
        users_B, _ = replace_randomly(batch.users_B, self.config.replace_user, len(self.users.own))
        items_BL, replaced_BL = replace_randomly(batch.items_BL, self.config.replace_item, len(self.items.weight))
        targets_BL = batch.targets_BL
        if self.config.labels_too:
            follows_BL = torch.where(replaced_BL[:, 1:], items_BL[:, 1:], targets_BL[:, :-1])
            inside_BL = batch.valid_BL()[:, 1:]  # what follows a row's last position was never an input
            targets_BL = torch.cat([torch.where(inside_BL, follows_BL, targets_BL[:, :-1]), targets_BL[:, -1:]], dim=1)
            anything_BL = torch.randint(len(self.items.weight), targets_BL.shape, device=targets_BL.device)
            targets_BL = torch.where(replaced_BL, anything_BL, targets_BL)
        return replace(batch, users_B=users_B, items_BL=items_BL, targets_BL=targets_BL)

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        a_BLD, _, _ = self._read(batch, last_only=True)
        return DenseStates.unreasoned(self.items.states(a_BLD[:, 0]))

    def catalogue(self) -> Catalogue:
        return self.items.catalogue()

    def _read(self, batch: Batch, *, last_only: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Both halves of the states, and the users' vectors."""
        nobody_B = torch.full_like(batch.lengths_B, -1)
        users_BD = self.users(nobody_B if batch.users_B is None else batch.users_B)
        items_BLD = self.items(batch.items_BL)
        if self.config.scale_inputs:
            items_BLD, users_BD = items_BLD * math.sqrt(self.item_width), users_BD * math.sqrt(self.config.user_width)
        x_BLD = torch.cat([items_BLD, users_BD[:, None].expand(-1, items_BLD.shape[1], -1)], dim=-1)
        states_BLD = self.backbone.encode(x_BLD, batch.lengths_B, last_only=last_only).states_BLD
        return states_BLD[..., : self.item_width], states_BLD[..., self.item_width :], users_BD

    def _user_scores(self, b_BLD: Tensor, users_BD: Tensor) -> Tensor:
        """b_t . e_user, [B, L]; their cosine where items are compared so."""
        if self.config.loss.cosine:
            b_BLD, users_BD = F.normalize(b_BLD, dim=-1), F.normalize(users_BD, dim=-1)
        return (b_BLD * users_BD[:, None]).sum(-1)
