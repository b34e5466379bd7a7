"""Files and folders that appear whole or not at all, beside others who write there too."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from forethought.errors import DataError, RunError
from forethought.files import (
    MARK,
    check_replaceable,
    checked,
    read_json,
    replace_file,
    short_of_memory,
    sweep,
    verified,
    write_json,
)
from forethought.folders import alone, check_own, replace_folder
from forethought.tensor_files import load_tensors, save_tensors

NEW = "new content"


def write(text: str = NEW):
    return lambda part: part.write_text(text)


def killed(code: str, folder: Path) -> None:
    """Run code in a process that kills itself with SIGKILL."""
    preamble = """
        import os, signal, sys
        from pathlib import Path
        from forethought.files import replace_file
        from forethought.folders import replace_folder
        folder = Path(sys.argv[1])
        die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    """
    script = textwrap.dedent(preamble) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- temporary names


def test_a_link_under_a_temporary_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "README.md.part").symlink_to(tmp_path / "mine")
    replace_file(tmp_path / "README.md", write())
    assert (tmp_path / "mine").read_text() == "precious"
    assert (tmp_path / "README.md").read_text() == NEW


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """Each has a temporary file of its own; the last to finish stays whole."""

    def slow(part: Path) -> None:
        part.write_text("first, first half")
        replace_file(tmp_path / "out", write("second"))
        assert part.read_text() == "first, first half"
        part.write_text("first")

    replace_file(tmp_path / "out", slow)
    assert (tmp_path / "out").read_text() == "first"
    assert names(tmp_path) == ["out"]


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "out").symlink_to(tmp_path / "mine")
    replace_file(tmp_path / "out", write())
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("kind", ["device", "pipe", "link to a device", "folder"])
def test_special_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    if kind == "device":
        path = Path("/dev/null")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(RunError, match="is a folder" if kind == "folder" else "no ordinary file"):
        replace_file(path, write())
    assert Path("/dev/null").is_char_device()


def test_the_mode_of_a_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "out", write())
        with replace_folder(tmp_path / "folder") as new:
            (new / "file").write_text("")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_short_memory_is_not_called_a_full_disk(tmp_path: Path) -> None:
    def no_memory(part: Path) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError, match="allocate memory"):
        replace_file(tmp_path / "out", no_memory)
    assert names(tmp_path) == []


# ---- what killed writers leave


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path) -> None:
    killed("replace_file(folder / 'out', lambda part: (part.write_text('half'), die()))", tmp_path)
    assert len(names(tmp_path)) == 1
    replace_file(tmp_path / "other", write())
    assert names(tmp_path) == ["other"]


def test_a_living_writer_is_not_swept(tmp_path: Path) -> None:
    def meanwhile(part: Path) -> None:
        sweep(tmp_path)
        part.write_text(NEW)

    replace_file(tmp_path / "out", meanwhile)
    assert names(tmp_path) == ["out"]


def test_a_kill_between_two_renames_restores_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/old").write_text("precious")
    code = """
        def between(new, out):
            die()
        import forethought.folders
        forethought.folders._take_place = between
        with replace_folder(folder / "data", overwrite=True) as new:
            (new / "new").write_text("")
    """
    killed(code, tmp_path)
    assert not (tmp_path / "data").exists()
    replace_file(tmp_path / "anything", write())
    assert names(tmp_path) == ["anything", "data"]
    assert (tmp_path / "data/old").read_text() == "precious"


def test_a_temporary_file_with_a_hostile_target_moves_nothing(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    (inside / ".forethought-0.folder/old").mkdir(parents=True)
    (inside / ".forethought-0.part").write_text("../taken")
    sweep(inside)
    assert names(tmp_path) == ["inside"]
    assert names(inside) == []


# ---- folders


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def give_up(new: Path) -> None:
        (new / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), replace_folder(tmp_path / "data") as new:
        give_up(new)
    assert names(tmp_path) == []


def test_two_makers_of_one_new_folder_one_is_told(tmp_path: Path) -> None:
    def make(mine: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        with replace_folder(tmp_path / "data") as new:
            (new / mine).write_text("")
            meanwhile()

    with pytest.raises(DataError, match="written by somebody else meanwhile"):
        make("mine", lambda: make("theirs"))
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["theirs"]


def test_the_folder_one_is_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    for out in (Path("."), Path("..")):
        with pytest.raises(DataError, match="is the folder you are in"), replace_folder(out):
            pass


def test_a_folder_of_others_is_not_our_own(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    check_own(folder, ["a"], lambda _: False, "an album", overwrite=True)  # not there
    folder.mkdir()
    check_own(folder, ["a"], lambda _: False, "an album", overwrite=True)  # empty
    (folder / "a").write_text("")
    check_own(folder, ["a"], lambda _: True, "an album", overwrite=True)
    with pytest.raises(DataError, match="is not an album, so it is not overwritten"):
        check_own(folder, ["a"], lambda _: False, "an album", overwrite=True)
    (folder / "deep").mkdir()
    (folder / "deep/b").write_text("")
    with pytest.raises(DataError, match=r"also holds 'deep/b', which overwriting would lose"):
        check_own(folder, ["a"], lambda _: True, "an album", overwrite=True)
    with pytest.raises(DataError, match="is a file and not an album"):
        check_own(folder / "a", ["a"], lambda _: True, "an album", overwrite=True)
    with pytest.raises(DataError, match="already there and not empty"):
        check_own(folder, ["a", "b"], lambda _: True, "an album", overwrite=False)


# ---- marks and checksums


def test_a_file_of_others_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    check_replaceable(path)
    path.write_text("mine")
    with pytest.raises(RunError, match="was not written by Forethought"):
        check_replaceable(path)
    path.write_text("x" * 200_000 + MARK)
    check_replaceable(path)
    with pytest.raises(RunError, match="no ordinary file"):
        check_replaceable(Path("/dev/null"))


def test_every_flipped_bit_of_a_checked_file_is_told(tmp_path: Path) -> None:
    path, value = tmp_path / "state.json", {"step": 17, "best": 0.1, "sums": {"loss": 1 / 3}, "name": "é"}
    write_json(path, checked(value))
    assert verified(read_json(path, "mend"), path, "mend") == value
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(RunError, match="is damaged") as told:
            verified(read_json(path, "mend"), path, "mend")
        assert "\n" not in str(told.value)


def test_nested_brackets_and_pipes_are_told(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match="is damaged"):
        read_json(tmp_path / "deep.json", "mend")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(RunError, match="no ordinary file"):
        read_json(tmp_path / "pipe.json", "mend")


def test_ctrl_c_while_tidying_up_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink, pressed = Path.unlink, [KeyboardInterrupt, KeyboardInterrupt]

    def interrupted(path: Path, *more: bool, **others: bool) -> None:
        if pressed:
            raise pressed.pop()
        unlink(path, *more, **others)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "out", write())
    assert names(tmp_path) == ["out"]


def test_a_file_of_tensors_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    """Several keys of metadata would come in an order drawn anew by each process, and by each call."""
    about, tensors = {name: name for name in "abcdefgh"}, {"weight": torch.arange(6.0)}
    written = set()
    for n in range(8):
        save_tensors(tmp_path / str(n), tensors, about)
        written.add((tmp_path / str(n)).read_bytes())
    assert len(written) == 1
    found, told = load_tensors(tmp_path / "0")
    assert torch.equal(found["weight"], tensors["weight"])
    assert {name: told[name] for name in about} == about


def test_an_address_is_no_place_to_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="is an address"):
        replace_file(Path("s3://bucket/out.parquet"), write())
    with pytest.raises(RunError, match="is an address"), replace_folder(Path("file:///etc/x")):
        pass
    with pytest.raises(RunError, match="is an address"), alone(Path("https://somewhere/run")):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("said", ["could not create a primitive", "std::bad_alloc: out of memory"])
def test_what_onednn_says_when_memory_is_short_is_no_traceback(said: str) -> None:
    assert short_of_memory(RuntimeError(said))
    assert not short_of_memory(RuntimeError("could not create a primer"))


def test_a_panic_of_the_library_that_writes_tensors_is_short_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what safetensors makes of an allocation that fails, and no Exception."""

    class PanicException(BaseException):
        pass

    def panic(*_: object) -> bytes:
        raise PanicException("PyObject pointer is null")

    monkeypatch.setattr("safetensors.torch.save", panic)
    with pytest.raises(MemoryError, match="no room"):
        save_tensors(tmp_path / "some.safetensors", {"a": torch.zeros(3)})
    assert list(tmp_path.iterdir()) == []
