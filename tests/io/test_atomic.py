"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from samed2.errors import InputError
from samed2.io import atomic_path, atomic_write
from samed2.io.atomic import make_folder


def test_writes_text_and_bytes(tmp_path: Path) -> None:
    assert atomic_write(tmp_path / "a.txt", "größer") == tmp_path / "a.txt"
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "größer"
    atomic_write(str(tmp_path / "a.txt"), b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_temporary_name_keeps_the_whole_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "label.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("label.nii.gz")
        temporary.write_bytes(b"x")
        assert not (tmp_path / "label.nii.gz").exists()
    assert os.listdir(tmp_path) == ["label.nii.gz"]


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt(), InputError("no")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_system_says_becomes_one_clear_line(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught, atomic_path(tmp_path / "a.png") as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "a.png") in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for target, words in (
        (tmp_path / "folder", "is a folder"),
        (tmp_path / "missing" / "a.png", "does not exist"),
        (tmp_path / ("n" * 300), "too long"),
        (Path(os.devnull), "not a regular file"),
    ):
        with pytest.raises(InputError, match=words):
            atomic_write(target, b"x")
    with pytest.raises(InputError, match="file name"):
        atomic_write(tmp_path / "a\0b", b"x")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="permission denied"):
        atomic_write(tmp_path / "a.png", b"x")
    tmp_path.chmod(0o700)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    atomic_write(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_a_full_device(tmp_path: Path) -> None:
    """A real write error, from a device that is always full."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(InputError, match="no space left"), atomic_path(tmp_path / "a") as temporary:  # noqa: PT012
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x" * 100_000)
    assert os.listdir(tmp_path) == []


def test_folders_are_made_or_refused_by_name(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir() and make_folder(tmp_path / "a") == tmp_path / "a"
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=f"{place}: cannot be made a folder: a file stands"):
            make_folder(place)
    with pytest.raises(InputError, match=f"^--out {place}: "):
        make_folder(place, "--out")
