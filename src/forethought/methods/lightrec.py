"""LightRec: an item is a sum of codewords (Lian et al., WWW 2020), here below a SASRec encoder.

    r_i^0 = v_i                                     a base vector an item, which only training needs
    z_i^m = cos(r_i^{m-1}, c_w^m) / tau             logits of the codewords w = 1..C of codebook m; or bilinear,
            r_i^{m-1} W^m c_w^m / tau               with a learned matrix for each codebook
    w_i^m = argmax_w z_iw^m                         forward; backward as if it were softmax(z_i^m)
    r_i^m = r_i^{m-1} - c^m_{w_i^m}                 what is still missing
    q_i   = sum_m c^m_{w_i^m}                       the item, as input and as output

Of an item M log2(C) bits remain beside the codebooks, which all items share: M * C * D numbers.

That this paper is the "LIGHTREC" of IGR-SR's tables is our inference: no other paper of that name was found. Its
authors' code (github.com/haoyu0408/LightRec) was read. The sum, the residuals and the straight-through gradients are
theirs; the cosine, its temperature, full cross-entropy, base vectors that learn and the encoder are ours. They have a
vector a user in place of an encoder, and (`lightrec-authors`):

- the bilinear choice at tau = 0.9, matrices and codebooks begun as Glorot's normal;
- base vectors of a model that was trained before, which stand still, while its users' vectors train on (`pretrained`);
- BPR against 5 negatives with L2 (`ItemLoss(kind="bpr", l2=...)`);
- distillation: half the squared distance of all users' scores of the batch's items from that model's (`distillation`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from forethought.backbones.interface import Backbone
from forethought.backbones.sasrec import SASRec
from forethought.catalogue.blocks import block_room, product, row_blocks
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.score_distance import score_distance
from forethought.catalogue.split import Shard
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.errors import ConfigError
from forethought.methods.configuration import MethodConfig
from forethought.methods.interface import DenseStates, Losses, Method, Stage
from forethought.methods.items import ItemLoss, ItemTable
from forethought.reasoning.diagnostics import Diagnostics
from forethought.reasoning.halting import Halting
from forethought.settings import Between, Scale, SearchRange, Weight

Selection = Literal["cosine", "bilinear"]
VECTORS, CODEBOOKS = "vectors", "codebooks"
COLLAPSED = 0.1  # share of a codebook that is in use, by perplexity, below which it has collapsed
ALIKE = 0.01  # share of items with a twin from which it is worth a word
FLOAT_BITS = 32


@dataclass(frozen=True, kw_only=True)
class LightRec(MethodConfig):
    """Configuration: SASRec over items that are sums of codewords."""

    backbone: SASRec = field(default_factory=SASRec)
    """The encoder of histories."""
    loss: ItemLoss = field(default_factory=ItemLoss)
    """What each position is trained on."""
    codebooks: Annotated[int, Between(1, 256)] = 8
    """M, codewords that make an item, one from each codebook."""
    codewords: Annotated[int, Between(2, 65_536)] = 256
    """C, codewords of a codebook, 2 at least; never more than there are items."""
    selection: Selection = "cosine"
    """What a codeword is chosen by: the direction it shares with what is missing, or a learned bilinear form of both
    for each codebook (the authors' code)."""
    selection_temperature: Annotated[Scale, SearchRange(0.03, 1.0, log=True)] = 0.1
    """tau > 0 of the softmax that gradients of a choice follow (the authors' code: 0.9)."""
    pretrained: bool = False
    """Train in two stages: encoder and base vectors as a plain SASRec, with the same loss; then base vectors stand
    still, while codebooks learn to stand for them and the encoder trains on (the authors' code, of its users)."""
    distillation: Weight = 0.0
    """Weight of half the mean squared distance of each state's logits of all items from those of the first stage."""
    item_std: Scale = 0.02
    """Spread of the items' initial vectors, base and composed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distillation and not self.pretrained:
            raise ConfigError(
                "LightRec's distillation is from the stage that trains plain vectors, and there is none: choose "
                "pretrained, or leave distillation out."
            )

    def build(self, sizes: DataSizes) -> LightRecModel:
        return LightRecModel(self, sizes.n_items)


class Teacher(NamedTuple):
    """What the first stage came to: it stands still, and lies outside of the modules and the weights.

    Attributes:
        backbone: the encoder, which drops no units.
        items: plain vectors, what it read and what it was held against.
    """

    backbone: Backbone
    items: Catalogue


class LightRecModel(Method):
    def __init__(self, config: LightRec, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.items = CodedTable(config, n_items)
        self.backbone = config.backbone.build()
        self.window = config.backbone.window
        self.teacher: Teacher | None = None  # while it is learned from

    def stages(self) -> tuple[Stage, ...]:
        if not self.config.pretrained:
            return super().stages()
        return Stage(name=VECTORS, candidate=False), Stage(name=CODEBOOKS)

    def begin_stage(self, name: str) -> None:
        self.teacher = None
        self.items.plain_vectors(name == VECTORS)
        if not self.config.pretrained:
            return
        for of_codebooks in (self.items.words_MCD, self.items.maps_MDD):
            if of_codebooks is not None:
                of_codebooks.requires_grad_(name == CODEBOOKS)
        self.items.weight.requires_grad_(name == VECTORS)
        if name == CODEBOOKS and self.config.distillation:
            encoder = copy.deepcopy(self.backbone).eval().requires_grad_(False)
            self.teacher = Teacher(encoder, self.items.as_plain())

    def loss(self, batch: Batch) -> Losses:
        """3 products with full cross-entropy, and 5 of (items x all codewords x width) for the composition; where
        it is distilled, a reading without gradients and a few of (items x width x width)."""
        if self.items.plain:
            return self.items.next_item_loss(self._states(batch), batch)
        with self.items.composed():
            states_BLD = self._states(batch)
            named = self.items.next_item_loss(states_BLD, batch)
            if self.teacher is None:
                return named
            apart = self._distance(self.teacher, states_BLD, batch)
        total = named.total + self.config.distillation * apart
        figures = {"loss": total.detach(), "named": named.total.detach(), "distilled": apart.detach()}
        return Losses(total, figures)

    def _distance(self, teacher: Teacher, states_BLD: Tensor, batch: Batch) -> Tensor:
        """Of the logits of all items from the teacher's, over the real positions of the global batch."""
        real_BL, catalogue = batch.valid_BL(), self.items.catalogue()
        with torch.no_grad():
            read_BLD = F.embedding(batch.items_BL, teacher.items.vectors_ND)
            theirs_BLD = teacher.backbone.encode(read_BLD, batch.lengths_B).states_BLD
            theirs_PD = teacher.items.scaled(theirs_BLD[real_BL])
        ours_PD = catalogue.scaled(states_BLD[real_BL])
        weights_P = ours_PD.new_full((len(ours_PD),), 1.0 / batch.weight)
        return score_distance(ours_PD, catalogue.scaled_ND, theirs_PD, teacher.items.scaled_ND, weights_P)

    def diagnostics(self, figures: Mapping[str, float]) -> Diagnostics:
        """Memory, and whether the codebooks are in use; nothing while they are not trained."""
        return Diagnostics() if self.items.plain else self.items.diagnostics()

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        return DenseStates.unreasoned(self.items.states(self._states(batch, last_only=True)[:, 0]))

    def catalogue(self) -> Catalogue:
        return self.items.catalogue()

    def _states(self, batch: Batch, *, last_only: bool = False) -> Tensor:
        return self.backbone.encode(self.items(batch.items_BL), batch.lengths_B, last_only=last_only).states_BLD


class CodedTable(ItemTable):
    """Items as sums of codewords; `weight` holds the base vectors v.

    While it trains, `composed()` makes all items anew with gradients. As soon as it does not, codes are drawn up once,
    and from then on an item is read from its codes and the codebooks alone. While it is `plain`, an item is its base
    vector.
    """

    item_dims: ClassVar[Mapping[str, int]] = {**ItemTable.item_dims, "codes_NM": 0}
    codes_NM: Tensor

    def __init__(self, config: LightRec, n_items: int) -> None:
        width, M, C = config.backbone.width, config.codebooks, min(config.codewords, n_items)
        super().__init__(n_items, width, config.loss, config.item_std)
        self.temperature = config.selection_temperature
        self.plain = False
        self.words_MCD = nn.Parameter(torch.randn(M, C, width) * config.item_std / math.sqrt(M))
        self.maps_MDD: nn.Parameter | None = None
        if config.selection == "bilinear":
            self.maps_MDD = nn.Parameter(torch.empty(M, width, width))
            for matrix in (*self.words_MCD.data, *self.maps_MDD.data):
                nn.init.xavier_normal_(matrix)
        narrowest = torch.uint8 if C <= 2**8 else torch.int32
        self.register_buffer("codes_NM", torch.zeros(n_items, M, dtype=narrowest))
        self._composed_ND: Tensor | None = None
        self.draw_up()

    def split(self, shard: Shard, rows: slice) -> None:
        """Never: codebooks are composed of all items, and an item is read from codes that every process has.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "Codebooks are shared by all items, whose base vectors must lie in one process: a table of codewords is "
            "not split over several (leave split_catalogue out)."
        )

    def plain_vectors(self, plain: bool) -> None:
        """Whether items are their base vectors from here on."""
        self.plain, self._made = plain, ([], {})

    @torch.no_grad()
    def as_plain(self) -> Catalogue:
        """All items as if they were plain, copied: what was trained in the first stage."""
        was, self.plain = self.plain, True
        made = self._catalogue(held_back=False)
        self.plain = was
        bias_N = None if made.bias_N is None else made.bias_N.detach().clone()
        return replace(made, vectors_ND=made.vectors_ND.detach().clone(), bias_N=bias_N)

    def ids(self, items: Tensor) -> Tensor:
        if self.plain:
            return super().ids(items)
        if self._composed_ND is not None:
            return F.embedding(items, self._composed_ND)
        return self._decoded(self.codes_NM[items])

    def all_ids(self) -> Tensor:
        """q, [N, D]."""
        if self.plain:
            return super().all_ids()
        return self._decoded(self.codes_NM) if self._composed_ND is None else self._composed_ND

    @contextmanager
    def composed(self) -> Iterator[None]:
        """Inside, input and output are one composition of all items, through which gradients reach v and c."""
        with torch.autocast(self.weight.device.type, enabled=False):
            self._composed_ND, _ = self.compose()
        try:
            yield
        finally:
            self._composed_ND = None

    def compose(self) -> tuple[Tensor, Tensor]:
        """q_i, [N, D], with straight-through gradients, and w_i, [N, M]."""
        missing_ND, codes = self.weight, []
        total_ND = torch.zeros_like(missing_ND)
        for m, words_CD in enumerate(self.words_MCD):
            if self.maps_MDD is None:
                directions = F.normalize(missing_ND, dim=-1), F.normalize(words_CD, dim=-1)
            else:
                directions = missing_ND @ self.maps_MDD[m], words_CD
            chosen_ND, codes_N = _Choice.apply(*directions, words_CD, self.temperature)
            missing_ND, total_ND = missing_ND - chosen_ND, total_ND + chosen_ND
            codes.append(codes_N)
        return total_ND, torch.stack(codes, dim=1)

    @torch.no_grad()
    def draw_up(self) -> None:
        """Fix the codes as weights and codebooks have them now."""
        self.codes_NM.copy_(self.compose()[1])

    def train(self, mode: bool = True) -> Self:
        if self.training and not mode and not self.plain:
            self.draw_up()
        return super().train(mode)

    def bits_per_item(self) -> tuple[float, float]:
        """Bits of an item's code, and with its share of the codebooks and its bias."""
        M, C, D = self.words_MCD.shape
        codes = M * math.ceil(math.log2(C))
        shared = FLOAT_BITS * M * C * D / len(self.weight)
        return codes, codes + shared + (0 if self.bias is None else FLOAT_BITS)

    @torch.no_grad()
    def diagnostics(self) -> Diagnostics:
        """Memory an item, perplexity of each codebook's use, and items that nothing tells apart."""
        (n, D), C = self.weight.shape, self.words_MCD.shape[1]
        codes_NM = self.compose()[1]
        uses_MC = torch.stack([torch.bincount(codes_N, minlength=C) for codes_N in codes_NM.T]) / n
        perplexity_M = torch.special.entr(uses_MC).sum(-1).exp()
        counts = codes_NM.unique(dim=0, return_counts=True)[1]
        twins = float(counts[counts > 1].sum()) / n
        code_bits, bits = self.bits_per_item()
        diagnostics = Diagnostics(
            {
                "code_bits_per_item": code_bits,
                "bits_per_item": bits,
                "plain_bits_per_item": FLOAT_BITS * D,
                "codewords_used_least": float(perplexity_M.min()),
                "codewords_used_mean": float(perplexity_M.mean()),
                "items_alike": twins,
            }
        )
        collapsed = (perplexity_M < COLLAPSED * C).nonzero()[:, 0]
        if len(collapsed):
            least = perplexity_M.min()
            diagnostics.warnings.append(
                f"{len(collapsed)} of {len(perplexity_M)} codebooks have collapsed (the items share {least:.1f} of {C} "
                "codewords by perplexity): lower the learning_rate or selection_temperature, or take fewer."
            )
        if twins > ALIKE:
            diagnostics.warnings.append(
                f"{twins:.0%} of the items have the very code of another item, so that nothing tells them apart: take "
                "more codebooks or codewords."
            )
        return diagnostics

    def _decoded(self, codes: Tensor) -> Tensor:
        """Sums of the codewords that codes [..., M] name, [..., D]."""
        total = self.words_MCD.new_zeros(*codes.shape[:-1], self.words_MCD.shape[-1])
        for m, words_CD in enumerate(self.words_MCD):
            total = total + F.embedding(codes[..., m].long(), words_CD)
        return total


class _Choice(torch.autograd.Function):
    """The codeword of the largest logit, and its number; the gradient is that of (onehot + p - sg(p)) @ words.

    A logit is the plain product of what is missing and a codeword, each as the choice sees it, over the temperature.

    1 product of (items x codewords x width) forward and 4 backward, in blocks: logits are made twice and never kept.
    """

    @staticmethod
    def forward(
        ctx: Any, missing_ND: Tensor, directions_CD: Tensor, words_CD: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        codes_N = torch.empty(len(missing_ND), dtype=torch.int64, device=missing_ND.device)
        room = block_room(missing_ND, len(words_CD))
        for rows in row_blocks(missing_ND, len(words_CD)):
            codes_N[rows] = product(missing_ND[rows], directions_CD.T, room).argmax(dim=-1)
        ctx.save_for_backward(missing_ND, directions_CD, words_CD, codes_N)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(codes_N)
        return words_CD[codes_N], codes_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        g_ND = grads[0]
        missing_ND, directions_CD, words_CD, codes_N = ctx.saved_tensors
        d_missing, d_directions = torch.empty_like(missing_ND), torch.zeros_like(directions_CD)
        rooms = [block_room(missing_ND, len(words_CD)) for _ in range(2)]
        for rows in row_blocks(missing_ND, len(words_CD)):
            p = product(missing_ND[rows], directions_CD.T, rooms[0]).div_(ctx.temperature)
            torch.softmax(p, dim=-1, out=p)
            h = product(g_ND[rows], words_CD.T, rooms[1])
            h.sub_(torch.linalg.vecdot(p, h)[:, None]).mul_(p).div_(ctx.temperature)
            d_missing[rows] = product(h, directions_CD)
            d_directions.addmm_(h.T, missing_ND[rows])
        d_words = torch.zeros_like(words_CD).index_add_(0, codes_N, g_ND)
        return d_missing, d_directions, d_words, None
