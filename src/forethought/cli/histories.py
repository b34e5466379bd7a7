"""Histories of the command line: ids with commas between or as a JSON list, and the times beside them."""

from __future__ import annotations

import json
from typing import Any


def typed_id(text: str, model: Any) -> Any:
    """A word of the command line as the kind of id the model has; what does not fit stays text and is named unknown."""
    if model.items.kind == "integer":
        try:
            return int(text)
        except ValueError:
            return text
    return text.strip()


def history_of(text: str, model: Any, unknown: str) -> list[Any]:
    """The ids of one `--history`.

    Args:
        unknown: with "error" pieces between commas that the model does not know are refused here.

    Raises:
        DataError: they are, or a JSON list holds other things than ids.
    """
    from forethought.data.vocabulary import UNKNOWN
    from forethought.errors import DataError, some

    if (listed := _json_list(text)) is not None:
        return [
            each if isinstance(each, int) or model.items.kind != "integer" else typed_id(each, model) for each in listed
        ]
    ids = [typed_id(word, model) for word in text.split(",")] if text.strip() else []
    missing = [each for each, row in zip(ids, model.items.index_of(ids).tolist(), strict=True) if row == UNKNOWN]
    if len(ids) > 1 and missing and unknown == "error":
        raise DataError(
            f"--history has items that the model does not know: {some(missing, 5)}; ids look like "
            f"{model.items.id_list([0])[0]!r}, and commas separate them: correct them, write an id that holds a comma "
            """in a JSON list, --history '["a,b","c"]', or add --unknown drop."""
        )
    return ids


def times_of(text: str, model: Any) -> list[int]:
    """The Unix seconds of one `--times`.

    Raises:
        ConfigError: the model reads none.
        DataError: they are no whole numbers, no seconds since 1970, or not in order.
    """
    from forethought.data.times import UNITS
    from forethought.errors import ConfigError, DataError, shown

    if not model.method.inputs.times:
        raise ConfigError("This model reads no times, so that --times would change nothing: leave it out.")
    seconds: list[int] = []
    for word in text.split(","):
        try:
            second = int(word)
        except ValueError:
            raise DataError(f"--times has {shown(word)}, but Unix seconds are whole numbers.") from None
        unit = next(name for limit, _, name in UNITS if abs(second) < limit)
        if second < 0 or abs(second) >= 2**63:
            raise DataError(
                f"--times has {shown(second)}, which is no time: Unix seconds count from 1970, as 1700000000."
            )
        if unit != "seconds":
            raise DataError(f"--times has {second}, which is a date as Unix {unit}: give seconds, such as 1700000000.")
        if seconds and second < seconds[-1]:
            raise DataError(
                f"--times has {second} behind {seconds[-1]}, but a history goes from the oldest item to the newest: "
                "bring both into that order."
            )
        seconds.append(second)
    return seconds


def _json_list(text: str) -> list[str | int] | None:
    """The ids of a JSON list; None where the text is none."""
    from forethought.errors import DataError, shown

    if not text.lstrip().startswith("["):
        return None
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if wrong := [each for each in listed if isinstance(each, bool) or not isinstance(each, str | int)]:
        raise DataError(f"--history is a JSON list with {shown(wrong[0])}, but ids are texts or whole numbers.")
    return listed
