"""Promise 5: all that is read back is checked; a corrupt file is an error, never a crash."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jshm
from jshm.records import record
from jshm.store import _store_in, default_store
from jshm.store.local import LocalStore

from .processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DATA = np.arange(600.0).reshape(20, 30)
HEADER = 128
END = HEADER + DATA.nbytes


@pytest.fixture
def path(store_dir: str) -> str:
    """The file of X, sealed, mapped by nobody."""
    jshm.publish("X", DATA, note="the note", keep=True)
    jshm.publish("Y", DATA + 1, keep=True)
    return default_store().path("X")


def mutate(path: str, position: int, content: bytes) -> None:
    os.chmod(path, 0o600)
    with open(path, "r+b", buffering=0) as file:
        file.seek(position)
        file.write(content)


def assert_unusable(name: str = "X") -> None:
    """Attaching fails with a typed error, all else goes on, and check mends it."""
    for mode in ("r", "c"):
        with pytest.raises(jshm.CorruptSegmentError):
            jshm.attach(name, mode)  # type: ignore[call-overload]
    jshm.segments()
    jshm.info(name)
    jshm.gc()
    assert np.array_equal(jshm.attach("Y"), DATA + 1)
    assert jshm.check() != []


def assert_mended(name: str = "X") -> None:
    jshm.check(fix=True)
    assert jshm.check() == []
    with pytest.raises(jshm.SegmentNotFoundError):
        jshm.attach(name)
    jshm.publish(name, DATA)
    assert np.array_equal(jshm.attach(name), DATA)
    assert np.array_equal(jshm.attach("Y"), DATA + 1)


# -- the file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length", [0, 1, 5, 6, 7, 8, 9, 10, 11, 12, 64, HEADER - 1, HEADER, HEADER + 1, 4096, END - 1]
)
def test_truncated(path: str, length: int) -> None:
    os.truncate(path, length)
    assert_unusable()
    assert_mended()


@pytest.mark.parametrize("more", [0, 1, 16, 63])
def test_truncated_behind_the_data(path: str, more: int) -> None:
    os.truncate(path, END + more)
    assert np.array_equal(jshm.attach("X"), DATA)
    assert jshm.check() == []


def test_longer_than_it_was(path: str) -> None:
    mutate(path, os.stat(path).st_size, b"\xff" * 10_000)
    assert np.array_equal(jshm.attach("X"), DATA)
    assert jshm.check() == []


@pytest.mark.parametrize(
    ("position", "content"),
    [(0, b"\0" * 6), (0, b"\x94"), (5, b"X"), (6, b"\2"), (6, b"\xff\xff"), (7, b"\1"), (8, b"\0\0"),
     (8, b"\xff\xff"), (10, b"\0" * 118), (21, b"<f4"), (0, b"\xff" * HEADER), (127, b" "),
     (0, bytes(END))],
)  # fmt: skip
def test_an_overwritten_header(path: str, position: int, content: bytes) -> None:
    mutate(path, position, content)
    assert_unusable()
    assert_mended()


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"(20, 30)", b"(30, 20)"), (b"(20, 30)", b"(20, 31)"), (b"<f8", b"<i8"), (b"False", b"True "),
     (b"(20, 30)", b"(99, 99)")],
)  # fmt: skip
def test_another_valid_header(path: str, old: bytes, new: bytes) -> None:
    with open(path, "rb") as file:
        header = file.read(HEADER)
    assert old in header
    mutate(path, 0, header.replace(old, new))
    assert_unusable()
    jshm.check(fix=True)
    assert jshm.check() == []
    # Gone, or, where the file is whole, what it says: never a mixture.
    try:
        array = jshm.attach("X")
    except jshm.SegmentNotFoundError:
        return
    assert new in (b"(30, 20)", b"<i8", b"True ")
    assert array.tobytes("A") == DATA.tobytes()
    assert np.array_equal(array, np.load(default_store().path("X")))


def in_its_place(path: str, what: str) -> None:
    os.rename(path, path + ".moved")
    match what:
        case "symlink to it":
            os.rename(path + ".moved", os.path.dirname(path) + "/../moved")
            os.symlink(os.path.dirname(path) + "/../moved", path)
        case "symlink to a file":
            os.symlink("/etc/passwd", path)
        case "directory":
            os.mkdir(path)
        case "fifo":
            os.mkfifo(path)
    if os.path.exists(path + ".moved"):
        os.unlink(path + ".moved")


@pytest.mark.parametrize(
    "what", ["symlink to it", "symlink to a file", "directory", "fifo", "gone"]
)
def test_something_else_in_its_place(path: str, what: str) -> None:
    in_its_place(path, what)
    assert_unusable()
    if what == "gone":
        assert_mended()
        return
    problems = jshm.check(fix=True)
    assert any(path in problem.what for problem in problems)
    assert os.path.lexists(path)  # not ours, so not touched
    jshm.publish("Z", DATA)
    jshm.publish("Z", DATA)
    jshm.release(["Y", "Z"])


@pytest.mark.parametrize("what", ["symlink to a file", "directory", "fifo"])
def test_release_in_spite_of_it(path: str, what: str) -> None:
    in_its_place(path, what)
    jshm.release("X")
    jshm.publish("X", DATA)
    assert np.array_equal(jshm.attach("X"), DATA)
    assert os.path.exists("/etc/passwd")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_file(path: str) -> None:
    os.chown(path, 65534, 65534)
    assert_unusable()


def test_a_segment_that_changed_while_it_is_mapped_stays_readable(path: str) -> None:
    held = jshm.attach("X")
    mutate(path, 0, b"\0" * HEADER)
    assert np.array_equal(held, DATA)
    assert np.array_equal(jshm.attach("X"), DATA)  # the same mapping


changes = st.lists(
    st.tuples(st.integers(0, HEADER - 1) | st.integers(END, END + 600), st.binary(min_size=1, max_size=9)),
    min_size=1, max_size=5,
)  # fmt: skip


@given(changes, st.none() | st.integers(0, END + 600))
@settings(max_examples=100, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_random_damage(store_dir: str, changes: Any, length: int | None) -> None:
    jshm.publish("X", DATA)
    path = default_store().path("X")
    with open(path, "rb") as file:
        header = file.read(HEADER)
    for position, content in changes:
        mutate(path, position, content)
    if length is not None:
        os.truncate(path, min(length, os.stat(path).st_size))
    with open(path, "rb") as file:
        intact = file.read(HEADER) == header and os.stat(path).st_size >= END
    if intact:
        found = jshm.attach("X")
        assert found.shape == DATA.shape
        del found
    else:
        with pytest.raises(jshm.CorruptSegmentError):
            jshm.attach("X")
    assert bool(jshm.check()) != intact
    jshm.check(fix=True)
    assert jshm.check() == []


# -- rebuilt from files ----------------------------------------------------------------------------


@pytest.fixture
def whole(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.fixture
def rebuilt(store_dir: str) -> Iterator[Callable[[bytes], LocalStore]]:
    """A store that finds one file and no registry."""
    made: list[LocalStore] = []

    def rebuild(content: bytes) -> LocalStore:
        root = os.path.join(store_dir, f"rebuilt{len(made)}")
        os.makedirs(root + "/segments", 0o700)
        os.chmod(root, 0o700)
        with open(root + "/segments/0123456789abcdef.npy", "wb") as file:
            file.write(content)
        os.chmod(file.name, 0o400)
        made.append(LocalStore(root))
        return made[-1]

    yield rebuild
    for store in made:
        store.close()


def exercise(store: LocalStore) -> None:
    """Everything that reads what is there; it may refuse, it may not fall."""
    for name in store.names():
        try:
            array = store.attach([name])[0].value
            assert array.nbytes <= 10**6
            store.info(name)
        except jshm.JshmError:
            pass
    store.segments()
    store.publish({"fresh": DATA})
    store.gc()
    store.check(fix=True)
    assert store.check() == []
    assert np.array_equal(store.attach(["fresh"])[0].value, DATA)


def test_a_whole_file_comes_back(whole: bytes, rebuilt: Any) -> None:
    store = rebuilt(whole)
    assert store.names() == ["X"]
    info = store.info("X")
    assert (info.version, info.note, info.keep, info.mine) == (1, "the note", True, True)
    assert np.array_equal(store.attach(["X"])[0].value, DATA)
    assert store.publish({"X": DATA})[0].info.version == 2


@pytest.mark.parametrize("cut", [0, 7, 100, HEADER, END - 1, END, END + 15, END + 40, END + 100])
def test_a_torn_file_does_not(whole: bytes, rebuilt: Any, cut: int) -> None:
    store = rebuilt(whole[:cut])
    assert store.names() == []
    exercise(store)


WEIRD = [
    None, [], {}, "", "x" * 5000, -1, 0, 1.5, True, 2**53, 2**63, 10**400, float("nan"), float("inf"),
    "\ud800", "\0", "../../etc", "-", ["a"], {"a": [1]}, 99, "2", "<b>",
]  # fmt: skip


FEWER = [None, [], "x" * 5000, -1, 10**400, float("nan"), "\ud800"]


def the_record(whole: bytes) -> dict[str, Any]:
    start = whole.index(b"\x93JSHMREC") + 16
    found: dict[str, Any] = json.JSONDecoder().raw_decode(whole[start:].split(b"\0")[0].decode())[0]
    return found


def loose(content: Any) -> bytes:
    """A record whose checksum is right, of anything at all, also what JSON has no word for."""
    try:
        return record(content)
    except UnicodeEncodeError:
        text = json.dumps(content)  # escaped: it decodes to half a surrogate pair
        body = text.encode()
        return (struct.pack("<8sII", b"\x93JSHMREC", len(body), zlib.crc32(body)) + body).ljust(
            -(-(16 + len(body)) // 64) * 64, b"\0"
        )


def test_records_of_anything(whole: bytes, rebuilt: Any) -> None:
    good = the_record(whole)
    assert good["name"] == "X"
    start = whole.index(b"\x93JSHMREC")
    contents: list[Any] = []
    for key in good:
        contents += [{**good, key: weird} for weird in WEIRD]
        contents.append({k: v for k, v in good.items() if k != key})
    for key in good["identity"]:
        contents += [{**good, "identity": {**good["identity"], key: weird}} for weird in FEWER]
    for key in good["identity"]["session"]:
        session = good["identity"]["session"]
        contents += [
            {**good, "identity": {**good["identity"], "session": {**session, key: weird}}}
            for weird in FEWER
        ]
    failed = []
    for content in contents:
        store = rebuilt(whole[:start] + loose(content))
        try:
            exercise(store)
        except Exception as error:
            failed.append((repr(content)[:300], repr(error)[:200]))
        store.close()
    assert failed == []


@given(st.lists(st.tuples(st.integers(0, 10**4), st.binary(min_size=1, max_size=4)), max_size=6))
@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_rebuilding_from_a_damaged_file(whole: bytes, rebuilt: Any, changes: Any) -> None:
    damaged = bytearray(whole)
    interesting = [*range(HEADER), *range(END, len(whole))]
    for position, content in changes:
        at = interesting[position % len(interesting)]
        damaged[at : at + len(content)] = content
    exercise(rebuilt(bytes(damaged)))


# -- the registry's rows ---------------------------------------------------------------------------

ROWS = [
    ("descr", "'|O'"), ("descr", "'<f4'"), ("descr", "junk"), ("descr", "('<f8', (3,))"), ("descr", ""),
    ("descr", "[('a', 'O')]"), ("shape", "[-1]"), ("shape", "[30, 20]"), ("shape", "[1000000, 30]"),
    ("shape", "[9223372036854775807, 2]"), ("order", "F"), ("nbytes", "-5"), ("overflow", "1"),
    ("id", "'../../../etc/passwd'"), ("kind", "other"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), ROWS, ids=str)
def test_a_row_that_does_not_fit_its_file(
    path: str, tmp_path: Path, column: str, value: str
) -> None:
    root = default_store().directory.root
    default_store().close()
    _store_in.cache_clear()
    # In another process: one that opens the database beside jshm would drop its locks.
    with Child(tmp_path) as child:
        child.run(
            f"import sqlite3; db = sqlite3.connect({root + '/registry.db'!r}); db.execute("
            f"'UPDATE segments SET \"{column}\" = ? WHERE id = ?',"
            f" ({value!r}, {os.path.basename(path)[:-4]!r})); db.commit(); db.close()"
        )
    for use in (lambda: jshm.attach("X"), lambda: jshm.attach("X", "c"), lambda: jshm.info("X"),
                jshm.segments, lambda: jshm.publish("Z", DATA), lambda: jshm.publish("X", DATA),
                lambda: jshm.check(fix=True)):  # fmt: skip
        with contextlib.suppress(jshm.JshmError):
            use()
    assert np.array_equal(jshm.attach("Y"), DATA + 1)
