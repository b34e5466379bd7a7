"""An ensemble: trained models side by side, whose score is the weighted mean of their log-probabilities.

    score(u, i) = sum_k w_k (z_k(u, i) - lse_k(u))      z_k: logits of member k, evidence included; lse_k over all items

Log-probabilities are comparable whatever a member's temperature. With scaled states r_k and items e_k, z_k = r_k . e_k,
so that the whole is one inner product of the members' states and items side by side,

    [w_1 r_1, .., w_K r_K, -sum_k w_k lse_k] . [e_1i, .., e_Ki, 1]

and what ranks, recommends and explains a state does so with an ensemble's. It reads a history K times, takes a product
more for each lse, and holds its members' item vectors twice: in them and side by side.

Weights are equal, or fitted on the validation part. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, NoReturn, cast

import torch
from torch import Tensor, nn

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import weighted_lse
from forethought.catalogue.sparse_scores import SparseScores
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.configuration import MethodConfig
from forethought.methods.interface import DenseStates, Inputs, Method, Spoken, Stage, UserRepresentation, dense_states
from forethought.reasoning.halting import Halting
from forethought.settings import Between

MOST = 64


@dataclass(frozen=True, kw_only=True)
class Ensemble(MethodConfig):
    """Configuration: how many members there are; each brings its own."""

    size: Annotated[int, Between(2, MOST)] = 2
    """Members."""
    weights: Literal["equal", "validation"] = "equal"
    """Whether all members count alike, or by weights fitted on the validation part."""

    def of(self, members: Sequence[Method]) -> EnsembleModel:
        """The ensemble of these methods."""
        if len(members) != self.size:
            raise ConfigError(f"The ensemble is one of {self.size} members, and there are {len(members)}.")
        return EnsembleModel(members)

    def build(self, sizes: DataSizes) -> NoReturn:
        raise ConfigError(NOT_TRAINED)

    def check(self, split: Split) -> NoReturn:
        raise ConfigError(NOT_TRAINED)


NOT_TRAINED = (
    "An ensemble is made of trained runs and not trained itself: ft.ensemble([RUN, RUN], out=...), or on the command "
    "line forethought ensemble RUN RUN --out RUN."
)


class MemberStates(NamedTuple):
    """What a batch of histories came to with one member.

    Attributes:
        scaled_BD: whose inner product with the member's scaled items is its logit.
        lse_B: of these logits over all items, evidence included.
        added: to the logits, by evidence.
        steps_B: reasoning steps used.
    """

    scaled_BD: Tensor
    lse_B: Tensor
    added: SparseScores | None
    steps_B: Tensor


class EnsembleModel(Method):
    """Members in evaluation, and their weights."""

    weights_K: Tensor

    def __init__(self, members: Sequence[Method]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("weights_K", torch.full((len(members),), 1 / len(members)))
        self.window = max(member.window for member in members)
        inputs = [member.inputs for member in members]
        self.inputs = Inputs(times=any(each.times for each in inputs), users=any(each.users for each in inputs))
        self._made: tuple[list[tuple[int, int]], Catalogue] | None = None  # of what weights, and the catalogue

    def stages(self) -> tuple[Stage, ...]:
        return ()

    def resolve_halting(self, asked: Halting | None) -> None:
        if asked is not None:
            raise ConfigError(
                "Each member of an ensemble halts as it was trained to: leave the halting out (on the command line "
                "--halt, --delta and --steps), or ask the member."
            )

    @torch.no_grad()
    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        return self.weighed(self.read(batch))

    def read(self, batch: Batch) -> list[MemberStates]:
        """Every member reads the histories, as much of them as it can."""
        return [member_states(member, _represented(member, batch.last(member.window))) for member in self.methods()]

    def weighed(self, of: Sequence[MemberStates]) -> DenseStates:
        """Members' states side by side, by their weights."""
        weights = self.weights_K.tolist()
        total_B = torch.stack([w * each.lse_B for w, each in zip(weights, of, strict=True)]).sum(0)
        states = [w * each.scaled_BD for w, each in zip(weights, of, strict=True)]
        steps_B = torch.stack([each.steps_B for each in of]).sum(0)
        states_BD = torch.cat([*states, -total_B[:, None].to(states[0])], dim=1)
        return DenseStates(steps_B, states_BD, added=_side_by_side(weights, [each.added for each in of]))

    def spoken(self, batch: Batch, items_K: Tensor, represented: UserRepresentation) -> list[Spoken]:
        """All that speaks with any member, by its weight."""
        found = []
        for weight, member in zip(self.weights_K.tolist(), self.methods(), strict=True):
            own = batch.last(member.window)
            said = member.spoken(own, items_K, _represented(member, own))
            found += [each._replace(weight=weight * each.weight) for each in said]
        return found

    def catalogue(self) -> Catalogue:
        """Made once, as long as the members' weights stay."""
        weights = [(tensor.data_ptr(), tensor._version) for tensor in self.state_dict().values()]
        if self._made is None or self._made[0] != weights:
            scaled = [member.catalogue().scaled_ND for member in self.methods()]
            self._made = weights, Catalogue(torch.cat([*scaled, scaled[0].new_ones(len(scaled[0]), 1)], dim=1))
        return self._made[1]

    def methods(self) -> Sequence[Method]:
        return cast("Sequence[Method]", self.members)


def _represented(member: Method, batch: Batch) -> DenseStates:
    return dense_states(member.represent(batch, member.resolve_halting(None)), "An ensemble")


def member_states(member: Method, represented: DenseStates) -> MemberStates:
    """A member's representation, held against all its items: one product."""
    catalogue = member.catalogue()
    scaled_BD = catalogue.tempered(represented.states_BD)
    ones_B = scaled_BD.new_ones(len(scaled_BD))
    _, lse_B = weighted_lse(scaled_BD, catalogue, ones_B, represented.added)
    return MemberStates(scaled_BD, lse_B, represented.added, represented.steps_B)


def _side_by_side(weights: Sequence[float], added: Sequence[SparseScores | None]) -> SparseScores | None:
    """What all of them add, in parts that come one after the other."""
    speaking = [(weight, each) for weight, each in zip(weights, added, strict=True) if each is not None]
    if not speaking:
        return None
    return SparseScores(
        torch.cat([each.rows_T for _, each in speaking]),
        torch.cat([each.items_T for _, each in speaking]),
        torch.cat([weight * each.values_T for weight, each in speaking]),
        speaking[0][1].n_rows,
        tuple(size for _, each in speaking for size in each.sizes or (len(each.rows_T),)),
    )
