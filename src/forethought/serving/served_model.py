"""A run as it is served: one version of it, whole and unchanging, so that an answer is of exactly one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from forethought.config import name_of
from forethought.data.popularity import RECENT_COUNT, TRAIN_COUNT
from forethought.data.vocabulary import UNKNOWN
from forethought.decoding.constraints import Constraints
from forethought.errors import ConfigError, RunError, shown
from forethought.explaining.explain import explain
from forethought.explaining.explanation import Explanation
from forethought.explaining.metadata import ItemMetadata
from forethought.recommender import Recommender
from forethought.row_ranking import RankedList, RankingRequest, batch_of, rank_rows
from forethought.serving.candidates import Candidates, CandidateSets
from forethought.serving.failures import UnknownNameError
from forethought.serving.requests import Id

TESTED = 4  # histories of the self-test


@dataclass(eq=False)
class ServedModel:
    """A version of a model.

    Attributes:
        version: the beginning of the checksum of its weights.
    """

    name: str
    run: Recommender
    version: str
    metadata: ItemMetadata = field(init=False)
    candidates: CandidateSets = field(init=False)

    def __post_init__(self) -> None:
        run = self.run
        self.metadata = ItemMetadata.read(run.items, run.item_table, TRAIN_COUNT)
        self.candidates = CandidateSets(run.method, run.items, run.item_table, self.metadata)

    @property
    def reads_times(self) -> bool:
        return self.run.method.inputs.times

    @property
    def excludes_history(self) -> bool:
        """Unless a request says otherwise."""
        return bool(self.run.about["exclude_history"])

    @cached_property
    def counts_N(self) -> np.ndarray:
        """How popular items are: lately and then in all of training, int64 [N, 2]; zeros where nothing was counted."""
        table = self.run.item_table
        columns = [
            table[name].fill_null(0).cast(pl.Int64).to_numpy() if name in table.columns else np.zeros(len(table), int)
            for name in (RECENT_COUNT, TRAIN_COUNT)
        ]
        return np.stack(columns, 1)

    @cached_property
    def popular_order_N(self) -> np.ndarray:
        """Item rows, the most popular of late first; of items alike, those met more often in all of training."""
        return np.lexsort((np.arange(len(self.counts_N)), -self.counts_N[:, 1], -self.counts_N[:, 0]))

    def popular(self, k: int, allowed_N: Tensor | None) -> RankedList:
        """What is listed for those of whom nothing is known: the most popular of the candidates.

        Scores are what orders them: how often each was met of late, or in all of training where the data has no times.
        """
        order_N = self.popular_order_N
        if allowed_N is not None:
            order_N = order_N[allowed_N.numpy()[order_N]]
        rows, counted = order_N[:k], 0 if RECENT_COUNT in self.run.item_table.columns else 1
        return RankedList(rows, self.counts_N[rows, counted].astype(float))

    def ranked(self, requests: Sequence[RankingRequest], constraints: Constraints | None = None) -> list[RankedList]:
        return rank_rows(self.run.method, requests, index=self.run.index, constraints=constraints)

    def explained(
        self, request: RankingRequest, candidates: Candidates, dropped: list[Id], target: Id | None
    ) -> Explanation:
        """How it comes to the list of one request, under the same conditions.

        Raises:
            DataError: the target is not known.
        """
        gone = request.excluded
        if candidates.allowed_N is not None:
            denied = np.flatnonzero(~candidates.allowed_N.numpy())
            gone = denied if gone is None else np.union1d(denied, gone)
        explanation = explain(
            self.run.method,
            batch_of([request], self.run.method),
            self.metadata,
            history=request.history,
            dropped=dropped,
            k=request.k,
            target=None if target is None else self.metadata.row_of(target),
            excluded=None if gone is None else np.unique(gone),
            steered=candidates.steered(),
        )
        return replace(explanation, history_excluded=request.excluded is not None)

    @cached_property
    def has_vectors(self) -> bool:
        """Whether its items are vectors, which tell how alike they are."""
        try:
            with torch.inference_mode():
                self.run.method.catalogue()
        except ConfigError:
            return False
        return True

    @cached_property
    def _directions_ND(self) -> Tensor:
        return F.normalize(self.run.method.catalogue().whole("Likeness").comparable_ND.float(), dim=-1)

    @torch.inference_mode()
    def similar(self, item: Id, k: int, allowed_N: Tensor | None) -> RankedList:
        """The items whose vectors lie nearest to that of an item, by cosine.

        Raises:
            UnknownNameError: the model does not know it.
            ConfigError: its items are no vectors.
        """
        row = int(self.run.items.index_of([item])[0])
        if row == UNKNOWN:
            raise UnknownNameError(f"The model {self.name!r} knows no item {shown(item)}.")
        cosines_N = self._directions_ND @ self._directions_ND[row]
        cosines_N[row] = -torch.inf
        if allowed_N is not None:
            cosines_N = cosines_N.masked_fill(~allowed_N.to(cosines_N.device), -torch.inf)
        best = torch.topk(cosines_N, min(k, len(cosines_N)))
        real = best.values > -torch.inf
        return RankedList(best.indices[real].cpu().numpy(), best.values[real].double().cpu().numpy())

    @cached_property
    def _searched(self) -> pl.DataFrame:
        titles = self.metadata.titles or [None] * len(self.run.items)
        ids = self.run.items.ids.cast(pl.String)
        return pl.DataFrame(
            {"title": pl.Series(titles, dtype=pl.String).str.to_lowercase(), "id": ids.str.to_lowercase()}
        )

    def search(self, words: str, k: int) -> list[int]:
        """Rows of items whose title has all of the words, or whose id begins with them; in the popular order."""
        table, asked = self._searched, words.lower().split()
        fits = pl.lit(True)
        for word in asked:
            fits &= pl.col("title").str.contains(word, literal=True).fill_null(False)
        fits |= pl.col("id").str.starts_with(words.strip().lower()) if asked else pl.lit(False)
        fitting_N = table.select(fits.alias("fits"))["fits"].to_numpy() if asked else np.ones(len(table), bool)
        order_N = self.popular_order_N
        return order_N[np.broadcast_to(fitting_N, len(order_N))[order_N]][:k].tolist()

    def plain_id(self, row: int) -> Id:
        """The id of an item as JSON has it."""
        value = self.run.items.id_list([row])[0]
        return value if isinstance(value, int) else str(value)

    def listed(self, ranked: RankedList) -> list[dict[str, Any]]:
        """A list as JSON has it."""
        values, titles = self.run.items.id_list(ranked.items), self.metadata.titles
        entries = []
        for row, value, score in zip(ranked.items.tolist(), values, ranked.scores.tolist(), strict=True):
            entry = {"item": value if isinstance(value, int) else str(value), "score": score}
            if titles is not None:
                entry["title"] = titles[row]
            entries.append(entry)
        return entries

    def self_test(self) -> None:
        """Whether it answers: lists of the length asked for, with finite scores, the same alone and together.

        Raises:
            RunError: it does not.
        """
        n, k = len(self.run.items), min(10, len(self.run.items))
        requests = [self._trial(np.arange(1 + place % 3) * 7 % n, k) for place in range(TESTED)]
        together = self.ranked(requests)
        for request, ranked in zip(requests, together, strict=True):
            (alone,) = self.ranked([request])
            whole = len(ranked.items) == k and bool(np.isfinite(ranked.scores).all())
            if not whole or not np.allclose(alone.scores, ranked.scores, rtol=1e-3, atol=1e-3):
                raise RunError(f"The run {self.name!r} does not pass its self-test: train it anew.")
        self.popular(k, None)

    def _trial(self, history: np.ndarray, k: int) -> RankingRequest:
        times = np.arange(len(history)) + 1_700_000_000 if self.reads_times else None
        return RankingRequest(history, k, times)

    def about(self) -> dict[str, Any]:
        """What is to be known of it, for those who ask it."""
        run, categories = self.run, self.metadata.categories
        return {
            "name": self.name,
            "version": self.version,
            "method": name_of(self.run.config.method),
            "items": len(run.items),
            "id_kind": run.items.kind,
            "parameters": run.n_parameters,
            "reads_times": self.reads_times,
            "reasons": run.method.reasoning is not None,
            "has_tokens": bool(run.about.get("tokens")),
            "has_titles": self.metadata.titles is not None,
            "has_categories": categories is not None,
            "columns": [name for name in run.item_table.columns if name != "item_id"],
            "excludes_history": self.excludes_history,
            "data": str(run.about.get("data", "")),
        }

    def categories(self, most: int) -> list[dict[str, Any]]:
        """The commonest categories, and how many items carry each."""
        categories = self.metadata.categories
        if categories is None:
            return []
        counts = np.bincount(categories.labels, minlength=len(categories.names))
        order = np.argsort(-counts, kind="stable")[:most].tolist()
        return [{"category": categories.names[row], "items": int(counts[row])} for row in order]
