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
