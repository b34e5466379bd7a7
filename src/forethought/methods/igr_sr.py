"""IGR-SR: reasoning anchored to intents that a frozen encoder distils (Shao & Zhou, 2025, arXiv 2512.14034).

    T_I = LID([P; e(S_u); I])        T_D = MLP(T_I)        h_u = IDR(S_u, T_D)        (eqs. 1 to 5)

Two stages. First an encoder is pre-trained as a recommender of its own (or taken from a run folder), and frozen. Then
k prefix vectors and m slots learn to make it say what a history is after (LID, `reasoning/intents.py`), and a second
network lets the items attend to these intents (IDR, `reasoning/intent_reasoner.py`). Two views of a user whose
intents are masked at random must agree (ICR).

Equation numbers are those of our summary of the paper; no official code was found. Where it is silent or we differ:
- Intents belong to a position. `over="rows"` is the paper: those of the whole prefix reach all of its items, so
  each prefix is a row. With `over="causal"` the item at position j sees the intents of the prefix up to j, so that one
  pass trains all positions.
- P and I have no position (HSTU's reasoning tokens stand behind the history), the encoder's items keep theirs.
- The items of IDR are a table of its own, which starts from the encoder's.
- ICR leaves out negatives of the same user or with the same target. By default it looks at each history's last
  position, and a history weighs as much as it has positions, so that the shares of several processes add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from typing import Annotated, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.backbones.all import AnyBackbone
from forethought.backbones.sasrec import SASRec
from forethought.catalogue.catalogue import Catalogue
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.configuration import MethodConfig, check_mask, check_times
from forethought.methods.igr_sr_cases import NamedCases, named_cases
from forethought.methods.interface import DenseStates, Inputs, IntentWeights, Losses, Method, Stage, UserRepresentation
from forethought.methods.items import ItemLoss, ItemTable
from forethought.methods.outside import References, SideInformation
from forethought.methods.pretrained import build_encoder, load_pretrained, rest, train_parts
from forethought.nn.dropout import Dropout
from forethought.nn.positions import Positions
from forethought.nn.transformer import initialise
from forethought.reasoning.chain import History
from forethought.reasoning.contrast import info_nce_both
from forethought.reasoning.diagnostics import Diagnostics, of_intents
from forethought.reasoning.halting import Halting
from forethought.reasoning.intent_reasoner import Beside, IntentReasoner, Reasoner
from forethought.reasoning.intents import (
    Intents,
    IntentSource,
    attention_entropy,
    extract_intents,
    intent_redundancy,
    keep_some,
)
from forethought.reasoning.profiles import TextProfiles
from forethought.settings import Between, Epochs, Scale, SearchRange, Settings, Share, Weight

ENCODER, REASONER = "encoder", "reasoner"
Over = Literal["causal", "rows"]
Source = Literal["distilled", "texts", "learned"]
At = Literal["last", "all"]
INTENT_NUMBERS = 2**20
"""Of all intents that are read together where nothing is trained: those of 1,024 long histories, made of texts, take
more than a gigabyte at once, and small pieces stay in the cache."""


@dataclass(frozen=True, kw_only=True)
class Consistency(Settings):
    """Configuration of ICR."""

    weight: Annotated[Weight, SearchRange(0.01, 1.0, log=True)] = 0.1
    """lambda of L_icr; 0: there is none."""
    mask_share: Share = 0.3
    """p_mask, probability with which a view drops an intent, 0 to 1; one of them always stays."""
    temperature: Annotated[Scale, SearchRange(0.03, 0.5, log=True)] = 0.1
    """tau, of cosines."""
    at: At = "last"
    """Each history's last position (of those trained) is contrasted, or all are, which costs twice IDR everywhere."""


@dataclass(frozen=True, kw_only=True)
class IGRSR(MethodConfig):
    """Configuration: an encoder, the intents it is asked for, and a network that reasons over them."""

    backbone: AnyBackbone = field(default_factory=SASRec)
    """The encoder of LID; its width is d_I."""
    encoder_run: str | None = None
    """A run folder with such an encoder, trained on this split; none: it is pre-trained in a stage of its own."""
    encoder_epochs: Epochs | None = None
    """Epochs of that stage at most; none: as many as the training's."""
    freeze: bool = True
    """Freeze the encoder once it is pre-trained (the paper), or train it on."""
    encoder_dropout: bool = False
    """Whether a frozen encoder still drops units while the second stage trains. It knows what it was trained on by
    heart, so that without dropout its intents tell more there than they will tell of anything new."""
    intents: Source = "distilled"
    """Read off the history by the encoder (LID), means of its items' text vectors, or m learned vectors that are the
    same for everybody."""
    texts: str | None = None
    """With intents of texts: an .npy, a text vector for each row of the item table; none: that beside the data."""
    text_width: Annotated[int, Between(1, 65_536)] = 384
    """Width of those vectors."""
    slots: Annotated[int, Between(1, 256)] = 4
    """m, intents a history is asked for (the paper's gain is flat from 3 on)."""
    prefix: Annotated[int, Between(0, 256)] = 4
    """k, learned vectors in front of the history; 0: none."""
    over: Over = "causal"
    """Each item sees the intents up to itself (causal), or those of the whole prefix, a row each (rows, the paper)."""
    prefixes: Annotated[int, Between(0, 100_000)] = 0
    """With rows: how many prefixes of a history train each time it is met, drawn at random; 0: all."""
    reasoner: Reasoner = field(default_factory=Reasoner)
    """IDR."""
    consistency: Consistency = field(default_factory=Consistency)
    """ICR."""
    distinct: Weight = 0.0
    """Weight of a term that keeps the intents of a history apart: `intent_redundancy` of T_D (not in the paper)."""
    loss: ItemLoss = field(default_factory=ItemLoss)
    """How states are held against the items, in both stages."""
    item_std: Scale = 0.02
    """Spread of the initial vectors of items, prefix and slots."""

    def __post_init__(self) -> None:
        for name in ("encoder_run", "texts"):
            if isinstance(path := getattr(self, name), PathLike):
                object.__setattr__(self, name, fspath(path))
        super().__post_init__()
        if self.encoder_epochs is not None and self.encoder_run is not None:
            raise ConfigError("IGRSR trains no encoder where encoder_run gives one: leave encoder_epochs out.")
        if self.distinct and self.intents == "learned":
            raise ConfigError("IGRSR cannot keep intents apart by what they tell of users where all share them.")
        if self.texts is not None and self.intents != "texts":
            raise ConfigError(f'IGRSR reads texts only with intents="texts", not {self.intents!r}.')
        if self.prefixes and self.over != "rows":
            raise ConfigError('IGRSR draws prefixes only with over="rows"; with "causal" all positions train at once.')

    def build(self, sizes: DataSizes) -> IGRSRModel:
        return IGRSRModel(self, sizes.n_items)

    def check(self, split: Split) -> None:
        check_times(self.backbone, split)
        check_mask(self.backbone)

    def references(self) -> References:
        return References(
            encoder_run=self.encoder_run,
            backbone=self.backbone,
            texts=self.intents == "texts",
            texts_file=self.texts,
            text_width=self.text_width,
        )


@dataclass(kw_only=True)
class IntentStates(DenseStates):
    """Final states with the intents that they leaned on.

    Attributes:
        weights_BM: share of the last item's attention that each intent got, summing to 1.
        alone_BMD: what each intent alone would have led to, with the others masked; if the trace was asked for.
    """

    weights_BM: Tensor
    alone_BMD: Tensor | None = None


class IGRSRModel(Method):
    """The network.

    Args:
        intents_from: another source of intents than those the configuration knows. A run folder does not tell of it,
            so such a model is loaded by building it anew.
    """

    ready: Tensor

    def __init__(self, config: IGRSR, n_items: int, intents_from: IntentSource | None = None) -> None:
        super().__init__()
        self.config, self.causal, reasoner = config, config.over == "causal", config.reasoner
        self.encoder = build_encoder(config.backbone, n_items, config.loss, config.item_std)
        self.items = ItemTable(n_items, reasoner.width, config.loss, config.item_std)
        self.window = self.encoder.window
        self.inputs = Inputs(times=config.backbone.needs_times, later_targets=config.loss.kind == "ce")
        if config.intents == "texts" and intents_from is None:
            intents_from = TextProfiles(n_items, config.text_width, config.slots)
        width, asked = config.backbone.width, intents_from is None
        distilled = asked and config.intents == "distilled"
        self.intents_from = intents_from
        std, k = config.item_std, config.prefix if distilled else 0
        self.prefix = nn.Parameter(torch.randn(k, width) * std) if k else None
        self.slots = nn.Parameter(torch.randn(config.slots, width) * std) if asked else None
        self.distilled, self.frozen = distilled, config.freeze or not distilled
        self.starts_from_encoder = reasoner.items == "encoder" and reasoner.width == width
        self.reads_encoder = distilled or self.starts_from_encoder  # else nothing of it is needed
        inner = width if intents_from is None else intents_from.width
        self.projection = nn.Sequential(
            nn.Linear(inner, reasoner.width),
            nn.GELU(),
            nn.Linear(reasoner.width, reasoner.width),
            nn.LayerNorm(reasoner.width),
        )
        self.positions = Positions(self.window, reasoner.width, reasoner.count_from)
        self.dropout = Dropout(reasoner.dropout)
        self.intent_reasoner = IntentReasoner(reasoner)
        for part in (self.projection, self.intent_reasoner):
            initialise(part)
        self.given_encoder: dict[str, Tensor] | None = None  # until the stage begins that takes it over
        self.register_buffer("ready", torch.tensor(False))  # the encoder's weights are in, and need no other folder
        self._stand_in(REASONER)

    # ---- stages

    def fit_side_information(self, side: SideInformation) -> None:
        super().fit_side_information(side)
        if isinstance(self.intents_from, TextProfiles) and side.item_texts_NE is not None:
            self.intents_from.set_features(side.item_texts_NE)
        self.given_encoder = None if side.encoder is None else dict(side.encoder)

    def join_items(self, first: int) -> None:
        if isinstance(self.intents_from, TextProfiles):
            maps = () if self.items.features is None else self.items.features.maps
            if not any(self.intents_from.join(each.values, first) for each in maps if each.shape.kind == "vectors"):
                raise ConfigError(
                    "The intents of this IGRSR are profiles of text vectors, and it keeps nothing to make those of new "
                    "items alike, unless it reads the same vectors as a feature: train it with --features text."
                )

    def stages(self) -> tuple[Stage, ...]:
        reasoner = Stage(name=REASONER)
        if self.config.encoder_run is not None or not self.reads_encoder:
            return (reasoner,)
        return Stage(name=ENCODER, epochs=self.config.encoder_epochs, candidate=False), reasoner

    def begin_stage(self, name: str) -> None:
        if name == REASONER and not self.ready:
            if self.config.encoder_run is not None:
                if self.given_encoder is None:
                    raise ConfigError("IGRSR has no weights for encoder_run yet: call fit_side_information first.")
                load_pretrained(self.encoder, self.given_encoder)
                self.given_encoder = None
            if self.starts_from_encoder:
                self.items.weight.data.copy_(self.encoder.items.weight.data)
                if self.items.features is not None and self.encoder.items.features is not None:
                    self.items.features.load_state_dict(self.encoder.items.features.state_dict())
            self.ready.fill_(True)
        self._stand_in(name)

    def _stand_in(self, stage: str) -> None:
        """Only what a stage trains takes gradients."""
        self.stage = stage
        self.inputs = replace(self.inputs, masked_items=stage == ENCODER and self.encoder.inputs.masked_items)
        self.requires_grad_(stage == REASONER)
        train_parts(self.encoder, pretraining=stage == ENCODER, later=not self.frozen)
        self.first_prefix = None if self.prefix is None else self.prefix.detach().clone()

    def train(self, mode: bool = True) -> Self:
        """A frozen encoder drops no units, unless asked to."""
        super().train(mode)
        if self.stage == REASONER and self.frozen and not self.config.encoder_dropout:
            rest(self.encoder)
        return self

    def compile_encoder(self) -> None:
        for module in (*self.encoder.backbone.children(), self.intent_reasoner):
            module.compile(dynamic=True)

    # ---- training

    def loss(self, batch: Batch) -> Losses:
        """L = L_rec + lambda L_icr (eqs. 5 to 7): 3 products, and 3 of (histories x histories x width)."""
        if self.stage == ENCODER:
            return self.encoder.loss(batch)
        cases = named_cases(batch, self.config.prefixes, self.items.weight.dtype, whole=self.causal)
        intents = self._intents(cases.history)
        intents_BPMD = self.projection(intents.raw_BPMD)
        beside = self.intent_reasoner.beside(intents_BPMD)
        states_PD, weights_PJHM = self._attend_intents(cases.history, beside, everywhere=self.causal)
        total = named = self.items.loss_of(states_PD, cases.targets_P, cases.weights_P, soft=cases.soft)
        figures = self._signs(cases, intents, states_PD, weights_PJHM)
        read_PMD = self._read(cases.history, intents_BPMD, everywhere=intents_BPMD.shape[1] > 1)
        same_P = intent_redundancy(read_PMD if self.config.distinct else read_PMD.detach())
        same = same_P.sum() / max(len(same_P), 1) * cases.weights_P.sum()
        total, figures["intent_redundancy"] = total + self.config.distinct * same, same.detach()
        if self.config.consistency.weight:
            consistency = self._consistency(batch, cases, beside)
            total, figures["icr"] = total + self.config.consistency.weight * consistency, consistency.detach()
        return Losses(total, {"loss": total.detach(), "named": named.detach(), **figures})

    def _consistency(self, batch: Batch, cases: NamedCases, beside: Beside) -> Tensor:
        """L_icr: InfoNCE, both ways, between two views with masked intents (eq. 6)."""
        settings, history = self.config.consistency, cases.history
        targets_P, users_P, weights_P = cases.targets_P, cases.users_P, cases.weights_P
        if settings.at == "last":
            ends_P = cases.ends_P
            targets_P, users_P = targets_P[ends_P], users_P[ends_P]
            weights_P = batch.lengths_B.to(weights_P.dtype) / batch.weight
            if not self.causal:
                history, beside = history.select(ends_P), beside.select(ends_P)
        twice_B = torch.arange(len(history.lengths_B), device=targets_P.device).repeat(2)
        kept_BM = keep_some(len(twice_B), beside.vectors_BPMD.shape[2], settings.mask_share, targets_P.device)
        everywhere = self.causal and settings.at == "all"
        both_PD, _ = self._attend_intents(history.select(twice_B), beside, kept_BM, everywhere=everywhere)
        one_PD, other_PD = F.normalize(both_PD, dim=-1).chunk(2)
        alike_PP = (targets_P[:, None] == targets_P) | (users_P[:, None] == users_P)
        return (info_nce_both(one_PD, other_PD, settings.temperature, alike_PP) * weights_P).sum()

    @torch.no_grad()
    def _signs(self, cases: NamedCases, intents: Intents, states_PD: Tensor, weights_PJHM: Tensor) -> dict[str, Tensor]:
        """Means over the batch of what `health` looks at."""
        diffuse_P, weights_P = attention_entropy(weights_PJHM).flatten(1).mean(1), cases.weights_P
        ends_PD = F.normalize(states_PD[cases.ends_P], dim=-1)
        n = len(ends_PD)
        mean_cosine = (ends_PD.sum(0).square().sum() - n) / max(n * (n - 1), 1)  # mean cosine of all pairs of users
        figures = {"attention_entropy": (diffuse_P * weights_P).sum(), "users_alike": mean_cosine * weights_P.sum()}
        if intents.states_BPD is not None:
            copies = F.cosine_similarity(intents.raw_BPMD, intents.states_BPD[:, :, None], dim=-1).mean(-1)
            figures["copied"] = (self._read(cases.history, copies, everywhere=self.causal) * weights_P).sum()
        return figures

    def diagnostics(self, figures: Mapping[str, float]) -> Diagnostics:
        """Attention over intents that is uniform, a prefix that does not move, users that are one, copied states."""
        if self.stage == ENCODER:
            return Diagnostics()
        moved = None
        if self.prefix is not None and self.first_prefix is not None:
            first = self.first_prefix.to(self.prefix.device)
            moved = float((self.prefix.detach() - first).norm() / first.norm())
        return of_intents(figures, moved)

    # ---- both, and inference

    def intents(self, batch: Batch) -> Tensor:
        """T_I of whole histories (eq. 2), [B, M, d_I]: what a user is held to be after, before any item asks for it."""
        history = History(batch.items_BL, batch.lengths_B, batch.times_BL)
        raw_BPMD = self._intents(history).raw_BPMD
        at_B = batch.lengths_B - 1 if raw_BPMD.shape[1] > 1 else torch.zeros_like(batch.lengths_B)
        return raw_BPMD[torch.arange(len(at_B), device=at_B.device), at_B]

    def _intents(self, history: History) -> Intents:
        """T_I of each position, or of whole rows (eqs. 1, 2)."""
        if self.intents_from is not None:
            intents = self.intents_from(history, everywhere=self.causal)
        elif self.distilled:
            assert self.slots is not None
            backbone, vectors = self.encoder.backbone, self.encoder.items
            return extract_intents(backbone, vectors, history, self.prefix, self.slots, everywhere=self.causal)
        else:
            intents = Intents(cast("Tensor", self.slots)[None, None])
        return intents._replace(raw_BPMD=intents.raw_BPMD.expand(history.lengths_B.shape[0], -1, -1, -1))

    def _attend_intents(
        self, history: History, beside: Beside, kept_BM: Tensor | None = None, *, everywhere: bool
    ) -> tuple[Tensor, Tensor]:
        """h behind every position, or behind each row's last one, [P, D], and the weights over intents (eq. 4)."""
        items_BL, lengths_B, _ = history
        x_BLD = self.dropout(self.items(items_BL) + self.positions(lengths_B, items_BL.shape[1]))
        states, weights = self.intent_reasoner(x_BLD, lengths_B, beside, kept_BM, last_only=not everywhere)
        return self._read(history, states, everywhere=everywhere), self._read(history, weights, everywhere=everywhere)

    @staticmethod
    def _read(history: History, of_BL: Tensor, *, everywhere: bool) -> Tensor:
        """What belongs to real positions, in the order rows, then positions; or to the one place of each row."""
        if not everywhere:
            return of_BL[:, 0]
        return of_BL[torch.arange(of_BL.shape[1], device=of_BL.device) < history.lengths_B[:, None]]

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        """h_u, with the intents that it leaned on; with `trace` also what each intent alone would have led to."""
        if self.stage == ENCODER:
            return self.encoder.user_states(batch)
        history = History(batch.items_BL, batch.lengths_B, batch.times_BL)
        numbers = self.config.slots * cast("nn.Linear", self.projection[0]).in_features  # a position's intents have
        pieces = history.pieces(INTENT_NUMBERS * (64 if self.device.type == "cuda" else 1) // numbers)
        states, weights, alone = zip(*(self._read_intents(piece, alone=trace) for piece in pieces), strict=True)
        return IntentStates(
            torch.zeros_like(batch.lengths_B),
            torch.cat(states),
            weights_BM=torch.cat(weights),
            alone_BMD=torch.cat(alone) if trace else None,
        )

    def _read_intents(self, history: History, *, alone: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Of each row its state, the weights of intents [B, M], and what each alone would lead to [B, M or 0, D]."""
        beside = self.intent_reasoner.beside(self.projection(self._intents(history).raw_BPMD))
        states_BD, weights_BJHM = self._attend_intents(history, beside, everywhere=False)
        B, M = weights_BJHM[:, 0, 0].shape
        only = torch.eye(M, dtype=torch.bool, device=states_BD.device)[:, None].expand(-1, B, M).unbind()
        asked = only[: M * alone]  # not rows of an empty tensor: no program with those can be read back
        each = [self._attend_intents(history, beside, kept_BM, everywhere=False)[0] for kept_BM in asked]
        alone_BMD = torch.stack(each, dim=1) if each else states_BD.new_empty(B, 0, states_BD.shape[-1])
        return self.items.states(states_BD), weights_BJHM.mean((1, 2)), self.items.states(alone_BMD)

    def intent_weights(self, represented: UserRepresentation) -> IntentWeights | None:
        if not isinstance(represented, IntentStates) or represented.alone_BMD is None:
            return None
        return IntentWeights(represented.weights_BM, represented.alone_BMD)

    def catalogue(self) -> Catalogue:
        return (self.encoder if self.stage == ENCODER else self.items).catalogue()
