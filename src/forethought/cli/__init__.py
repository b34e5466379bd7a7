"""The command line: `forethought VERB ...`. Every verb lives in a file of its own and is imported when it is used."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

from forethought.errors import ForethoughtError, nearest
from forethought.escaping import printable

VERBS = {
    "simulate": "make a simulated shop to try things on",
    "download": "fetch a known data set from its publisher",
    "doctor": "say in words what is wrong with a table, and what it holds",
    "prepare": "filter, order, split and write a table as a data folder",
    "embed": "make text vectors of items with a sentence encoder",
    "train": "train a method into a run folder",
    "evaluate": "rank every held-out item; metrics with 95% intervals",
    "compare": "hold runs against each other with paired tests",
    "recommend": "recommend items for histories",
    "explain": "show step by step how a model comes to its answer",
    "study": "carry out an experiment of the papers: train, measure, tabulate",
}
EXIT_INPUT, EXIT_INTERRUPTED = 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Run one verb; what the user can mend ends in one sentence and exit code 2, never in a traceback."""
    # Threads that wait must sleep: spinning, two of them on a busy machine take several times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if arguments is None else arguments
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
    try:
        importlib.import_module(f"forethought.cli.{verb}").run(rest)
        sys.stdout.flush()
    except ForethoughtError as error:
        _fail(str(error))
    except BrokenPipeError:
        _close_output()  # whoever read us has left; nothing is wrong
    except OSError as error:
        _close_output()
        _fail(f"The system refused to read or write: {error}.")
    except KeyboardInterrupt as error:
        print(f"\nStopped. {printable(error)}".rstrip(), file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_INTERRUPTED)


def _close_output() -> None:
    """What is still buffered goes nowhere, so that Python does not fail over it again at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(sentence: str) -> None:
    print(f"forethought: {printable(sentence)}", file=sys.stderr)  # noqa: T201
    sys.exit(EXIT_INPUT)


def _say(text: str) -> None:
    print(text)  # noqa: T201


def _help() -> str:
    verbs = "\n".join(f"  {verb:<10} {what}" for verb, what in VERBS.items())
    return (
        "Sequential recommenders that think before they recommend.\n\n"
        f"usage: forethought VERB [options]\n\n{verbs}\n\n"
        "forethought VERB --help shows a verb's options and an example.\n"
        "Begin with: forethought simulate --out shop && forethought train sasrec --data shop --out runs/first"
    )
