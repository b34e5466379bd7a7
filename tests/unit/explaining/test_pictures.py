"""The plane, the picture, and labels that keep apart."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from forethought.errors import ConfigError, MissingExtraError, RunError
from forethought.explaining.plane import project
from forethought.recommender import Recommender
from forethought.reports.pictures import Label, new_figure, place_labels
from forethought.reports.trajectory import write_trajectory


def test_the_plane_is_that_of_the_largest_eigenvalues() -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 6)) * [5, 3, 1, 1, 1, 1]
    places, share = project(vectors, 0, 4)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    values, axes = np.linalg.eigh(np.cov(units.T))
    assert share == pytest.approx(values[-2:].sum() / values.sum())
    assert np.abs(places) == pytest.approx(np.abs((units - units.mean(0)) @ axes[:, [-1, -2]]))
    assert (places[4] >= places[0]).all()
    assert np.allclose(project(vectors * np.arange(1, 10)[:, None], 0, 4)[0], places)  # length says nothing


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.ones((3, 4)), np.zeros((2, 4)), np.eye(2)[:, :1]])
def test_a_plane_of_little(vectors: np.ndarray) -> None:
    places, share = project(vectors, 0, 0)
    assert places.shape == (len(vectors), 2)
    assert np.isfinite(places).all()
    assert 0 <= share <= 1


def test_pictures_are_written_whole_and_alike(trained: Recommender, tmp_path: Path) -> None:
    told = trained.explain(trained.items.id_list([3, 1]), target=trained.items.id_list([9])[0])
    png, svg = write_trajectory(told, tmp_path / "deep" / "a.png"), write_trajectory(told, tmp_path / "a.SVG")
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    for path in (png, svg):
        before = path.read_bytes()
        assert write_trajectory(told, path).read_bytes() == before
    assert not list(tmp_path.rglob("*.part"))


def test_wrong_pictures(trained: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = trained.explain(trained.items.id_list([3, 1]))
    for name, said in (("a.gif", r"a\.gif ends in .gif, but a picture is written as"), ("a", "ends in nothing")):
        with pytest.raises(ConfigError, match=said):
            write_trajectory(told, tmp_path / name)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunError, match="could not be written"):
        write_trajectory(told, tmp_path / "file" / "a.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'matplotlib', .* \"forethought\[report\]\""):
        write_trajectory(told, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_labels_keep_apart() -> None:
    """Ten words beside points so close that any one place for all would cover others."""
    figure = new_figure((8, 6), "A test", dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 8), ylim=(0, 6))
    points = [(4 + 0.25 * (n % 3), 3 + 0.2 * (n // 3)) for n in range(10)]
    place_labels(axes, [Label(x, y, f"label {n}") for n, (x, y) in enumerate(points)], [(x, y, 0.1) for x, y in points])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 10
    for n, box in enumerate(boxes):
        assert axes.get_window_extent().contains(box.x0, box.y0)
        assert axes.get_window_extent().contains(box.x1, box.y1)
        for other in boxes[:n]:
            wide = min(box.x1, other.x1) - max(box.x0, other.x0)
            high = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert wide <= 1 or high <= 1, "two labels cover each other"
