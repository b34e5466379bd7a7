"""A network that reasons over intents: first each retrieves what it needs of them, then the items speak to each other.

    Y = X + CrossAttn(X, T_D)        Z = Y + CausalSelfAttn(Y)        X' = Z + FFN(Z)        (IGR-SR, eq. 4)

All three are normed before the branch. The intents stand beside the items and not among them, so no item's position
moves. The other way, intents as tokens in front of the items, is here to be compared with (`fusion="concat"`).

Shapes: B rows, L positions, P places of intents (1 or L), M intents, D width, J layers, H heads, C channels a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.errors import ConfigError
from forethought.nn.attention import join_heads, key_mask
from forethought.nn.cross_attention import CrossAttention, beside_scores, beside_values
from forethought.nn.dropout import Dropout
from forethought.nn.positions import CountFrom
from forethought.nn.transformer import Activation, Block, at_positions, last_positions
from forethought.settings import Heads, Layers, Settings, ShareBelowOne, Width

Fusion = Literal["cross", "concat"]
Start = Literal["encoder", "random"]


@dataclass(frozen=True, kw_only=True)
class Reasoner(Settings):
    """Configuration of the main network, IDR."""

    width: Width = 64
    """State width d, a multiple of `heads`."""
    layers: Layers = 2
    """J, layers of cross-attention, self-attention and feed-forward."""
    heads: Heads = 2
    """Heads of both attentions."""
    ffn_width: Width = 256
    """Width inside the feed-forward nets, 4d."""
    dropout: ShareBelowOne = 0.35
    """Share of embedding and branch units dropped in training, 0 to 1."""
    activation: Activation = "gelu"
    """Of the feed-forward nets."""
    count_from: CountFrom = "end"
    """Positions tell how recent an item is (end), or how many came before it (start); see `nn/positions.py`."""
    fusion: Fusion = "cross"
    """Items ask the intents by cross-attention (cross), or have them as tokens in front of them (concat)."""
    items: Start = "encoder"
    """Its item vectors start as the encoder's where the widths agree (encoder), or at random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"Reasoner's width is {self.width}, but must be a multiple of its {self.heads} heads.")


class Beside(NamedTuple):
    """The intents of a row.

    Attributes:
        vectors_BPMD: T_D, or what layers made of it.
        kept_BM: False for those that are masked; None: none is.
        keys_values: what the cross-attention of each layer to come makes of the vectors, where it is shared.
    """

    vectors_BPMD: Tensor
    kept_BM: Tensor | None = None
    keys_values: tuple[tuple[Tensor, Tensor], ...] = ()

    def select(self, rows: Tensor) -> Beside:
        """Of some rows; what is masked is not chosen yet."""
        return Beside(self.vectors_BPMD[rows], None, tuple((k[rows], v[rows]) for k, v in self.keys_values))


class CrossLayer(Block):
    """Cross-attention to the intents, then a Transformer block."""

    def __init__(self, *, width: int, heads: int, dropout: float, **block: Any) -> None:
        super().__init__(width=width, heads=heads, dropout=dropout, **block)
        self.cross_norm, self.cross = nn.LayerNorm(width), CrossAttention(width, heads)
        self.cross_dropout = Dropout(dropout)

    def attend_intents(
        self, x_BLD: Tensor, beside: Beside, lengths_B: Tensor, last_only: bool
    ) -> tuple[Tensor, Beside, Tensor]:
        """States, the intents for the next layer, and the attention weights over them, [B, L, H, M]."""
        keys_values, *later = beside.keys_values or (self.cross.project(beside.vectors_BPMD),)
        beside = beside._replace(keys_values=tuple(later))
        retrieved, weights = self.cross(self.cross_norm(x_BLD), keys_values, beside.kept_BM)
        y_BLD = x_BLD + self.cross_dropout(retrieved)
        if last_only:
            last_B1 = last_positions(lengths_B)
            z_BLD = self.at(y_BLD, last_B1, key_mask(last_B1[:, 0] + 1, y_BLD.shape[1]))[0]
            return z_BLD, beside, weights
        return self(y_BLD, None, True)[0], beside, weights


class ConcatLayer(Block):
    """A Transformer block whose items see the intents as tokens in front of them; those see each other alone."""

    def attend_intents(
        self, x_BLD: Tensor, beside: Beside, lengths_B: Tensor, last_only: bool
    ) -> tuple[Tensor, Beside, Tensor]:
        """As `CrossLayer.attend_intents`; weights are those of the tokens, scaled to a sum of 1."""
        vectors_BPMD = beside.vectors_BPMD.repeat(x_BLD.shape[0] // max(beside.vectors_BPMD.shape[0], 1), 1, 1, 1)
        (B, P, M, _), L = vectors_BPMD.shape, x_BLD.shape[1]
        sees = torch.ones(M, M, dtype=torch.bool, device=x_BLD.device).tril()
        if beside.kept_BM is not None:  # a masked token still sees itself: a softmax over nothing is no number
            own = torch.eye(M, dtype=torch.bool, device=x_BLD.device)
            sees = (sees & beside.kept_BM.repeat_interleave(P, 0)[:, None] | own)[:, None]
        tokens, of = self(vectors_BPMD.flatten(0, 1), sees, False)
        k, v = (each.transpose(1, 2).unflatten(0, (B, P)) for each in (of.keys_BHLC, of.values_BHLC))  # [B, P, M, H, C]
        q_BHLC, past_k, past_v = self._split(self._normed(x_BLD))
        q_BLHC = q_BHLC.transpose(1, 2)
        before_BLHM = beside_scores(q_BLHC, k, beside.kept_BM)
        past_BHLL = q_BHLC @ past_k.transpose(-1, -2) * q_BHLC.shape[-1] ** -0.5
        later = torch.ones(L, L, dtype=torch.bool, device=x_BLD.device).triu(1)
        past_BHLL = past_BHLL.masked_fill(later, -torch.inf)
        weights = F.softmax(torch.cat([before_BLHM.transpose(1, 2), past_BHLL], dim=-1), dim=-1)
        before_BLHM, past_BHLL = weights[..., :M].transpose(1, 2), weights[..., M:]
        mixed = past_BHLL @ past_v + beside_values(before_BLHM, v).transpose(1, 2)
        x_BLD = self._finish(x_BLD, self.out(join_heads(mixed)))
        if last_only:
            x_BLD = at_positions(x_BLD, last_positions(lengths_B))
        return x_BLD, beside._replace(vectors_BPMD=tokens.unflatten(0, (B, P))), F.normalize(before_BLHM, 1.0, -1)


class IntentReasoner(nn.Module):
    """J layers and a last norm (IDR)."""

    def __init__(self, config: Reasoner) -> None:
        super().__init__()
        kind = CrossLayer if config.fusion == "cross" else ConcatLayer
        shape: dict[str, Any] = {
            "width": config.width,
            "heads": config.heads,
            "ffn_width": config.ffn_width,
            "dropout": config.dropout,
            "activation": config.activation,
        }
        made = (kind(**shape, norm_first=True) for _ in range(config.layers))
        self.layers = cast("Sequence[CrossLayer | ConcatLayer]", nn.ModuleList(made))
        self.norm = nn.LayerNorm(config.width)

    def beside(self, intents_BPMD: Tensor) -> Beside:
        """What `forward` may be told of intents that several calls share: their keys and values are made once."""
        crosses = [layer.cross for layer in self.layers if isinstance(layer, CrossLayer)]
        return Beside(intents_BPMD, None, tuple(cross.project(intents_BPMD) for cross in crosses))

    def forward(
        self,
        x_BLD: Tensor,
        lengths_B: Tensor,
        intents: Tensor | Beside,
        kept_BM: Tensor | None = None,
        *,
        last_only: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """States, and the attention weights over intents, without gradient.

        Args:
            x_BLD: X^(0), items with their positions; padded anyhow on the right.
            intents: T_D of whole rows (P = 1), or of each position (P = L), [B, P, M, D]; or what `beside` made of it.
                Those of B / V rows are shared by V views of the rows, one after the other in x.
            kept_BM: False for masked intents.

        Returns:
            [B, L, D] and [B, L, J, H, M]; with `last_only` L is 1, each row's last position.
        """
        beside = intents if isinstance(intents, Beside) else Beside(intents)
        beside, kept = beside._replace(kept_BM=kept_BM), []
        for layer in self.layers:
            x_BLD, beside, weights = layer.attend_intents(
                x_BLD, beside, lengths_B, last_only and layer is self.layers[-1]
            )
            kept.append(weights.detach())
        weights_BLJHM = torch.stack(kept, dim=2)
        if last_only:
            at_B = last_positions(lengths_B)[:, 0]
            weights_BLJHM = weights_BLJHM[torch.arange(at_B.shape[0], device=at_B.device), at_B][:, None]
        return self.norm(x_BLD), weights_BLJHM
