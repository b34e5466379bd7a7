"""Options of verbs that recommend: categories and tokens that are wanted or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

Labels = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="LABEL")]
Tokens = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="BOOK:TOKEN")]


@dataclass(kw_only=True)
class SteeringOptions:
    """What the user wants to see and what not."""

    only_category: Labels = ()
    """Recommend only items of this category, at any level; again for another one."""
    never_category: Labels = ()
    """Never recommend items of this category; again for another one."""
    only_token: Tokens = ()
    """Recommend only what has this token, as explain writes it, such as 3:17; again for another one, of the same
    codebook instead of it and of another one as well. For models over tokens."""
    forbid_token: Tokens = ()
    """Recommend nothing that has this token, as explain writes it, such as 3:17; again for another one. For models over
    tokens."""

    def choices(self) -> dict[str, Any]:
        """As `Recommender.recommend` and `explain` take them; nothing where nothing was asked for."""
        asked: dict[str, Any] = {}
        if self.only_category:
            asked["only_category"] = list(self.only_category)
        if self.never_category:
            asked["never_category"] = list(self.never_category)
        if self.only_token:
            asked["only_tokens"] = [_token(word, "only") for word in self.only_token]
        if self.forbid_token:
            asked["forbid_tokens"] = [_token(word, "forbid") for word in self.forbid_token]
        return asked


def _token(word: str, what: str) -> tuple[int, int]:
    from forethought.errors import ConfigError, shown

    book, _, token = word.partition(":")
    if not (book.isascii() and book.isdigit() and token.isascii() and token.isdigit() and len(word) < 30):
        raise ConfigError(
            f"--{what}-token is {shown(word)}, but must be a codebook and a token with a colon between, such as 3:17."
        )
    return int(book), int(token)
