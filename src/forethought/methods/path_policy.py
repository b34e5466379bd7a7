"""Methods over tokens as policies: each token of a path is a choice that rewards can align (`alignment/`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from forethought.data.batches import Batch
from forethought.decoding.path_facts import PathFacts
from forethought.decoding.rollouts import Action, BookDecoder, draw_paths, replay_paths
from forethought.methods.token_heads import TokenHeads
from forethought.reasoning.policy import Future, Replayed, Rollouts


@dataclass(frozen=True)
class PathPolicy:
    """A `reasoning.policy.Policy` of paths.

    Attributes:
        tokens: of the method, with its heads.
        method: all of which is trained.
        decoder: of a batch of histories.
        steps: tokens of a path.
        loss_at_end: the method's own loss of naming an item behind each history, the mean.
        action: what a choice is: the token of the most confident book, or book and token together.
    """

    tokens: TokenHeads
    method: nn.Module
    decoder: Callable[[Batch], BookDecoder]
    steps: int
    loss_at_end: Callable[[Batch, Tensor], Tensor]
    action: Action = "token"
    kind: ClassVar[str] = "paths"

    def trained(self) -> Iterable[nn.Parameter]:
        return self.method.parameters()

    @torch.no_grad()
    def roll_out(self, batch: Batch, group: int, temperature: float, future: Future | None = None) -> Rollouts:
        drawn = draw_paths(
            self.decoder(batch),
            len(batch.lengths_B),
            group,
            min(self.steps, self.tokens.codebooks),
            temperature=temperature,
            action=self.action,
        )
        return Rollouts(drawn.log_probs_BGT, torch.ones_like(drawn.books_BGT, dtype=torch.bool), drawn)

    def replay(self, batch: Batch, rollouts: Rollouts) -> Replayed:
        return Replayed(*replay_paths(self.decoder(batch), rollouts.made, self.action))

    @torch.no_grad()
    def facts(self, batch: Batch, rollouts: Rollouts, future: Future) -> PathFacts:
        drawn = rollouts.made
        tokens, table_BGMC = self.tokens, self.tokens.table(drawn.table_BGMC)
        histories = batch.items_BL, batch.lengths_B
        return PathFacts(drawn, future, tokens.codes_NM, tokens.category_N, table_BGMC, *histories)
