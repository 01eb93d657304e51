"""Full disks: small file systems in memory that a test fills, and a look at a store there without jshm."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

from .processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MB = 1 << 20


PRELUDE = """
import os, warnings
import numpy as np
import jshm
from jshm.store import default_store
MB = 1 << 20
def data(megabytes, seed=0):
    return np.random.default_rng(seed).integers(0, 256, int(megabytes * MB), np.uint8)
def files():
    found = default_store().directory.files()
    return sorted(os.path.getsize(path) for path in found.values())
"""


class CannotMountError(Exception):
    """Not here: it takes root."""


class Mount:
    """A small tmpfs.

    Attributes
    ----------
    point : Path
    root : str
        Path of a store in it.
    """

    def __init__(self, point: Path) -> None:
        self.point = point
        self.root = str(point / "store")
        self._junk = point / "junk"

    def free(self) -> int:
        """Return the bytes that are free."""
        found = os.statvfs(self.point)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Fill the file system as another writer would, until only `leave` bytes are free."""
        with contextlib.suppress(OSError), self._junk.open("ab", buffering=0) as file:  # no inode
            for size in (MB, 4096):
                with contextlib.suppress(OSError):
                    while self.free() >= leave + size:
                        file.write(bytes(size))

    def relieve(self) -> None:
        """Give back what `fill` has taken."""
        self._junk.unlink(missing_ok=True)

    def take_inodes(self) -> None:
        """Create files as another writer would, until no inode is free."""
        place = self.point / "many"
        with contextlib.suppress(OSError):
            place.mkdir()
            for i in range(1 << 20):
                (place / str(i)).touch()

    def files(self) -> dict[str, int]:
        """Return the bytes of each segment's file, by its id."""
        return files(self.point)

    def problems(self, *overflow: Path) -> list[str]:
        """Return what does not fit between the files and the registry's rows, both read directly."""
        found = {}
        for place in (self.point, *overflow):
            found.update(files(place))
        registry = sqlite3.connect(f"file:{self.root}/registry.db?mode=ro", uri=True)
        try:
            rows = dict(registry.execute("SELECT id, nbytes FROM segments WHERE NOT unlinked"))
            named = registry.execute(
                "SELECT count(*) FROM names n LEFT JOIN versions v ON v.name = n.name "
                "AND v.version = n.current WHERE n.current NOT NULL AND v.segment IS NULL"
            ).fetchone()[0]
        finally:
            registry.close()
        wrong = [f"no row: {one}" for one in found.keys() - rows.keys()]
        wrong += [f"no file: {one}" for one in rows.keys() - found.keys()]
        wrong += [f"cut off: {one}" for one in found.keys() & rows.keys() if found[one] < rows[one]]
        return wrong + ["a name without a version"] * named


def files(place: Path) -> dict[str, int]:
    """Return the bytes of each segment's file below a directory, by its id."""
    return {
        path.stem: path.stat().st_size
        for ending in ("*.npy", "*.jshm")
        for path in place.rglob(ending)
    }


@contextlib.contextmanager
def mounted(point: Path, options: str) -> Iterator[Mount]:
    """Mount a tmpfs for a while."""
    point.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotMountError(done.stderr.strip())
    try:
        yield Mount(point)
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


MakeMount = Callable[[str], Mount]


def start(tmp_path: Path, root: str, overflow: str = "", script: str = "train.py") -> Child:
    """Start a program that uses a store."""
    child = Child(tmp_path, script, env={"JSHM_DIR": root, "JSHM_OVERFLOW_DIR": overflow})
    child.run(PRELUDE)
    return child
