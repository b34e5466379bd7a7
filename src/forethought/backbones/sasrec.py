"""SASRec: causal self-attention over a history (Kang & McAuley, ICDM 2018, arXiv 1808.09781).

Deviations, each an option or harmless: blocks are truly pre-norm by default (the paper's code norms the query
alone; `norm_first=False` gives post-norm), no attention weights are dropped by default (embeddings and
residual branches are), and the loss is the method's business: with full cross-entropy. Positions count from a row's
end, as they do in the paper's code, which pads on the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from forethought.backbones.transformer import TransformerConfig
from forethought.nn.transformer import Activation
from forethought.settings import Layers, SearchChoices, SearchRange, ShareBelowOne, Width


@dataclass(frozen=True, kw_only=True)
class SASRec(TransformerConfig):
    """Configuration of a SASRec encoder."""

    layers: Annotated[Layers, SearchChoices((1, 2, 3))] = 1
    """Blocks b (the paper: 2; on sparse shops one is better and cheaper)."""
    ffn_width: Width = 256
    """Width inside the feed-forward nets (the paper: d)."""
    dropout: Annotated[ShareBelowOne, SearchRange(0.0, 0.7)] = 0.35
    """Share of embedding and branch units dropped in training, 0 to 1."""
    activation: Activation = "gelu"
    """Of the feed-forward nets (the paper: relu)."""
