"""Tokens drawn from what a decoder says, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from forethought.decoding.decoder import TokenDecoder


def drawn_path_loss(decoder: TokenDecoder, rows: int, steps: int) -> Tensor:
    """-ln p of one path a row, drawn from the decoder itself, summed over the rows, with gradients.

    Unordered books are decided in a random order, ordered ones in theirs.

    Args:
        steps: tokens that are decided one after the other; what is left is drawn from the last state.
    """
    state, total, order_BM = decoder.begin(rows), torch.zeros(()), None
    for step in range(decoder.codebooks):
        log_probs_BMC = decoder.log_probs(state)[:, 0]
        if order_BM is None:
            order_BM = torch.rand(rows, decoder.codebooks, device=log_probs_BMC.device).argsort(1)
        ordered = log_probs_BMC.shape[1] < decoder.codebooks  # it says the next book alone
        book_B = torch.full_like(order_BM[:, step], step) if ordered else order_BM[:, step]
        at_B = torch.zeros_like(book_B) if ordered else book_B
        own_BC = log_probs_BMC.gather(1, at_B[:, None, None].expand(-1, 1, log_probs_BMC.shape[-1]))[:, 0]
        token_B1 = torch.multinomial(own_BC.detach().exp(), 1)
        total = total.to(own_BC) - own_BC.gather(1, token_B1).sum()
        if step < min(steps, decoder.codebooks - 1):
            state = decoder.advance(state, book_B[:, None], token_B1)
    return total
