"""A run is pushed and pulled as it is, and nothing that is damaged or foreign goes with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forethought import publishing
from forethought.errors import ConfigError, DataError, RunError
from forethought.files import sha256_of
from forethought.publishing import NEEDED, PUBLISHED, pull, push
from forethought.recommender import Recommender


@pytest.fixture
def run(trained: Recommender, tmp_path: Path) -> Path:
    assert trained.folder is not None
    return Path(shutil.copytree(trained.folder, tmp_path / "run"))


class FakeHub:
    """A hub that is a folder; what it was asked stands in `asked`."""

    def __init__(self, place: Path) -> None:
        self.place, self.asked, self.fails = place, [], False  # type: ignore[var-annotated]

    def HfApi(self) -> FakeHub:
        return self

    def create_repo(self, name: str, **options: Any) -> None:
        if self.fails:
            raise ConnectionError("no route\nto anybody")
        self.asked.append((name, options))
        (self.place / name).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, self.place / repo_id, dirs_exist_ok=True)

    def snapshot_download(self, name: str, *, revision: str | None, allow_patterns: list[str], local_dir: str) -> None:
        self.asked.append((name, revision))
        for path in (self.place / name).iterdir():
            if path.name in allow_patterns:
                shutil.copy(path, local_dir)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    made = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(publishing, "hub", lambda: made)
    return made


def test_a_run_goes_through_a_folder_unchanged(run: Path, trained: Recommender, tmp_path: Path) -> None:
    (run / "secret.txt").write_text("stays", encoding="utf-8")
    assert push(run, tmp_path / "shared" / "run") == str(tmp_path / "shared" / "run")
    there = {path.name for path in (tmp_path / "shared" / "run").iterdir()}
    assert set(NEEDED) <= there <= set(PUBLISHED)
    model = pull(tmp_path / "shared" / "run", tmp_path / "mine")
    assert [sha256_of(run / name) == sha256_of(tmp_path / "mine" / name) for name in NEEDED] == [True] * 3
    history = [trained.items.id_list([0, 1, 2])]
    assert model.recommend(history, k=5) == trained.recommend(history, k=5)
    assert model.weights_sum == trained.weights_sum
    assert model.folder == tmp_path / "mine"


def test_a_run_goes_through_the_hub_unchanged(run: Path, fake: FakeHub, tmp_path: Path) -> None:
    assert push(run, "hf://me/first", private=True) == "hf://me/first"
    model = pull("hf://me/first@v1.0", tmp_path / "mine")
    assert fake.asked == [("me/first", {"private": True, "exist_ok": True}), ("me/first", "v1.0")]
    assert model.weights_sum is not None


def test_the_card_begins_with_metadata_once(run: Path, tmp_path: Path) -> None:
    push(run, tmp_path / "a")
    push(tmp_path / "a", tmp_path / "b")
    card = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    front, text = card.removeprefix("---\n").split("---\n", 1)
    assert front.splitlines()[:2] == ["library_name: forethought", "tags:"]
    assert '- "sasrec"' in front
    assert text.startswith("\n# ")
    assert text.count("library_name") == 0
    assert (run / "README.md").read_text(encoding="utf-8").startswith("# ")  # its own stays as it was


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def linked(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.symlink_to(path.with_suffix(".old"))


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("damage", [flipped, linked, Path.unlink])
def test_what_is_damaged_is_neither_pulled_nor_pushed(
    name: str, damage: Callable[[Path], None], run: Path, fake: FakeHub, tmp_path: Path
) -> None:
    push(run, "hf://me/first")
    for place in (run, fake.place / "me" / "first"):
        damage(place / name)
    with pytest.raises(RunError):
        pull(run, tmp_path / "a")
    if damage is not linked:  # a hub holds no links, and a copy of what they lead to is a file
        with pytest.raises(RunError):
            pull("hf://me/first", tmp_path / "b")
    with pytest.raises(RunError):
        push(run, tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "run"]


def test_wrong_places_are_refused(run: Path, fake: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine", encoding="utf-8")
    wrong: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: push(run, "hf://first"), ConfigError, "names no repository"),
        (lambda: push(run, "https://huggingface.co/me/first"), ConfigError, "names no repository"),
        (lambda: push(run, "hf://me/first@main"), ConfigError, "revision of its own"),
        (lambda: push(run, tmp_path / "full"), DataError, "not empty"),
        (lambda: push(run, tmp_path / "full", overwrite=True), DataError, "is not a pushed or pulled run"),
        (lambda: push(tmp_path / "no", tmp_path / "x"), RunError, "no run folder"),
        (lambda: pull(tmp_path / "no", tmp_path / "x"), RunError, "no run folder"),
        (lambda: pull(run, tmp_path / "full"), DataError, "not empty"),
    ]
    for ask, kind, words in wrong:
        with pytest.raises(kind, match=words):
            ask()
    assert not (tmp_path / "x").exists()
    assert (tmp_path / "full" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_an_earlier_run_is_replaced_when_asked(run: Path, tmp_path: Path) -> None:
    push(run, tmp_path / "a")
    with pytest.raises(DataError, match="not empty"):
        push(run, tmp_path / "a")
    push(run, tmp_path / "a", overwrite=True)
    pull(tmp_path / "a", tmp_path / "b")
    assert pull(tmp_path / "a", tmp_path / "b", overwrite=True).weights_sum is not None


def test_a_hub_that_fails_is_told_in_a_sentence(run: Path, fake: FakeHub) -> None:
    fake.fails = True
    with pytest.raises(RunError, match=r"'me/first' \(no route\): look at the name"):
        push(run, "hf://me/first")
