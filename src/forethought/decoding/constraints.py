"""What a user will not have, or have only: tokens that must not be, items that alone may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Constraints:
    """The same for all rows.

    Attributes:
        forbidden_MC: True for tokens that no path may have and no item that is listed.
        allowed_N: True for the items that may be listed, those of forbidden tokens left out.
    """

    forbidden_MC: Tensor
    allowed_N: Tensor

    @classmethod
    def of(
        cls,
        codes_NM: Tensor,
        size: int,
        *,
        forbidden_tokens: Sequence[tuple[int, int]] = (),
        only_tokens: Sequence[tuple[int, int]] = (),
        allowed_N: Tensor | None = None,
    ) -> Constraints:
        """From tokens (book, token) that must not be, or one of which must be in each book that some are named of, and
        items that alone may be.

        A token that no item has that may be listed is forbidden too: a path would follow it for nothing.

        Raises:
            ConfigError: there is no such token, or no item is left.
        """
        codes_NM, M = codes_NM.long(), codes_NM.shape[1]
        forbidden_MC = torch.zeros(M, size, dtype=torch.bool, device=codes_NM.device)
        wanted_MC = torch.zeros_like(forbidden_MC)
        for tokens, marked_MC, what in (
            (forbidden_tokens, forbidden_MC, "to be forbidden"),
            (only_tokens, wanted_MC, "asked for"),
        ):
            for book, token in tokens:
                if not (0 <= book < M and 0 <= token < size):
                    raise ConfigError(
                        f"Token {token} of book {book} is {what}, but books are 0 to {M - 1} and tokens 0 to "
                        f"{size - 1}."
                    )
                marked_MC[book, token] = True
        forbidden_MC |= wanted_MC.any(1, keepdim=True) & ~wanted_MC
        books_M = torch.arange(M, device=codes_NM.device)
        left_N = ~forbidden_MC[books_M, codes_NM].any(-1)
        if allowed_N is not None:
            left_N &= allowed_N.to(left_N.device)
        if not bool(left_N.any()):
            raise ConfigError("No item is left to recommend: forbid or ask for fewer tokens, or allow more items.")
        unused_MC = torch.ones_like(forbidden_MC)
        unused_MC[books_M, codes_NM[left_N]] = False
        return cls(unused_MC, left_N)

    def applied(self, log_probs_BPMC: Tensor) -> Tensor:
        """-inf for what must not be; the rest stays as it is, and is not scaled up."""
        return log_probs_BPMC.masked_fill(self.forbidden_MC, -torch.inf)


def items_of(categories_N: Tensor, *, only: Sequence[int] = (), never: Sequence[int] = ()) -> Tensor:
    """Which items are of one of some categories, all when none is named, and of none of others; bool [N]."""
    allowed_N = torch.ones_like(categories_N, dtype=torch.bool)
    if only:
        allowed_N = torch.isin(categories_N, torch.tensor(list(only), device=categories_N.device))
    if never:
        allowed_N &= ~torch.isin(categories_N, torch.tensor(list(never), device=categories_N.device))
    return allowed_N
