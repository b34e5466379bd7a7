"""BERT4Rec: self-attention that looks both ways (Sun et al., CIKM 2019, arXiv 1904.06690).

The items of a row see each other, so a state depends on what comes later: a row is one prefix, and chains of thought
hang behind its last position only. Their reasoning tokens see the whole row and are causal among themselves.

Deviations, each an option or harmless: attention weights are not dropped (embeddings and residual branches are);
the [MASK] slot, the output layer and the loss belong to `methods/masked_item.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from forethought.backbones.transformer import TransformerConfig
from forethought.settings import Layers, Width, Window


@dataclass(frozen=True, kw_only=True)
class BERT4Rec(TransformerConfig):
    """Configuration of a BERT4Rec encoder."""

    causal = False

    layers: Layers = 2
    """Blocks L."""
    window: Window = 50
    """Longest row N that is read, the [MASK] slot included; older items are cut."""
    ffn_width: Width = 256
    """Width inside the feed-forward nets, 4d in the paper."""
    norm_first: bool = True
    """Norm after each sum (post-norm, the paper) or before each branch (pre-norm)."""
