"""The command line: `forethought VERB ...`. Every verb lives in a file of its own and is imported when it is used."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import re
import sys
from typing import NoReturn

from forethought.cli.ctrl_c import stopped_by_signals
from forethought.errors import ForethoughtError, nearest
from forethought.escaping import printable

VERBS = {
    "simulate": "make a simulated shop to try things on",
    "download": "fetch a known data set from its publisher",
    "doctor": "say in words what is wrong with a table, and what it holds",
    "prepare": "filter, order, split and write a table as a data folder",
    "embed": "make text vectors of items with a sentence encoder",
    "tokenize": "make tokens of items, for methods that recommend by generating them",
    "train": "train a method into a run folder",
    "tune": "search for a method's best settings on the validation part",
    "align": "align a trained run with rewards: its paths over tokens, or when it stops reasoning",
    "extend": "add items to a trained run that it never saw",
    "transfer": "give a trained run over tokens the items of other data",
    "ensemble": "average several runs in a run folder of its own",
    "evaluate": "rank every held-out item; metrics with 95% intervals",
    "compare": "hold runs against each other with paired tests",
    "report": "write what is known of runs as one page",
    "recommend": "recommend items for histories",
    "export": "write a run as a program for ONNX Runtime or PyTorch, or as vectors for a database",
    "push": "publish a run on the Hugging Face hub, or in a folder",
    "pull": "fetch a published run, checked",
    "explain": "show step by step how a model comes to its answer",
    "serve": "answer over HTTP, with a page to look at",
    "study": "carry out an experiment of the papers: train, measure, tabulate",
    "completion": "print what completes these words in bash, zsh or fish",
}
EXIT_INPUT, EXIT_INTERRUPTED = 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; what the user can mend ends in one sentence and exit code 2, never in a traceback."""
    # Threads that wait must sleep: spinning, two of them on a busy machine take several times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _open_streams()
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except ForethoughtError as error:
        _fail(str(error))
    except BrokenPipeError:
        _close_output()  # whoever read us has left; nothing is wrong
    except KeyboardInterrupt as error:
        print(f"\nStopped. {printable(error)}".rstrip(), file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        sentence = _told(error)
        if sentence is None:
            raise  # a fault of ours keeps its traceback
        _close_output()
        _fail(sentence)


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _say(_help())
        sys.exit(0 if arguments else EXIT_INPUT)
    if arguments[0] in ("-V", "--version"):
        from forethought.version import __version__

        _say(f"forethought {__version__}")
        sys.exit(0)
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        _fail(f"There is no verb {verb!r}; the verbs are {', '.join(VERBS)}.{nearest(verb, VERBS)}")
    from forethought.plugins import trusting

    rest, modules = _taken(rest, "--plugin")
    every = "--allow-plugin" in rest
    with stopped_by_signals(), trusting(modules, every):
        importlib.import_module(f"forethought.cli.{verb}").run([word for word in rest if word != "--allow-plugin"])


def _taken(words: list[str], option: str) -> tuple[list[str], list[str]]:
    """The words without an option that may stand several times, and its values."""
    rest, values, at = [], [], 0
    while at < len(words):
        name, joined, value = words[at].partition("=")
        if name != option:
            rest.append(words[at])
        elif joined or at + 1 < len(words):
            values.append(value if joined else words[at + 1])
            at += not joined
        else:
            _fail(f"{option} needs a module, such as {option} my_package.module.")
        at += 1
    return rest, values


def _told(error: Exception) -> str | None:
    """What is said of an error that the machine or the input makes wherever it pleases; None: it is ours."""
    from forethought.files import first_line, short_of_memory

    if short_of_memory(error):
        asked = re.search(r"allocate ([\d.,]+ ?(?:[KMGT]i?B|bytes))", str(error))
        when = f" when {asked[1]} more were asked for" if asked else ""
        return f"Memory ran out{when}: use a smaller model, batch or window, less data, or a machine with more."
    said = first_line(error).rstrip(".")
    if isinstance(error, RecursionError):
        return f"Something that was given is nested too deeply to be read ({said}): give one that is flat."
    if isinstance(error, UnicodeError):
        return f"A text cannot be read or written ({said}): give it in UTF-8."
    return f"The system refused to read or write: {said}." if isinstance(error, OSError) else None


class _ClosedOutput(io.TextIOBase):
    """A standard output that is not there: writing to it fails as a full disk would, and does not write elsewhere."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "standard output is closed")


def _open_streams() -> None:
    """Nothing else takes the place of a closed stream, and characters that one cannot take are spelled out."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdout = sys.stdout or _ClosedOutput()
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  open until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _close_output() -> None:
    """What is still buffered goes nowhere, so that Python does not fail over it again at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(sentence: str) -> NoReturn:
    print(f"forethought: {printable(sentence)}", file=sys.stderr)  # noqa: T201
    sys.exit(EXIT_INPUT)


def _say(text: str) -> None:
    print(text)  # noqa: T201


def _help() -> str:
    verbs = "\n".join(f"  {verb:<10} {what}" for verb, what in VERBS.items())
    return (
        "Sequential recommenders that think before they recommend.\n\n"
        f"usage: forethought VERB [options]\n\n{verbs}\n\n"
        "forethought VERB --help shows a verb's options and an example. Every verb takes --plugin MODULE,\n"
        "whose code a run may then name, and --allow-plugin, with which it may name any.\n"
        "Begin with: forethought simulate --out shop && forethought train sasrec --data shop --out runs/first"
    )
