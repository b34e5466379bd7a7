"""Mutants: lines of the package that are broken one by one, each with the test that must see it.

A test that passes whatever the code says is worth nothing. `make mutants` breaks each line in a copy of the tree and
runs the one test named beside it: if it passes, the mutant has survived, and the test does not bite.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Stale(Exception):
    """A mutant that does not fit the tree any more: its snippet has moved, or its test is gone."""


@dataclass(frozen=True)
class Mutant:
    """One line broken.

    Attributes:
        what: what is broken, in words.
        file: below `src/forethought`.
        old: a snippet that stands there exactly once; as short as tells it apart, so that reformatting spares it.
        new: what it is replaced by. The file must still be imported without an error.
        test: which must fail, as `file::function` below `tests`.
    """

    what: str
    file: str
    old: str
    new: str
    test: str

    def path(self, root: Path) -> Path:
        return root / "src/forethought" / self.file

    def broken(self, root: Path = ROOT) -> str:
        """The file with the mutant in it.

        Raises:
            Stale: the file, the snippet or the test is not what the list says.
        """
        if not self.path(root).is_file():
            raise Stale(f"{self.what}: there is no file {self.file}.")
        source = self.path(root).read_text(encoding="utf-8")
        if (times := source.count(self.old)) != 1:
            raise Stale(f"{self.what}: {self.file} has {self.old!r} {times} times, but it must stand there once.")
        file, _, name = self.test.partition("::")
        path = root / "tests" / file
        if not path.is_file() or f"def {name.split('::')[-1]}(" not in path.read_text(encoding="utf-8"):
            raise Stale(f"{self.what}: there is no test {self.test}.")
        return source.replace(self.old, self.new)


def everything() -> list[Mutant]:
    """All mutants of all lists."""
    from mutants import (
        alignment,
        authors,
        catalogue,
        data,
        decoding,
        evaluation,
        evidence,
        methods,
        precision,
        reasoning,
        reasoning_methods,
        serving,
        studies,
        token_methods,
        tokens,
        training,
        tuning,
    )

    lists = (
        alignment,
        authors,
        methods,
        reasoning,
        reasoning_methods,
        catalogue,
        data,
        training,
        evaluation,
        evidence,
        decoding,
        tokens,
        token_methods,
        precision,
        serving,
        tuning,
        studies,
    )
    return [mutant for part in lists for mutant in part.MUTANTS]
