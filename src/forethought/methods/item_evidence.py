"""Evidence beside a method's own scores: what the last items of a history say of their neighbours.

    logit'(p, i) = logit(p, i) + sum_e g_e(p) c_e(p, i)
    c_e(p, i) = sum_j rho^age(j) T_e[j, i] / max_i(..)    j: the last items of the history, T_e: a table

What is popular speaks for itself, whatever the history is: then c_e(p, i) = v_i of a list of items.

The weights g are fitted on the validation part, or trained with the method, and then perhaps a function of its state.

In training the very history that is asked about is part of what co-occurrence counts, and would give its targets away:
the pairs that it adds itself are taken off again, so that what is trained with is what the others say.

Shapes: B histories, L positions, S = L + 1 items with the last target, P positions asked about, N items, E kinds of
evidence, K neighbours of all kinds together, T pairs (position, item) of which some evidence speaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from forethought.catalogue.sparse_scores import SparseScores
from forethought.catalogue.sparse_table import SparseTable
from forethought.data.batches import Batch
from forethought.data.evidence import COUNTED, LISTED, Evidence, EvidenceShape, EvidenceTable
from forethought.data.neighbours import FROM_POWER, LAG_DECAY, TO_POWER

FIRST_WEIGHT = 1.0  # of evidence that is trained with the method
LEAST = 0.2  # of what is said, beside the largest: half of the pairs say less, and rank no better
NOTHING = 2e-6  # what rounding may leave of a sum of float32 numbers when all of them are taken off again


class Support(NamedTuple):
    """The items of which evidence speaks, and what is said of them, 1 at most: kind after kind, each of `sizes` pairs.

    Within a kind rows ascend, and no pair (row, item) comes twice.
    """

    rows_T: Tensor
    items_T: Tensor
    values_T: Tensor
    sizes: tuple[int, ...]
    n_rows: int


class Spoken(NamedTuple):
    """What one kind of evidence says of K items after one history, by the A last items of it, the last one first.

    Attributes:
        weight: as it was fitted or trained, in logits: what the item of which most is said gets.
        gate: what the history makes of the weight, a factor; None where there is no gate.
        said_KA: shares that add up to what is said of each item; none of them where that is too little to be heard.
        values_KA: of the table, from the item of the history to each of the K.
        pairs_KA: how often the two were met near each other, as `Neighbours` counts; None where it is not about that.
        items_A: the items of the history.
        counts_A: how often training met each of them.
            Of what is popular these are the items themselves, each of which speaks for itself alone, and their counts
            in the last weeks.
        weeks: how many these are; None where it is not about that.
        window, directed: how far apart items are near each other, and whether only what came later is; None where it
            is not about that.
    """

    shape: EvidenceShape
    weight: float
    gate: float | None
    said_KA: Tensor
    values_KA: Tensor
    pairs_KA: Tensor | None
    items_A: Tensor
    counts_A: Tensor
    window: int | None
    directed: bool | None
    weeks: float | None = None

    @property
    def most(self) -> float:
        """What is added to the logit of the item of which most is said."""
        return self.weight * (1.0 if self.gate is None else self.gate)

    @property
    def added_KA(self) -> Tensor:
        """What is added to logits."""
        return self.said_KA * self.most


class Listed(NamedTuple):
    """A list of items that have the same said of them behind every history: K items and their values."""

    items_K: Tensor
    values_K: Tensor

    @classmethod
    def of(cls, items_N1: Tensor, values_N1: Tensor) -> Listed:
        """Those above 0 of a column."""
        heard_N = values_N1[:, 0] > 0
        return cls(items_N1[heard_N, 0].long(), values_N1[heard_N, 0])

    def said(self, n_rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, items and values for so many rows."""
        rows_P = torch.arange(n_rows, device=self.items_K.device)
        return rows_P.repeat_interleave(len(self.items_K)), self.items_K.repeat(n_rows), self.values_K.repeat(n_rows)


class ItemEvidence(nn.Module):
    """Tables of neighbours and the weights of what they say, kept with the method's own weights."""

    item_dims: ClassVar[Mapping[str, int]] = {"items_NK": 0, "values_NK": 0, "pairs_NM": 0, "counts_N": 0}
    of_its_training: ClassVar[tuple[str, ...]] = tuple(item_dims)  # another one counts anew
    items_NK: Tensor
    values_NK: Tensor
    pairs_NM: Tensor
    counts_N: Tensor
    weights_E: nn.Parameter

    def __init__(self, config: Evidence, shapes: Sequence[EvidenceShape], n_items: int, width: int) -> None:
        """
        Args:
            width: of the states that a gate reads.
        """
        super().__init__()
        self.shapes, self.n_items = tuple(shapes), n_items
        self.last, self.recency = config.last, config.recency
        self.window, self.directed = config.window, config.directed
        self.trained = config.is_trained
        total = sum(shape.neighbours for shape in shapes)
        met = sum(shape.neighbours for shape in shapes if shape.kind in COUNTED)
        self.register_buffer("items_NK", torch.zeros(n_items, total, dtype=torch.int32))
        self.register_buffer("values_NK", torch.zeros(n_items, total))
        self.register_buffer("pairs_NM", torch.zeros(n_items, met, dtype=torch.int32))
        self.register_buffer("counts_N", torch.zeros(n_items, dtype=torch.int64))
        first_E = torch.full((len(shapes),), FIRST_WEIGHT if self.trained else 0.0)
        self.weights_E = nn.Parameter(first_E, requires_grad=self.trained)
        self.weeks = config.weeks
        self._made: tuple[object, list[SparseTable | Listed]] | None = None
        self.gate_ED = nn.Parameter(torch.zeros(len(shapes), width)) if config.gate else None

    def take(self, evidence: Sequence[EvidenceTable]) -> None:
        """Keep the tables of evidence of these shapes."""
        assert tuple(each.shape for each in evidence) == self.shapes
        for each, columns in zip(evidence, self._columns(), strict=True):
            self.items_NK[:, columns] = torch.from_numpy(each.table.items_NK)
            self.values_NK[:, columns] = torch.from_numpy(each.table.values_NK)
            self.counts_N.copy_(torch.from_numpy(each.counts_N))
        met = [each.table.pairs_NK for each in evidence if each.table.pairs_NK is not None]
        if met:
            self.pairs_NM.copy_(torch.from_numpy(np.concatenate(met, axis=1)))

    def check(self) -> None:
        """Whether the tables, as a run folder has them, are of these items.

        Raises:
            ValueError: they are not, and would be read beyond their ends.
        """
        inside = (self.items_NK >= 0) & (self.items_NK < self.n_items)
        if not inside.all() or any(bool((part < 0).any()) for part in (self.values_NK, self.pairs_NM, self.counts_N)):
            raise ValueError("its evidence names items that there are not, or counts below 0")

    def _columns(self) -> Iterator[slice]:
        """The columns of each kind."""
        start = 0
        for shape in self.shapes:
            yield slice(start, start + shape.neighbours)
            start += shape.neighbours

    def silent(self) -> bool:
        """Whether all weights are 0, as before they are fitted."""
        return not bool(self.weights_E.any())

    # ---- what is added to logits

    def after(self, batch: Batch, states_BD: Tensor | None = None) -> SparseScores:
        """For what follows the last item of each history.

        Args:
            states_BD: comparable ones, for a gate.
        """
        rows_B = torch.arange(len(batch.lengths_B), device=batch.lengths_B.device)
        return self.weighted(self.support(batch.items_BL, rows_B, batch.lengths_B - 1), states_BD)

    def in_training(self, batch: Batch, states_PD: Tensor) -> SparseScores:
        """For what follows each real position, in the order of `batch.valid_BL()`, as others than this history say."""
        real = batch.valid_BL().nonzero()
        with torch.no_grad():
            support = self.support(batch.items_BL, real[:, 0], real[:, 1], self._own(batch))
        return self.weighted(support, states_PD)

    def weighted(self, support: Support, states_PD: Tensor | None = None) -> SparseScores:
        """What is said, times the weights."""
        if self.gate_ED is None or states_PD is None:
            weights = self.weights_E.unbind()
        else:
            rows = support.rows_T.split(support.sizes)
            weights = [of_P[rows_T] for of_P, rows_T in zip(self._gated(states_PD).unbind(-1), rows, strict=True)]
        parts = zip(support.values_T.split(support.sizes), weights, strict=True)
        values_T = torch.cat([said_T * weight for said_T, weight in parts])
        return SparseScores(support.rows_T, support.items_T, values_T, support.n_rows, support.sizes)

    def _gated(self, states_PD: Tensor) -> Tensor:
        return self.weights_E * self._gates(states_PD)

    def _gates(self, states_PD: Tensor) -> Tensor:
        """What each history makes of the weights, [P, E], above 0."""
        assert self.gate_ED is not None
        return (states_PD.float() @ self.gate_ED.T).exp()

    # ---- what is said

    @torch.no_grad()
    def spoken(self, batch: Batch, items_K: Tensor, states_BD: Tensor | None = None) -> list[Spoken]:
        """Who speaks for some items after the first history, of each kind: the summands of what `after` adds to them.

        Args:
            states_BD: as for `after`.
        """
        first, last_P = torch.zeros_like(batch.lengths_B[:1]), batch.lengths_B[:1] - 1
        support = self.support(batch.items_BL, first, last_P)
        back_A = torch.arange(min(self.last, int(batch.lengths_B[0])), device=items_K.device)
        items_A = batch.items_BL[0, last_P - back_A]
        heard_A = self.recency ** back_A.float()
        gates = None if self.gate_ED is None or states_BD is None else self._gates(states_BD[:1])[0].tolist()
        spoken, counted = [], 0
        said = zip(support.items_T.split(support.sizes), support.values_T.split(support.sizes), strict=True)
        for e, (shape, columns, (of_T, most_T)) in enumerate(zip(self.shapes, self._columns(), said, strict=True)):
            weight, gate = float(self.weights_E[e]), None if gates is None else gates[e]
            if shape.kind in LISTED:
                itself = self._for_itself(items_K, of_T, most_T, self.pairs_NM[: len(of_T), counted])
                weeks = self.weeks if shape.kind == "recent" else None
                spoken.append(Spoken(shape, weight, gate, *itself, window=None, directed=None, weeks=weeks))
                counted += 1
                continue
            # the item of which most is said has 1: what is said of it before is what all others were divided by
            asked_M = torch.cat([items_K, of_T[most_T.argmax()][None]]) if len(of_T) else items_K
            items_AC, values_AC = self.items_NK[items_A, columns], self.values_NK[items_A, columns]
            same_MAC = (items_AC == asked_M[:, None, None]) & (values_AC > 0)
            values_MA, pairs_KA = (same_MAC * values_AC).sum(-1), None
            if shape.kind == "met":
                pairs_AC = self.pairs_NM[items_A, counted : counted + shape.neighbours]
                pairs_KA, counted = (same_MAC[: len(items_K)] * pairs_AC).sum(-1), counted + shape.neighbours
            said_MA = values_MA * heard_A
            largest = said_MA[-1].sum() if len(of_T) else said_MA.new_ones(())
            said_KA = said_MA[: len(items_K)] / largest * torch.isin(items_K, of_T)[:, None]
            near = (self.window, self.directed) if shape.kind == "met" else (None, None)
            of_table = values_MA[: len(items_K)], pairs_KA, items_A, self.counts_N[items_A]
            spoken.append(Spoken(shape, weight, gate, said_KA, *of_table, *near))
        return spoken

    def _for_itself(self, items_K: Tensor, of_T: Tensor, said_T: Tensor, counts_T: Tensor) -> tuple[Any, ...]:
        """What is popular, as `Spoken` has it: each of K items speaks for itself, by its count."""
        said_KK = torch.diag(said_T.new_zeros(self.n_items).index_copy_(0, of_T, said_T)[items_K])
        counts_N = torch.zeros_like(self.counts_N).index_copy_(0, of_T, counts_T.long())
        return said_KK, said_KK, None, items_K, counts_N[items_K]

    @torch.no_grad()
    def support(self, items_BL: Tensor, b_P: Tensor, l_P: Tensor, own: tuple[Tensor, Tensor] | None = None) -> Support:
        """Of which items the evidence speaks at some positions, and what each kind says.

        Args:
            b_P, l_P: which history, and the position up to which it is read.
            own: items [B, S] and what the history itself added to what co-occurrence says of them [B, L, S].
        """
        back = torch.arange(min(self.last, items_BL.shape[1]), device=items_BL.device)
        at_PA = l_P[:, None] - back
        heard_PA = (self.recency ** back.float()).expand(at_PA.shape) * (at_PA >= 0)
        items_PA = items_BL[b_P[:, None], at_PA.clamp_min(0)]
        parts = []
        for shape, table in zip(self.shapes, self._tables(), strict=True):
            if isinstance(table, Listed):
                parts.append(table.said(len(b_P)))
                continue
            columns, values = items_PA, heard_PA
            if own is not None and shape.kind == "met":  # rows N, N + 1, .. of a table take 1 off an item
                columns = torch.cat([columns, self.n_items + own[0][b_P]], dim=1)
                values = torch.cat([values, own[1][b_P, l_P]], dim=1)
            parts.append(_said(columns, values, table))
        rows_T, items_T, values_T = (torch.cat(each) for each in zip(*parts, strict=True))
        return Support(rows_T, items_T, values_T, tuple(len(part[0]) for part in parts), len(b_P))

    def _tables(self) -> list[SparseTable | Listed]:
        """Each kind's table, below it -1 of each item for itself; made once, as long as what they are made of stays."""
        made_of = self.items_NK.data_ptr(), self.items_NK._version, self.values_NK._version
        if self._made is None or self._made[0] != made_of:
            kinds = zip(self.shapes, self._columns(), strict=True)
            tables = [(shape.kind, self.items_NK[:, columns], self.values_NK[:, columns]) for shape, columns in kinds]
            made = [Listed.of(*of) if kind in LISTED else SparseTable.of(*of) for kind, *of in tables]
            self._made = made_of, made
        return self._made[1]

    def _own(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """The items of each history, its targets among them, and what it added itself to what is said of them.

        c(j, i) has decay^(lag - 1) / (n_j^a n_i^b) of each pair that this history holds. Pairs with a row of the same
        user's that was cut off (a window before) are not known here.
        """
        if batch.targets_BL is None or not any(shape.kind == "met" for shape in self.shapes):
            return None
        length = batch.items_BL.shape[1]
        last_B1 = batch.lengths_B[:, None] - 1
        items_BS = torch.cat([batch.items_BL, batch.items_BL[:, :1]], dim=1)
        items_BS = items_BS.scatter(1, last_B1 + 1, batch.targets_BL.gather(1, last_B1))
        place = torch.arange(length + 1, device=items_BS.device)
        real_BS = place < batch.lengths_B[:, None] + 1
        counts_BS = self.counts_N[items_BS].clamp_min(1).float()
        # what an item says has the pairs of all its places in the history
        same_BLS = (items_BS[:, :length, None] == items_BS[:, None, :]) & real_BS[:, None, :]
        own_BLS = same_BLS.float() @ (self._pairs(place) * real_BS[:, None, :])
        own_BLS = own_BLS.masked_fill(same_BLS, 0.0) * self._is_neighbour(items_BS)
        own_BLS = own_BLS / counts_BS[:, :length, None] ** FROM_POWER
        back_LL = place[:length, None] - place[None, :length]
        heard_LL = self.recency ** back_LL.clamp_min(0).float() * ((back_LL >= 0) & (back_LL < self.last))
        return items_BS, (heard_LL @ own_BLS) / counts_BS[:, None, :] ** TO_POWER

    def _pairs(self, place_S: Tensor) -> Tensor:
        """What a pair of places in one history adds to the count of its two items, [S, S]."""
        lag_SS = place_S[None, :] - place_S[:, None]
        near_SS = ((lag_SS > 0) if self.directed else (lag_SS != 0)) & (lag_SS.abs() <= self.window)
        return LAG_DECAY ** (lag_SS.abs() - 1).clamp_min(0).float() * near_SS

    def _is_neighbour(self, items_BS: Tensor) -> Tensor:
        """Whether each item of a history has each other one among the neighbours it met, [B, L, S]."""
        columns = next(c for c, shape in zip(self._columns(), self.shapes, strict=True) if shape.kind == "met")
        items_BL = items_BS[:, :-1]
        filling_BLK = self.values_NK[items_BL][..., columns] == 0
        known_BLK = self.items_NK[items_BL][..., columns].masked_fill(filling_BLK, -1)
        found = torch.zeros_like(items_BL, dtype=torch.bool)[..., None].repeat(1, 1, items_BS.shape[1])
        asked_B1S = items_BS[:, None, :].to(known_BLK.dtype)  # compared as they are kept, in half of the bytes
        for known_BL in known_BLK.unbind(-1):
            found |= known_BL[..., None] == asked_B1S
        return found


def _said(columns_PA: Tensor, values_PA: Tensor, table: SparseTable) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a table mixed, the largest number of each mixture being 1: rows, items and values of what is above 0."""
    rows_T, items_T, values_T = table.mixed(columns_PA, values_PA)
    largest_P = values_T.new_zeros(len(columns_PA)).scatter_reduce_(0, rows_T, values_T, "amax")
    least_P = (LEAST * largest_P).clamp_min(NOTHING)
    heard = (values_T >= least_P.index_select(0, rows_T)).nonzero()[:, 0]
    rows_T, items_T, values_T = (each.index_select(0, heard) for each in (rows_T, items_T, values_T))
    return rows_T, items_T, values_T / largest_P.index_select(0, rows_T)
