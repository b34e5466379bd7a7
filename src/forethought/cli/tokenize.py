"""forethought tokenize"""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from forethought.cli.shared import (
    TOKENIZERS,
    Bar,
    ColumnOptions,
    Splitting,
    console,
    open_split,
    parse,
    print_json,
    tell_notes,
)


@dataclass(kw_only=True)
class Tokenize:
    data: str
    """Data folder, table, or "sql: SELECT ..."."""
    out: Path
    """Tokens folder to be made."""
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")]
    splitting: Annotated[Splitting, tyro.conf.arg(name="")]
    features: str = "auto"
    """Of the items, with commas between: text, columns of the item table, .npy files; auto; none."""
    tokenizer: Literal["mpq", "rqvae", "rqkmeans", "opq", "random"] = "mpq"
    """What makes the tokens; each has settings of its own: forethought tokenize --tokenizer opq --help."""
    tokenizer_from: Path | None = None
    """A tokens folder of other data, whose tokenizer and features are taken; nothing is fitted."""
    collaborative_from: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """A run folder of sasrec or another method with a vector an item, which stand in the place of co-occurrence."""
    picture: Path | None = None
    """Also draw them, as .png, .svg or .pdf: how full the codes are, groups of equal items, how alike the codebooks."""
    seed: int = 0
    """Of all that is drawn."""
    overwrite: bool = False
    """Replace a tokens folder that lies there."""
    json: bool = False
    """Print what was made as JSON."""


def run(arguments: list[str]) -> None:
    from forethought.data.features import Features
    from forethought.settings import Seed, check
    from forethought.tokenizing import tokenize

    options, config = _options(arguments)
    check(options.seed, Seed, "--seed")
    features = None if options.features == "none" else Features(use=options.features)
    if options.tokenizer_from is not None:
        config = _none_beside(config, options)
    if options.picture is not None:
        from forethought.reports.pictures import check_picture

        check_picture(options.picture)
    view = console()
    split = open_split(options.data, options.columns, options.splitting)
    tell_notes(view, split.data)
    with Bar() as bar:
        choices: dict[str, Any] = {"features": features, "seed": options.seed, "overwrite": options.overwrite}
        choices |= {"like": options.tokenizer_from, "collaborative_from": options.collaborative_from}
        made = tokenize(split, options.out, config, **choices, report=bar.named)
        if options.picture is not None:
            made.draw(options.picture)
    if options.json:
        print_json({"out": str(options.out), **made.tokens.to_json(), "quality": made.quality.to_json()})
        return
    view.print(made.document())
    view.print(f"{options.out}: {made.quality.items:,} items as tokens.", highlight=False)


def _options(arguments: list[str]) -> tuple[Tokenize, Any]:
    """The options, and the configuration of the tokenizer that they name."""
    from forethought.semantic_ids import all as tokenizers

    cls: Any = getattr(tokenizers, TOKENIZERS[_named(arguments)])
    parts: list[Any] = [
        ("options", Annotated[Tokenize, tyro.conf.arg(name=""), tyro.conf.FlagCreatePairsOff]),
        ("config", Annotated[cls, tyro.conf.arg(name="")], field(default_factory=cls)),
    ]
    about = (
        "Make tokens of items: each item becomes a few codes, and items that are alike share some of them.\n\n"
        "Examples: forethought tokenize --data data/beauty --out tokens/beauty\n"
        "          forethought tokenize --data data/beauty --tokenizer rqvae --features text --out tokens/rq"
    )
    args = parse(make_dataclass("Arguments", parts, kw_only=True), arguments, "tokenize", about, pairs=True)
    return args.options, args.config


def _none_beside(config: Any, options: Tokenize) -> None:
    """Refuse a tokenizer of one's own beside that of other tokens.

    Raises:
        ConfigError: it would change nothing.
    """
    from forethought.errors import ConfigError

    if options.tokenizer != "mpq" or config != type(config)():
        raise ConfigError(
            "--tokenizer-from names a tokenizer that is fitted already, so that --tokenizer and its settings would "
            "change nothing: leave one of the two out."
        )


def _named(arguments: list[str]) -> str:
    """The tokenizer that is asked for; whether there is one of that name is seen when the options are read."""
    for place, word in enumerate(arguments):
        name, joined, value = word.partition("=")
        if name == "--tokenizer":
            asked = value if joined else "".join(arguments[place + 1 : place + 2])
            return asked if asked in TOKENIZERS else "mpq"
    return "mpq"
