import errno
import os

import pytest

from croco3d.files import atomic_folder, atomic_path


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_file_appears_only_when_written(tmp_path):
    target = tmp_path / "new" / "a.glb"
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".glb" and temporary.parent == target.parent
        temporary.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new" and names(tmp_path) == ["new/a.glb"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left"), ValueError])
def test_interrupted_file_leaves_the_earlier_one(tmp_path, error):
    target = tmp_path / "a.npz"
    target.write_bytes(b"earlier")
    with pytest.raises(BaseException), atomic_path(target) as temporary:  # noqa: B017
        temporary.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"earlier" and names(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("atomic", [atomic_path, atomic_folder])
def test_a_full_disk_is_told_with_the_file(tmp_path, atomic):
    target = tmp_path / "a"
    with pytest.raises(OSError, match="earlier file is unchanged") as caught, atomic(target):
        raise OSError(errno.ENOSPC, "No space left", "inner")
    assert caught.value.filename == str(target) and not names(tmp_path)


def test_special_files_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"), atomic_path(tmp_path / "pipe"):
        pass


def test_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real.txt").write_text("earlier")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with atomic_path(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def fill(folder):
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").write_text("new")
    (folder / "sparse").mkdir()
    (folder / "sparse" / "cameras.bin").write_text("new")


def earlier(folder):
    fill(folder)
    for file in folder.rglob("*.*"):
        file.write_text("earlier")
    (folder / "images" / "mine.jpg").write_text("mine")
    (folder / "sparse" / "stale.bin").write_text("stale")
    return {name: (folder / name).read_text() for name in names(folder)}


def test_folder_keeps_foreign_files_and_drops_stale_ones(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    earlier(target)
    with atomic_folder(target, owned=["sparse"]) as temporary:
        fill(temporary)
    assert names(target) == ["images/a.jpg", "images/mine.jpg", "sparse/cameras.bin"]
    assert (target / "images/mine.jpg").read_text() == "mine"
    assert (target / "images/a.jpg").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


def test_interrupted_folder_is_untouched(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    before = earlier(target)
    with (
        pytest.raises(KeyboardInterrupt),
        atomic_folder(target, owned=["sparse"]) as temporary,
    ):
        fill(temporary)
        raise KeyboardInterrupt
    assert {name: (target / name).read_text() for name in names(target)} == before
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("fail_at", range(1, 6))
def test_failure_while_moving_puts_everything_back(tmp_path, monkeypatch, fail_at):
    target = tmp_path / "out"
    target.mkdir()
    before = earlier(target)
    real, calls = os.replace, []

    def failing(source, destination):
        calls.append(source)
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        real(source, destination)

    with (
        pytest.raises(KeyboardInterrupt),
        atomic_folder(target, owned=["sparse"]) as temporary,
    ):
        fill(temporary)
        monkeypatch.setattr(os, "replace", failing)
    assert {name: (target / name).read_text() for name in names(target)} == before
    assert os.listdir(tmp_path) == ["out"]
