"""Known data sets: where their publishers keep them, how a copy is checked, and how each is read.

Only the publishers' own addresses stand here. Checksums are those that the publisher prints (MovieLens); the others
print none, so the SHA-256 of what first arrives is recorded beside the file and checked from then on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from forethought.data.downloads import download, fetch_text
from forethought.data.progress import Report, silent
from forethought.data.public import amazon_2014, amazon_2023, movielens, s3_rec, yelp
from forethought.data.public.files import RawKind, Source, shown
from forethought.data.public.tables import RawTables
from forethought.errors import DataError, nearest


class Reader(Protocol):
    """Reads the raw files of one format."""

    def __call__(self, source: Source, *, report: Report = silent) -> RawTables: ...


@dataclass(frozen=True)
class Remote:
    """A file at its publisher's.

    Attributes:
        url: its address.
        md5: the checksum that the publisher prints.
        md5_url: where the publisher prints the checksum of a file that changes from time to time.
    """

    url: str
    md5: str | None = None
    md5_url: str | None = None


@dataclass(frozen=True)
class PublicDataset:
    """A data set that can be asked for by name.

    Attributes:
        reader: what reads it.
        page: where its terms of use and its description are.
        files: what to download; none where the publisher wants to be asked by hand.
        by_hand: then, what to ask for.
    """

    reader: Reader
    page: str
    files: tuple[Remote, ...] = ()
    by_hand: str = ""


FORMATS: dict[str, tuple[RawKind, Reader]] = {
    "movielens-100k": (movielens.RATINGS_100K, movielens.read_movielens_100k),
    "movielens-1m": (movielens.RATINGS_1M, movielens.read_movielens_1m),
    "movielens-csv": (movielens.RATINGS_CSV, movielens.read_movielens_csv),
    "amazon-2023": (amazon_2023.REVIEWS, amazon_2023.read_amazon_2023),
    "amazon-2023-ids": (amazon_2023.TABLES, amazon_2023.read_amazon_2023),
    "amazon-2014": (amazon_2014.REVIEWS, amazon_2014.read_amazon_2014),
    "amazon-2014-ratings": (amazon_2014.RATINGS, amazon_2014.read_amazon_2014),
    "yelp": (yelp.REVIEWS, yelp.read_yelp),
    "s3-rec": (s3_rec.SEQUENCES, s3_rec.read_s3_rec),
}
"""Formats in the order in which they are looked for, each with the file that gives it away."""

_MOVIELENS = {
    "ml-100k": ("0e33842e24a9c977be4e0107933c0723", movielens.read_movielens_100k),
    "ml-1m": ("c4d9eecfca2ab87c1945afe126590906", movielens.read_movielens_1m),
    "ml-10m": ("ce571fd55effeba0271552578f2648bd", movielens.read_movielens_1m),
    "ml-20m": ("cd245b17a1ae2cc31bb14903e1204af3", movielens.read_movielens_csv),
    "ml-25m": ("6b51fb2759a8657d3bfcbfc42b592ada", movielens.read_movielens_csv),
    "ml-32m": ("d472be332d4daa821edc399621853b57", movielens.read_movielens_csv),
    "ml-latest-small": (None, movielens.read_movielens_csv),  # changes now and then
}

_AMAZON_2014 = {
    "apps": "Apps_for_Android",
    "automotive": "Automotive",
    "baby": "Baby",
    "beauty": "Beauty",
    "books": "Books",
    "cds": "CDs_and_Vinyl",
    "clothing": "Clothing_Shoes_and_Jewelry",
    "digital-music": "Digital_Music",
    "electronics": "Electronics",
    "garden": "Patio_Lawn_and_Garden",
    "grocery": "Grocery_and_Gourmet_Food",
    "health": "Health_and_Personal_Care",
    "home": "Home_and_Kitchen",
    "instant-video": "Amazon_Instant_Video",
    "instruments": "Musical_Instruments",
    "kindle": "Kindle_Store",
    "movies": "Movies_and_TV",
    "office": "Office_Products",
    "pets": "Pet_Supplies",
    "phones": "Cell_Phones_and_Accessories",
    "sports": "Sports_and_Outdoors",
    "tools": "Tools_and_Home_Improvement",
    "toys": "Toys_and_Games",
    "video-games": "Video_Games",
}

_AMAZON_2023 = (
    *("All_Beauty", "Arts_Crafts_and_Sewing", "Automotive", "Baby_Products", "Beauty_and_Personal_Care", "Books"),
    *("CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry", "Electronics", "Gift_Cards"),
    *("Grocery_and_Gourmet_Food", "Health_and_Household", "Home_and_Kitchen", "Industrial_and_Scientific"),
    *("Kindle_Store", "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products"),
    *("Patio_Lawn_and_Garden", "Pet_Supplies", "Software", "Sports_and_Outdoors", "Tools_and_Home_Improvement"),
    *("Toys_and_Games", "Video_Games"),
)
# Of these the publisher's 5-core is empty, so the ids of everybody are taken.
_AMAZON_2023_SPARSE = (
    *("Amazon_Fashion", "Appliances", "Digital_Music", "Handmade_Products", "Health_and_Personal_Care"),
    "Subscription_Boxes",
)


def _movielens(name: str, md5: str | None, reader: Reader) -> PublicDataset:
    url = f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    remote = Remote(url, md5, None if md5 else f"{url}.md5")
    return PublicDataset(reader, "https://grouplens.org/datasets/movielens/", (remote,))


def _amazon_2014(category: str) -> PublicDataset:
    base = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
    files = Remote(f"{base}/reviews_{category}_5.json.gz"), Remote(f"{base}/meta_{category}.json.gz")
    return PublicDataset(amazon_2014.read_amazon_2014, "https://jmcauley.ucsd.edu/data/amazon/", files)


def _amazon_2023(category: str) -> PublicDataset:
    base = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
    core = "0core" if category in _AMAZON_2023_SPARSE else "5core"
    ids = Remote(f"{base}/benchmark/{core}/rating_only/{category}.csv.gz")
    meta = Remote(f"{base}/raw/meta_categories/meta_{category}.jsonl.gz")
    return PublicDataset(amazon_2023.read_amazon_2023, "https://amazon-reviews-2023.github.io/", (ids, meta))


KNOWN: dict[str, PublicDataset] = {
    **{name: _movielens(name, *how) for name, how in _MOVIELENS.items()},
    **{f"amazon-2014-{short}": _amazon_2014(category) for short, category in _AMAZON_2014.items()},
    **{
        f"amazon-2023-{category.lower().replace('_', '-')}": _amazon_2023(category)
        for category in (*_AMAZON_2023, *_AMAZON_2023_SPARSE)
    },
    "yelp": PublicDataset(
        yelp.read_yelp,
        "https://business.yelp.com/data/resources/open-dataset/",
        by_hand="the JSON files: agree to the terms there, unpack Yelp-JSON.zip, and take yelp_dataset.tar out of it",
    ),
}


def detect(source: Source) -> str | None:
    """Which of `FORMATS` a file, folder or archive holds, or None.

    Raises:
        DataError: the source does not exist, or an archive is damaged.
    """
    return next((name for name, (kind, _) in FORMATS.items() if kind.all_in(source)), None)


def read_raw(source: Source, *, report: Report = silent) -> RawTables:
    """Read raw files of any known format.

    Args:
        source: a file, a list of files (interactions and items), or their folder or archive.
        report: told of lines done.

    Raises:
        DataError: no known format, or a file is damaged or has a wrong line, which is named.
    """
    detected = detect(source)
    if detected is None:
        kinds = "; ".join(kind.what for kind, _ in FORMATS.values())
        raise DataError(f"{shown(source)} holds no raw data of a known format. Known are: {kinds}.")
    return FORMATS[detected][1](source, report=report)


def fetch(name: str, folder: str | Path, *, report: Report = silent) -> Path:
    """Download a known data set from its publisher, or check the copy that is there.

    Please read the terms on its page (`KNOWN[name].page`) first; most are for research only.

    Args:
        name: a key of `KNOWN`.
        folder: the files go to `folder/name`.
        report: told of bytes done.

    Returns:
        The folder with the files, for `read_raw` or the data set's reader.

    Raises:
        DataError: unknown name; the publisher cannot be reached or wants to be asked by hand, in which case the text
            says which file to put where; or a wrong checksum.
    """
    if name not in KNOWN:
        raise DataError(f"{name!r} is no known data set: `forethought download list` shows all.{nearest(name, KNOWN)}")
    known, folder = KNOWN[name], Path(folder) / name
    for remote in known.files:
        to = folder / remote.url.rpartition("/")[2]
        # A copy put there by hand must do without the publisher's list: there may be no way to reach it.
        md5 = remote.md5 if to.exists() else _published(remote, to)
        download(remote.url, to, md5=md5, report=report)
    if not known.files and not (folder.exists() and detect(folder)):
        raise DataError(
            f"{name} is only given out by hand. From {known.page} get {known.by_hand}; put it here: {folder.resolve()}"
        )
    return folder


def _published(remote: Remote, to: Path) -> str | None:
    """The checksum that the publisher prints, if there is one."""
    if remote.md5_url is None:
        return remote.md5
    by_hand = f"Download {remote.url} by other means and put it here: {to.resolve()}"
    try:
        match = re.search(r"\b[0-9a-fA-F]{32}\b", fetch_text(remote.md5_url))
    except DataError as error:
        raise DataError(f"{error} {by_hand}") from error
    if not match:
        raise DataError(f"{remote.md5_url} does not hold an MD5 checksum any more. {by_hand}")
    return match[0].lower()
