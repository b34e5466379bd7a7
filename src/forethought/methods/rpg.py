"""RPG: all tokens of the next item at once, from one state (Hou et al., KDD 2025, arXiv 2506.05781).

    score(i) = sum_m ln p_m(c_im | s)          L = -mean_m ln p_m(c_m | s)           (section 3.2)

A state names each of the M tokens by a head of its own, and all items are ranked by the sum, exactly. Tokens are a set:
nothing is decoded one after the other, so there is nothing to reason over. It is the control of REG4Rec, which decides
one token after the other: with the same tokens, encoder and heads.

Deviations: L is the cross-entropy of the item among all items (`token_heads.py`; `loss="tokens"` is the paper's); the
encoder is a causal backbone of this house (the authors': GPT-2 of width 448, M = 16 to 64, temperature
.03, codes by OPQ of large text vectors), an item is read as the sum of its tokens' vectors and an MLP of them (theirs:
the mean), and positions count from a row's end.

Their graph decoding, which visits a part of the items, is an option (`decoding="graph"`, see
`decoding/graph.py`): lists are then what the search met, a target beyond them has no rank, and evaluations say so in
their protocol. Without it all items are ranked exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from forethought.backbones.all import CausalBackbone
from forethought.backbones.sasrec import SASRec
from forethought.catalogue import ranking
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.decoding.constraints import Constraints
from forethought.decoding.graph import GraphLists, GraphSettings, ItemGraph, search_graph
from forethought.decoding.paths import Paths
from forethought.errors import ConfigError
from forethought.methods.configuration import check_times
from forethought.methods.interface import Inputs, Losses, UserRepresentation
from forethought.methods.item_tokens import PathMethod, TokenStates, token_scorer
from forethought.methods.later_targets import soft_targets
from forethought.methods.token_heads import TokenHeads, TokenHeadsConfig
from forethought.reasoning.halting import Halting


@dataclass(frozen=True, kw_only=True)
class RPG(TokenHeadsConfig):
    """Configuration: a causal backbone that names all tokens of the next item."""

    backbone: CausalBackbone = field(default_factory=lambda: SASRec(input_norm=True))
    """The encoder of histories."""
    decoding: Literal["exact", "graph"] = "exact"
    """Score all items, or look for the best along a graph of items with like tokens, which visits some of them."""
    graph: GraphSettings = field(default_factory=GraphSettings)
    """How the graph is searched, where it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss == "items" and self.temperature != type(self).temperature:
            raise ConfigError(
                f"temperature is {self.temperature:g}, and would change nothing: the loss is of items, where the scale "
                "of cosines is learned. Leave it out, or choose loss='tokens' (on the command line --loss tokens)."
            )
        if self.decoding == "exact" and self.graph != GraphSettings():
            raise ConfigError(
                "A graph is set, but all items are to be scored, so that nothing would search it: choose "
                "decoding='graph', or leave the graph's settings out (on the command line --decoding graph)."
            )

    def build(self, sizes: DataSizes) -> RPGModel:
        return RPGModel(self, sizes.n_items)

    def check(self, split: Split) -> None:
        check_times(self.backbone, split)


class RPGModel(PathMethod[TokenHeads]):
    def __init__(self, config: RPG, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.tokens = TokenHeads(n_items, config.backbone.width, config)
        self.backbone = config.backbone.build()
        self.window = config.backbone.window
        self.inputs = Inputs(times=self.backbone.needs_times, later_targets=config.loss == "items")
        self._graph: tuple[Tensor, Tensor, ItemGraph] | None = None  # with the tokens and vectors it was made of

    def loss(self, batch: Batch) -> Losses:
        assert batch.targets_BL is not None
        real_BL = batch.valid_BL()
        x_BLD = self.tokens(batch.items_BL)
        states_PD = self.backbone.encode(x_BLD, batch.lengths_B, times=batch.times_BL).states_BLD[real_BL]
        targets_P = batch.targets_BL[real_BL]
        if self.tokens.names_items:
            named_P = self.tokens.item_losses(self.tokens.logits(states_PD), targets_P, soft=soft_targets(batch))
        else:
            named_P = self.tokens.named(states_PD, self.tokens.codes_NM[targets_P]).losses_PM.mean(1)
        loss = named_P.sum() / batch.weight
        return Losses(loss, {"loss": loss.detach()})

    def drawn_loss(self, batch: Batch) -> Tensor:
        """Of a token of each book, as `Method.drawn_loss`."""
        x_BLD = self.tokens(batch.items_BL)
        encoded = self.backbone.encode(x_BLD, batch.lengths_B, times=batch.times_BL, last_only=True)
        log_probs_XC = self.tokens.log_probs(encoded.states_BLD).flatten(0, -2)
        drawn_X1 = torch.multinomial(log_probs_XC.detach().exp(), 1)
        return -log_probs_XC.gather(1, drawn_X1).sum()

    def constrained_states(
        self, batch: Batch, constraints: Constraints | None, halting: Halting | None = None, *, trace: bool = False
    ) -> TokenStates:
        x_BLD = self.tokens(batch.items_BL)
        encoded = self.backbone.encode(x_BLD, batch.lengths_B, times=batch.times_BL, last_only=True)
        table_BPMC = self.tokens.log_probs(encoded.states_BLD)
        if constraints is not None:
            table_BPMC = constraints.applied(table_BPMC)
        steps_B = torch.zeros(table_BPMC.shape[0], dtype=torch.int64, device=table_BPMC.device)
        weights_B1 = table_BPMC.new_zeros(table_BPMC.shape[0], 1)
        return TokenStates(
            steps_B, self.tokens.table(table_BPMC), weights_B1, Paths.unstepped(table_BPMC) if trace else None
        )

    # ---- graph decoding

    @property
    def search(self) -> str | None:
        graph = self.config.graph
        if self.config.decoding == "exact":
            return None
        return f"graph of {graph.edges} neighbours, {graph.rounds} rounds with {graph.beams} items, no ranks beyond"

    def rank_of(
        self, represented: UserRepresentation, targets_B: Tensor, excluded: ranking.FilteredItems | None = None
    ) -> Tensor:
        """As `Method.rank_of`; along a graph the mid-rank in the list of what was met, infinity beyond it."""
        if self.config.decoding == "exact":
            return super().rank_of(represented, targets_B, excluded)
        lists = self._met(represented, min(self.config.graph.beams, self.n_items), excluded)
        return lists.ranks_of(targets_B)

    def recommend(
        self,
        represented: UserRepresentation,
        k: int,
        excluded: ranking.FilteredItems | None = None,
        allowed_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        if self.config.decoding == "exact":
            return super().recommend(represented, k, excluded, allowed_N)
        lists = self._met(represented, k, excluded, allowed_N)
        return lists.items_BK, lists.scores_BK

    def _met(
        self,
        represented: UserRepresentation,
        k: int,
        excluded: ranking.FilteredItems | None,
        allowed_N: Tensor | None = None,
    ) -> GraphLists:
        """The k best items that a search along the graph meets."""
        assert isinstance(represented, TokenStates)
        scorer = token_scorer(self.tokens, represented)
        return search_graph(scorer, self.item_graph(), k, self.config.graph, excluded, allowed_N)

    def item_graph(self) -> ItemGraph:
        """The graph of all items, made again when tokens or their vectors have changed."""
        made_of = self.tokens.codes_NM, self.tokens.weight.detach()
        if self._graph is None or not all(
            mine.device == theirs.device and torch.equal(mine, theirs)
            for mine, theirs in zip(made_of, self._graph[:2], strict=True)
        ):
            tokens = self.tokens
            edges = min(self.config.graph.edges, max(1, self.n_items - 1))
            graph = ItemGraph.of(tokens.codes_NM, tokens.codes_MCD().detach(), edges)
            self._graph = made_of[0].clone(), made_of[1].clone(), graph
        return self._graph[2]
