"""MovieLens' raw files of all ages, made by hand."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from forethought.data.public import detect, read_raw
from forethought.data.public.movielens import read_movielens_1m, read_movielens_100k, read_movielens_csv
from forethought.errors import DataError

FLAGS = "|".join("0001110000000000000")


def test_100k(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    (tmp_path / "u.item").write_bytes(f"242|Misérables, Les (1995)|01-Jan-1995||http://x|{FLAGS}\n".encode("latin-1"))
    assert detect(tmp_path) == "movielens-100k"
    tables = read_raw(tmp_path)
    assert tables.interactions.collect().rows() == [(196, 242, 881250949, 3.0, 0), (186, 302, 891717742, 3.0, 1)]
    assert tables.items is not None
    assert tables.items.collect().rows() == [(242, "Misérables, Les (1995)", ["Animation", "Children's", "Comedy"])]


def test_100k_ratings_alone(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n")
    assert read_raw(tmp_path / "u.data").items is None


def test_1m_in_its_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "1::1193::5::978300760\n1::661::3::978302109\n")
        archive.writestr("ml-1m/movies.dat", "661::Star Wars: Épisode IV::Action|Sci-Fi\n".encode("latin-1"))
        archive.writestr("__MACOSX/ml-1m/._ratings.dat", "not ours")
    assert detect(tmp_path / "ml-1m.zip") == "movielens-1m"
    tables = read_raw(tmp_path)
    assert tables.interactions.collect().rows() == [(1, 1193, 978300760, 5.0, 0), (1, 661, 978302109, 3.0, 1)]
    assert tables.items is not None
    assert tables.items.collect().rows() == [(661, "Star Wars: Épisode IV", ["Action", "Sci-Fi"])]


def test_10m_titles_are_utf8(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::122::4.5::838985046\n")
    (tmp_path / "movies.dat").write_text("122::Léon (1994)::Drama\n", encoding="utf-8")
    tables = read_movielens_1m(tmp_path)
    assert tables.interactions.collect()["rating"].to_list() == [4.5]
    assert tables.items is not None
    assert tables.items.collect()["title"].to_list() == ["Léon (1994)"]


def test_csv(tmp_path: Path) -> None:
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n")
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n31,"American President, The (1995)",Comedy|Drama\n7,Nothing,(no genres listed)\n'
    )
    assert detect(tmp_path) == "movielens-csv"
    tables = read_raw(tmp_path)
    assert tables.interactions.collect().rows() == [(1, 31, 1260759144, 2.5, 0)]
    assert tables.items is not None
    assert tables.items.collect().rows() == [
        (31, "American President, The (1995)", ["Comedy", "Drama"]),
        (7, "Nothing", []),
    ]


@pytest.mark.parametrize("broken", ["196\t242\t3", "196\t242\tthree\t1", "196\t242\t3\t1\t1", "\t242\t3\t1"])
def test_a_broken_rating_is_named_by_file_and_line(tmp_path: Path, broken: str) -> None:
    (tmp_path / "u.data").write_text(f"196\t242\t3\t881250949\n\n{broken}\n")
    with pytest.raises(DataError, match=r"Line 3 of '.*u.data' reads .*, where user_id, item_id, rating, timestamp"):
        read_movielens_100k(tmp_path)


def test_a_broken_1m_rating_is_named(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n1::1193::5\n")
    with pytest.raises(DataError, match=r"Line 2 of .* reads '1::1193::5'"):
        read_movielens_1m(tmp_path)


def test_a_broken_movie_is_named(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n")
    (tmp_path / "u.item").write_text("242|Kolya (1996)|24-Jan-1997|\n")
    with pytest.raises(DataError, match=r"Line 1 of '.*u.item' reads '242\|Kolya"):
        read_movielens_100k(tmp_path)
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n31,American President, The (1995),Comedy\n")
    with pytest.raises(DataError, match=r"Line 2 of '.*movies.csv' reads '31,American President, The"):
        read_movielens_csv(tmp_path)


def test_a_table_of_only_a_header_is_empty(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n")
    assert read_movielens_csv(tmp_path).interactions.collect().height == 0


def test_a_damaged_zip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "1::1193::5::978300760\n")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="is damaged"):
        read_movielens_1m(path)
