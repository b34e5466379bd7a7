"""The list of mutants fits the tree; `make mutants` then shows that each of them is killed."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace

import pytest

from mutants import ROOT, Mutant, Stale, everything

MUTANTS = everything()


def test_there_are_many_and_none_stands_there_twice() -> None:
    assert len(MUTANTS) >= 60
    assert [what for what, n in Counter(mutant.what for mutant in MUTANTS).items() if n > 1] == []
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_every_mutant_fits_the_tree(mutant: Mutant) -> None:
    """Its snippet stands there once, its test is there, and what it makes of the file is Python of another meaning."""
    source = mutant.path(ROOT).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(mutant.broken())) != ast.dump(ast.parse(source))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"file": "reasoning/nothing.py"}, "there is no file"),
        ({"old": "nobody wrote this"}, "0 times"),
        ({"old": "import"}, "times, but it must stand there once"),
        ({"test": "unit/reasoning/test_step_sampling.py::test_that_is_gone"}, "there is no test"),
    ],
)
def test_a_mutant_that_fits_no_more_is_told(changed: dict[str, str], said: str) -> None:
    with pytest.raises(Stale, match=said):
        replace(next(mutant for mutant in MUTANTS if mutant.file == "reasoning/step_sampling.py"), **changed).broken()
