"""Random tokens: the control. They tell items apart and say nothing of them.

A token is a hash of the item's inputs, so that it is the same whenever the item is met.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.data.progress import Report
from forethought.semantic_ids.tokenizer import Tokenizer, TokenizerConfig

GRAIN = 2.0**-10  # inputs are hashed in steps of it, so that rounding does not reach the hash
MULTIPLIERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of splitmix64


@dataclass(frozen=True, kw_only=True)
class RandomTokens(TokenizerConfig):
    """Tokens by chance, each code of a book as likely as any other."""

    def build(self, width: int) -> RandomTokenizer:
        return RandomTokenizer(self, width)


class RandomTokenizer(Tokenizer):
    """A hash of what is known of an item, one a book."""

    salt: Tensor

    def __init__(self, config: RandomTokens, width: int) -> None:
        super().__init__(config, width)
        self.register_buffer("salt", torch.zeros((), dtype=torch.int64))

    def learn(self, y_NP: Tensor, seed: int, observer: Report) -> None:
        self.salt.fill_(seed)

    def assign(self, y_NP: Tensor) -> Tensor:
        whole_NP = (y_NP / GRAIN).round().long()
        key_N = _mixed(self.salt.expand(len(y_NP)) + 1)
        for column_N in whole_NP.T:
            key_N = _mixed(key_N ^ column_N)
        keys_NM = _mixed(
            key_N[:, None] + _signed(MULTIPLIERS[0]) * (1 + torch.arange(self.codebooks, device=y_NP.device))
        )
        return torch.remainder(keys_NM, self.size)

    def reconstruct(self, codes_NM: Tensor) -> Tensor:
        """The mean of all items: codes by chance say nothing."""
        return self.axes_FP.new_zeros(len(codes_NM), self.components)

    def added_errors(self, y_NP: Tensor, codes_NM: Tensor) -> Tensor:
        return y_NP.new_zeros(len(y_NP), self.codebooks, self.size)


def _mixed(keys: Tensor) -> Tensor:
    """Every bit of a key moves every bit of the outcome."""
    keys = (keys ^ _logical(keys, 30)) * _signed(MULTIPLIERS[1])
    keys = (keys ^ _logical(keys, 27)) * _signed(MULTIPLIERS[2])
    return keys ^ _logical(keys, 31)


def _logical(keys: Tensor, bits: int) -> Tensor:
    """Shifted to the right, zeros coming in from the left."""
    return (keys >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word
