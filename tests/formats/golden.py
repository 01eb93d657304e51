"""A small store of which every byte is known: jshm writes it, and every later jshm must read it.

The store has arrays of 16 bytes and of 16 MB, and objects with such arrays. The folder named after the
release has its segments, large ones compressed, and its registry as SQL.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import sqlite3
import struct
import zlib
from contextlib import ExitStack, closing
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from jshm.store import default_store
from jshm.store.identity import Identity, Session
from jshm.store.local import process

from ..unit.pickling.cases import CLASSES, FUNCTIONS
from ..unit.pickling.fresh import Interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator

    Pickled = tuple[str, list[str]]
    """A pickle and its buffers, each in base 64."""

FOLDER = Path(__file__).parent / "0.1.0"
COMPRESSED = ".xz"
SEGMENTS = (".npy", ".jshm")
PICKLES = "pickles.json"
_SMALL = 1 << 16
_TIME = 1_800_000_000.25
_WHO = Identity(
    4711, "0a1b2c3d:12345", "pid:[4026531836]", Session("server", 4700, "0a1b2c3d:12000"),
    connection_file="/run/user/1000/kernel-5f0c2f6e-4f43-4c4c-9d3b-0d5a4d6f9a10.json",
    kernel_id="5f0c2f6e-4f43-4c4c-9d3b-0d5a4d6f9a10",
    notebook="/home/ada/größe/train.ipynb",
    program="kernel",
    uid=1000,
    python="3.11.7",
    jshm="0.1.0",
)  # fmt: skip
_NOTE = "Größe, 大きさ"
_ONCE = json.dumps({"key": "0" * 64, "seconds": 41.5, "at": _TIME})
# Functions and classes in the syntax that all versions of Python know.
CASES = [case for case in (*FUNCTIONS, *CLASSES) if case.since == (3, 11)]
_OBJECT = struct.Struct("<8sIII")
_PYTHON = re.compile(rb'"python":"3\.\d+"')


def values() -> dict[str, Any]:
    """Return the published values by name. (`refers`, which refers to `small`, is published besides.)"""
    small, large = np.arange(2.0), np.arange(2_000_000) // 4096 * 0.5
    assert (small.nbytes, large.nbytes) == (16, 16_000_000)
    structured = np.zeros((2, 1), [("größe", "<i4"), ("b", "S4")])
    structured["größe"] = [[1], [2]]
    shared = [1]
    return {
        "small": small,
        "large": large,
        "fortran/small": np.asfortranarray(np.arange(4, dtype=">i4").reshape(2, 2)),
        "fortran/large": np.asfortranarray(large.reshape(2000, 1000)),
        "structured": structured,
        "object/small": {"array": small, "text": "größe"},
        "object/large": {"array": large, "small": small},
        "part/a": shared,
        "part/b": [shared],
    }


def write(root: str) -> None:
    """Publish the values: always as the same process, at the same time, under the same ids."""
    ids = (number.to_bytes(8, "big") for number in count(1))
    random = os.urandom
    with ExitStack() as stack:
        for place, name, what in (
            (os, "urandom", lambda n: next(ids) if n == 8 else random(n)),
            (process, "discover", lambda _: _WHO),
            (process.time, "time", lambda: _TIME),  # type: ignore[attr-defined]
        ):
            stack.enter_context(patch.object(place, name, what))
        stack.enter_context(patch.dict(os.environ, JSHM_DIR=root))
        store = default_store()
        for name, value in values().items():
            if not name.startswith("part/"):
                store.publish({name: value}, keep=True, note=_NOTE, once=_ONCE)
        together = {name: value for name, value in values().items() if name.startswith("part/")}
        store.publish(together, keep=True)
        array = store.attach(["small"])[0].value
        store.publish({"refers": {"array": array}}, keep=True)
        store.publish({"live": np.arange(2.0)}, keep=True, writable=True)
        del array
        store.registry.close()


def segments(root: str) -> dict[str, bytes]:
    """Return file name → content of every segment of a store, whichever Python wrote it."""
    folder = Path(root, "segments")
    return {path.name: _of_one_python(path.read_bytes()) for path in sorted(folder.iterdir())}


def _of_one_python(data: bytes) -> bytes:
    """Return an object's segment as if Python 3.11 had written it: its header names its Python."""
    if not data.startswith(b"\x93JSHMOBJ"):
        return data
    magic, version, length, checksum = _OBJECT.unpack_from(data)
    header = data[_OBJECT.size : _OBJECT.size + length]
    assert zlib.crc32(header) == checksum
    changed = _PYTHON.sub(b'"python":"3.11"', header)
    prelude = _OBJECT.pack(magic, version, length, zlib.crc32(changed))
    return prelude + changed + data[_OBJECT.size + length :]


def registry(root: str) -> str:
    """Return a store's registry as SQL: tables, indices, rows and format, without comments."""
    with closing(sqlite3.connect(f"{root}/registry.db")) as con:
        # The registry names its own inode.
        own = os.stat(f"{root}/registry.db").st_ino
        assert con.execute("SELECT inode FROM place").fetchall() == [(own,)]
        statements = [text.replace(f"VALUES({own})", "VALUES(0)") for text in con.iterdump()]
        statements.insert(
            -1, f"PRAGMA user_version={con.execute('PRAGMA user_version').fetchone()[0]};"
        )
    return "".join(
        f"{_plain(text) if text.startswith('CREATE') else text}\n" for text in statements
    )


def _plain(statement: str) -> str:
    """Return a statement without comments and layout."""
    return " ".join(re.sub("--.*", "", statement).split())


def kept() -> Iterator[tuple[str, bytes]]:
    """Yield file name and content of every segment in the folder."""
    for path in sorted(FOLDER.iterdir()):
        if path.suffix == COMPRESSED and path.stem != PICKLES:
            yield path.stem, lzma.decompress(path.read_bytes())
        elif path.suffix in SEGMENTS:
            yield path.name, path.read_bytes()


def keep(root: str) -> None:
    """Make the folder from a store."""
    FOLDER.mkdir()
    for name, data in segments(root).items():
        if len(data) < _SMALL:
            (FOLDER / name).write_bytes(data)
        else:
            (FOLDER / f"{name}{COMPRESSED}").write_bytes(lzma.compress(data, preset=9))
    (FOLDER / "registry.sql").write_text(registry(root))
    text = json.dumps(pickles()).encode()
    (FOLDER / f"{PICKLES}{COMPRESSED}").write_bytes(lzma.compress(text, preset=9))


def pickles() -> dict[str, Pickled]:
    """Return the pickle and the buffers of each case, by its name, written in a new process."""
    found = {}
    with Interpreter() as writer:
        for case in CASES:
            writer.reset()
            writer.cell(case.source)
            found[case.name] = writer.dump(case.expression).sent
    return found


@lru_cache(maxsize=1)
def kept_pickles() -> dict[str, Pickled]:
    """Return what `pickles` returned when the folder was made."""
    data = (FOLDER / f"{PICKLES}{COMPRESSED}").read_bytes()
    found: dict[str, Pickled] = json.loads(lzma.decompress(data))
    return found


def restore(root: str, *, with_registry: bool) -> None:
    """Make a store from the folder."""
    os.mkdir(f"{root}/segments", 0o700)
    for name, data in kept():
        path = Path(root, "segments", name)
        path.write_bytes(data)
        path.chmod(0o400)
    if with_registry:
        with closing(sqlite3.connect(f"{root}/registry.db")) as con:
            con.executescript((FOLDER / "registry.sql").read_text())
            con.execute("UPDATE place SET inode = ?", (os.stat(f"{root}/registry.db").st_ino,))
            con.commit()
        os.chmod(f"{root}/registry.db", 0o600)
