"""What every method answers to. The training loop and the evaluation know this file and no concrete method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from forethought.catalogue import losses, ranking
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.drawing import draw_items
from forethought.catalogue.split import Shard
from forethought.data.batches import Batch
from forethought.data.histories import Spans
from forethought.decoding.constraints import Constraints
from forethought.decoding.item_paths import ItemPaths
from forethought.errors import ConfigError
from forethought.methods.item_evidence import ItemEvidence, Spoken
from forethought.methods.item_features import ItemFeatures
from forethought.methods.outside import SideInformation
from forethought.methods.representation import DenseStates, UserRepresentation, dense_states
from forethought.methods.stage import Stage
from forethought.reasoning.diagnostics import Diagnostics
from forethought.reasoning.halting import Halting, Rule
from forethought.reasoning.policy import Policy


class Losses(NamedTuple):
    """One step's loss, and its named parts for the log. The total is a sum over `Batch.weight`, the positions that all
    processes supervise together, so that gradients summed over processes equal those of one."""

    total: Tensor
    parts: dict[str, Tensor]


class IntentWeights(NamedTuple):
    """What a method with intents tells of them.

    Attributes:
        weights_BM: share of the attention that each intent of a history got, summing to 1.
        alone_BMD: states that each intent alone would have led to.
    """

    weights_BM: Tensor
    alone_BMD: Tensor


@dataclass(frozen=True)
class Reasoning:
    """How a method reasons.

    Attributes:
        depth: steps it was trained to take.
        halting: when it stops unless asked otherwise.
        rules: those it can obey.
    """

    depth: int
    halting: Halting
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Inputs:
    """What a method reads and is trained on beside the order of items.

    Attributes:
        times: the time of each interaction.
        users: which user it is: rows of users must be those it was trained on.
        masked_items: it is trained to name items of the histories it reads, not only what follows them.
        later_targets: its loss takes what follows the next item as a part of the target (`Batch.later`).
    """

    times: bool = False
    users: bool = False
    masked_items: bool = False
    later_targets: bool = False


class Centroids(NamedTuple):
    """Vectors that a method thinks along, each standing for a cluster of items: prototypes, intents.

    Attributes:
        name: what one is called.
        vectors_KD: in the space of the catalogue's vectors.
        sizes_K: items each stands for, 0 where a cluster ran empty.
        cluster_N: the centroid of each item.
    """

    name: str
    vectors_KD: Tensor
    sizes_K: Tensor
    cluster_N: Tensor


class Method(nn.Module):
    """Everything in `methods/`; generative methods override `rank_of` and `recommend`."""

    window: int  # the longest history it reads
    inputs: Inputs = Inputs()
    reasoning: Reasoning | None = None  # None: it does not reason
    most_validated: int | None = None  # cases that choose the best epoch, where ranking takes long; None: all
    trains_evidence = False  # whether its loss knows the weights of evidence
    logit_layers: tuple[str, ...] = ()  # linear layers that logits come from, which are never float8

    def __init__(self) -> None:
        super().__init__()
        self.evidence: ItemEvidence | None = None  # beside its own scores

    def resolve_halting(self, asked: Halting | None) -> Halting | None:
        """The halting that `user_states` obeys when asked for this one, its `max_steps` filled in.

        Raises:
            ConfigError: the method does not reason, knows no such rule, or was trained for fewer steps.
        """
        if self.reasoning is None:
            if asked is not None:
                raise ConfigError(
                    "This model reads a history and does not reason, so there is nothing to halt: leave the halting "
                    "out (on the command line --halt, --delta and --steps)."
                )
            return None
        chosen, rules = asked or self.reasoning.halting, self.reasoning.rules
        if chosen.rule not in rules:
            raise ConfigError(f"This model cannot halt by {chosen.rule!r}: choose one of {', '.join(rules)}.")
        return replace(chosen, max_steps=chosen.steps(self.reasoning.depth))

    @property
    def device(self) -> torch.device:
        """Where it computes; one without a tensor does so on the CPU."""
        return next((tensor.device for tensor in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    def compile_encoder(self) -> None:
        """Pass the modules that read histories through torch.compile, in place; the walk over items stays as it is."""
        for module in getattr(self, "backbone", nn.Module()).children():
            module.compile(dynamic=True)

    def stages(self) -> tuple[Stage, ...]:
        """Pre-train, train, align: one after the other; most methods have one, those fitted in closed form none."""
        return (Stage(name="train"),)

    def fit_closed_form(self, train: Spans) -> None:
        """All of the training, for methods without stages, of the training part: one row a user."""
        raise NotImplementedError

    def fit_side_information(self, side: SideInformation) -> None:
        """Before training: take what no history tells, such as texts of items; most need nothing.

        What is taken is kept among the weights, or used up in the first stage, so that a trained method needs it no
        more. Tables of items keep the features of the items, and are told the popularity that their loss draws
        negatives by.
        """
        for part in self.modules():
            if isinstance(part, ItemFeatures):
                part.take(side.features)
            if isinstance(part, ItemEvidence):
                part.take(side.evidence)
            if getattr(part, "target_counts_N", None) is not None:
                part.target_counts_N = side.target_counts_N.clone()

    def join_items(self, first: int) -> None:
        """Items from row `first` on have joined the tables of a trained method: make what else it keeps of an item.

        Raises:
            ConfigError: that cannot be made.
        """

    def split_items(self, shard: Shard, rows: slice) -> None:
        """Keep these rows alone of all that is learned of each item: other processes hold the others.

        For methods that meet items in `ItemTable`'s lookups and losses and nowhere else.

        Raises:
            ConfigError: it reads all vectors in one place, or splits its loss in parts of its own.
        """
        raise ConfigError(
            f"{type(self).__name__.removesuffix('Model')} needs all item vectors in every process, so its catalogue "
            "cannot be split: leave split_catalogue out (on the command line --split-catalogue)."
        )

    def begin_stage(self, name: str) -> None:
        """A stage begins, with the best weights of the one before: freeze parameters, keep a copy, change the loss.

        Called again when a run is resumed inside the stage, with those same weights and no earlier stage begun. What
        is set beside the weights must follow from them and the name alone; copies are kept out of the module tree.
        """

    def begin_epoch(self, epoch: int) -> None:
        """Schedules, warm-up, clustering; most methods have none. Epochs count from 0 in each stage.

        Called again when a run is resumed inside an epoch: what is drawn here must follow from the epoch alone.
        """

    def training_state(self) -> dict[str, float]:
        """What training must keep beside the weights to go on exactly; most methods need nothing."""
        return {}

    def load_training_state(self, state: dict[str, float]) -> None:
        """Go on from what `training_state` said; a ValueError where that is of something else."""

    def begin_batch(self, batch: Batch) -> None:
        """A batch comes of which several updates may be made: draw what they share. Most methods share nothing."""

    def loss(self, batch: Batch) -> Losses:
        raise NotImplementedError

    def drawn_loss(self, batch: Batch) -> Tensor:
        """-ln p of a label for each history, drawn from what the method itself says, summed, with gradients.

        Its gradients are those of the Fisher information, by which sensitivities to rounding are told.
        """
        catalogue = self.catalogue()
        r_BD = catalogue.tempered(self.states_with_gradients(batch))
        return losses.cross_entropy(r_BD, catalogue, draw_items(r_BD, catalogue), r_BD.new_ones(len(r_BD)))

    def states_with_gradients(self, batch: Batch) -> Tensor:
        """`DenseStates.states_BD` at full depth; overridden where what `user_states` makes has no gradients."""
        return dense_states(self.user_states(batch), "Layer-adaptive precision").states_BD

    def fit_on_validation(self, quality: Callable[[], float]) -> str | None:
        """Once the best epoch is known: set what is chosen by how well the validation part is ranked, and say it.

        It comes to the same whatever was chosen before. Most methods have nothing to choose.

        Args:
            quality: NDCG@10 on the validation part, as the method is now.
        """
        return None

    def rl_policy(self) -> Policy:
        """Itself as one that makes choices which rewards can align (`alignment/`).

        Raises:
            ConfigError: it makes none.
        """
        raise ConfigError(
            f"{type(self).__name__.removesuffix('Model')} makes no choices that rewards could align: align a run of "
            "reg4rec, dtrec or lares."
        )

    def diagnostics(self, figures: Mapping[str, float]) -> Diagnostics:
        """What the epoch that has just ended shows beside its losses; most methods have nothing to say.

        Args:
            figures: means of the loss parts over the epoch, and what the validation part said after it.
        """
        return Diagnostics()

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> UserRepresentation:
        """Read histories and, if the method reasons, think.

        Args:
            halting: when to stop; None: as the method is configured. Methods of fixed depth heed `max_steps` alone.
            trace: keep every state and indicator, for `explain`.
        """
        raise NotImplementedError

    def represent(
        self,
        batch: Batch,
        halting: Halting | None = None,
        *,
        trace: bool = False,
        constraints: Constraints | None = None,
    ) -> UserRepresentation:
        """`user_states`, or those under constraints, and what evidence adds to what is made of them."""
        if constraints is None:
            represented = self.user_states(batch, halting, trace=trace)
        else:
            represented = self.constrained_states(batch, constraints, halting, trace=trace)
        if self.evidence is None or self.evidence.silent():
            return represented
        states_BD = represented.states_BD if isinstance(represented, DenseStates) else None
        return replace(represented, added=self.evidence.after(batch, states_BD))

    def constraints(
        self, forbidden: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]], allowed_N: Tensor | None
    ) -> Constraints | None:
        """What paths over tokens are to obey; None for methods that know no tokens.

        Raises:
            ConfigError: there are no such tokens, or no item is left.
        """
        if forbidden or wanted:
            how, name = ("forbidden", "forbid") if forbidden else ("asked for", "only")
            raise ConfigError(
                f"This model does not know items by tokens, so none can be {how}: leave {name}_tokens out (on the "
                f"command line --{name}-token), or name categories."
            )
        return None

    def constrained_states(
        self, batch: Batch, constraints: Constraints, halting: Halting | None = None, *, trace: bool = False
    ) -> UserRepresentation:
        """`user_states` that obey what `constraints` made; for methods over tokens."""
        raise NotImplementedError

    def token_paths(self, represented: UserRepresentation) -> ItemPaths | None:
        """How a representation, made with `trace`, came about token by token; None for methods that know no tokens."""
        return None

    def centroids(self, step: int) -> Centroids | None:
        """What step 0..T is explained by, for methods that think along prototypes or intents; most have none."""
        return None

    def contributions(self, represented: UserRepresentation, items_K: Tensor) -> Tensor | None:
        """What each position of the first row's history adds to the scores of some items, [K, L].

        For methods whose scores are sums over the history; None where they are not. Without positions where no history
        is read.
        """
        return None

    def spoken(self, batch: Batch, items_K: Tensor, represented: UserRepresentation) -> list[Spoken]:
        """Which items of the first history speak for some items by evidence, kind after kind.

        Args:
            represented: what `represent` made of the batch.
        """
        if self.evidence is None:
            return []
        states_BD = represented.states_BD if isinstance(represented, DenseStates) else None
        return self.evidence.spoken(batch, items_K, states_BD)

    def intent_weights(self, represented: UserRepresentation) -> IntentWeights | None:
        """What it tells of intents, of a representation that was made with `trace`; most methods have none."""
        return None

    def catalogue(self) -> Catalogue:
        """All items as they are now, and how a state is held against them.

        Raises:
            ConfigError: its items are no vectors.
        """
        raise ConfigError(
            f"{type(self).__name__.removesuffix('Model')} knows no vectors of items that one vector a user could be "
            "held against, and this needs some."
        )

    @property
    def n_items(self) -> int:
        """Items that it knows."""
        return len(self.catalogue())

    @property
    def state_width(self) -> int | None:
        """Numbers of the vector that a user comes to; None: it comes to none."""
        return self.catalogue().vectors_ND.shape[1]

    @property
    def search(self) -> str | None:
        """How far ranks and lists are exact, for the protocol of an evaluation; None: all items are scored."""
        return None

    def scorer(self, represented: UserRepresentation, purpose: str) -> ranking.Scorer:
        """What ranks and recommends: rows that can be held against all items.

        Raises:
            ConfigError: this needs what the method does not have; the text names the purpose.
        """
        return ranking.StateScorer(dense_states(represented, purpose).states_BD, self.catalogue(), represented.added)

    def rank_of(
        self, represented: UserRepresentation, targets_B: Tensor, excluded: ranking.FilteredItems | None = None
    ) -> Tensor:
        """Mid-ranks (1 is best, ties count half) of the targets among all items, float64 [B]."""
        return ranking.ranks(self.scorer(represented, "Ranking by a product"), targets_B, excluded)

    def recommend(
        self,
        represented: UserRepresentation,
        k: int,
        excluded: ranking.FilteredItems | None = None,
        allowed_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The k best items and their scores, [B, K] each, best first; -1 fills lists that run out of items."""
        return ranking.best(self.scorer(represented, "Recommending by a product"), k, excluded, allowed_N)

    def scores_of(self, represented: UserRepresentation, items_BM: Tensor) -> Tensor:
        """The scores of some items of each row, [B, M], as ranking compares them."""
        return self.scorer(represented, "Ranking among sampled negatives").scores_of(items_BM)
