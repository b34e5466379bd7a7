"""Whether a run can become one program of tensors, and in a sentence why not."""

from __future__ import annotations

from forethought.errors import ConfigError
from forethought.methods.ensemble import EnsembleModel
from forethought.methods.interface import Method
from forethought.methods.lares import LARESModel
from forethought.methods.reg4rec import REG4RecModel
from forethought.methods.rpg import RPGModel
from forethought.methods.tiger import TIGERModel

INSTEAD = "score tables of histories with forethought recommend --input, or serve the run."


def check_exportable(method: Method) -> None:
    """Whether its scores are one computation whose shape no number decides.

    Raises:
        ConfigError: they are not.
    """
    name = type(method).__name__.removesuffix("Model")
    if reason := _reason(method):
        raise ConfigError(f"{name} cannot be exported as a program: {reason}; {INSTEAD}")


def _reason(method: Method) -> str | None:
    """What stands in the way, as half of a sentence."""
    several, halting = isinstance(method, EnsembleModel), method.resolve_halting(None)
    share = float(method.path_share) if isinstance(method, REG4RecModel) else 0.0
    reasons = {
        "it names an item token by token, and which tokens may follow is looked up in prefixes of items": isinstance(
            method, TIGERModel
        ),
        f"paths over tokens count for {share:g} of its scores, and the search for them prunes and goes back as numbers "
        "decide": share > 0,
        "it walks along a graph of items, and where it goes on is decided by numbers": isinstance(method, RPGModel)
        and method.config.decoding == "graph",
        "its first state is drawn at random at each call, so that no two answers are the same": isinstance(
            method, LARESModel
        )
        and method.config.state_init != "normal_zero",
        "it is several models; export its members one by one": several,
        "it was fitted in closed form and is a table of items, summed over a history and no network": not several
        and not method.stages(),
        "it stops reasoning by chance, so that no two answers are the same": halting is not None
        and (halting.rule == "random" or halting.noise.std > 0),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def check_vectors(method: Method) -> None:
    """Whether it has a vector for each item and one for each history.

    Raises:
        ConfigError: it has not.
    """
    if method.state_width is None or (not method.stages() and not isinstance(method, EnsembleModel)):
        name = type(method).__name__.removesuffix("Model")
        raise ConfigError(
            f"{name} knows no vectors of items that one vector a user could be held against, so there is nothing for a "
            "vector database: export a run of another method."
        )
