"""Every tokenizer there is. A new one is one line here: configurations and the command line read this list."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from forethought.errors import ConfigError, nearest
from forethought.semantic_ids.tokenizer import TokenizerConfig
from forethought.settings import without_unread

# The order in which they are listed to whoever may choose.
# isort: off
from forethought.semantic_ids.mpq import MPQ
from forethought.semantic_ids.rq_vae import RQVAE
from forethought.semantic_ids.rq_kmeans import RQKMeans
from forethought.semantic_ids.opq import OPQ
from forethought.semantic_ids.random_tokens import RandomTokens
# isort: on

TOKENIZERS: dict[str, type[TokenizerConfig]] = {
    cls.__module__.rpartition(".")[2]: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, TokenizerConfig) and cls is not TokenizerConfig
}
"""By name, which is that of the file."""

# What a field of a method's configuration may hold. A type checker need not know the list.
if TYPE_CHECKING:
    AnyTokenizer = TokenizerConfig
else:
    AnyTokenizer = reduce(or_, TOKENIZERS.values())


def tokenizer_config(parts: Any) -> TokenizerConfig:
    """A configuration as `to_json` wrote it.

    Raises:
        ConfigError: no such tokenizer, a setting that it does not have, or one out of its range.
    """
    from dataclasses import fields

    if not isinstance(parts, dict) or parts.get("type") not in TOKENIZERS:
        said = parts.get("type") if isinstance(parts, dict) else parts
        raise ConfigError(f"A tokenizer's type is {said!r}, but must be one of {', '.join(TOKENIZERS)}.")
    cls = TOKENIZERS[parts["type"]]
    known = [each.name for each in fields(cls)]
    for key in parts:
        if key != "type" and key not in known:
            raise ConfigError(f"{key} is not a setting of {cls.__name__}.{nearest(key, known)}")
    values = {key: value for key, value in parts.items() if key != "type"}
    return cls(**without_unread(cls, values, [name for *_, names in cls.unread(values) for name in names]))
