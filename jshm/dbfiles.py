"""The files that a SQLite database in WAL mode is made of, and which they are."""

from __future__ import annotations

import contextlib
import os
import stat

from .errors import CorruptRegistryError

# What SQLite keeps beside the file: its log, and the log's index.
BESIDE = ("-wal", "-shm")
# Device; inodes of the file, its log and the log's index; whether there is anything in it.
Files = tuple[int, ...]


def identify(path: str) -> Files | None:
    """Return which files have the names now; None if there is no database.

    A log or an index that is not there has the inode 0.

    Raises
    ------
    CorruptRegistryError
        It is no file: a link, a directory.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise CorruptRegistryError(
            f"the registry {path} is no file. The data are not lost: `jshm check --fix` rebuilds the "
            "registry from the segments"
        )
    log, index = BESIDE
    return (
        status.st_dev, status.st_ino, _inode(path + log), _inode(path + index),
        bool(status.st_size),
    )  # fmt: skip


def _inode(path: str) -> int:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return 0


def is_torn(path: str, known: Files) -> bool:
    """Tell whether the database is the same file, and not the same database any more."""
    found = identify(path)
    return found is not None and found[:2] == known[:2] and found != known


def remove(path: str, *endings: str) -> None:
    """Remove the files with these endings, if they are there."""
    for ending in endings:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ending)
