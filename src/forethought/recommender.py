"""The object people hold: histories in, recommendations out, with the user's own ids on both sides.

A run folder is all it needs; the training data may be gone, and users it never saw are just histories.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from forethought.catalogue.ann import Index, choose_index
from forethought.config import RunConfig, name_of
from forethought.data.popularity import TRAIN_COUNT
from forethought.data.titles import titles as titles_of
from forethought.data.vocabulary import UNKNOWN, Vocabulary
from forethought.devices import Device, resolve_device
from forethought.errors import ConfigError, DataError, HistoryError, RunError
from forethought.explaining.explain import ItemMetadata, explain
from forethought.explaining.explanation import Explanation
from forethought.explaining.steering import Steered, steer
from forethought.history_rows import Unknown, history_lists, history_rows, history_times
from forethought.item_lists import candidates, known_items
from forethought.methods.interface import Method
from forethought.methods.items import hears_evidence
from forethought.precision import report
from forethought.precision.inference import Narrow, narrow_layers
from forethought.reasoning.halting import Halting
from forethought.row_ranking import RankedList, RankingRequest, batch_of, rank_rows
from forethought.run_files import STATE_FOLDER, write_model
from forethought.saved_run import read_run, write_bound
from forethought.settings import Count, check, check_all
from forethought.tables.table import Document
from forethought.training.state import load_progress


@dataclass(frozen=True)
class Recommendation:
    """What one history leads to.

    Attributes:
        history: the ids as they were given.
        items: recommended ids, best first; fewer than k where candidates run out.
        scores: of the items; comparable within one list.
        dropped: ids of the history that the model does not know (with `unknown="drop"`).
    """

    history: list[Any]
    items: list[Any]
    scores: list[float]
    dropped: list[Any]


@dataclass
class Recommender:
    """A trained model with its vocabulary.

    Attributes:
        method: the network, in evaluation mode.
        config: the run's configuration.
        items: vocabulary of item ids.
        item_table: what is known of the items, one row each, in vocabulary order; `train_count` among it.
        about: data name, hash and path, protocol, and whether histories are excluded by default.
        folder: of the run, where it has one.
        index: what lists are searched in after `build_index`; None: the whole product, exact.
        weights_sum: checksum of the weights in the folder, where they were read from there or written to it.
    """

    method: Method
    config: RunConfig
    items: Vocabulary
    item_table: pl.DataFrame
    about: dict[str, Any]
    folder: Path | None = None
    index: Index | None = None
    weights_sum: str | None = None

    def __repr__(self) -> str:
        size = f"{len(self.items):,} items, {self.n_parameters:,} parameters"
        return f"<Recommender {name_of(self.config.method)}: {size}, {self.device}, in {self.folder or 'memory'}>"

    def build_index(self) -> Index:
        """Make ready for large catalogues: from then on lists come from an index, kept in the run folder.

        Below about 300,000 items the index is exact and nothing is gained; above, it is a graph that finds nearly
        all of the best items (recall@10 about 0.99) many times faster. Building takes minutes for a million items.
        Where the folder cannot be written to, a warning says so and the index lives in memory alone.
        """
        kind = choose_index(len(self.items))
        if hears_evidence(self.method):
            raise ConfigError(
                "An index searches for what the model alone thinks best, and this run has evidence beside it: rank all "
                "items (on the command line without --approximate)."
            )
        if self.folder is not None and self.weights_sum is not None:
            self.index = kind.load(self.folder, self.weights_sum)
        if self.index is None:
            with torch.inference_mode():
                self.index = kind.build(self.method.catalogue())
            if self.folder is not None and self.weights_sum is not None:
                try:
                    self.index.save(self.folder, self.weights_sum)
                except RunError as error:  # it serves all the same, and what was built for minutes is not thrown away
                    warnings.warn(f"The index is not kept and will be built anew next time. {error}", stacklevel=2)
        return self.index

    def set_precision(self, precision: Narrow, *, positions: int = 1024) -> str:
        """Multiply in bf16 or int8 in those linear layers that this makes faster here; what was done, in a sentence.

        Args:
            positions: of histories that are read together; few gain nothing.

        Raises:
            ConfigError: it makes none faster.
        """
        check_all(precision=(precision, Narrow), positions=(positions, Count))
        return narrow_layers(self.method, precision, positions)

    def recommend(
        self,
        histories: Sequence[Sequence[Any]],
        k: int = 10,
        *,
        times: Sequence[Sequence[int]] | None = None,
        exclude_history: bool | None = None,
        allow: Iterable[Any] | None = None,
        deny: Iterable[Any] | None = None,
        only_category: str | Iterable[str] | None = None,
        never_category: str | Iterable[str] | None = None,
        forbid_tokens: Iterable[tuple[int, int]] = (),
        only_tokens: Iterable[tuple[int, int]] = (),
        unknown: Unknown = "error",
        strict_lists: bool = False,
        halting: Halting | None = None,
    ) -> list[Recommendation]:
        """The k best items for each history.

        Args:
            histories: item ids of each user, oldest first.
            times: Unix seconds of each item, for models that read times.
            exclude_history: leave out what the user has met; None: as the model was evaluated.
            allow: recommend only these items; those that the model does not know are left out, and a warning says so.
            deny: never recommend these; likewise.
            only_category: recommend only items of this category, or of one of several; at any level.
            never_category: never recommend items of this one, or of any of several.
            forbid_tokens: pairs (codebook, token) that no recommended item may have; for methods over tokens.
            only_tokens: such pairs, one of which it has of each codebook that is named.
            unknown: what to do with ids of histories that the model does not know: name them in an error, or drop and
                report them.
            strict_lists: refuse ids of `allow` and `deny` that the model does not know.
            halting: when to stop thinking; None: as the model was trained.

        Raises:
            ConfigError: a halting that the model cannot obey, an unknown category or token, or no item is left.
            DataError: an empty history, unknown ids, an allow list without any known one, or times that do not fit.

        Example:
            >>> model.recommend([["i00042", "i00007"]], k=3)  # doctest: +SKIP
        """
        check_all(exclude_history=(exclude_history, bool | None), strict_lists=(strict_lists, bool))
        histories = history_lists(histories)
        rows = history_rows(self.items, histories, unknown)
        check_all(k=(k, Count), exclude_history=(exclude_history, bool | None), halting=(halting, Halting | None))
        dated = history_times(times, rows) if self.method.inputs.times else None
        exclude = self.about["exclude_history"] if exclude_history is None else exclude_history
        allowed_N, k = self._candidates(allow, deny, strict=strict_lists), min(k, len(self.items))
        steered = self._steered(only_category, never_category, forbid_tokens, only_tokens)
        allowed_N = allowed_N if steered is None else steered.within(allowed_N)
        requests = {
            n: RankingRequest(known, k, None if dated is None else dated[n], known if exclude else None, allowed_N)
            for n, row in enumerate(rows)
            if len(known := row[row != UNKNOWN])
        }
        halting = self.method.resolve_halting(halting)
        lists = rank_rows(
            self.method,
            list(requests.values()),
            halting=halting,
            index=self.index,
            constraints=None if steered is None else steered.constraints,
        )
        list_of = dict(zip(requests, lists, strict=True))
        nothing = RankedList(np.zeros(0, np.int64), np.zeros(0))
        return [
            Recommendation(
                history=list(history),
                items=self.items.id_list(list_of.get(n, nothing).items),
                scores=list_of.get(n, nothing).scores.tolist(),
                dropped=[history[i] for i in np.flatnonzero(row == UNKNOWN)],
            )
            for n, (history, row) in enumerate(zip(histories, rows, strict=True))
        ]

    def explain(
        self,
        history: Sequence[Any],
        *,
        k: int = 5,
        target: Any = None,
        times: Sequence[int] | None = None,
        exclude_history: bool | None = None,
        only_category: str | Iterable[str] | None = None,
        never_category: str | Iterable[str] | None = None,
        forbid_tokens: Iterable[tuple[int, int]] = (),
        only_tokens: Iterable[tuple[int, int]] = (),
        unknown: Unknown = "error",
        halting: Halting | None = None,
    ) -> Explanation:
        """How the model comes from a history to its answer, step by step; of a model that does not reason, step 0.

        Args:
            history: item ids of one user, oldest first.
            target: an item whose rank is followed from step to step.
            k, times, exclude_history, only_category, never_category, forbid_tokens, only_tokens, unknown, halting: as
                in `recommend`.

        Raises:
            ConfigError, DataError: as in `recommend`; a target that the model does not know.
        """
        if isinstance(history, str | bytes | Set | Mapping) or not isinstance(history, Iterable):
            raise DataError('A history is a list of item ids, such as ["i1", "i2"], oldest first.')
        check(exclude_history, bool | None, "exclude_history")
        items = list(history)
        check_all(k=(k, Count), exclude_history=(exclude_history, bool | None), halting=(halting, Halting | None))
        try:
            (row,) = history_rows(self.items, [items], unknown)
            known = row[row != UNKNOWN]
            if len(known) == 0:
                raise HistoryError(0, "{} has no item that the model knows, so there is nothing to explain.")
            seconds = None if times is None else [times]
            dated = history_times(seconds, [row]) if self.method.inputs.times else None
        except HistoryError as error:  # there is but one
            raise error.about("The history") from None
        request = RankingRequest(known, k, None if dated is None else dated[0])
        steered = self._steered(only_category, never_category, forbid_tokens, only_tokens)
        exclude = self.about["exclude_history"] if exclude_history is None else exclude_history
        return explain(
            self.method,
            batch_of([request], self.method),
            self._known,
            history=known,
            dropped=[items[i] for i in np.flatnonzero(row == UNKNOWN)],
            k=k,
            target=None if target is None else self._known.row_of(target),
            excluded=np.unique(known) if exclude else None,
            halting=halting,
            steered=steered,
        )

    def _steered(
        self,
        only: str | Iterable[str] | None,
        never: str | Iterable[str] | None,
        forbidden: Iterable[tuple[int, int]],
        wanted: Iterable[tuple[int, int]],
    ) -> Steered | None:
        """What is left by categories and tokens; None where none is named."""
        if only is None and never is None and forbidden == wanted == ():
            return None
        tokens = {"forbid_tokens": forbidden, "only_tokens": wanted}
        return steer(self.method, self._known, only_category=only, never_category=never, **tokens)

    @cached_property
    def _known(self) -> ItemMetadata:
        return ItemMetadata.read(self.items, self.item_table, TRAIN_COUNT)

    def _candidates(
        self, allow: Iterable[Any] | None, deny: Iterable[Any] | None, *, strict: bool
    ) -> torch.Tensor | None:
        allowed = known_items(self.items, allow, "allow", strict=strict)
        denied = known_items(self.items, deny, "deny", strict=strict)
        for note in (allowed.note, denied.note):
            if note is not None:
                warnings.warn(note, stacklevel=3)
        return candidates(len(self.items), allowed.rows, denied.rows)

    def titles(self) -> list[tuple[Any, str | None]]:
        """Item ids with their titles, where the data has any."""
        titles = titles_of(self.item_table)
        return [] if titles is None else list(zip(self.items.id_list(range(len(self.items))), titles, strict=True))

    def progress(self) -> dict[str, Any]:
        """Where its training stands, as `training.state.Progress` has it; empty where no state lies beside it."""
        path = None if self.folder is None else self.folder / STATE_FOLDER / "state.json"
        if path is None or not path.is_file():
            return {}
        return asdict(load_progress(path.parent, len(self.method.stages())))

    def outcome(self) -> dict[str, Any]:
        """What training came to: epochs, the best of them, its validation NDCG@10, seconds."""
        if not (progress := self.progress()):
            return {}
        by = f"valid_{self.config.training.choose_by.rpartition(':')[2]}"
        named = {"epochs": "epoch", "best_epoch": "best_epoch", by: "best", "trained_s": "trained_s"}
        outcome = {name: progress[key] + (key == "best_epoch") for name, key in named.items()}
        learned = {name: value for name, value in progress["of_method"].items() if name.startswith("weight_")}
        told = {"reward_weights": learned, "learned_reward": self.about.get("learned_reward")}
        return outcome | {name: value for name, value in told.items() if value}

    def precision_report(self) -> Document | None:
        """What layer-adaptive precision came to in its training; None where there was none."""
        ladq = self.progress().get("ladq")
        return report.document(ladq) if ladq else None

    @cached_property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.method.parameters())

    @property
    def device(self) -> torch.device:
        return self.method.device

    def save(self, folder: str | Path) -> Path:
        """Write a run folder that `load` reads: configuration, weights, items. Existing files are replaced."""
        folder = Path(folder)
        write_model(
            folder, self.method.state_dict(), write_bound(folder, self.config, self.items, self.item_table, self.about)
        )
        return folder


def load(
    folder: str | Path, *, device: Device = "auto", mapped: bool = False, allow_plugins: bool = False
) -> Recommender:
    """The recommender in a run folder; no training data is needed.

    Args:
        device: where it computes: auto (the first CUDA device if this machine shows one, else the CPU), cpu, cuda or
            cuda:N.
        mapped: leave the weights in the file, which several processes then hold once; it must not be written to as
            long as any of them lives.
        allow_plugins: import what the run names of code outside of Forethought; only if you trust whoever made it.

    Raises:
        RunError: the folder is missing, incomplete or damaged, needs code that is not there or not allowed, or there is
            no such device.

    Example:
        >>> model = load("runs/sasrec-beauty")  # doctest: +SKIP
    """
    check(folder, str | Path, "folder")
    folder, there = Path(folder), resolve_device(device)
    saved = read_run(folder, there, mapped=mapped, allow_plugins=allow_plugins)
    known = saved.items, saved.item_table, saved.about
    return Recommender(saved.method, saved.config, *known, folder, weights_sum=saved.weights_sum)
