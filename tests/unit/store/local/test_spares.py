"""Superseded segments that are written again: fast, and never while a reader has them."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import mmap
import os
import random
import shutil
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.segment import copying
from jshm.segment import file as segment
from jshm.store.local import collect, lease, spares
from jshm.system import file_locks, memory

from ....support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jshm.store.local.store import LocalStore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="spares need Linux's leases")


@pytest.fixture
def child(store: LocalStore, tmp_path: Path) -> Iterator[Child]:
    with Child(tmp_path, "other.py") as child:
        child.run("import jshm, numpy as np")
        yield child
    jshm.gc()


COUNT = 1 << 16
NBYTES = 8 * COUNT


def files(store: LocalStore) -> dict[int, Path]:
    """Return inode → path of all files in the directory of segments."""
    return {path.stat().st_ino: path for path in Path(store.directory.segments).iterdir()}


def inode(store: LocalStore, name: str) -> int:
    return os.stat(store.location(name)).st_ino


def publish(value: float, name: str = "X", count: int = COUNT) -> None:
    jshm.publish(name, np.full(count, value))


def spare_files(store: LocalStore) -> list[Path]:
    """Return the files without a magic, which no reader takes for a segment."""
    return [path for path in files(store).values() if path.read_bytes()[:6] == bytes(6)]


# -- reuse -----------------------------------------------------------------------------------------


def test_two_files_serve_all_versions(store: LocalStore) -> None:
    publish(1)
    publish(2)
    both = set(files(store))
    assert len(both) == 2
    seen = set()
    for value in range(3, 20):
        publish(value)
        assert set(files(store)) == both
        seen.add(inode(store, "X"))
        assert np.load(store.location("X"))[-1] == value
        assert jshm.attach("X")[0] == value
    assert seen == both
    assert jshm.check() == []


def test_a_reader_keeps_an_old_version(store: LocalStore, child: Child) -> None:
    publish(1)
    mine = jshm.attach("X")
    child.run("theirs = jshm.attach('X')")
    for value in range(2, 8):
        publish(value)
        assert (mine == 1).all()
        assert child.run("(theirs == 1).all()")
    assert len(files(store)) == 3  # the held one, the newest, a spare
    del mine
    child.run("del theirs; jshm.segments()")
    publish(8)
    publish(9)
    assert len(files(store)) <= 3


def test_a_version_that_a_reader_drops_is_used_again(store: LocalStore, child: Child) -> None:
    """A reader that follows holds the newest version; the one before is written next."""
    publish(0)
    publish(1)
    known = set(files(store))
    for value in range(2, 10):
        child.run("X = jshm.attach('X'); from jshm.store import default_store as d; d().flush()")
        publish(value)
        known |= set(files(store))
        assert child.run("float(X[0])") == value - 1
    assert len(known) <= 3


def test_a_held_version_that_gets_a_name_does_not_become_a_spare(store: LocalStore) -> None:
    publish(1)
    held = jshm.attach("X")
    publish(2)
    jshm.publish("Y", held)  # the same memory, under another name
    del held
    gc.collect()
    publish(3)
    publish(4)
    assert (jshm.attach("Y") == 1).all()
    assert store.space().spares == NBYTES + 4096 + _rest(store)
    assert {info.name for info in jshm.segments()} == {"X", "Y"}


def _rest(store: LocalStore) -> int:
    """Return the bytes behind a spare's data."""
    return spare_files(store)[0].stat().st_size - NBYTES - 4096


def test_objects_use_spares(store: LocalStore) -> None:
    for value in range(6):
        jshm.publish("D", {"a": np.full(COUNT, value), "b": np.full(COUNT, -value), "c": "text"})
        assert len(files(store)) <= 2
        found = jshm.attach("D")
        assert (found["a"] == value).all()
        assert (found["b"] == -value).all()
        del found
        gc.collect()
    for value in range(4):  # and a spare of one kind for the other
        jshm.publish("D", np.full(2 * COUNT, value))
        assert (jshm.attach("D") == value).all()
        jshm.publish("D", {"a": np.full(2 * COUNT, value)})
        assert (jshm.attach("D")["a"] == value).all()
        assert len(files(store)) <= 2


@pytest.mark.parametrize("grows", [0, 100, -100, NBYTES // 16 // 8, -(NBYTES // 16 // 8)])
def test_slightly_smaller_data_take_a_spare(store: LocalStore, grows: int) -> None:
    publish(1)
    publish(2)
    for value in range(3, 6):
        publish(value, count=COUNT + grows * (value % 2))
        found = np.load(store.location("X"))
        assert found.shape == (COUNT + grows * (value % 2),)
        assert (found == value).all()
    assert jshm.check() == []


def test_much_smaller_data_take_no_spare(store: LocalStore) -> None:
    publish(1)
    publish(2)
    publish(3, "Y", COUNT // 2)
    assert inode(store, "Y") not in {path.stat().st_ino for path in spare_files(store)}
    assert len(spare_files(store)) == 1


def test_small_segments_are_not_kept(store: LocalStore) -> None:
    for value in range(4):
        publish(value, count=100)
    assert len(files(store)) == 1


def test_a_spare_takes_another_layout(store: LocalStore) -> None:
    publish(1)
    publish(2)
    for array in (
        np.arange(COUNT, dtype=">f8"),
        np.asfortranarray(np.arange(COUNT).reshape(256, -1)),
        np.arange(2 * COUNT)[::2],
        np.arange(COUNT)[::-1],
        np.zeros(COUNT, [("a", "u1"), ("b", "u1"), ("c", "<i2"), ("d", "f4")]),
        np.arange(COUNT).astype("M8[s]"),
    ):
        jshm.publish("X", array)
        found = np.load(store.location("X"))
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
        assert len(files(store)) == 2


# -- born in one -----------------------------------------------------------------------------------


def test_allocated_arrays_take_spares(store: LocalStore) -> None:
    publish(1)
    publish(2)
    spare = spare_files(store)[0].stat().st_ino
    array = jshm.empty(COUNT)
    assert os.stat(segment_path(store, array)).st_ino == spare
    array[:] = 7
    jshm.publish("B", array)
    assert np.load(store.location("B"))[-1] == 7
    assert not array.flags.writeable
    assert jshm.check() == []


def test_a_spare_is_cleared_for_zeros(store: LocalStore) -> None:
    publish(1)
    publish(2)
    array = jshm.zeros(COUNT)
    assert not array.any()
    del array
    gc.collect()
    jshm.gc()
    publish(3)
    assert not jshm.SharedNumpyArray.create_new(COUNT).array.any()


def test_the_trailer_of_an_old_version_is_erased(store: LocalStore) -> None:
    """A rebuild must not take an allocated array for the version whose memory it uses."""
    jshm.publish("secret", np.full(COUNT, 1.0))
    jshm.publish("secret", np.full(COUNT, 2.0))
    array = jshm.empty(COUNT)
    jshm.release("secret")
    store.close()
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(store.directory.registry + ending)
    assert [info.name for info in jshm.segments()] == []
    assert array.shape == (COUNT,)


def segment_path(store: LocalStore, array: np.ndarray) -> str:
    mapping = segment.find_mapping(array)
    assert mapping is not None
    return f"{store.directory.segments}/{mapping.segment}.npy"


# -- readers that jshm does not know ---------------------------------------------------------------


def test_a_file_mapped_by_np_load_is_never_written_over(store: LocalStore) -> None:
    publish(1)
    theirs = np.load(store.location("X"), mmap_mode="r")
    for value in range(2, 8):
        publish(value)
        assert (theirs == 1).all()


def test_a_file_that_is_only_open_is_never_written_over(store: LocalStore) -> None:
    publish(1)
    with open(store.location("X"), "rb") as theirs:
        for value in range(2, 6):
            publish(value)
        content = np.load(theirs)
    assert (content == 1).all()


def test_a_spare_opened_by_another_process_is_not_used(store: LocalStore) -> None:
    """A process that opens a spare in the directory prevents its use."""
    publish(1)
    publish(2)
    path = spare_files(store)[0]
    with open(path, "rb") as theirs, mmap.mmap(theirs.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        before = mapped[4096:4104]
        publish(3)
        assert mapped[4096:4104] == before
        assert not path.exists()
    assert jshm.check() == []


def test_a_forked_child_keeps_inherited_versions(store: LocalStore) -> None:
    publish(1)
    mine = jshm.attach("X")
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        os._exit(0 if (mine == 1).all() else 1)
    os.read(ready[0], 1)
    del mine
    gc.collect()
    for value in range(2, 8):
        publish(value)
    os.write(go[1], b"1")
    assert os.waitpid(pid, 0)[1] == 0
    for fd in (*ready, *go):
        os.close(fd)


def test_a_child_has_none_of_its_parents_spares(store: LocalStore) -> None:
    publish(1)
    publish(2)
    publish(3)
    before = {path: path.read_bytes() for path in spare_files(store)}
    pid = os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(BaseException):
            code = len(store.process.spares._free) + len(store.process.spares._published)
            jshm.publish("child", np.full(COUNT, 9.0))
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert {path: path.read_bytes() for path in spare_files(store)} == before
    publish(4)
    assert np.load(store.location("X"))[0] == 4


def test_a_concurrent_open_is_detected(tmp_path: Path) -> None:
    """An open during the check blocks, is detected, and sends no deadly signal."""
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            path.read_bytes()
            time.sleep(random.random() / 1000)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    fd = os.open(path, os.O_RDWR)
    try:
        found = {segment.is_alone(fd) for _ in range(20_000)}
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert found == {True, False}
    assert segment.is_alone(fd)
    with open(path, "rb"):
        assert not segment.is_alone(fd)
    os.close(fd)


def test_attach_beside_a_publisher_that_reuses_memory(store: LocalStore, tmp_path: Path) -> None:
    """A version never shows the values of another one, neither torn nor later ones."""
    code = """
        for _ in range({}):
            info, X = jshm.info('X'), None
            try:
                version = info.version
                X = jshm.attach('X', version=version)
            except jshm.SegmentNotFoundError:
                continue
            if not (X == version).all():
                raise SystemExit(f'v{{version}} is {{X[0]}} to {{X[-1]}}')
            del X
    """
    publish(1)
    with Child(tmp_path, "a.py") as a, Child(tmp_path, "b.py") as b:
        for reader in (a, b):
            reader.send("import jshm\n" + textwrap.dedent(code.format(600)))
        for value in range(2, 400):
            publish(value)
        a.receive()
        b.receive()
    assert jshm.check() == []


# -- what is given back ----------------------------------------------------------------------------


def test_release_frees_at_once(store: LocalStore) -> None:
    publish(1)
    publish(2)
    publish(3)
    assert len(files(store)) == 2
    jshm.release("X")
    assert files(store) == {}
    assert not store.process.spares


def test_release_by_another_process_frees_at_once(store: LocalStore, child: Child) -> None:
    child.run("for i in range(4): jshm.publish('X', np.full(65536, i))")
    assert len(files(store)) == 2
    jshm.release("X", force=True)
    assert files(store) == {}
    assert memory_of(child) == [0, 1]  # its own mapping is dropped in its next cell
    child.run("from jshm.store import default_store as d; d().flush()")
    assert memory_of(child) == []
    child.run("jshm.publish('X', np.full(65536, 9))")
    assert np.load(store.location("X"))[0] == 9


def memory_of(child: Child) -> list[int]:
    """Return for each deleted file that a process has mapped whether it has memory."""
    found = []
    for entry in Path(f"/proc/{child.pid}/map_files").iterdir():
        if "/segments/" in (path := str(entry.readlink())) and path.endswith("(deleted)"):
            found.append(int(entry.stat().st_blocks > 0))
    return sorted(found)


@pytest.mark.parametrize("say", ["0", "500k", "1M", "100M"])
def test_the_limit_of_spares(store: LocalStore, monkeypatch: pytest.MonkeyPatch, say: str) -> None:
    monkeypatch.setenv("JSHM_SPARES", say)
    for name in "ABCD":
        publish(1, name)
    for name in "ABCD":
        publish(2, name, 10)
    most = {"0": 0, "500k": 0, "1M": 1, "100M": 4}[say]
    assert len(spare_files(store)) == most
    assert store.space().spares == sum(path.stat().st_size for path in spare_files(store))


def test_an_invalid_limit(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(1)
    monkeypatch.setenv("JSHM_SPARES", "a lot")
    for count in (10, COUNT):
        with pytest.raises(jshm.InvalidSettingError, match=r"JSHM_SPARES is 'a lot'"):
            publish(2, count=count)
    assert len(files(store)) == 1
    assert (jshm.attach("X") == 1).all()


def test_idle_spares_are_taken_away_by_other_processes(
    store: LocalStore, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    child.run("for i in range(4): jshm.publish('X', np.full(65536, i))")
    assert len(spare_files(store)) == 1
    store.housekeeping.collect()
    assert len(spare_files(store)) == 1
    monkeypatch.setattr(spares, "IDLE", 0.0)
    store.housekeeping.collect()
    assert spare_files(store) == []
    assert memory_of(child) == [0]  # although its process has it mapped
    child.run("jshm.publish('X', np.full(65536, 9)); jshm.publish('X', np.full(65536, 10))")
    assert np.load(store.location("X"))[0] == 10
    assert jshm.check() == []


def test_held_versions_are_given_up_when_idle(
    store: LocalStore, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    child.run("jshm.publish('X', np.full(65536, 1))")
    held = jshm.attach("X")
    child.run("jshm.publish('X', np.full(65536, 2))")
    del held
    gc.collect()
    store.flush()
    assert len(files(store)) == 2  # left to its publisher
    assert [info.version for info in jshm.segments()] == [2]
    monkeypatch.setattr(spares, "IDLE", 0.0)
    store.housekeeping.collect()
    assert len(files(store)) == 1


def test_all_are_freed_when_memory_is_short(
    store: LocalStore, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(1)
    publish(2)
    child.run("for i in range(4): jshm.publish('Y', np.full(65536, i))")
    assert len(spare_files(store)) == 2
    short = memory.Memory(10**9, 10**11)
    monkeypatch.setattr(memory, "tightest", lambda: short)
    monkeypatch.setattr(store.process.spares, "_next_look", 0.0)
    store.housekeeping.collect()
    store.flush()
    assert spare_files(store) == []
    publish(3)
    assert spare_files(store) == []


def test_they_are_freed_for_data_that_do_not_fit(
    store: LocalStore, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JSHM_QUOTA", str(5 * NBYTES))
    publish(1)
    publish(2)
    child.run("for i in range(3): jshm.publish('Y', np.full(65536, i))")
    assert len(spare_files(store)) == 2
    publish(3, "Z", 2 * COUNT)
    assert not jshm.info("Z").overflow
    assert len(spare_files(store)) < 2


def test_gc_frees_all(store: LocalStore, child: Child) -> None:
    publish(1)
    publish(2)
    child.run("for i in range(4): jshm.publish('Y', np.full(65536, i))")
    assert jshm.gc() > 2 * NBYTES
    assert spare_files(store) == []


def test_a_killed_publisher_leaves_nothing(store: LocalStore, child: Child) -> None:
    child.run("for i in range(4): jshm.publish('X', np.full(65536, i), keep=True)")
    assert len(files(store)) == 2
    child.kill()
    jshm.gc()
    assert len(files(store)) == 1
    assert (jshm.attach("X") == 3).all()


def test_a_normal_exit_frees_them(store: LocalStore, tmp_path: Path) -> None:
    with Child(tmp_path, "ends.py") as child:
        child.run("import jshm, numpy as np")
        child.run("for i in range(4): jshm.publish('X', np.full(65536, i), keep=True)")
        child.exit()
    assert len(files(store)) == 1


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["unlink", "truncate", "punch", "replace", "lock"])
def test_a_spare_that_was_changed_is_not_used(store: LocalStore, harm: str) -> None:
    publish(1)
    publish(2)
    publish(3)
    path = spare_files(store)[0]
    locked = -1
    if harm == "unlink":
        path.unlink()
    elif harm == "truncate":
        os.truncate(path, 1000)
    elif harm == "punch":
        libc = ctypes.CDLL(None, use_errno=True)
        with open(path, "r+b") as file:
            whole = ctypes.c_long(path.stat().st_size)
            assert libc.fallocate(file.fileno(), 3, ctypes.c_long(0), whole) == 0
    elif harm == "replace":
        path.unlink()
        path.write_bytes(b"somebody's")
    else:
        locked = os.open(path, os.O_RDONLY)
        fcntl.flock(locked, fcntl.LOCK_SH)
    for value in (4, 5, 6, 7):
        publish(value)
        assert (np.load(store.location("X")) == value).all()
    if locked >= 0:
        os.close(locked)
    jshm.gc()
    assert jshm.check() == []


def test_the_directory_is_removed(store: LocalStore) -> None:
    publish(1)
    publish(2)
    publish(3)
    shutil.rmtree(store.directory.root)
    with pytest.warns(jshm.DirectoryLostWarning):
        publish(4)
    publish(5)
    assert (jshm.attach("X") == 5).all()
    assert len(files(store)) <= 2


def test_a_log_of_invalid_lines(store: LocalStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(
        b"*\n*aa 3 X\n*%b x y\n*%b 5\n/zz\n*%b 7 caf\\xe9\n*%b 99999"
        % (b"b" * 16, b"c" * 16, b"e" * 16, b"f" * 16)
    )
    said = lease.read_log(str(log))
    assert said.spares["e" * 16] == lease.LoggedSpare(7, "café")
    assert {*said.spares} == {"b" * 16, "c" * 16, "e" * 16}
    # An id from another process's log is never used as a path.
    publish(1)
    own = store.process._valid_lease()
    own.log.add_spare("../../etc/passwd", 5, "X")
    jshm.gc()
    own.log.remove_spare("../../etc/passwd")
    jshm.gc()


@pytest.mark.parametrize("name", ["é/ü", "数据", "a_b.c-d/e"])
def test_names_in_the_log(store: LocalStore, name: str) -> None:
    publish(1, name)
    publish(2, name)
    found = spares.listed(store.directory)
    assert [one.name for one in found.values()] == [name]


def test_threads_publish_the_same_name(store: LocalStore) -> None:
    failed: list[BaseException] = []

    def work(which: int) -> None:
        try:
            for i in range(30):
                publish(which * 1000 + i)
                found = jshm.attach("X")
                if not (found == found[0]).all():
                    raise ValueError("torn")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    jshm.gc()
    assert jshm.check() == []


def test_ctrl_c_during_a_write(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(1)
    publish(2)
    publish(3)
    true = spares.Spare.map

    def interrupted(self: spares.Spare) -> segment.Mapping:
        signal.raise_signal(signal.SIGINT)
        return true(self)

    with monkeypatch.context() as patched:
        patched.setattr(spares.Spare, "map", interrupted)
        with pytest.raises(KeyboardInterrupt):
            publish(4)
    assert (jshm.attach("X") == 3).all()
    jshm.gc()
    assert jshm.check() == []
    assert len(files(store)) <= 2
    publish(5)
    assert (jshm.attach("X") == 5).all()


def test_a_mapping_kept_by_a_traceback_has_no_memory(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in range(1, 5):
        publish(value)
    kept: list[segment.Mapping] = []

    def interrupted(destination: np.ndarray, _: np.ndarray) -> None:
        kept.append(segment.find_mapping(destination))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(copying, "fill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            publish(5)
    assert len(kept[0]) >= NBYTES
    assert not np.frombuffer(kept[0], np.uint8).any()  # removed pages read as zeros
    assert len(files(store)) == 1
    publish(6)


def test_an_open_blocks_during_the_check(tmp_path: Path) -> None:
    """While a process checks whether it is the only user of a file, every open blocks."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0o600)
    fd = os.open(path, os.O_RDWR)
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    assert segment.claim(str(path)) is None
    assert segment.is_held(str(path))
    timer = threading.Timer(0.2, fcntl.fcntl, (fd, fcntl.F_SETLEASE, fcntl.F_UNLCK))
    timer.start()
    found, _ = segment.open_shared(str(path), writable=False)
    file_locks.close(found)
    timer.join()
    os.close(fd)


def test_a_descriptor_is_closed_once(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a close, another thread's file may get the same number."""
    theirs: list[int] = []

    def somebody_has_it(_: int) -> bool:
        theirs.extend(
            file_locks.open_locked(str(tmp_path / f"{len(theirs)}"), os.O_RDWR | os.O_CREAT)
            for _ in range(3)
        )
        return False

    publish(1)
    with monkeypatch.context() as patched:
        patched.setattr(segment, "is_alone", somebody_has_it)
        publish(2)
    assert len(theirs) == 3
    for fd in theirs:
        os.fstat(fd)  # it is open
        file_locks.close(fd)
    assert len(files(store)) == 1


def test_taking_away_a_spare_that_was_just_removed(store: LocalStore) -> None:
    publish(1)
    publish(2)
    path = spare_files(store)[0]
    fd = segment.claim(str(path))
    path.unlink()
    collect._empty(fd, str(path))
    publish(3)


def test_a_busy_process_frees_unused_spares(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(1)
    publish(2)
    assert spare_files(store)
    monkeypatch.setattr(spares, "IDLE", 0.0)
    monkeypatch.setattr(store.housekeeping, "_next_collection", 0.0)
    publish(1, "small", 10)
    assert spare_files(store) == []


def test_threads_write_the_log_one_at_a_time(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread writes into a file that got the number of a closed log."""
    monkeypatch.setattr(lease, "_SLACK", -1000)  # each line is a new log
    log = store.process._valid_lease().log
    stop, failed = threading.Event(), []

    def say(which: int) -> None:
        try:
            while not stop.is_set():
                log.add_spare(f"{which:016x}", 1, "X")
                log.remove_spare(f"{which:016x}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=say, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    wrong = []
    for i in range(3000):
        path = tmp_path / str(i % 7)
        with open(path, "wb", buffering=0) as file:
            file.write(b"mine")
        if path.read_bytes() != b"mine":
            wrong.append(path.read_bytes())
    stop.set()
    for thread in threads:
        thread.join()
    assert (failed, wrong) == ([], [])


def test_group_stores_have_no_spares(store: LocalStore) -> None:
    from dataclasses import replace

    from jshm.system.access import Access

    mine = spares.Spares(
        replace(store.directory, access=Access("users", 100)),
        store.process._valid_lease().log,
    )
    assert not mine._may_keep(NBYTES)


def test_memory_is_counted_once(store: LocalStore) -> None:
    """A spare belongs to no version, and the segment of a version is not a spare."""
    publish(1)
    for value in range(2, 6):
        publish(value)
        space = store.space()
        assert space.spares == sum(path.stat().st_size for path in spare_files(store))
        assert sum(info.nbytes for info in jshm.segments()) == NBYTES


def test_a_spare_whose_descriptor_was_closed(store_dir: str) -> None:
    for value in (1.0, 2.0):
        jshm.publish("X", np.full(300_000, value))
    kept = jshm.store.default_store().process.spares
    for spare in (*kept._free.values(), *kept._published.values()):
        os.close(spare.fd)
    jshm.segments()
    jshm.publish("X", np.full(300_000, 3.0))
    assert jshm.attach("X")[0] == 3.0
