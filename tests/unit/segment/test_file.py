from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import pickle
import signal
import stat
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.errors import CorruptSegmentError, InvalidModeError, SegmentNotFoundError
from jshm.segment import file as segment
from jshm.segment import pages
from jshm.system import file_locks

from ...support.processes import Child, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

PAGE = 4096


@pytest.fixture
def path(store_dir: str) -> str:
    """A path in memory."""
    return os.path.join(store_dir, "file")


@pytest.fixture
def filled(path: str) -> Iterator[str]:
    """Three pages of ones, twos and threes."""
    with open(path, "wb") as file:
        file.write(b"\1" * PAGE + b"\2" * PAGE + b"\3" * PAGE)
    yield path
    gc.collect()


def content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def mapped(path: str, mode: Any, length: int = 3 * PAGE) -> segment.Mapping:
    fd, _ = segment.open_shared(path, writable=mode == "r+")
    try:
        return segment.map_file(fd, length, mode, "id")
    finally:
        file_locks.close(fd)


def poke(mapping: segment.Mapping, offset: int, value: int) -> None:
    """Write as C code does, which ignores NumPy's flag."""
    ctypes.c_ubyte.from_address(mapping.address + offset).value = value


def can_lock(path: str, operation: int = fcntl.LOCK_EX) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        file_locks.close(fd)
    return True


# -- create, write, reserve ------------------------------------------------------------------------


def test_a_new_file_is_private_empty_and_locked(path: str) -> None:
    fd = segment.create(path)
    status = os.stat(path)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == 0
    assert not os.get_inheritable(fd)
    assert not can_lock(path, fcntl.LOCK_SH)
    file_locks.close(fd)
    assert can_lock(path)


def test_an_existing_file_is_never_taken_over(filled: str) -> None:
    with pytest.raises(FileExistsError):
        segment.create(filled)
    assert len(content(filled)) == 3 * PAGE


def test_a_file_that_was_removed_before_the_lock_is_made_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = file_locks.lock, []

    def lock(fd: int, operation: int, timeout: float = 0) -> None:
        if not removed:
            removed.append(fd)
            os.unlink(path)
        real(fd, operation)

    monkeypatch.setattr(file_locks, "lock", lock)
    fd = segment.create(path)
    assert removed
    assert os.path.sameopenfile(fd, os.open(path, os.O_RDONLY))
    file_locks.close(fd)


def test_buffers_are_written_one_after_the_other(path: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(segment, "_WRITE_CHUNK", 3)
    fd = segment.create(path)
    chunks = [b"abcdefgh", b"", np.arange(4, dtype=np.uint8), bytearray(b"xyz")]
    assert segment.write(fd, 5, chunks) == 5 + 8 + 4 + 3
    file_locks.close(fd)
    assert content(path) == b"\0" * 5 + b"abcdefgh\0\1\2\3xyz"


def test_short_writes_are_continued(path: str, monkeypatch: Any) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:7], at))
    fd = segment.create(path)
    segment.write(fd, 0, [bytes(range(100))])
    file_locks.close(fd)
    assert content(path) == bytes(range(100))


@pytest.mark.parametrize("size", [1, PAGE, PAGE + 1, 3 << 20])
@pytest.mark.parametrize("has_fallocate", [True, False])
def test_reserved_space_is_allocated(
    path: str, size: int, has_fallocate: bool, monkeypatch: Any
) -> None:
    if not has_fallocate:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    fd = segment.create(path)
    segment.reserve(fd, size)
    file_locks.close(fd)
    assert content(path) == bytes(size)
    assert os.stat(path).st_blocks * 512 >= size


# -- open ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("what", ["symlink", "dangling", "directory", "fifo", "gone"])
def test_only_regular_files_are_opened(path: str, what: str, writable: bool) -> None:
    match what:
        case "symlink":
            os.symlink(__file__, path)
        case "dangling":
            os.symlink("/nowhere", path)
        case "directory":
            os.mkdir(path)
        case "fifo":
            os.mkfifo(path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SegmentNotFoundError if what == "gone" else CorruptSegmentError):
        segment.open_shared(path, writable=writable)
    if what != "gone":
        assert segment.claim(path) is None
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_file_is_refused(filled: str) -> None:
    os.chown(filled, 65534, 65534)
    with pytest.raises(CorruptSegmentError, match="not a regular file of this user"):
        segment.open_shared(filled, writable=False)


def test_a_file_removed_between_open_and_lock_is_not_found(filled: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(file_locks, "lock", lambda fd, operation, *_: os.unlink(filled))
    with pytest.raises(SegmentNotFoundError):
        segment.open_shared(filled, writable=False)


def test_too_many_files_says_what_to_do(filled: str, tmp_path: Path) -> None:
    with Child(tmp_path, prefix=("prlimit", "--nofile=60")) as child:
        child.run("import numpy; from jshm.segment import file as segment; held = []")
        for do in ("segment.open_shared({0!r}, writable=False)[0]", "segment.create({0!r} + name)"):
            error = child.fails(
                f"for name in map(str, range(100)): held.append({do.format(filled)})"
            )
            assert error.kinds[0] == "TooManyFilesError"
            assert "OSError" in error.kinds
            assert "ulimit -n" in error.message
            assert 10 < child.run("len(held)") < 60


# -- holds -----------------------------------------------------------------------------------------


def test_a_file_that_was_truncated_is_not_mapped(filled: str) -> None:
    with open(filled, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        with pytest.raises(CorruptSegmentError, match="truncated"):
            segment.map_file(file.fileno(), size + 1, "r", "0123456789abcdef")


def test_a_mapping_holds_after_its_descriptor_is_closed(filled: str) -> None:
    assert not segment.is_held(filled)
    mapping = mapped(filled, "r")
    assert segment.is_held(filled)
    assert segment.claim(filled) is None
    assert not can_lock(filled)
    view = segment.view(mapping)[5:7]
    del mapping
    assert segment.is_held(filled)
    del view
    assert not segment.is_held(filled)
    assert can_lock(filled)


def test_a_claimed_segment_cannot_be_held(filled: str) -> None:
    fd = segment.claim(filled)
    assert fd is not None
    assert not can_lock(filled, fcntl.LOCK_SH)
    file_locks.close(fd)
    assert can_lock(filled)
    os.unlink(filled)
    with pytest.raises(FileNotFoundError):
        segment.claim(filled)
    assert not segment.is_held(filled)


HOLD = """
import os
from jshm.segment import file as segment
from jshm.system import file_locks
fd, _ = segment.open_shared({0!r}, writable=False)
mapping = segment.map_file(fd, 100, "r", "id")
file_locks.close(fd)
"""


def test_another_process_holds_until_sigkill(filled: str, tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.run(HOLD.format(filled))
        assert segment.is_held(filled)
        child.kill()
    assert not segment.is_held(filled)


def test_a_forked_child_holds_what_it_inherited(filled: str, tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.run(HOLD.format(filled))
        grandchild = child.run("import time\npid = os.fork()\nif not pid: time.sleep(60)\npid")
        child.kill()
        assert segment.is_held(filled)
        os.kill(grandchild, signal.SIGKILL)
    until(lambda: not segment.is_held(filled))


# -- modes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["R", "w", "", "rw", "w+", None, 3])
def test_other_modes_are_refused(mode: Any) -> None:
    with pytest.raises(InvalidModeError, match="copy-on-write"):
        segment.check_mode(mode)


def test_shared_pages_are_the_files_pages(filled: str) -> None:
    first, second = mapped(filled, "r+"), mapped(filled, "r+")
    segment.view(first)[10] = 77
    assert segment.view(second)[10] == 77
    assert content(filled)[10] == 77
    fd = os.open(filled, os.O_RDWR)
    os.pwrite(fd, b"\x63", PAGE)
    os.close(fd)
    assert segment.view(first)[PAGE] == 0x63


@pytest.mark.parametrize("mode", ["r", "c"])
def test_private_pages_are_the_files_until_they_are_written(filled: str, mode: Any) -> None:
    mapping = mapped(filled, mode)
    view = segment.view(mapping)
    assert view[PAGE] == 2
    fd = os.open(filled, os.O_RDWR)
    os.pwrite(fd, b"\x63", PAGE)
    assert view[PAGE] == 0x63  # nothing was copied
    poke(mapping, PAGE + 1, 9)  # past the read-only flag: no crash, and nobody else sees it
    assert view[PAGE + 1] == 9
    assert content(filled)[PAGE + 1] == 2
    os.close(fd)


def test_a_read_only_view_stays_read_only(filled: str) -> None:
    view = segment.view(mapped(filled, "r"))
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    with pytest.raises(ValueError, match="WRITEABLE"):
        view[3:].flags.writeable = True


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_mapping_cannot_be_closed_under_a_view(filled: str, mode: Any) -> None:
    mapping = mapped(filled, mode)
    view = segment.view(mapping)[7:]
    with pytest.raises(BufferError):
        mapping.close()
    gone = weakref.ref(mapping)
    del mapping
    segment.unlink(filled)
    segment.unlink(filled)
    assert view.sum() == 6 * PAGE - 7
    assert gone() is not None
    del view
    assert gone() is None


def test_a_refused_mapping_is_a_typed_error(filled: str) -> None:
    fd, _ = segment.open_shared(filled, writable=False)
    with pytest.raises((OSError, ValueError)):
        segment.map_file(fd, 4 * PAGE, "r", "longer than the file")
    with pytest.raises(PermissionError):
        segment.map_file(fd, PAGE, "r+", "opened read-only")
    file_locks.close(fd)
    assert not segment.is_held(filled)


# -- find ------------------------------------------------------------------------------------------


def test_the_mapping_of_a_view_is_found(filled: str) -> None:
    mapping = mapped(filled, "r+")
    root = segment.view(mapping)
    numbers = root.view(np.uint16).reshape(2, -1)
    for array in (
        root, root[5:], root[::-1], numbers.T, numbers[:, ::-3], numbers[0:0], root[len(root) :],
        np.asarray(memoryview(root)), np.broadcast_to(root[:1], (5, 5)), root.view(np.recarray),
        np.ma.MaskedArray(root),
    ):  # fmt: skip
        assert segment.find_mapping(array) is mapping


class Foreign:
    """An array of another library on the same memory."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._keep = array
        self.__array_interface__ = array.__array_interface__


def test_a_mapping_is_found_through_other_libraries(filled: str) -> None:
    mapping = mapped(filled, "r+")
    root = segment.view(mapping)
    assert segment.find_mapping(np.asarray(Foreign(root[100:200]))) is mapping
    assert segment.find_mapping(np.asarray(Foreign(root[-1:]))) is mapping


def test_private_memory_has_no_mapping(filled: str) -> None:
    mapping = mapped(filled, "r+")
    root = segment.view(mapping)
    for array in (
        np.zeros(3), np.zeros((3, 3))[1:], np.frombuffer(b"abc", np.uint8), root.copy(), root + 1,
        np.zeros(0), np.asarray(Foreign(np.zeros(7))),
    ):  # fmt: skip
        assert segment.find_mapping(array) is None


def test_mappings_are_found_while_other_threads_map(filled: str) -> None:
    keep = [mapped(filled, "c", 100) for _ in range(50)]
    private, stop, failed = np.frombuffer(b"abc", np.uint8), threading.Event(), []

    def look() -> None:
        try:
            while not stop.is_set():
                assert segment.find_mapping(private) is None
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        keep.append(mapped(filled, "c", 100))
        keep.pop(0)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []


# -- pristine --------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.access("/proc/self/pagemap", os.R_OK), reason="no pagemap")
@pytest.mark.parametrize("mode", ["r", "c"])
@pytest.mark.parametrize("offset", [None, 0, PAGE - 1, PAGE, 2 * PAGE + 5, 3 * PAGE - 1])
@pytest.mark.parametrize("how", ["searched", "listed"])
def test_a_write_to_any_page_is_noticed(
    filled: str, mode: Any, offset: int | None, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "listed":  # as before Linux 6.7
        monkeypatch.setattr(pages, "_SCAN", 0)
    mapping = mapped(filled, mode)
    assert pages.is_pristine(mapping)
    bytes(mapping)
    assert pages.is_pristine(mapping)
    if offset is not None:
        poke(mapping, offset, 9)
        assert not pages.is_pristine(mapping)
        poke(mapping, offset, content(filled)[offset])  # the same value, but another page
        assert not pages.is_pristine(mapping)


def test_without_pagemap_nothing_is_pristine(filled: str, monkeypatch: Any) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    monkeypatch.setattr("builtins.open", refuse)
    assert not pages.is_pristine(mapped(filled, "r"))


@pytest.mark.skipif(not os.access("/proc/self/pagemap", os.R_OK), reason="no pagemap")
@pytest.mark.parametrize("how", ["searched", "listed"])
def test_a_part_of_a_mapping_is_pristine(
    filled: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "listed":
        monkeypatch.setattr(pages, "_SCAN", 0)
    mapping = mapped(filled, "r")
    poke(mapping, PAGE, 9)
    assert pages.is_pristine(mapping, 0, PAGE)
    assert pages.is_pristine(mapping, 2 * PAGE)
    assert not pages.is_pristine(mapping, PAGE - 1, PAGE + 1)
    assert not pages.is_pristine(mapping, 2 * PAGE - 1)


def test_a_sealable_buffer_is_sealed_for_good(filled: str) -> None:
    array = np.ndarray((10,), np.uint8, segment.sealable(mapped(filled, "r+")), 5)
    before = array[2:]
    frozen = array[:2]
    frozen.flags.writeable = False
    assert segment.find_mapping(array) is segment.find_mapping(before) is not None
    array[0] = 7
    segment.seal(array)
    again: Any = np.asarray(array.base)
    for view in (array, frozen, array[1:], array.reshape(2, 5), array.view("i1"), again):
        assert not view.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True
    assert memoryview(array).readonly
    assert before.flags.writeable  # known to nobody


def test_a_shared_writable_mapping_is_never_pristine(filled: str) -> None:
    assert not pages.is_pristine(mapped(filled, "r+"))


def test_ids_do_not_collide() -> None:
    ids = {segment.new_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in ids)


def test_only_the_allocated_array_itself_is_sealed(store: LocalStore, tmp_path: Path) -> None:
    big = jshm.zeros((10, 10))
    jshm.publish("view", big.reshape(10, 10))
    big[0, 0] = 7
    assert jshm.attach("view")[0, 0] == 0, "a snapshot must not change"
    jshm.publish("whole", big)
    assert not big.flags.writeable
    assert jshm.is_shared(big)
    # An array that another process holds too is copied: that process could go on writing.
    handle = jshm.SharedNumpyArray.create_new((10,))
    with Child(tmp_path) as other:
        other.run("import pickle, jshm")
        other.run(f"handle = pickle.loads({pickle.dumps(handle)!r})")
        jshm.publish("both", handle.array)
        other.run("handle.array[0] = 42")
        assert handle.array[0] == 42
        assert jshm.attach("both")[0] == 0
