"""Segments that were cut, overwritten or replaced, each way by hand; `test_fuzz` tries the rest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.store import default_store
from jshm.store.local.store import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = np.arange(600.0).reshape(20, 30)
HEADER = 128
END = HEADER + DATA.nbytes


@pytest.fixture
def path(store_dir: str) -> str:
    """The file of X, sealed, mapped by nobody."""
    jshm.publish("X", DATA, note="the note", keep=True)
    jshm.publish("Y", DATA + 1, keep=True)
    return default_store().location("X")


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
    assert np.array_equal(array, np.load(default_store().location("X")))


def test_a_segment_that_changed_while_it_is_mapped_stays_readable(path: str) -> None:
    held = jshm.attach("X")
    mutate(path, 0, b"\0" * HEADER)
    assert np.array_equal(held, DATA)
    assert np.array_equal(jshm.attach("X"), DATA)  # the same mapping


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
    """Run everything that reads the store; it may refuse, but not crash."""
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


def test_an_undamaged_file_is_restored(whole: bytes, rebuilt: Any) -> None:
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
