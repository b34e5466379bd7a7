"""What methods share about items: the table of their vectors, the loss over the catalogue, and next-item training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.catalogue import losses, sampled
from forethought.catalogue.catalogue import Catalogue, comparable
from forethought.catalogue.sparse_scores import SparseScores
from forethought.catalogue.split import Shard
from forethought.data.batches import Batch
from forethought.data.evidence import Evidence, EvidenceShape
from forethought.data.features import FeatureShape
from forethought.errors import ConfigError
from forethought.methods.interface import Losses, Method
from forethought.methods.item_evidence import ItemEvidence
from forethought.methods.item_features import ItemFeatures
from forethought.methods.item_tokens import TokenItems, know_no_nats
from forethought.settings import Between, Scale, SearchRange, Settings, Share, Weight

Model = TypeVar("Model", bound=nn.Module)
AnyMethod = TypeVar("AnyMethod", bound=Method)
LossKind = Literal["ce", "sampled_softmax", "bce", "gbce", "bpr"]
Negatives = Literal["uniform", "popularity", "in_batch"]


@dataclass(frozen=True, kw_only=True)
class ItemLoss(Settings):
    """How a state is held against the catalogue."""

    kind: LossKind = "ce"
    """ce: softmax over all items; sampled_softmax: over drawn ones, log-Q corrected; bce, gbce: per item; bpr: the
    target against each drawn one."""
    temperature: Annotated[Scale, SearchRange(0.03, 0.3, log=True)] = 0.085
    """Scores are divided by it (tau > 0); about 0.05 to 0.2 goes with `cosine`, 1 with the plain dot product."""
    cosine: bool = True
    """Compare directions only: states and items have unit length. Learns faster and ranks better than the plain
    dot product on every set we tried; `cosine=False, temperature=1.0` is the papers'."""
    bias: bool = False
    """One learned bias an item."""
    smoothing: Annotated[Share, SearchRange(0.0, 0.3)] = 0.0
    """Share of the target's mass spread over all items, 0 to 1; ce only."""
    negatives: Annotated[int, Between(1, 65_536)] = 256
    """Items drawn: shared by the batch (sampled_softmax) or for each position (bce, gbce, bpr)."""
    proposal: Negatives = "uniform"
    """What sampled_softmax draws negatives from, and corrects for: all items evenly (uniform), as often as each is a
    target in training (popularity), or the batch's own targets (in_batch)."""
    calibration: Share = 0.75
    """gBCE's t, 0 (plain BCE) to 1."""
    l2: Weight = 0.0
    """Weight of half the squared lengths of each state and of the items that it is held against; bpr only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smoothing and self.kind != "ce":
            raise ConfigError(f"The loss {self.kind!r} knows no smoothing: leave it at 0, or choose ce.")
        if self.proposal != "uniform" and self.kind != "sampled_softmax":
            raise ConfigError(
                f"The loss {self.kind!r} draws evenly and has no proposal {self.proposal!r}: leave it uniform, "
                "or choose sampled_softmax."
            )
        if self.l2 and (self.kind != "bpr" or self.cosine):
            given = f"The loss {self.kind!r} shrinks nothing" if self.kind != "bpr" else "Directions have no length"
            raise ConfigError(f"{given}, so l2 has no place in it: leave it at 0, or choose bpr with cosine=False.")


class ItemTable(nn.Module):
    """One vector an item, used on both sides: as input and as output (tied).

    With features of the items (`read_features`) an item is its id and what is known of it; without, its id alone. One
    that training never meets (`know_trained`) is what is known of it alone: nothing teaches its id anything. While the
    table trains, such an item stands in the softmax as zeros and gets no gradient. Else it would be pushed away from
    every state, as what is never the answer, and the maps of features would learn what such items look like. Once it
    is trained, `unmet_nats` are taken off its logits: a vector of features alone says too readily that it fits.
    A loss that must know how often each item is a target keeps the counts beside the vectors, zeros until it is told.

    After `split` the rows here are a part of them, and other processes hold the rest. Each process then has histories
    of its own, looks their items up wherever they are held, and pools its states with those of the others for the loss,
    which is that of one process with all of them. In numbers that are sent for U distinct items and P positions of a
    batch over all W processes, of width D: 4 U D for the lookups, 5 P D and W P for the loss; none of them grows with
    the items. The walk takes 4 products of (P x items here x D) where it is 3 of (P / W x all items x D) without.
    """

    item_dims: ClassVar[Mapping[str, int]] = {"weight": 0, "bias": 0, "target_counts_N": 0}
    target_counts_N: Tensor | None
    trained_N1: Tensor | None
    unmet_nats: Tensor

    def __init__(self, n_items: int, width: int, loss: ItemLoss, std: float) -> None:
        super().__init__()
        self.loss, self.n_items, self.std = loss, n_items, std
        self.shard: Shard | None = None
        self.features: ItemFeatures | None = None
        self._made: tuple[list[tuple[int, int]], dict[bool, Catalogue]] = [], {}  # of what weights, and what
        self.weight = nn.Parameter(torch.randn(n_items, width) * std)
        self.bias = nn.Parameter(torch.zeros(n_items)) if loss.bias else None
        counts_N = None if loss.proposal == "uniform" else torch.zeros(n_items, dtype=torch.int64)
        self.register_buffer("target_counts_N", counts_N)
        self.register_buffer("trained_N1", None, persistent=False)  # a run's table of items has the counts

    def read_features(self, shapes: Sequence[FeatureShape]) -> None:
        """Make room for features of the items, which add to their vectors from here on."""
        n_items, width = self.weight.shape
        self.features = ItemFeatures(shapes, n_items, width, self.std)
        self.register_buffer("unmet_nats", torch.zeros(()))
        self.register_load_state_dict_pre_hook(know_no_nats)

    def know_trained(self, train_counts_N: Tensor) -> None:
        """Which items training meets, where features tell something of the others."""
        met_N = train_counts_N > 0
        self.trained_N1 = None if self.features is None or met_N.all() else met_N.to(self.weight)[:, None]
        self._made = [], {}

    def train(self, mode: bool = True) -> Self:
        self._made = [], {}  # a fused optimiser leaves no mark on the weights that it changes
        return super().train(mode)

    def forward(self, items: Tensor) -> Tensor:
        ids = self.ids(items)
        if self.features is None:
            return ids
        return (ids if self.trained_N1 is None else ids * self.trained_N1[items]) + self.features(items)

    def ids(self, items: Tensor) -> Tensor:
        """What an item is by its id alone."""
        return F.embedding(items, self.weight) if self.shard is None else self.shard.looked_up(self.weight, items)

    def split(self, shard: Shard, rows: slice) -> None:
        """Keep the rows of these items alone, of vectors and biases.

        Raises:
            ConfigError: the table reads features, whose maps all items share.
        """
        if self.features is not None:
            raise ConfigError(
                "Features of items are mapped in one process, so a catalogue that reads some cannot be split: leave "
                "split_catalogue or the features out."
            )
        self.shard, self.weight = shard, nn.Parameter(self.weight.detach()[rows].clone())
        if self.bias is not None:
            self.bias = nn.Parameter(self.bias.detach()[rows].clone())

    def all_ids(self) -> Tensor:
        """The same of all items, [N, D]: the parameters themselves, unless a table makes its vectors of others; rows
        here, once split."""
        return self.weight

    def vectors(self) -> Tensor:
        """E, [N, D], of ids and features."""
        return self.all_ids() if self.features is None else self._with_features(self.features())

    def _with_features(self, features_ND: Tensor) -> Tensor:
        """E of ids and what features add."""
        if self.trained_N1 is None:
            return self.all_ids() + features_ND
        if self.training:
            return (self.all_ids() + features_ND) * self.trained_N1
        return self.all_ids() * self.trained_N1 + features_ND

    def catalogue(self, *, held_back: bool = True) -> Catalogue:
        """All items as they are now: what losses, indicators, ranking and explanations hold states against.

        That of a trained model is made once, as long as its weights stay: with the items' lengths that is half of the
        time of a single history.

        Args:
            held_back: whether `unmet_nats` count; they are one more column of the scaled items, as a bias is.
        """
        if self.training or torch.is_grad_enabled():
            return self._catalogue(held_back)
        weights = [(tensor.data_ptr(), tensor._version) for tensor in chain(self.parameters(), self.buffers())]
        if self._made[0] != weights:
            self._made = weights, {}
        if held_back not in self._made[1]:
            self._made[1][held_back] = self._catalogue(held_back)
        return self._made[1][held_back]

    def _catalogue(self, held_back: bool) -> Catalogue:
        bias_N, trained_N1 = self.bias, self.trained_N1
        if bias_N is not None and trained_N1 is not None:
            bias_N = bias_N * trained_N1[:, 0]
        if trained_N1 is not None and held_back and not self.training and self.unmet_nats.item():
            less_N = self.unmet_nats * (1 - trained_N1[:, 0])
            bias_N = -less_N if bias_N is None else bias_N - less_N
        return Catalogue(self.vectors(), bias_N, self.loss.temperature, self.loss.cosine, self.shard)

    def states(self, states: Tensor) -> Tensor:
        """States as ranking wants them: `Catalogue.comparable`, without a catalogue."""
        return comparable(states, cosine=self.loss.cosine)

    def next_item_loss(
        self,
        states_BLD: Tensor,
        batch: Batch,
        constants_BL: Tensor | None = None,
        evidence: ItemEvidence | None = None,
        soft: losses.FewTargets | None = None,
    ) -> Losses:
        """Every real position names the item that follows it: the mean of `loss_of` over the global batch.

        Args:
            evidence: beside the scores, where its weights are trained with them.
            soft: targets beside the items that follow.
        """
        assert batch.targets_BL is not None
        real_BL = batch.valid_BL()
        states_PD = states_BLD[real_BL]  # real positions only: padding costs no product
        weights_P = torch.full(
            (states_PD.shape[0],), 1.0 / batch.weight, dtype=self.weight.dtype, device=states_PD.device
        )
        constants_P = None if constants_BL is None else constants_BL[real_BL]
        added = None
        if evidence is not None and evidence.trained:
            added = evidence.in_training(batch, self.states(states_PD))
        total = self.loss_of(states_PD, batch.targets_BL[real_BL], weights_P, constants_P, added, soft)
        return Losses(total, {"loss": total.detach()})

    def loss_of(
        self,
        states_PD: Tensor,
        targets_P: Tensor,
        weights_P: Tensor,
        constants_P: Tensor | None = None,
        added: SparseScores | None = None,
        soft: losses.FewTargets | None = None,
    ) -> Tensor:
        """sum_p w_p loss_p for the configured loss.

        Of a split table the positions are those of all processes: an even share of their loss, with the gradients of
        all of it.

        Args:
            constants_P: what a state adds to its scores of all items, before the temperature. Only the losses that
                judge each item alone (bce, gbce) feel it: a softmax does not move, nor does its gradient.
            added: to the logits of a few items of each row; ce alone takes it.
            soft: targets beside the items, for ce without that.
        """
        if self.shard is None:
            return self._loss_of(states_PD, targets_P, weights_P, constants_P, added, soft)
        assert added is None, "evidence is read where all items are in one process"
        assert soft is None, "a teacher is heard where all items are in one process"
        own = [x for x in (states_PD, targets_P, weights_P, constants_P) if x is not None]
        states_PD, targets_P, weights_P, *constants = self.shard.pooled(*own)
        return self.shard.share(self._loss_of(states_PD, targets_P, weights_P, constants[0] if constants else None))

    def _loss_of(
        self,
        states_PD: Tensor,
        targets_P: Tensor,
        weights_P: Tensor,
        constants_P: Tensor | None = None,
        added: SparseScores | None = None,
        soft: losses.FewTargets | None = None,
    ) -> Tensor:
        config, catalogue = self.loss, self.catalogue()
        r_PD = catalogue.scaled(states_PD)
        if config.kind == "ce":
            return losses.cross_entropy(
                r_PD, catalogue, targets_P, weights_P, smoothing=config.smoothing, added=added, soft=soft
            )
        assert added is None
        assert soft is None
        if config.kind == "sampled_softmax":
            return sampled.sampled_softmax(r_PD, catalogue, targets_P, *self.negatives(targets_P), weights_P)
        negatives_PM = self._same(torch.randint(self.n_items, (len(targets_P), config.negatives), device=r_PD.device))
        if config.kind == "bpr":
            total = sampled.pairwise_ranking(r_PD, catalogue, targets_P, negatives_PM, weights_P)
            if not config.l2:
                return total
            return total + config.l2 * sampled.half_squares(states_PD, catalogue, targets_P, negatives_PM, weights_P)
        return sampled.binary_cross_entropy(
            r_PD,
            catalogue,
            targets_P,
            negatives_PM,
            weights_P,
            calibration=config.calibration if config.kind == "gbce" else 0.0,
            constants_P=None if constants_P is None else constants_P / config.temperature,
        )

    def negatives(self, targets_P: Tensor) -> tuple[Tensor, Tensor]:
        """Items for `sampled_softmax`, [M], and the log chance of each item to be one of them, [N].

        In a batch the chance of an item is its share among all targets of the training.
        """
        M, N, counts_N, device = self.loss.negatives, self.n_items, self.target_counts_N, targets_P.device
        if counts_N is None:
            return self._same(torch.randint(N, (M,), device=device)), torch.full((N,), -math.log(N), device=device)
        if not counts_N.any():
            raise ConfigError(
                f"The proposal {self.loss.proposal!r} needs to know how often each item is a target: train the model "
                "with forethought.train, or fill target_counts_N of its item table."
            )
        proposal = sampled.Proposal(counts_N)
        if self.loss.proposal == "popularity":
            return self._same(proposal.draw((M,))), proposal.log_q_N
        return self._same(targets_P[torch.randperm(len(targets_P), device=device)[:M]]), proposal.log_q_N

    def _same(self, drawn: Tensor) -> Tensor:
        """What is drawn for positions that all processes have alike must be alike too: the first one's."""
        return drawn if self.shard is None else self.shard.first(drawn)


def with_features(method: Model, shapes: Sequence[FeatureShape]) -> Model:
    """The same method, all of whose tables of items read these features."""
    for part in list(method.modules()) if shapes else ():
        if isinstance(part, ItemTable):
            part.read_features(shapes)
    return method


def reads_features(method: nn.Module) -> bool:
    """Whether a table of items reads features."""
    return any(isinstance(part, ItemTable) and part.features is not None for part in method.modules())


def hears_evidence(method: nn.Module) -> bool:
    """Whether something beside its own scores speaks for items."""
    return any(isinstance(part, ItemEvidence) for part in method.modules())


def check_evidence(method: nn.Module) -> None:
    """Whether all that speaks for items speaks of items there are.

    Raises:
        ValueError: it does not.
    """
    for part in method.modules():
        if isinstance(part, ItemEvidence):
            part.check()


def know_trained(method: nn.Module, train_counts_N: Tensor) -> None:
    """Tell tables of items that read features, and tokens, which items training meets."""
    for part in method.modules():
        if isinstance(part, ItemTable | TokenItems):
            part.know_trained(train_counts_N)


def hold_back(method: nn.Module, nats: float) -> None:
    """Set what is taken off the logits of items that training never met; below 0 they are lifted."""
    for part in _told_items(method):
        part.unmet_nats.fill_(nats)


def held_back(method: nn.Module) -> float:
    """What `hold_back` has set."""
    return next((part.unmet_nats.item() for part in _told_items(method)), 0.0)


def _told_items(method: nn.Module) -> Iterator[ItemTable | TokenItems]:
    """What knows items by more than their ids."""
    for part in method.modules():
        if isinstance(part, ItemTable | TokenItems):
            told = part.features if isinstance(part, ItemTable) else part.shape
            if told is not None:
                yield part


def with_evidence(method: AnyMethod, config: Evidence | None, shapes: Sequence[EvidenceShape]) -> AnyMethod:
    """The same method, with evidence of these shapes beside its scores.

    Raises:
        ConfigError: its weights are to be trained, and the method's loss does not know them.
    """
    if config is None or not shapes:
        return method
    if config.is_trained:
        _check_trains_evidence(method)
    if config.gate and method.state_width is None:
        raise ConfigError(
            f"A gate of evidence reads one vector a user, and {type(method).__name__.removesuffix('Model')} comes to "
            "none: leave the gate out (on the command line --evidence-gate)."
        )
    method.evidence = ItemEvidence(config, shapes, method.n_items, method.state_width or 0)
    return method


def _check_trains_evidence(method: Method) -> None:
    if not method.trains_evidence:
        raise ConfigError(
            f"{type(method).__name__.removesuffix('Model')}'s loss does not know the weights of evidence: choose "
            "evidence's fit validation (on the command line --evidence-fit validation)."
        )
    if any(part.loss.kind != "ce" for part in method.modules() if isinstance(part, ItemTable)):
        raise ConfigError(
            "Evidence is trained with the softmax over all items alone: choose the loss ce, or evidence's fit "
            "validation."
        )


def walks_items(method: nn.Module) -> bool:
    """Whether some loss of the method is a softmax over all items."""
    return any(isinstance(part, ItemTable) and part.loss.kind == "ce" for part in method.modules())
