"""Which items fit conditions on the columns of the item table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import polars as pl

from forethought.errors import nearest, shown
from forethought.serving.failures import RequestError
from forethought.serving.requests import as_json

MOST_VALUES = 10_000
ENDS = {"min", "max"}


def fitting(table: pl.DataFrame, where: Mapping[str, Any]) -> np.ndarray:
    """True for the items that fit all conditions, [N].

    A condition is a value, a list of values of which one must fit, or an object with `min`, `max` or both, which are
    included. A column of lists fits where one of its entries does; what is not known fits nothing.

    Raises:
        RequestError: an unknown column, or a condition that the column's type cannot answer.
    """
    conditions = [_condition(table, column, condition) for column, condition in where.items()]
    fits = reduce(lambda one, other: one & other, conditions)
    return table.select(fits.fill_null(False).alias("fits"))["fits"].to_numpy()


def _condition(table: pl.DataFrame, column: str, condition: Any) -> pl.Expr:
    if column not in table.columns:
        raise RequestError(f"The items have no column {shown(column)}.{nearest(column, table.columns)}")
    dtype = table.schema[column]
    if isinstance(condition, dict):
        return _between(column, dtype, condition)
    values = condition if isinstance(condition, list) else [condition]
    if len(values) > MOST_VALUES:
        raise RequestError(f"where.{column} has {len(values):,} values, but at most {MOST_VALUES:,} are taken.")
    inner = dtype
    while isinstance(inner, pl.List | pl.Array):
        inner = inner.inner
    held = _literals(column, inner, values, condition)  # pyright: ignore[reportArgumentType]
    if isinstance(dtype, pl.List | pl.Array):
        flat = pl.col(column)
        while isinstance(dtype.inner, pl.List | pl.Array):
            flat, dtype = flat.list.eval(pl.element().explode()), pl.List(dtype.inner.inner)
        return flat.list.eval(pl.element().is_in(held.implode())).list.any()
    return pl.col(column).is_in(held.implode())


def _literals(column: str, dtype: pl.DataType, values: list[Any], condition: Any) -> pl.Series:
    """The values of a condition in the column's own type, so that 7 never fits "7"."""
    if dtype == pl.Boolean:
        fits = all(isinstance(value, bool) for value in values)
    elif dtype.is_numeric():
        fits = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    elif dtype in (pl.String, pl.Categorical, pl.Enum):
        fits = all(isinstance(value, str) for value in values)
    else:
        raise RequestError(f"The column {shown(column)} is of type {dtype}, which no value is held against.")
    if not fits:
        raise RequestError(f"where.{column} is {as_json(condition)}, but the column holds {_called(dtype)}.")
    try:
        return pl.Series(values, dtype=pl.Float64 if dtype.is_float() else dtype, strict=dtype.is_integer())
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        raise RequestError(f"where.{column} is {as_json(condition)}, but the column holds {_called(dtype)}.") from None


def _between(column: str, dtype: pl.DataType, ends: dict[str, Any]) -> pl.Expr:
    if not ends or not ends.keys() <= ENDS:
        raise RequestError(f'where.{column} must be a value, a list of values, or such as {{"min": 5, "max": 20}}.')
    if not dtype.is_numeric():
        raise RequestError(f"The column {shown(column)} holds {_called(dtype)}, which has no min and max.")
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends.values()):
        raise RequestError(f"where.{column} is {as_json(ends)}, but min and max are numbers.")
    try:
        least, most = float(ends.get("min", "-inf")), float(ends.get("max", "inf"))
    except OverflowError:
        raise RequestError(f"where.{column} has a number too large to be held against anything.") from None
    return pl.col(column).is_between(least, most)


def _called(dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        return "truth values"
    return "whole numbers" if dtype.is_integer() else "numbers" if dtype.is_numeric() else "text"
