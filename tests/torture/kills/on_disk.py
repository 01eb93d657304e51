"""A look at a store's files and tables with NumPy and sqlite3 alone."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from .world import is_whole, make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .world import Names

PRELUDE = struct.Struct("<8sIII")
_MAGIC = b"\x93JSHMOBJ"
# Bytes that a segment takes besides its data: header, trailer, alignment.
_OVERHEAD = 8192
_REGISTRY = {"registry.db", "registry.db-wal", "registry.db-shm", "registry.db.ballast"}
# Where its overflow is.
_LINK = "overflow"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is.

    Attributes
    ----------
    root : str
    overflow : str
        What ``JSHM_OVERFLOW_DIR`` is; '' for none.
    """

    root: str
    overflow: str = ""

    def files(self) -> dict[str, str]:
        """Return segment id → path, of all files in all directories where segments are."""
        found = [(f"{self.root}/segments", name) for name in os.listdir(f"{self.root}/segments")]
        if self.overflow:
            found += [(top, name) for top, _, names in os.walk(self.overflow) for name in names]
        return {name.partition(".")[0]: f"{top}/{name}" for top, name in found}


def settle(place: Place) -> None:
    """Mark a copied registry as made here; otherwise jshm makes a new one."""
    path = f"{place.root}/registry.db"
    con = sqlite3.connect(path)
    con.execute("UPDATE place SET inode = ?", (os.stat(path).st_ino,))
    con.commit()
    con.close()


def torn(place: Place) -> list[str]:
    """Look at once: what says that it is an array is whole, whether or not it has a name yet."""
    if not os.path.isdir(f"{place.root}/segments"):
        return []
    return [
        f"{path} says that it is an array, and is torn"
        for path in place.files().values()
        if path.endswith(".npy") and _says_so(path) and not _loads(path)
    ]


def _says_so(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX


def _loads(path: str) -> bool:
    try:
        return is_whole(np.load(path))
    except (ValueError, EOFError):
        return False


def wrong(place: Place, allowed: Callable[[Names], bool], *, held: bool) -> list[str]:
    """Say what is wrong after the next operation; `held`: X is held, by the only process there is."""
    store = _Store(place)
    found = [*store.files(held=held), *store.data(), *store.leftovers(held=held)]
    if not allowed(store.names):
        found.append(f"the names are {store.names}")
    return found


def names(place: Place) -> Names:
    """Return what can be attached, as the tables say."""
    return _Store(place).names


class _Store:
    """The rows of the tables, and the files."""

    def __init__(self, place: Place) -> None:
        con = sqlite3.connect(f"{place.root}/registry.db")
        self.names: Names = dict(
            con.execute("SELECT name, current FROM names WHERE current NOT NULL").fetchall()
        )
        self._versions = con.execute("SELECT name, version, segment FROM versions").fetchall()
        self._kinds = dict(
            con.execute("SELECT id, kind FROM segments WHERE NOT unlinked").fetchall()
        )
        self._sizes = dict(con.execute("SELECT id, nbytes FROM segments").fetchall())
        self._sealed = {row[0] for row in con.execute("SELECT id FROM segments WHERE NOT writable")}
        self._refs = con.execute("SELECT segment, needs FROM refs").fetchall()
        con.close()
        self._place = place
        self._files = place.files()
        self.names.pop("next", None)

    def files(self, *, held: bool) -> Iterator[str]:
        """Files and rows: both ways, nothing that nobody needs, and not a byte too much."""
        kinds = set(self._kinds)
        if set(self._files) != kinds:
            yield f"files {sorted(self._files)}, rows {sorted(kinds)}"
        wanted = {s for name, version, s in self._versions if self.names.get(name) == version}
        wanted |= {segment for name, _, segment in self._versions if name == "next"}
        if held:
            wanted |= {segment for name, _, segment in self._versions if name == "X"} & kinds
        for name, version, _ in self._versions:
            if name not in ("next", "X" * held) and self.names.get(name) != version:
                yield f"{name} v{version} is neither current nor held"
        while more := {needed for segment, needed in self._refs if segment in wanted} - wanted:
            wanted |= more
        if wanted != kinds:
            yield f"wanted {sorted(wanted)}, there {sorted(kinds)}"
        for ref in self._refs:
            if not {*ref} <= kinds:
                yield f"a reference without its segment: {ref}"
        for identity, path in self._files.items():
            more_than_data = os.stat(path).st_size - self._sizes.get(identity, 0)
            if not 0 <= more_than_data <= _OVERHEAD:
                yield f"{path} is {more_than_data} bytes larger than its data"

    def data(self) -> Iterator[str]:
        """Each file holds what its name and version ever showed; each is sealed."""
        said = set()
        for name, version, identity in self._versions:
            path = self._files.get(identity, "")
            if not path or name == "next":
                continue
            is_array = self._kinds[identity] == "array"
            if is_array and not np.array_equal(np.load(path), make(name, version)):
                yield f"{name} v{version} has torn data"
            if identity in self._sealed and os.stat(path).st_mode & 0o222:
                yield f"{name} v{version} is not sealed"
        for identity, path in self._files.items():
            if path.endswith(".jshm"):
                needs = _needs(path)
                said |= {(identity, needed) for needed in needs or ()}
                if needs is None:
                    yield f"{path} is torn"
        if said != set(self._refs):
            yield f"references {sorted(self._refs)}, in the files {sorted(said)}"

    def leftovers(self, *, held: bool) -> Iterator[str]:
        """No other file is left."""
        there = {name for name in os.listdir(self._place.root) if ".damaged-" not in name}
        if more := there - _REGISTRY - {"segments", "leases", "locks", _LINK}:
            yield f"left in the directory: {more}"
        leases = os.listdir(f"{self._place.root}/leases")
        if len({name.removesuffix(".holds") for name in leases}) != held:
            yield f"lease files are left: {leases}"
        if locks := os.listdir(f"{self._place.root}/locks"):
            yield f"lock files are left: {locks}"


def _needs(path: str) -> list[str] | None:
    """Return which segments an object refers to; None if it is torn."""
    with open(path, "rb") as file:
        whole = file.read()
    magic, _, length, checksum = PRELUDE.unpack_from(whole)
    body = whole[PRELUDE.size : PRELUDE.size + length]
    if magic != _MAGIC or zlib.crc32(body) != checksum:
        return None
    content = json.loads(body)
    size, checksum = content["pickle"]
    start = -(-(PRELUDE.size + length) // 64) * 64
    if zlib.crc32(whole[start : start + size]) != checksum:
        return None
    return list(content["references"])
