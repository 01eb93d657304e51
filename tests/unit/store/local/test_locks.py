"""``jshm.lock``: between processes and threads, freed by the OS, and everybody has a turn."""

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
    """Tell whether this process has no lock, and no file of one open."""
    opened = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the list itself
            opened.append(os.readlink(f"/proc/self/fd/{fd}"))
    return not locks._mine and not any("/locks/" in path for path in opened)


# -- who may be in ---------------------------------------------------------------------------------


def test_no_update_is_lost(store: LocalStore, new: Callable[[str], Child]) -> None:
    """Eight threads in four processes add to the same number; it takes them two instructions."""
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


def test_names_have_nothing_to_do_with_each_other(store: LocalStore) -> None:
    long = "ä" * 200  # too long for a file's name, and not published
    with jshm.lock("X"), jshm.lock("exp/X"), jshm.lock(long):
        assert len(files(store)) == 3
        with pytest.raises(jshm.LockHeldError), jshm.lock("a\u0308" * 100 + "ä" * 100):
            pass  # the same name, spelled otherwise
    with pytest.raises(jshm.InvalidNameError):
        jshm.lock("no/../name")


def test_threads_keep_each_other_out(store: LocalStore) -> None:
    lock = jshm.lock("X")
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with lock:
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(60)
    with pytest.raises(jshm.LockTimeoutError, match="which another thread of this process has"):
        jshm.lock("X", timeout=0.01).__enter__()
    leave.set()
    with lock:  # the same object
        thread.join(60)
        assert repr(lock) == "<lock of X>"
    assert nothing_is_locked()


def test_a_thread_that_would_wait_for_itself_is_told_so(store: LocalStore) -> None:
    lock = jshm.lock("X")
    with lock:
        for again in (lock, jshm.lock("X"), jshm.lock("X", shared=True)):
            with pytest.raises(jshm.LockHeldError, match="this thread has the lock of X") as caught:
                again.__enter__()
            assert isinstance(caught.value, RuntimeError)
        assert not _is_free_to_others("X")
    assert _is_free_to_others("X")
    assert nothing_is_locked()


# -- waiting ---------------------------------------------------------------------------------------


def test_who_waits_in_vain_is_told_for_whom(store: LocalStore, new: Callable[[str], Child]) -> None:
    train, eda = new("train.py"), new("eda.py")
    for reader in (train, eda):
        reader.run("lock = jshm.lock('X', shared=True); lock.__enter__()")
    began = time.monotonic()
    with pytest.raises(jshm.LockTimeoutError) as caught:
        jshm.lock("X", timeout=0.2).__enter__()
    assert 0.2 <= time.monotonic() - began < 10
    assert isinstance(caught.value, TimeoutError)
    said = str(caught.value)
    assert said.startswith("waited 0.2 s for the lock of X, which ")
    assert {f"train.py (pid {train.pid})", f"eda.py (pid {eda.pid})"} == set(
        said.partition("which ")[2].partition(" has")[0].split(", ")
    )
    train.kill()
    with pytest.raises(jshm.LockTimeoutError, match=rf"which eda.py \(pid {eda.pid}\) has"):
        jshm.lock("X", timeout=0).__enter__()
    assert nothing_is_locked()


@pytest.mark.parametrize("shared", [False, True])
def test_a_holder_that_is_killed_keeps_nobody_waiting(
    store: LocalStore, new: Callable[[str], Child], *, shared: bool
) -> None:
    other = new("other.py")
    other.run(f"lock = jshm.lock('X', shared={shared}); lock.__enter__()")
    timer = threading.Timer(0.1, other.signal, [signal.SIGKILL])
    timer.start()
    with jshm.lock("X", timeout=30):
        pass
    timer.join()


def test_it_wakes_soon(store: LocalStore, new: Callable[[str], Child]) -> None:
    """After 0.4 s the pauses between tries are the longest."""
    other = new("other.py")
    took = []
    for _ in range(5):
        other.send("""
with jshm.lock("X"):
    time.sleep(0.4)
    left = time.monotonic()
left
""")
        until(lambda: not _is_free("X"))
        with jshm.lock("X"):
            entered = time.monotonic()
        took.append(entered - other.receive())
    print(f"woke {sorted(took)[2] * 1e3:.1f} ms after the lock was free")
    assert sorted(took)[2] < 0.05  # 20 ms, and what a busy machine adds


def test_who_comes_again_and_again_lets_others_in(
    store: LocalStore, new: Callable[[str], Child]
) -> None:
    """Readers that always overlap do not starve a writer, nor does a writer another."""
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
        with jshm.lock("X", timeout=20):
            pass
    for other in others:
        other.kill()


def test_ctrl_c_ends_the_waiting_at_once(store: LocalStore, new: Callable[[str], Child]) -> None:
    other = new("other.py")
    other.run("lock = jshm.lock('X'); lock.__enter__()")
    for _ in range(3):
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            jshm.lock("X").__enter__()
        assert time.monotonic() - began < 5
        timer.join()
    assert nothing_is_locked()


@pytest.mark.parametrize("after", range(1, 30, 2))
def test_ctrl_c_while_it_is_taken_leaves_it_free(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The signal comes with each call that jshm makes on its way in and out."""
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
        for name in ("_open", "_try", "_turn", "is_at", "_is_now"):
            patch.setattr(locks, name, interrupting(getattr(locks, name)))
        patch.setattr(file_locks, "close", interrupting(file_locks.close))
        try:
            for _ in range(5):
                with lock:
                    pass
        except KeyboardInterrupt:
            interrupted = True
    assert interrupted
    assert lock._held == []
    assert nothing_is_locked()
    with jshm.lock("X", timeout=0):
        pass


# -- forks, files, stores --------------------------------------------------------------------------


def test_a_forked_child_has_none_of_its_parent_s(
    store: LocalStore, new: Callable[[str], Child]
) -> None:
    parent = new("parent.py")
    parent.run("""
lock = jshm.lock("X")
with lock:
    child = os.fork()
    if not child:
        status = 1
        try:
            with lock:  # waits for the parent
                status = 0
        finally:
            time.sleep(0.3)
            os._exit(status)
    time.sleep(0.2)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    try:
        jshm.lock("X").__enter__()
    except jshm.LockHeldError:
        pass
free = time.monotonic()
assert os.waitpid(child, 0)[1] == 0
""")
    # The child outlives its parent, and has left its parent's block: nobody waits for it.
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
    assert not _is_free("X"), "a child has let go what is its parent's"
    with open(told) as file:
        child = int(file.read())
    os.unlink(told)
    try:
        parent.kill()
        with jshm.lock("X", timeout=30):
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


def test_files_do_not_pile_up(store: LocalStore, new: Callable[[str], Child]) -> None:
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
    living.exit()  # its end is an operation like others
    assert files(store) == []
    assert alive.startswith("name-")


def test_a_file_that_is_swept_up_while_it_is_opened(store: LocalStore) -> None:
    """Sweeps in every gap; whoever gets in has the file that has the path."""
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


def test_what_is_in_the_way_is_an_error_that_says_so(store: LocalStore) -> None:
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
    os.rmdir(store.directory.locks)  # somebody cleaned up
    with jshm.lock("X"):
        pass
    assert nothing_is_locked()


def test_without_locks_that_belong_to_open_files(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS: who comes next is chance, all else is the same."""
    monkeypatch.setattr(locks, "_SET_TURN", None)
    with jshm.lock("X"):
        assert not _is_free_to_others("X")
    assert _is_free_to_others("X")


def test_only_who_has_this_very_file_is_named(
    store: LocalStore, tmp_path: Path, new: Callable[[str], Child]
) -> None:
    """Files of other file systems may have the same number."""
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

    def elsewhere(path: object) -> os.stat_result:
        return os.stat_result((*real(path)[:2], device, *real(path)[3:10]))  # type: ignore[call-overload]

    os.stat = elsewhere  # type: ignore[assignment]
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
