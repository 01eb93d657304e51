"""``jshm.lock``: excludes processes and threads, is freed by the operating system, and is fair."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.store.local import locks
from jshm.system import file_locks

from ....support.processes import Child, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore


@pytest.fixture
def new(store: LocalStore, tmp_path: Path) -> Iterator[Callable[[str], Child]]:
    """Start processes, named after their scripts."""
    started: list[Child] = []

    def start(script: str) -> Child:
        child = Child(tmp_path, script)
        started.append(child)
        child.run("import os, signal, threading, time, jshm, numpy as np")
        return child

    yield start
    for child in started:
        child.__exit__()


def files(store: LocalStore) -> list[str]:
    return os.listdir(store.directory.locks)


def nothing_is_locked() -> bool:
    """Return whether this process has no lock, and no lock file open."""
    opened = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the list itself
            opened.append(os.readlink(f"/proc/self/fd/{fd}"))
    return not locks._mine and not any("/locks/" in path for path in opened)


# -- exclusion -------------------------------------------------------------------------------------


def test_no_update_is_lost(store: LocalStore, new: Callable[[str], Child]) -> None:
    """Eight threads in four processes add to the same number, in two steps."""
    jshm.publish("counts", np.zeros(1), writable=True)
    children = [new(f"add{number}.py") for number in range(4)]
    for child in children:
        child.send("""
live, lock = jshm.attach("counts", "r+"), jshm.lock("counts")
def add():
    for _ in range(100):
        with lock:
            before = live[0]
            time.sleep(0)
            live[0] = before + 1
threads = [threading.Thread(target=add) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""")
    for child in children:
        child.receive()
    assert jshm.attach("counts")[0] == 800


def test_readers_share_and_writers_do_not(store: LocalStore, new: Callable[[str], Child]) -> None:
    other = new("other.py")
    other.run("reading = jshm.lock('X', shared=True); reading.__enter__()")
    with jshm.lock("X", shared=True, timeout=0):
        pass
    with pytest.raises(jshm.LockTimeoutError), jshm.lock("X", timeout=0):
        pass
    other.run("reading.__exit__(None, None, None); writing = jshm.lock('X'); writing.__enter__()")
    for shared in (False, True):
        with pytest.raises(jshm.LockTimeoutError), jshm.lock("X", shared=shared, timeout=0):
            pass
    other.run("writing.__exit__(None, None, None)")
    with jshm.lock("X", timeout=0):
        pass
    assert nothing_is_locked()


def test_locks_of_different_names_are_independent(store: LocalStore) -> None:
    long = "ä" * 200  # too long for a file's name, and not published
    with jshm.lock("X"), jshm.lock("exp/X"), jshm.lock(long):
        assert len(files(store)) == 3
        with pytest.raises(jshm.LockHeldError), jshm.lock("a\u0308" * 100 + "ä" * 100):
            pass  # the same name in another normal form
    with pytest.raises(jshm.InvalidNameError):
        jshm.lock("no/../name")


def test_threads_exclude_each_other(store: LocalStore) -> None:
    lock = jshm.lock("X")
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with lock:
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(60)
    with pytest.raises(jshm.LockTimeoutError, match=r"held by another thread of this process$"):
        jshm.lock("X", timeout=0.01).__enter__()
    leave.set()
    with lock:  # the same object
        thread.join(60)
        assert repr(lock) == "<lock of X>"
    assert nothing_is_locked()


def test_a_thread_that_would_wait_for_itself_gets_an_error(store: LocalStore) -> None:
    lock = jshm.lock("X")
    with lock:
        for again in (lock, jshm.lock("X"), jshm.lock("X", shared=True)):
            with pytest.raises(
                jshm.LockHeldError, match="this thread already has the lock of X"
            ) as caught:
                again.__enter__()
            assert isinstance(caught.value, RuntimeError)
        assert not _is_free_to_others("X")
    assert _is_free_to_others("X")
    assert nothing_is_locked()


# -- waiting ---------------------------------------------------------------------------------------


def test_a_timeout_names_the_holders(store: LocalStore, new: Callable[[str], Child]) -> None:
    train, eda = new("train.py"), new("eda.py")
    for reader in (train, eda):
        reader.run("lock = jshm.lock('X', shared=True); lock.__enter__()")
    began = time.monotonic()
    with pytest.raises(jshm.LockTimeoutError) as caught:
        jshm.lock("X", timeout=0.2).__enter__()
    assert time.monotonic() - began >= 0.2
    assert isinstance(caught.value, TimeoutError)
    before, _, after = str(caught.value).partition(" held by ")
    assert before == "timed out after 0.2 s waiting for the lock of X"
    assert set(after.partition(";")[0].split(", ")) == {
        f"train.py (pid {train.pid})", f"eda.py (pid {eda.pid})",
    }  # fmt: skip
    train.kill()
    with pytest.raises(jshm.LockTimeoutError, match=rf"held by eda.py \(pid {eda.pid}\)"):
        jshm.lock("X", timeout=0).__enter__()
    assert nothing_is_locked()


@pytest.mark.parametrize("shared", [False, True])
def test_the_lock_of_a_killed_holder_is_free(
    store: LocalStore, new: Callable[[str], Child], *, shared: bool
) -> None:
    other = new("other.py")
    other.run(f"lock = jshm.lock('X', shared={shared}); lock.__enter__()")
    with store.lock("X", timeout=60, waits=lambda _: other.signal(signal.SIGKILL)):
        pass


def test_pauses_between_attempts_stay_short(
    store: LocalStore, new: Callable[[str], Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They grow with the time waited, up to 6 ms. So a waiter has the lock soon after it is free."""
    new("other.py").run("lock = jshm.lock('X'); lock.__enter__()")
    pauses: list[float] = []
    sleep = time.sleep
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", lambda pause: (pauses.append(pause), sleep(pause)))
        with pytest.raises(jshm.LockTimeoutError):
            jshm.lock("X", timeout=0.6).__enter__()
    assert pauses[0] < 1e-3
    assert 4e-3 < max(pauses) < 6e-3


def test_processes_that_lock_again_and_again_do_not_starve_others(
    store: LocalStore, new: Callable[[str], Child]
) -> None:
    """Readers that always overlap do not starve a writer, and a writer does not starve another one."""
    others = [new(f"other{number}.py") for number in range(3)]
    for number, other in enumerate(others):
        other.send(f"""
lock = jshm.lock("X", shared={number > 0})
while True:
    with lock:
        time.sleep(0.01)
""")
    until(lambda: not _is_free("X"))
    for _ in range(5):
        with jshm.lock("X", timeout=60):
            pass
    for other in others:
        other.kill()


def test_ctrl_c_ends_the_wait(store: LocalStore, new: Callable[[str], Child]) -> None:
    other = new("other.py")
    other.run("lock = jshm.lock('X'); lock.__enter__()")
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            store.lock("X", waits=lambda _: os.kill(os.getpid(), signal.SIGINT)).__enter__()
    assert nothing_is_locked()


@pytest.mark.parametrize("after", range(1, 30, 2))
def test_ctrl_c_while_a_lock_is_acquired_leaves_it_free(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The signal comes at each call that jshm makes while it acquires and releases."""
    left = after

    def interrupting(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGINT)
            return call(*args, **kwargs)

        return wrapped

    lock = jshm.lock("X")
    interrupted = False
    with monkeypatch.context() as patch:
        for name in ("_open", "_try_in_turn", "_turn", "is_at", "_is_in"):
            patch.setattr(locks, name, interrupting(getattr(locks, name)))
        patch.setattr(file_locks, "close", interrupting(file_locks.close))
        try:
            for _ in range(5):
                with lock:
                    pass
        except KeyboardInterrupt:
            interrupted = True
    assert interrupted
    assert lock._acquired == []
    assert nothing_is_locked()
    with jshm.lock("X", timeout=0):
        pass


# -- forks, files, stores --------------------------------------------------------------------------


def test_a_forked_child_does_not_have_its_parent_s_locks(
    store: LocalStore, new: Callable[[str], Child]
) -> None:
    parent = new("parent.py")
    parent.run("""
from jshm.store import default_store
reading, writing = os.pipe()
lock = default_store().lock("X", waits=lambda _: os.write(writing, b"w"))
with lock:
    child = os.fork()
    if not child:
        status = 1
        try:
            with lock:  # waits for the parent
                status = 0
        finally:
            os._exit(status)
    assert os.read(reading, 1) == b"w"
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    try:
        jshm.lock("X").__enter__()
    except jshm.LockHeldError:
        pass
assert os.waitpid(child, 0)[1] == 0
""")
    # A child leaves its parent's block, and outlives the parent. It does not have the lock.
    parent.send("""
lock.__enter__()
child = os.fork()
if not child:
    lock.__exit__(None, None, None)
    with open(os.environ["JSHM_DIR"] + "/child", "w") as file:
        file.write(str(os.getpid()))
time.sleep(60)
""")
    told = os.path.join(store.directory.root, "child")
    until(lambda: os.path.exists(told) and os.path.getsize(told))
    assert not _is_free("X"), "a child has released its parent's lock"
    with open(told) as file:
        child = int(file.read())
    os.unlink(told)
    try:
        parent.kill()
        with jshm.lock("X", timeout=30):
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_files_without_holders_are_removed(store: LocalStore, new: Callable[[str], Child]) -> None:
    killed, living = new("killed.py"), new("living.py")
    killed.run("for n in range(20): jshm.lock(f'dead{n}').__enter__()")
    living.run("lock = jshm.lock('alive'); lock.__enter__()")
    killed.kill()
    store.gc()
    (alive,) = files(store)
    assert not _is_free("alive")
    with open(os.path.join(store.directory.locks, "somebody's"), "w"):
        pass
    living.run("lock.__exit__(None, None, None)")
    store.gc()
    assert files(store) == ["somebody's"]
    os.unlink(os.path.join(store.directory.locks, "somebody's"))
    for number in range(20):
        with jshm.lock(f"n{number}"):
            pass
    living.exit()  # its end is an operation, too
    assert files(store) == []
    assert alive.startswith("name-")


def test_a_sweep_while_a_file_is_opened(store: LocalStore) -> None:
    """A thread sweeps all the time. Each holder still has the file at the lock's path."""
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            locks.sweep(store.directory.locks)

    inside = 0

    def work() -> None:
        nonlocal inside
        for _ in range(300):
            with lock:
                inside += 1
                assert inside == 1
                time.sleep(0)
                inside -= 1

    lock = jshm.lock("X")
    sweeper = threading.Thread(target=sweep)
    workers = [threading.Thread(target=work) for _ in range(3)]
    for thread in (sweeper, *workers):
        thread.start()
    for thread in workers:
        thread.join(60)
    stop.set()
    sweeper.join(60)
    assert inside == 0
    assert nothing_is_locked()


def test_another_entry_in_place_of_the_file_is_a_clear_error(store: LocalStore) -> None:
    store.names()
    path = os.path.join(store.directory.locks, locks.file_of("X"))
    os.mkdir(path)
    with pytest.raises(jshm.UnsafeDirectoryError, match="remove it"):
        jshm.lock("X").__enter__()
    os.rmdir(path)
    os.symlink("/etc/passwd", path)
    with pytest.raises(jshm.UnsafeDirectoryError, match="remove it"):
        jshm.lock("X").__enter__()
    os.unlink(path)
    os.rmdir(store.directory.locks)  # as if a user had cleaned up
    with jshm.lock("X"):
        pass
    assert nothing_is_locked()


def test_without_open_file_description_locks(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS: the next holder is decided by chance, and everything else is the same."""
    monkeypatch.setattr(locks, "_SET_TURN", None)
    with jshm.lock("X"):
        assert not _is_free_to_others("X")
    assert _is_free_to_others("X")


def test_only_holders_of_the_same_file_are_named(
    store: LocalStore, tmp_path: Path, new: Callable[[str], Child]
) -> None:
    """A file of another file system may have the same inode number."""
    with jshm.lock("X"):
        (name,) = files(store)
    status = os.stat(os.path.join(store.directory.locks, name))
    other = new("other.py")
    other.run("lock = jshm.lock('X'); lock.__enter__()")
    assert file_locks.pids_locking(os.path.join(store.directory.locks, name), "FLOCK") == [
        other.pid
    ]
    device = os.makedev(os.major(status.st_dev), os.minor(status.st_dev) + 1)
    real = os.stat

    def on_another_device(path: object) -> os.stat_result:
        return os.stat_result((*real(path)[:2], device, *real(path)[3:10]))  # type: ignore[call-overload]

    os.stat = on_another_device  # type: ignore[assignment]
    try:
        found = file_locks.pids_locking(os.path.join(store.directory.locks, name), "FLOCK")
    finally:
        os.stat = real
    assert found == []


def _is_free(name: str) -> bool:
    try:
        with jshm.lock(name, timeout=0):
            return True
    except jshm.LockTimeoutError:
        return False


def _is_free_to_others(name: str) -> bool:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_is_free, name).result(60)
