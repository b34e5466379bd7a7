"""CSV and its relatives as people and programs really write them, and as they should not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile


def texts(good: str, head: str) -> dict[str, bytes]:
    """Name of a file -> what is in it."""
    return {**_encodings(good), **_shapes(good, head), **_cells(head), **_archives(good)}


def _encodings(good: str) -> dict[str, bytes]:
    raw = good.encode()
    return {
        "bom.csv": b"\xef\xbb\xbf" + raw,
        "utf16.csv": good.encode("utf-16"),
        "utf16be.csv": good.encode("utf-16-be"),
        "utf32.csv": good.encode("utf-32"),
        "latin1.csv": good.replace("u1", "ü1").encode("latin-1"),
        "bad-utf8.csv": raw.replace(b"u2", b"u\xff\xfe"),
        "cut-utf8.csv": good.replace("u3", "ü").encode()[:-1].replace(b"\xc3\xbc", b"\xc3", 1),
        "surrogates.csv": raw.replace(b"u2", b"\xed\xa0\x80"),
        "nul.csv": raw.replace(b"u4", b"u\x00"),
        "all-nul.csv": bytes(5_000),
        "nul-header.csv": b"\x00" + raw,
        "crlf.csv": raw.replace(b"\n", b"\r\n"),
        "cr.csv": raw.replace(b"\n", b"\r"),
        "mixed-ends.csv": raw.replace(b"\n", b"\r\n", 5),
        "escapes.csv": raw.replace(b"u5", b"\x1b[2J\x1b[31m"),
        "binary.csv": bytes(range(256)) * 40,
    }


def _shapes(good: str, head: str) -> dict[str, bytes]:
    lines = good.splitlines()
    made = {
        "empty.csv": "",
        "empty.tsv": "",
        "newline.csv": "\n",
        "newlines.csv": "\n" * 1_000,
        "blanks.csv": " ",
        "header-only.csv": head,
        "header-no-end.csv": head.rstrip(),
        "no-header.csv": good[len(head) :],
        "twice-the-header.csv": head + good,
        "doubled-names.csv": "user_id,user_id,item_id,timestamp\na,b,c,1\n",
        "empty-names.csv": ",,,\na,b,c,1\n",
        "blank-names.csv": " user_id , item_id , timestamp \na,b,1\n",
        "upper-names.csv": good.replace("user_id", "USER_ID"),
        "one-column.csv": "user_id\na\nb\n",
        "ragged-short.csv": good + "u1\n",
        "ragged-long.csv": good + "u1,i1,1,2,3,4,5\n",
        "only-commas.csv": head + ",,\n" * 10,
        "semicolons.csv": good.replace(",", ";"),
        "pipes.csv": good.replace(",", "|"),
        "tabs.csv": good.replace(",", "\t"),
        "commas.tsv": good,
        "spaces.txt": good.replace(",", " "),
        "open-quote.csv": good + '"u1,i1,1\n',
        "quotes.csv": good.replace("u1", '"u""1"'),
        "quote-inside.csv": good.replace("u1", 'u"1'),
        "quoted-newlines.csv": good.replace("u1", '"u\n1"'),
        "quoted-header.csv": good.replace("user_id", '"user\n_id"'),
        "comment.csv": "# a comment\n" + good,
        "cut.csv": good[: len(good) * 2 // 3],
        "one-row.csv": "\n".join(lines[:2]) + "\n",
        "one-user.csv": head + "".join(f"u,i{n},{n}\n" for n in range(20)),
        "one-item.csv": head + "".join(f"u{n},i,{n}\n" for n in range(20)),
        "all-alike.csv": head + "u,i,1\n" * 50,
        "many-columns.csv": ",".join(f"c{n}" for n in range(20_000)) + "\n",
        "long-line.csv": head + "u" * 3_000_000 + ",i,1\n",
        "long-name.csv": "u" * 100_000 + ",item_id,timestamp\na,b,1\n",
        "json.csv": '[{"user_id": 1, "item_id": 2, "timestamp": 3}]',
        "html.csv": "<!DOCTYPE html><html><body>404</body></html>",
        "lfs.csv": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
        "brackets [1].csv": good,
        "star *.csv": good,
        "question ?.csv": good,
        "brace {a}.csv": good,
        "new\nline.csv": good,
        "-dash.csv": good,
        "ünï.csv": good,
        " spaces .csv": good,
        "quote'.csv": good,
        "percent%20.csv": good,
        "sql:.csv": good,
        "endless.csv.csv": good,
        "unknown.ending": good,
        "no-ending": good,
        "interactions.inter": good,
        "x" * 200 + ".csv": good,
    }
    return {name: text.encode() for name, text in made.items()}


def _cells(head: str) -> dict[str, bytes]:
    """The same rows with one sort of time, of id or of user."""
    times = {
        "garbage": ("2020-01-01", "garbage", "2020-01-03"),
        "dates": ("2020-01-01", "2020-02-30", "2020-01-03"),
        "days-first": ("31/12/2020", "30/12/2020", "29/12/2020"),
        "iso": ("2020-01-01T00:00:00Z", "2020-01-01 00:00:00", "2020-01-01"),
        "zones": ("2020-01-01T00:00:00+02:00", "2020-01-01T00:00:00-11:30", "2020-01-01T00:00:00Z"),
        "millis-and-seconds": ("1600000000", "1600000001000", "1600000002"),
        "nan": ("1600000000", "nan", "1600000002"),
        "inf": ("1600000000", "inf", "-inf"),
        "huge": ("1e308", "9" * 30, "1"),
        "minus": ("-1", "-99999999999999", "0"),
        "empty": ("1600000000", "", "1600000002"),
        "null": ("1600000000", "NULL", "None"),
        "hex": ("0x5f5e100", "0b1", "0o7"),
        "arabic": ("١٦٠٠", "1٦", "٣"),
        "commas": ('"1,600,000"', '"1,7"', '"3"'),
        "year-0": ("0000-01-01", "0001-01-01", "9999-12-31"),
        "year-99999": ("+99999-01-01", "-99999-01-01", "2020-01-01"),
        "scientific": ("1.6e9", "1.6e9", "1.7e9"),
    }
    ids = {
        "leading-zeros": ("007", "7", "07"),
        "huge": ("9" * 400, "8" * 400, "1"),
        "overflow": ("9223372036854775808", "-9223372036854775809", "1"),
        "floats": ("1.0", "1", "1.50"),
        "nan": ("nan", "NaN", "inf"),
        "blank": (" ", "  ", "a"),
        "empty": ("", "a", "b"),
        "quotes": ('"a""b"', "a'b", '"a,b"'),
        "like-sql": ("'; DROP TABLE x; --", '"" OR 1=1', "a"),
        "like-formulas": ("=1+1", "@SUM(A1)", "+1"),
        "like-uuids": ("123e4567-e89b-12d3-a456-426614174000", "123E4567E89B12D3A456426614174000", "x"),
        "like-markup": ("[/bold]", "[link=x]y", "<b>"),
        "right-to-left": ("\u202eabc", "\u200b", "\ufeffabc"),
        "combining": ("e\u0301", "\u00e9", "e"),
        "null-words": ("null", "None", "NA"),
        "true-false": ("true", "false", "True"),
    }
    made = {f"times-{name}.csv": _rows(head, times=values) for name, values in times.items()}
    made |= {f"items-{name}.csv": _rows(head, items=values) for name, values in ids.items()}
    made |= {f"users-{name}.csv": _rows(head, users=values) for name, values in ids.items()}
    return made


def _rows(
    head: str,
    users: tuple[str, ...] = ("u1", "u2", "u3"),
    items: tuple[str, ...] = ("i00001", "i00002", "i00003", "i00004"),
    times: tuple[str, ...] = (),
) -> bytes:
    lines = [head]
    for n in range(48):
        when = times[(n // 3) % 3] if times else str(1_600_000_000 + n)
        lines.append(f"{users[n % len(users)]},{items[n % len(items)]},{when}\n")
    return "".join(lines).encode("utf-8", "surrogatepass")


def _archives(good: str) -> dict[str, bytes]:
    raw = good.encode()
    packed = gzip.compress(raw, mtime=0)
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("../../evil.csv", raw)
    with tarfile.open(fileobj=tarred, mode="w:gz") as archive:
        info = tarfile.TarInfo("../../evil.csv")
        info.size = len(raw)
        archive.addfile(info, io.BytesIO(raw))
    return {
        "gzipped.csv": packed,
        "plain.csv.gz": raw,
        "gzipped.csv.gz": packed,
        "cut.csv.gz": packed[: len(packed) // 2],
        "twice.csv.gz": packed + packed,
        "trailing.csv.gz": packed + b"garbage",
        "empty.csv.gz": b"",
        "nothing.csv.gz": gzip.compress(b"", mtime=0),
        "bomb.csv.gz": gzip.compress(b"user_id,item_id\n" + b"a,b\n" * 2_000_000, mtime=0),
        "bad-crc.csv.gz": packed[:-8] + bytes(8),
        "bzipped.csv": bz2.compress(raw),
        "xz.csv": lzma.compress(raw),
        "zip.csv": zipped.getvalue(),
        "archive.zip": zipped.getvalue(),
        "archive.tar.gz": tarred.getvalue(),
        "zstd-magic.csv.zst": b"\x28\xb5\x2f\xfd" + raw,
        "csv.parquet": raw,
        "empty.parquet": b"",
        "magic.parquet": b"PAR1",
        "magic-twice.parquet": b"PAR1PAR1",
        "length.parquet": b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1",
        "gzipped.parquet": packed,
    }
