"""The table of known data sets; nothing here contacts anybody."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from forethought.data.public import KNOWN, fetch, known, read_raw
from forethought.errors import DataError

PUBLISHERS = (
    "https://files.grouplens.org/datasets/movielens/",
    "https://snap.stanford.edu/data/amazon/",
    "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/",
)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """Record what would be downloaded, and put a tiny archive in its place."""
    asked: list[tuple[str, str, str | None]] = []

    def pretend(url: str, to: Path, *, md5: str | None, report: object) -> Path:
        asked.append((url, to.name, md5))
        to.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(to, "w") as archive:
            archive.writestr("ml-latest-small/ratings.csv", "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n")
        return to

    monkeypatch.setattr(known, "download", pretend)
    monkeypatch.setattr(known, "fetch_text", lambda url: asked.append((url, "", None)) or f"MD5 (x.zip) = {'A' * 32}\n")
    return asked


def test_every_address_is_its_publishers() -> None:
    for name, entry in KNOWN.items():
        assert entry.page.startswith("https://"), name
        assert bool(entry.files) != bool(entry.by_hand), name
        for remote in entry.files:
            assert remote.url.startswith(PUBLISHERS), name
    for name in ("ml-100k", "ml-1m", "ml-25m", "ml-32m", "ml-latest-small", "amazon-2014-beauty", "amazon-2014-sports"):
        assert name in KNOWN
    assert KNOWN["amazon-2023-video-games"].files[0].url.endswith("/5core/rating_only/Video_Games.csv.gz")
    assert KNOWN["amazon-2023-digital-music"].files[0].url.endswith("/0core/rating_only/Digital_Music.csv.gz")


def test_fetch_puts_files_into_a_folder_of_their_own(tmp_path: Path, downloads: list) -> None:
    assert fetch("ml-1m", tmp_path) == tmp_path / "ml-1m"
    assert downloads == [
        ("https://files.grouplens.org/datasets/movielens/ml-1m.zip", "ml-1m.zip", "c4d9eecfca2ab87c1945afe126590906")
    ]


def test_the_checksum_of_a_changing_file_is_asked_for(tmp_path: Path, downloads: list) -> None:
    folder = fetch("ml-latest-small", tmp_path)
    url = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"
    assert downloads == [(f"{url}.md5", "", None), (url, "ml-latest-small.zip", "a" * 32)]
    assert read_raw(folder).interactions.collect().rows() == [(1, 31, 1260759144, 2.5, 0)]
    fetch("ml-latest-small", tmp_path)  # now it is there: nobody needs to be asked
    assert downloads[2:] == [(url, "ml-latest-small.zip", None)]


def test_a_checksum_that_is_none_is_refused(tmp_path: Path, downloads: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "fetch_text", lambda url: "<html>moved</html>")
    with pytest.raises(DataError, match=r"does not hold an MD5 checksum.*put it here: .*ml-latest-small\.zip"):
        fetch("ml-latest-small", tmp_path)


def test_offline_the_checksum_cannot_be_asked_for_and_the_file_is_named(tmp_path: Path, monkeypatch) -> None:
    def offline(url: str) -> str:
        raise DataError(f"{url} could not be read (no network): check the connection.")

    monkeypatch.setattr(known, "fetch_text", offline)
    with pytest.raises(DataError, match=r"no network.*Download https://files.*put it here: .*ml-latest-small\.zip"):
        fetch("ml-latest-small", tmp_path)


def test_what_is_given_out_by_hand_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"yelp is only given out by hand.*yelp_dataset.tar.*put it here: .*yelp"):
        fetch("yelp", tmp_path)
    (tmp_path / "yelp").mkdir()
    (tmp_path / "yelp" / "review.json").write_text('{"review_id": "r", "user_id": "u", "business_id": "b"}\n')
    assert fetch("yelp", tmp_path) == tmp_path / "yelp"


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'ml-1n' is no known data set.*Did you mean 'ml-1m'\?"):
        fetch("ml-1n", tmp_path)
