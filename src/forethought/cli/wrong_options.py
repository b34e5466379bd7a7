"""What is said of options that cannot be understood: one sentence, as of every other mistake, in place of tyro's box.

tyro tells of a failure through a hook that it does not promise to keep: where it is gone or another one, its box is
shown as before.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

from forethought.errors import ConfigError, nearest

KINDS = {
    **{"INT": "a whole number", "FLOAT": "a number", "STR": "text", "PATH": "a path"},
    **{"{INT INT}": "two whole numbers", "[INT [INT ...]]": "whole numbers"},
}


@contextlib.contextmanager
def in_a_sentence(arguments: list[str], show_help: Callable[[], Any]) -> Iterator[None]:
    """Inside, options that tyro refuses become a `ConfigError`.

    Args:
        arguments: what was given.
        show_help: prints the help, which names all options, to standard output.
    """
    try:
        from tyro._errors import on_parse_error
    except ImportError:
        yield
        return

    def refuse(event: Any) -> None:
        with contextlib.suppress(AttributeError):
            if said := _sentence(event, arguments, show_help):
                raise ConfigError(said)

    with on_parse_error(refuse):
        yield


def _no_choice(name: str, value: str, choices: list[str]) -> str:
    if "None" in choices:  # that nothing is said is no word to say; beside it the others come in any order
        choices = sorted({*choices} - {"None"})
    return f"{name} is {value!r}, but must be one of {', '.join(choices)}.{nearest(value, choices)}"


def _sentence(event: Any, arguments: list[str], show_help: Callable[[], Any]) -> str | None:
    kind = type(event).__name__
    if kind == "MissingArgs":
        unknown = [token for token in event.unrecognized_tokens if token.startswith("-")]
        return _unknown(unknown, event.prog, show_help) if unknown else _missing(event)
    if kind == "UnrecognizedArgs":
        return _unknown(event.tokens, event.prog, show_help)
    if kind not in ("InvalidChoice", "BadValue", "InstantiationFailure") or event.argument is None:
        return None
    name, metavar = _names(event.argument)
    if kind == "InvalidChoice":
        choices = [str(choice) for choice in event.choices]
        return _no_choice(name, event.value, choices)
    if not (value := _given(name, arguments)):
        return f"{name} needs a value: {KINDS.get(metavar, metavar)}."
    wanted = "a smaller number" if value.lstrip("+-").isdecimal() and metavar == "INT" else KINDS.get(metavar, metavar)
    return f"{name} is {value!r}, but must be {wanted}."


def _missing(event: Any) -> str:
    wanted = [_names(each.arg) for each in event.missing_arguments]
    listed = " and ".join(metavar if name == metavar else f"{name} {metavar}" for name, metavar in wanted)
    return f"{event.prog} needs {listed}: {event.prog} --help shows an example."


def _unknown(tokens: list[str], prog: str, show_help: Callable[[], Any]) -> str:
    option = next((token.partition("=")[0] for token in tokens if token.startswith("-")), None)
    if option is None:
        return (
            f"{tokens[0]!r} is one word too many: put quotes around a value with blanks, and no value behind a switch."
        )
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        show_help()
    known = sorted(set(re.findall(r"--[a-z][\w.-]*", output.getvalue())))
    return f"There is no option {option!r}; {prog} --help shows those there are.{nearest(option, known)}"


def _names(argument: Any) -> tuple[str, str]:
    """How an argument is given, and what its value is called."""
    metavar = str(argument.lowered.metavar)
    return (metavar if argument.is_positional() else argument.lowered.name_or_flags[0]), metavar


def _given(name: str, arguments: list[str]) -> str:
    """The words behind the last mention of an option."""
    spelled = [word.partition("=")[0].replace("_", "-") for word in arguments]
    at = max((place for place, word in enumerate(spelled) if word == name.replace("_", "-")), default=len(arguments))
    behind = arguments[at + 1 :]
    joined = arguments[at].partition("=")[2:] if at < len(arguments) and "=" in arguments[at] else ()
    end = next((place for place, word in enumerate(behind) if word.startswith("--")), len(behind))
    return " ".join([*joined, *behind[:end]])[:80]
