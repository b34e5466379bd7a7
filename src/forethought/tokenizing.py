"""Items of a data set become tokens: fitted, measured, and kept in a folder that methods take."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from forethought.data.features import TEXT, Features, read_features
from forethought.data.progress import Report, silent
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.evaluation.protocol import may_have_seen
from forethought.folders import writable
from forethought.methods.configuration import MethodConfig
from forethought.run_vectors import OPTION, collaborative_of
from forethought.semantic_ids.inputs import COLLABORATIVE, Collaborative, input_scales, tokenizer_inputs
from forethought.semantic_ids.item_tokens import ItemTokens, encode_new, fit_to, known_inputs
from forethought.semantic_ids.leaf_categories import COLUMNS, leaf_categories
from forethought.semantic_ids.mpq import MPQ
from forethought.semantic_ids.quality import GREEDY, MET, NAMED, Quality, following_pairs, quality
from forethought.semantic_ids.storage import check_free, read_tokenizer, write_tokens
from forethought.semantic_ids.token_table import TokenTable
from forethought.semantic_ids.tokenizer import TokenizerConfig
from forethought.settings import Seed, check, check_all
from forethought.tables.table import Document


@dataclass(frozen=True, eq=False)
class Tokenized:
    """Tokens of a data set's items, and what they are worth.

    Attributes:
        tokens: with the tokenizer that made them.
        before: the tokens before equal ones were told apart.
        quality: what was measured.
        name: of the data.
    """

    tokens: ItemTokens
    before: TokenTable
    quality: Quality
    name: str

    def document(self) -> Document:
        """The quality as a table, for the terminal, text and Markdown."""
        names = {str(each["name"]).lower() for each in self.tokens.inputs}
        done = {self.tokens.config.collisions} | {str(each["kind"]) for each in self.tokens.inputs}
        told = {GREEDY: "greedy" in done, MET: COLLABORATIVE in done, NAMED: bool(names & {TEXT, *COLUMNS})}
        return self.quality.document(self.title, [each for each, was in told.items() if was])

    @property
    def title(self) -> str:
        return f"Tokens of {self.name} by {type(self.tokens.config).__name__}"

    def draw(self, path: str | Path) -> None:
        """A picture of the tokens as .png, .svg or .pdf.

        Raises:
            ConfigError: another ending.
            RunError: a file that we did not draw lies there.
            MissingExtraError: matplotlib is not installed.
        """
        from forethought.reports.pictures import check_picture
        from forethought.reports.token_quality import draw_tokens

        draw_tokens(self.tokens.table, self.before, check_picture(path), self.title)


def tokenize(
    split: Split,
    out: str | Path | None = None,
    config: TokenizerConfig | None = None,
    *,
    features: Features | None = Features(),  # noqa: B008  frozen
    like: str | Path | None = None,
    collaborative_from: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    report: Report = silent,
) -> Tokenized:
    """Tokens of a split's items; of interactions the training part alone is read.

    Args:
        out: the folder to be made, which a method takes by `tokens=`; None: nothing is written.
        config: `ft.MPQ()`, `ft.OPQ()`, `ft.RQVAE()`, `ft.RQKMeans()` or `ft.RandomTokens()`; MPQ if not given.
        features: what is read of the items; None: only who meets them.
        like: a tokens folder of other data, whose tokenizer and features are taken; nothing is fitted then.
        collaborative_from: a run folder whose item vectors stand in the place of co-occurrence.
        seed: of all that is drawn.
        overwrite: replace a tokens folder that is already there; anything else is refused.
        report: told how far it is.

    Raises:
        ConfigError: the settings do not go together, or would change nothing beside `like`; the run of
            `collaborative_from` has no vectors of items, or the tokenizer reads none; the tokens of `like` were made of
            what users meet together as well; or more items share their tokens than a counter tells apart.
        DataError: a feature is not what it should be, nothing is known that tells items apart, the run of
            `collaborative_from` knows none of the items or was trained on what is tested here, or `out` is there and
            not empty (with `overwrite`: is no tokens folder); nothing is then left behind.
        RunError: nothing can be written there, or there is no such run.
    """
    check_all(like=(like, str | Path | None), out=(out, str | Path | None))
    check_all(collaborative_from=(collaborative_from, str | Path | None))
    if like is not None and collaborative_from is not None:
        raise ConfigError(
            f"The tokens in {str(like)!r} have a tokenizer that is fitted already, so that {OPTION} would change "
            "nothing: leave one of the two out."
        )
    if like is not None and (config is not None or features != Features() or seed != 0):
        raise ConfigError(
            f"Tokens like those in {str(like)!r} are made by their tokenizer of their features, so that others or a "
            "seed would change nothing: leave them out."
        )
    config = MPQ() if config is None else config
    _check(split, config, features, seed, overwrite)
    make = partial(_tokenized, split, config, features, collaborative_from, seed, report)
    if like is not None:
        make = partial(_tokenized_like, split, like, report)
    if out is None:
        return make()
    out = Path(out)
    check_free(out, overwrite=overwrite)
    with writable(out.parent):
        made = make()
        figures, text = made.quality.to_json(), f"# {made.title}\n\n{made.document().markdown()}"
        write_tokens(out, made.tokens, split, seed=seed, quality=figures, text=text, overwrite=overwrite)
    return made


def _check(split: Any, config: Any, features: Any, seed: Any, overwrite: Any) -> None:
    check(split, Split, "split")
    if isinstance(config, MethodConfig):
        raise ConfigError(f"{type(config).__name__} is a method, but a tokenizer such as ft.MPQ() is expected.")
    check(config, TokenizerConfig, "config")
    check(features, Features | None, "features")
    check(seed, Seed, "seed")
    check(overwrite, bool, "overwrite")


def _tokenized(
    split: Split,
    config: TokenizerConfig,
    features: Features | None,
    collaborative_from: str | Path | None,
    seed: int,
    report: Report,
) -> Tokenized:
    met = None if collaborative_from is None else _of_run(collaborative_from, split, config)
    known = () if features is None else read_features(split.data, features)
    values_NF = known_inputs(split, known, config, met)
    tokens, values_NF = fit_to(values_NF, split, known, config, seed, report, met)
    return _measured(split, values_NF, tokens, report)


def _of_run(run: str | Path, split: Split, config: TokenizerConfig) -> Collaborative:
    """Its item vectors, with a warning where they may have seen what is tested here."""
    met = collaborative_of(run, split, config)
    if said := may_have_seen([{"of": met.of}]):
        warnings.warn(f"The tokens are made of item vectors of {said}.", stacklevel=4)
    return met


def _tokenized_like(split: Split, like: str | Path, report: Report) -> Tokenized:
    """By the tokenizer of other tokens, of the same features, made as theirs were.

    Raises:
        ConfigError: they were made of what users meet together as well.
        DataError: the data lacks a feature of theirs.
    """
    theirs = read_tokenizer(like)
    if any(each["kind"] == COLLABORATIVE for each in theirs.inputs):
        raise ConfigError(
            f"The tokens in {str(like)!r} were made of what users meet together as well, which is not known of other "
            "items: make them with --collaborative none, of features that both data sets have."
        )
    scales = input_scales(theirs.inputs)
    try:
        known = read_features(split.data, Features(use=",".join(scales)), scales)
    except DataError as error:
        raise DataError(f"The tokens in {str(like)!r} were made of {', '.join(scales)}. {error}") from error
    table = TokenTable(encode_new(theirs, known, beside=False), theirs.table.size, theirs.table.ordered)
    tokens = ItemTokens.of(table, theirs.tokenizer, theirs.config, theirs.inputs)
    return _measured(split, tokenizer_inputs(known, None), tokens, report)


def _measured(split: Split, values_NF: Tensor, tokens: ItemTokens, report: Report) -> Tokenized:
    """What the tokens are worth."""
    config = tokens.config
    report("measuring", 0, 1)
    categories = leaf_categories(split.data.item_table)
    figures = quality(
        tokens.table,
        tokens.tokenizer,
        values_NF,
        following_pairs(split),
        None if categories is None else categories[0],
    )
    report("measuring", 1, 1)
    before = TokenTable(tokens.tokenizer.encode(values_NF), config.size, config.ordered)
    return Tokenized(tokens, before, figures, split.data.name)
