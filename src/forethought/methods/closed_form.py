"""What methods share that are fitted in closed form: no loss, no stages, no vectors of items.

They know nothing of a user but the history at hand, and come to scores without a state in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.history_sums import HistoryScorer, Similarities
from forethought.catalogue.ranking import Scorer
from forethought.errors import ConfigError
from forethought.methods.interface import Method, Stage, UserRepresentation


class ClosedFormModel(Method):
    """A method that `fit_closed_form` makes whole."""

    def stages(self) -> tuple[Stage, ...]:
        return ()

    def catalogue(self) -> Catalogue:
        """There is none.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{type(self).__name__.removesuffix('Model')} has no vectors of items that an index could search or a "
            "state be held against: do without."
        )

    @property
    def n_items(self) -> int:
        return len(next(iter(self.state_dict().values())))  # whatever is fitted has a row an item

    @property
    def state_width(self) -> None:
        return None

    def scorer(self, represented: UserRepresentation, purpose: str) -> Scorer:
        raise NotImplementedError


@dataclass
class WeightedHistory(UserRepresentation):
    """Histories themselves, with what each of their items counts.

    Attributes:
        items_BL, weights_BL: padding has weight 0.
    """

    items_BL: Tensor
    weights_BL: Tensor

    @classmethod
    def unreasoned(cls, items_BL: Tensor, weights_BL: Tensor) -> WeightedHistory:
        """Of a method that takes no step, as none of these does."""
        return cls(torch.zeros(len(items_BL), dtype=torch.int64, device=items_BL.device), items_BL, weights_BL)


class ItemToItemModel(ClosedFormModel):
    """A method whose score is a sum over the items of a history, of what each says for the candidate."""

    def similarities(self) -> Similarities:
        raise NotImplementedError

    def scorer(self, represented: UserRepresentation, purpose: str) -> HistoryScorer:
        assert isinstance(represented, WeightedHistory)
        return HistoryScorer(represented.items_BL, represented.weights_BL, self.similarities())

    def contributions(self, represented: UserRepresentation, items_K: Tensor) -> Tensor:
        return self.scorer(represented, "Explaining").contributions(items_K)
