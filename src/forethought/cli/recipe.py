"""The recipe that a command begins with: what the words make of it that decide on the defaults of all other options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from forethought.cli.shared import TOKENIZERS

if TYPE_CHECKING:
    from forethought.config import Recipe
    from forethought.recipes import Effort


def recipe_and_effort(name: str, arguments: list[str]) -> tuple[Recipe, Effort, list[str]]:
    """What the words that decide on the defaults of all others come to, and those others."""
    from forethought import recipes

    from_file = _value_of(arguments, "recipe")[0] is not None
    recipe, arguments = _recipe_of(name, arguments)
    _check_tokens(recipe, arguments)
    recipe, arguments = _with_tokenizer(recipe, name, arguments)
    said = _effort_of(arguments)
    effort: Effort = said or ("fast" if from_file else recipes.usual_effort(recipe, name))
    if said is not None or effort != "fast":
        recipe = recipes.with_effort(recipe, effort, name)
    return recipe, effort, arguments


def _effort_of(arguments: list[str]) -> Effort | None:
    """What `--effort` says, which decides on the defaults of all other options; a wrong word is left to the parser."""
    from forethought import recipes

    words = [word.partition("=") for word in arguments]
    said = [
        end if joined else "".join(arguments[n + 1 : n + 2])
        for n, (w, joined, end) in enumerate(words)
        if w == "--effort"
    ]
    return next((effort for effort in recipes.EPOCHS if said[-1:] == [effort]), None)


def _recipe_of(name: str, arguments: list[str]) -> tuple[Recipe, list[str]]:
    """The recipe of a method, or that of `--recipe FILE`, its values being defaults; and the other words.

    Raises:
        ConfigError: the file is of another method, or an option beside it would choose what it has chosen.
    """
    from forethought import recipes
    from forethought.config import read_recipe
    from forethought.errors import ConfigError

    own = recipes.named(name)
    file, rest = _value_of(arguments, "recipe")
    if file is None:
        return on_backbone(own, name, arguments)
    if not file:
        raise ConfigError("--recipe needs a value: a file that forethought tune has written, or a run folder.")
    given = {word.partition("=")[0] for word in rest}
    if doubled := sorted(given & {"--backbone", "--tokenizer", "--effort"}):
        raise ConfigError(f"--recipe says all of that already: leave {doubled[0]} out, or the recipe.")
    recipe = read_recipe(file)
    if not recipes.is_of(recipe, name):
        names = [each for each in recipes.METHODS if recipes.is_of(recipe, each)]
        called = f" ({' or '.join(names)})" if names else ""
        raise ConfigError(f"{file} is the recipe of another method{called}, not of {name}: name that one.")
    if recipe.alignment is not None:
        raise ConfigError(f"{file} is the recipe of an alignment: forethought align takes a run to begin with.")
    return recipe, rest


def _value_of(arguments: list[str], option: str) -> tuple[str | None, list[str]]:
    """The value of an option that decides on others, None where it is not given, and the arguments without it."""
    at = next((n for n, word in enumerate(arguments) if word.partition("=")[0] == f"--{option}"), None)
    if at is None:
        return None, arguments
    _, joined, value = arguments[at].partition("=")
    end = at + 1 if joined else at + 2
    return value if joined else " ".join(arguments[at + 1 : end]), arguments[:at] + arguments[end:]


def on_backbone(recipe: Recipe, name: str, arguments: list[str]) -> tuple[Recipe, list[str]]:
    """The recipe on the backbone of `--backbone NAME`, whose options are then the command's, and what else was said."""
    from forethought import recipes
    from forethought.plugins import entry_points

    choices = recipes.backbones_of(name)
    choices = (*choices, *entry_points("forethought.backbones")) if choices else ()
    chosen, rest = _chosen(arguments, "backbone", choices, name, own=True)
    return recipe if chosen is None else recipes.on_backbone(recipe, chosen), rest


def _with_tokenizer(recipe: Recipe, name: str, arguments: list[str]) -> tuple[Recipe, list[str]]:
    """The recipe with the tokenizer of `--tokenizer NAME`, likewise."""
    from forethought.semantic_ids import all as tokenizers

    own = getattr(recipe.method, "tokenizer", None)
    chosen, rest = _chosen(arguments, "tokenizer", () if own is None else tuple(TOKENIZERS), name)
    if chosen is None:
        return recipe, rest
    cls = getattr(tokenizers, TOKENIZERS[chosen])
    return replace(recipe, method=replace(recipe.method, tokenizer=cls())), rest  # type: ignore[type-var]


def _check_tokens(recipe: Recipe, arguments: list[str]) -> None:
    """Refuse a tokenizer beside tokens that are made already.

    Raises:
        ConfigError: both are given.
    """
    from forethought.errors import ConfigError

    names = [word.partition("=")[0] for word in arguments]
    making = [name for name in names if name.startswith(("--tokenizer", "--no-tokenizer"))]
    if hasattr(recipe.method, "tokenizer") and "--tokens" in names and making:
        raise ConfigError(
            f"--tokens names tokens that are made already, so that {making[0]} would change nothing: leave one of the "
            "two out."
        )


def _chosen(
    arguments: list[str], option: str, choices: Sequence[str], name: str, *, own: bool = False
) -> tuple[str | None, list[str]]:
    """What an option chooses that decides on other options, and the arguments without it.

    With `own` an import path may stand for a choice.
    """
    from forethought.errors import ConfigError, nearest
    from forethought.plugins import is_path

    chosen, rest = _value_of(arguments, option)
    if chosen is None:
        return None, arguments
    if not choices:
        raise ConfigError(f"{name} has no choice of a {option}: leave --{option} out.")
    if chosen not in choices and not (own and is_path(chosen)):
        raise ConfigError(
            f"--{option} is {chosen!r}, but must be one of {', '.join(choices)}.{nearest(chosen, choices)}"
        )
    return chosen, rest
