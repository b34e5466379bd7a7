"""MovieLens (Harper and Konstan, ACM TiiS 2015): 100K (`u.data`), 1M and 10M (`ratings.dat`), all later ones (CSV)."""

from __future__ import annotations

import csv
from typing import Any

import polars as pl

from forethought.data.progress import Report, silent
from forethought.data.public.files import RawFile, RawKind, Source
from forethought.data.public.rows import decoded_lines, separated
from forethought.data.public.tables import RawTables, in_order
from forethought.errors import DataError

RATINGS_100K = RawKind("MovieLens 100K ratings (u.data)", r"u\.data")
MOVIES_100K = RawKind("MovieLens 100K movies (u.item)", r"u\.item")
RATINGS_1M = RawKind("MovieLens 1M ratings (ratings.dat)", r"ratings\.dat", r"^\d+::\d+::")
MOVIES_1M = RawKind("MovieLens 1M movies (movies.dat)", r"movies\.dat", r"^\d+::")
RATINGS_CSV = RawKind("MovieLens ratings (ratings.csv)", r"ratings\.csv", r"^userId,movieId,rating,timestamp")
MOVIES_CSV = RawKind("MovieLens movies (movies.csv)", r"movies\.csv", r"^movieId,title,genres")

GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
NO_GENRES = "(no genres listed)"
ITEM_SCHEMA = {"item_id": pl.Int64, "title": pl.String, "categories": pl.List(pl.String)}
COLUMNS = (("user_id", pl.Int64), ("item_id", pl.Int64), ("rating", pl.Float64), ("timestamp", pl.Int64))


def read_movielens_100k(source: Source, *, report: Report = silent) -> RawTables:
    """Read `u.data` and, where it is there, `u.item`, whose flags become the names of genres.

    Args:
        source: the file, a list of files, or their folder or archive.
        report: not told of anything: this is read in an instant.

    Raises:
        DataError: a file is missing, damaged or has a wrong line, which is named.
    """
    ratings = separated(RATINGS_100K.only_in(source), dict(enumerate(COLUMNS)), "\t")
    movies = MOVIES_100K.maybe_in(source)
    return _tables(
        ratings, [_movie_100k(movies, *line) for line in decoded_lines(movies, "latin-1")] if movies else None
    )


def read_movielens_1m(source: Source, *, report: Report = silent) -> RawTables:
    """Read `ratings.dat` and, where it is there, `movies.dat`, of MovieLens 1M or 10M; see `read_movielens_100k`."""
    ratings_file = RATINGS_1M.only_in(source)
    ratings = separated(ratings_file, {2 * place: column for place, column in enumerate(COLUMNS)}, ":")
    movies = MOVIES_1M.maybe_in(source)
    encoding = _encoding(movies) if movies else ""
    return _tables(ratings, [_movie_1m(movies, *line) for line in decoded_lines(movies, encoding)] if movies else None)


def read_movielens_csv(source: Source, *, report: Report = silent) -> RawTables:
    """Read `ratings.csv` and, where it is there, `movies.csv`, of 20M, 25M, 32M, latest or latest-small."""
    ratings = separated(RATINGS_CSV.only_in(source), dict(enumerate(COLUMNS)), ",", header=True)
    movies = MOVIES_CSV.maybe_in(source)
    return _tables(ratings, _movies_csv(movies) if movies else None)


def _tables(ratings: pl.DataFrame, movies: list[dict[str, Any]] | None) -> RawTables:
    return RawTables(in_order(ratings), None if movies is None else pl.DataFrame(movies, schema=ITEM_SCHEMA).lazy())


def _movie_100k(file: RawFile, number: int, line: str) -> dict[str, Any]:
    values = line.split("|")
    flags = values[-len(GENRES_100K) :]
    if len(values) != 5 + len(GENRES_100K) or not values[0].isdigit() or not set(flags) <= {"0", "1"}:
        raise _bad_movie(file, number, line, "id|title|release|video release|address|19 flags of 0 or 1")
    genres = [genre for genre, flag in zip(GENRES_100K, flags, strict=True) if flag == "1"]
    return {"item_id": int(values[0]), "title": values[1], "categories": genres}


def _movie_1m(file: RawFile, number: int, line: str) -> dict[str, Any]:
    movie, _, rest = line.partition("::")
    title, _, genres = rest.rpartition("::")
    if not movie.isdigit() or not title:
        raise _bad_movie(file, number, line, "id::title::genres")
    return {"item_id": int(movie), "title": title, "categories": _genres(genres)}


def _movies_csv(file: RawFile) -> list[dict[str, Any]]:
    rows = csv.reader(line for _, line in decoded_lines(file, "utf-8"))
    next(rows, None)
    movies = []
    for number, values in enumerate(rows, 2):
        if len(values) != 3 or not values[0].isdigit():
            raise _bad_movie(file, number, ",".join(values), "movieId,title,genres")
        movies.append({"item_id": int(values[0]), "title": values[1], "categories": _genres(values[2])})
    return movies


def _genres(text: str) -> list[str]:
    return [] if text in ("", NO_GENRES) else text.split("|")


def _encoding(file: RawFile) -> str:
    """1M is in Latin-1 and 10M in UTF-8; accents written in the one cannot be read as the other."""
    with file.open() as stream:
        try:
            stream.read().decode("utf-8")
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"


def _bad_movie(file: RawFile, number: int, line: str, expected: str) -> DataError:
    return DataError(
        f"Line {number:,} of {file} reads {line[:80]!r}, where {expected} was expected: mend or delete that line."
    )
