"""Writing files and folders so that an interruption leaves what was there before whole."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to, and put it in the place of `path` if all went well.

    The temporary file lies beside the target and keeps its suffix. An exception, Ctrl-C or a full
    disk inside the block removes it and leaves an earlier file at `path` as it was.

    Args:
        path: The file to write. Missing parent folders are created; a symbolic link is followed.

    Yields:
        The path to write to.

    Raises:
        ValueError: If `path` exists and is not a regular file.
        OSError: For a full disk, naming `path`.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ValueError(f"Cannot write a file to {target}: it exists and is not a regular file.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target, target.suffix)
    try:
        with _named(target):
            yield temporary
            _flush_to_disk(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], owned: Sequence[str] = ()) -> Iterator[Path]:
    """Give a temporary folder to fill, and move its files into `path` if all went well.

    Files of the same name in `path` are replaced, others stay, except in the `owned` subfolders,
    whose earlier content goes. Nothing in `path` is touched before everything has been written;
    a failure while moving puts every earlier file back.

    Args:
        path: The folder to write. It and its parents are created.
        owned: Subfolders of `path` (relative, with `/`) that belong to the writer alone.

    Yields:
        The folder to write to.

    Raises:
        ValueError: If `path` exists and is not a folder.
        OSError: For a full disk, naming `path`.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir():
        raise ValueError(f"Cannot write a folder to {target}: a file of that name exists.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, backup = _beside(target, ""), _beside(target, ".old")
    temporary.mkdir()
    try:
        with _named(target):
            yield temporary
            for file in _files_under(temporary):
                _flush_to_disk(file)
        _move_in(temporary, target, backup, owned)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Say of a full disk what could not be written, which libraries leave out."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        text = f"{os.strerror(error.errno)}; an earlier file is unchanged. Free some space"
        raise OSError(error.errno, text, str(target)) from error


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.stem}.{secrets.token_hex(4)}.tmp{suffix}")


def _files_under(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _flush_to_disk(file: Path) -> None:
    """Write a file's pages out, so that a full disk shows before the earlier file is replaced."""
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())


def _move_in(new: Path, target: Path, backup: Path, owned: Sequence[str]) -> None:
    """Move the files of `new` into `target`; `backup` takes what they replace."""
    fresh = [file.relative_to(new) for file in _files_under(new)]
    stale = [f.relative_to(target) for sub in owned for f in _files_under(target / sub)]
    moved: list[tuple[Path, Path]] = []

    def move(source: Path, destination: Path) -> None:
        destination.parent.mkdir(parents=True, exist_ok=True)
        moved.append((source, destination))
        os.replace(source, destination)

    try:
        for name in dict.fromkeys(fresh + stale):
            if (target / name).exists():
                move(target / name, backup / name)
        for name in fresh:
            move(new / name, target / name)
    except BaseException:
        for source, destination in reversed(moved):
            # The last move may have been cut off before it happened.
            if destination.exists() and not source.exists():
                os.replace(destination, source)
        shutil.rmtree(backup, ignore_errors=True)
        raise
    shutil.rmtree(backup, ignore_errors=True)
