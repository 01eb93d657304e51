"""Damaged registries (rows and bytes), damaged leases, and arbitrary names and patterns."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jshm.browse.globs import expand
from jshm.browse.labels import Notebooks
from jshm.browse.service import Service
from jshm.errors import FormatVersionError
from jshm.store.identity import Identity
from jshm.store.local import lease
from jshm.store.local.store import LocalStore

from .common import FRESH, KERNEL, assert_inside, assert_mended, look_at_all, refusing, store_of
from .mutators import BOUNDARIES, as_json, change_structure, damage, odd

if TYPE_CHECKING:
    from random import Random

NEEDED = np.arange(60.0).reshape(12, 5)
DATA: dict[str, Any] = {
    "X": np.arange(20.0),
    "Y": np.arange(30, dtype="<i4"),
    "exp/needed": NEEDED,
    "O": {"a": 1},
    "refers": {"part": NEEDED[::2]},
}
# Beyond these SQLite takes an integer for a real number.
_LIMIT = 1 << 63
# Of the mutations of a lease, how many are followed by a look at everything.
_LISTED = 0.05


def as_bytes(value: Any) -> Any:
    """Return what is compared exactly: an array's type, shape and bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: as_bytes(inner) for key, inner in value.items()}
    return value


EXPECTED = {name: as_bytes(value) for name, value in DATA.items()}


def template(root: str) -> dict[str, bytes]:
    """Return the files of a store with two publishers, an alias, a released name and references."""
    for publisher in (0, 1):
        store = LocalStore(root)
        if publisher:
            store.publish({"Y": DATA["Y"], "O": DATA["O"]}, keep=True)
        else:
            store.publish({"X": FRESH, "gone": FRESH, "exp/needed": NEEDED}, keep=True)
            store.publish({"X": DATA["X"]}, keep=True, note="the note")
            store.publish(
                {"refers": {"part": store.attach(["exp/needed"])[0].value[::2]}}, keep=True
            )
            store.release(["gone"])
            store.offers.make(["X"], replace(store.process.identity, connection_file=KERNEL))
        store.close()
    return {
        os.path.relpath(path, root): _read(path)
        for path in (*glob.glob(f"{root}/segments/*"), f"{root}/registry.db")
    }


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def use_all(store: LocalStore, exact: bool) -> None:
    """Look, attach, publish and release; of what is read under a name, nothing is another's."""
    look_at_all(store)
    for name in DATA:
        with refusing():
            found = store.attach([name])[0].value
            for part in found.values() if isinstance(found, dict) else (found,):
                if isinstance(part, np.ndarray):
                    assert_inside(part)
            assert as_bytes(found) == EXPECTED[name] or not exact
    for operation in (
        lambda: store.publish({"new": FRESH}),
        lambda: store.publish({"new": FRESH}, replace=True),
        lambda: store.release(["new"], force=True),
        store.gc,
        store.check,
    ):
        with refusing():
            operation()


def assert_exact(store: LocalStore, touched: set[str]) -> None:
    """After `check` has mended it, what was not touched is there, and nothing is another's."""
    assert_mended(store)
    names = set(store.names())
    missing = EXPECTED.keys() - names - touched
    assert not missing
    for name in names & EXPECTED.keys():
        assert as_bytes(store.attach([name])[0].value) == EXPECTED[name], name


KEYS = {
    "names": ("name",), "segments": ("id",), "versions": ("name", "version"), "leases": ("id",),
    "refs": ("segment", "needs"), "offers": ("name", "recipient"),
}  # fmt: skip


class Rows:
    """Every column of every table, whatever type SQLite lets it have."""

    def __init__(self, root: str) -> None:
        self.tried: object = None
        self._root = f"{root}/changed"
        os.mkdir(f"{root}/template", 0o700)
        self._files = template(f"{root}/template")

    def attempt(self, random: Random) -> None:
        touched: set[str] = set()
        with store_of(
            self._root, self._files, lambda: touched.update(self._change(random))
        ) as store:
            use_all(store, exact=True)
            assert_exact(store, touched)

    def _change(self, random: Random) -> set[str]:
        """Change a row, and return the names that it concerns."""
        database = sqlite3.connect(f"{self._root}/registry.db")
        database.text_factory = bytes
        try:
            with database:
                while True:
                    with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
                        return self._change_one(random, database)
        finally:
            database.close()

    def _change_one(self, random: Random, database: sqlite3.Connection) -> set[str]:
        table = random.choice((*KEYS, "segments", "versions"))
        columns = [row[1].decode() for row in database.execute(f"PRAGMA table_info({table})")]
        keys = KEYS[table]
        row = random.choice(database.execute(f"SELECT * FROM {table}").fetchall())
        where = " AND ".join(f"CAST({key} AS BLOB) = CAST(? AS BLOB)" for key in keys)
        which = [row[columns.index(key)] for key in keys]
        touched = self._concerned(database, table, dict(zip(columns, row, strict=True)))
        if random.random() < 0.05:
            self.tried = f"DELETE FROM {table}", which
            database.execute(f"DELETE FROM {table} WHERE {where}", which)
            return touched
        column = random.choice(columns)
        value, how = self._value(random, row[columns.index(column)])
        self.tried = f'UPDATE {table} SET "{column}" = {how}', value, which
        database.execute(f'UPDATE {table} SET "{column}" = {how} WHERE {where}', [value, *which])
        return touched

    @staticmethod
    def _concerned(database: sqlite3.Connection, table: str, row: dict[str, Any]) -> set[str]:
        if table == "leases":
            found = database.execute(
                "SELECT name FROM versions WHERE lease = ?", [row["id"].decode()]
            )
            return {name.decode() for (name,) in found}
        if table == "offers":
            return set()  # no name depends on who is offered it
        if "name" in row:
            return {row["name"].decode()}
        sql = "SELECT name FROM versions WHERE segment = ?"
        found = database.execute(sql, [row.get("id", row.get("segment", b"")).decode()])
        return {name.decode() for (name,) in found} | {"refers"}

    @staticmethod
    def _value(random: Random, old: Any) -> tuple[Any, str]:
        kind = random.random()
        if kind < 0.1:
            return None, "?"
        if kind < 0.2:
            return random.choice(BOUNDARIES) % (2 * _LIMIT) - _LIMIT, "?"
        if kind < 0.3:
            return random.choice((b"", b"\xff\xfe", b"\xed\xa0\x80", b"[1]")), random.choice(
                ("?", "CAST(? AS TEXT)")
            )
        if isinstance(old, bytes):
            if kind < 0.5 and old[:1] in (b"{", b"["):
                return as_json(random, change_structure(random, json.loads(old))), "CAST(? AS TEXT)"
            if kind < 0.8 and old:
                return damage(random, old), random.choice(("?", "CAST(? AS TEXT)"))
        elif isinstance(old, int) and kind < 0.6:
            return random.choice((old + 1, old - 1, -old, not old)), "?"
        return odd(random), "?"


class Files:
    """The bytes of ``registry.db`` and its log.

    Not of ``registry.db-shm``: SQLite maps it, so that who truncates it gives others a SIGBUS.
    """

    def __init__(self, root: str) -> None:
        self.tried: object = None
        self._root = f"{root}/changed"
        os.mkdir(f"{root}/template", 0o700)
        self._files = template(f"{root}/template")
        self._live = self._with_log(f"{root}/template")

    @staticmethod
    def _with_log(root: str) -> dict[str, bytes]:
        """Return the registry as a process that was killed leaves it: half of it in the log."""
        store = LocalStore(root)
        try:
            store.publish({"late": FRESH}, keep=True)
            return {
                os.path.relpath(path, root): _read(path)
                for path in (
                    *glob.glob(f"{root}/segments/*"), f"{root}/registry.db", f"{root}/registry.db-wal",
                )
            }  # fmt: skip
        finally:
            store.close()

    def attempt(self, random: Random) -> None:
        files = dict(random.choice((self._files, self._live)))
        path = random.choice([path for path in files if path.startswith("registry")])
        size = len(files[path])
        start = random.choice((0, 0, random.randrange(size) if size else 0)) // 512 * 512
        files[path] = damage(random, files[path], start, random.choice((100, start + 512, None)))
        self.tried = path, len(files[path]), start
        with store_of(self._root, files) as store:
            use_all(store, exact=False)
            # A format that does not exist yet is what one of a newer jshm looks like.
            with contextlib.suppress(FormatVersionError):
                assert_exact(store, set(EXPECTED))


class Leases:
    """Lease files, logs of what is held, and identities; by whoever could write them."""

    def __init__(self, root: str) -> None:
        self.tried: object = None
        self._root = f"{root}/changed"
        self._store = LocalStore(f"{root}/leases")
        self._store.publish({"X": DATA["X"]}, keep=True)
        self._held = self._store.attach(["X"])
        self._store.segments()
        (self._path,) = glob.glob(f"{root}/leases/leases/" + "[0-9a-f]" * 16)
        self._good = {path: _read(path) for path in (self._path, f"{self._path}.holds")}

    def attempt(self, random: Random) -> None:
        path = random.choice(list(self._good))
        content = self._good[path]
        if path == self._path and random.random() < 0.7:
            content = as_json(random, change_structure(random, json.loads(content)))
        else:
            content = damage(random, content * random.choice((1, 3)))
        self.tried = os.path.basename(path), content[:500]
        self._write(path, content)
        try:
            self._look()
            if random.random() < _LISTED:
                look_at_all(self._store)
        finally:
            for good, text in self._good.items():
                self._write(good, text)
        assert np.array_equal(self._held[0].value, DATA["X"])

    @staticmethod
    def _write(path: str, content: bytes) -> None:
        with open(path, "r+b") as file:  # in place: its process holds the lock
            file.truncate()
            file.write(content)

    def _look(self) -> None:
        with contextlib.suppress(ValueError):  # as it says
            who = Identity.from_json(_read(self._path).decode(errors="replace"))
            json.dumps([who.label, who.owner, who.to_json()]).encode()
        directory = self._store.directory.leases
        for who, held in lease.living(directory):
            json.dumps([who.label, who.owner, who.owns(who), sorted(held)]).encode()
        lease.signature(directory)
        with refusing():
            assert self._store.info("X").name == "X"
        lease.sweep(directory)
        assert os.path.exists(self._path)  # it lives


class Words:
    """Names, patterns and ids that come over the wire, or from whoever types them."""

    WORDS = (
        "X",
        "exp/needed",
        "*",
        "e*/n?eded",
        "[",
        "[!",
        "[a-",
        "[z-a]",
        "**",
        "..",
        "/",
        "-",
        "",
        "\0",
        "\ud800",
    )

    def __init__(self, root: str) -> None:
        self.tried: object = None
        self._store = LocalStore(f"{root}/words")
        self._store.publish({"X": DATA["X"], "exp/needed": NEEDED}, keep=True)
        self._service = Service(self._store, Notebooks())

    def attempt(self, random: Random) -> None:
        words = [self._word(random) for _ in range(random.choice((1, 1, 2, 50)))]
        self.tried = words
        with refusing():
            _, written, found = expand(words, DATA)
            assert set(found) <= DATA.keys()
            assert set(written) <= {*words} | {*map(_composed, words)}
        use = random.choice((self._service.info, self._service.preview, self._store.location))
        with refusing():
            json.dumps(use(words[0])).encode()
        if not any(
            word in ("X", "exp/needed") or "*" in word or "?" in word or "[" in word
            for word in words
        ):
            with refusing():
                self._service.release(words)
        assert self._store.names() == ["X", "exp/needed"]

    def _word(self, random: Random) -> str:
        word = random.choice(self.WORDS) * random.choice((1, 1, 1, 1, 30, 3000))
        if random.random() < 0.6 and word:
            text = damage(random, word.encode(errors="surrogatepass"))
            word = text.decode(errors=random.choice(("surrogateescape", "replace")))
        return word


def _composed(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", text)
