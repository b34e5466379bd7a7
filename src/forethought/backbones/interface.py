"""What every backbone answers to: read a history, and think one step further behind any of its positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

from torch import Tensor, nn

from forethought.nn.attention import AttentionChain
from forethought.nn.gru import RecurrentChain
from forethought.plugins import is_own
from forethought.settings import Settings, Width, Window

Chain = AttentionChain | RecurrentChain
"""A chain is a value: `select(rows)` when users halt or beams move; two branches keep one each."""


class Encoding(NamedTuple):
    states_BLD: Tensor
    chain: Chain | None


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(Settings):
    """Configuration of a backbone: it builds the network, and answers what methods ask before there is one.

    A subclass that looks both ways says `causal = False`.
    """

    causal = True
    """A state never depends on what comes later, so chains may hang behind every position; otherwise each row is a
    prefix of its own and chains hang behind its last position only."""

    width: Width = 64
    """State width d."""
    window: Window = 50
    """Longest history that is read; older items are cut."""

    @property
    def needs_times(self) -> bool:
        """Whether `encode` must be given the time of each interaction."""
        return False

    def for_reasoning(self) -> Self:
        """The same as methods that reason stand on it, if nobody says otherwise."""
        return self

    @classmethod
    def stands_for(cls, kind: type) -> bool:
        """Of somebody's own: for any that looks the same ways."""
        return is_own(cls) > is_own(kind) and issubclass(kind, BackboneConfig) and kind.causal == cls.causal

    def build(self) -> Backbone:
        raise NotImplementedError


class Backbone(nn.Module):
    """Vectors in, states out. The method owns the items; a backbone adds positions and times itself."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.width, self.window = config.width, config.window
        self.causal, self.needs_times = config.causal, config.needs_times

    def encode(
        self,
        x_BLD: Tensor,
        lengths_B: Tensor,
        *,
        positions: Tensor | None = None,
        times: Tensor | None = None,
        prefix: Tensor | None = None,
        last_only: bool = False,
    ) -> Encoding:
        """States of right-padded histories.

        Args:
            x_BLD: item vectors, padded anyhow.
            lengths_B: real positions of each row.
            positions: int [B, P], where chains are to hang; None: no chain is kept.
            times: int64 [B, L], Unix seconds, for backbones that use them.
            prefix: [B, K, D], vectors in front of the history, seen from every position, without a position of
                their own; `states_BLD` leaves them out.
            last_only: no state is wanted but the one behind each row's last position: `states_BLD` is [B, 1, D], and
                the last layer is spared the rest.
        """
        raise NotImplementedError

    def reason(self, x_BPD: Tensor, chain: Chain) -> tuple[Tensor, Chain]:
        """One more reasoning token behind each asked position. The caller has added whatever marks the step."""
        raise NotImplementedError
