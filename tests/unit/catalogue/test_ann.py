"""Approximate search against exact search: recall, exclusions, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from forethought.catalogue.ann import EXACT_BELOW, ANNIndex, ExactIndex, choose_index
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.ranking import FilteredItems, top_k
from forethought.errors import RunError

N, D = 20_000, 32
RANDOM = torch.Generator().manual_seed(0)


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM)


CENTRES = randn(100, D)
STATES = CENTRES[torch.arange(200) % 100] + 0.6 * randn(200, D)
VECTORS = (CENTRES[torch.randint(100, (N,), generator=RANDOM)] + 0.6 * randn(N, D)) * (0.3 * randn(N, 1)).exp()
BIAS = randn(N)
ITEMS = Catalogue(VECTORS, BIAS)


@pytest.fixture(scope="module")
def index() -> ANNIndex:
    return ANNIndex.build(ITEMS)


def recall(found: Tensor, exact: Tensor) -> float:
    return torch.stack([torch.isin(a, b).double().mean() for a, b in zip(exact, found, strict=True)]).mean().item()


def test_recall_and_scores(index: ANNIndex) -> None:
    found, scores = index.search(STATES, 10)
    assert recall(found, top_k(STATES, ITEMS, 10)[0]) >= 0.95
    assert (scores.diff(dim=1) <= 0).all()
    exact = (STATES @ VECTORS.T + BIAS).gather(1, found)
    torch.testing.assert_close(scores, exact, rtol=1e-4, atol=1e-4)


def test_exclusions_and_allowed_items_leave_k(index: ANNIndex) -> None:
    best = top_k(STATES, ITEMS, 30)[0]
    excluded = FilteredItems.from_histories(best, torch.arange(200) % 31)
    allowed = torch.arange(N) % 3 > 0
    found, _ = index.search(STATES, 10, excluded, allowed)
    assert recall(found, top_k(STATES, ITEMS, 10, excluded, allowed)[0]) >= 0.95
    assert (found >= 0).all()
    assert allowed[found].all()
    assert not any(torch.isin(found[u], best[u, : u % 31]).any() for u in range(200))


@pytest.mark.parametrize("n_allowed", [0, 4, 300])
def test_few_allowed_items_are_searched_exactly(index: ANNIndex, n_allowed: int) -> None:
    allowed = torch.arange(N) < n_allowed
    found, scores = index.search(STATES, 10, None, allowed)
    exact = top_k(STATES, ITEMS, 10, None, allowed)
    assert torch.equal(found, exact[0])
    torch.testing.assert_close(scores, exact[1], rtol=1e-4, atol=1e-4)


def test_rows_that_run_short_are_searched_exactly(index: ANNIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    best = top_k(STATES, ITEMS, 5)[0]
    excluded = FilteredItems.from_histories(best, torch.arange(200) % 2 * 5)
    monkeypatch.setattr(ANNIndex, "_fetch", lambda *_: 12)
    found, _ = index.search(STATES, 10, excluded)
    assert torch.equal(found[1::2], top_k(STATES, ITEMS, 10, excluded)[0][1::2])
    assert (found >= 0).all()


@pytest.mark.parametrize("bias", [None, torch.linspace(-1, 1, 500)])
def test_a_small_catalogue_saved_and_loaded(bias: Tensor | None, tmp_path: Path) -> None:
    items = Catalogue(VECTORS[:500], bias)
    ANNIndex.build(items).save(tmp_path / "new", "weights")
    again = ANNIndex.load(tmp_path / "new", "weights")
    assert again is not None
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["annindex.bin", "annindex.json"]
    for k in (10, 600):
        found, scores = again.search(STATES, k)
        exact = top_k(STATES, items, k)
        assert recall(found, exact[0]) >= 0.99
        assert found.shape == scores.shape == (200, k)


def test_an_index_of_other_weights_is_not_used(tmp_path: Path) -> None:
    assert ANNIndex.load(tmp_path, "weights") is None
    ANNIndex.build(Catalogue(VECTORS[:50])).save(tmp_path, "weights")
    assert ANNIndex.load(tmp_path, "weights") is not None
    assert ANNIndex.load(tmp_path, "others") is None


def test_a_negated_or_damaged_index_is_told_in_one_sentence(tmp_path: Path) -> None:
    ANNIndex.build(Catalogue(VECTORS[:50])).save(tmp_path / "good", "weights")
    ANNIndex.build(Catalogue(-VECTORS[:50])).save(tmp_path / "negated", "weights")
    (tmp_path / "negated/annindex.bin").replace(tmp_path / "good/annindex.bin")
    with pytest.raises(RunError, match="does not fit its checksum"):
        ANNIndex.load(tmp_path / "good", "weights")
    (tmp_path / "negated/annindex.bin").write_bytes(b"not an index")
    (tmp_path / "negated/annindex.json").write_text("{")
    with pytest.raises(RunError, match=r"annindex\.json is damaged"):
        ANNIndex.load(tmp_path / "negated", "weights")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="could not be written"):
        ANNIndex.build(Catalogue(VECTORS[:50])).save(tmp_path / "file", "weights")


def test_the_choice_goes_by_size() -> None:
    assert choose_index(EXACT_BELOW - 1) is ExactIndex
    assert choose_index(EXACT_BELOW) is ANNIndex
