"""A release that can be taken back: for its time, by its process alone, and never at anybody's cost."""

from __future__ import annotations

import contextlib
import gc
import glob
import itertools
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.store.local import undo

from ....support.processes import Child, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

PRELUDE = """
import os, signal, threading, time
import numpy as np, jshm
from jshm.store import default_store
store = default_store()
"""
LONG = 60.0


def files(store: LocalStore) -> list[str]:
    return sorted(os.listdir(f"{store.directory.root}/segments"))


def held_and_gone(store: LocalStore) -> list[str]:
    """Return the files that this process keeps alive though they have no name in the directory."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{fd}")
            if target.startswith(store.directory.segments) and target.endswith(" (deleted)"):
                found.append(target)
    return found


def segment_fds(store: LocalStore) -> int:
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{fd}").startswith(f"{store.directory.segments}/")
    return count


def let_time_pass(store: LocalStore) -> None:
    """Let go of everything that can be taken back, as if its time were over."""
    store._undo.expire(time.monotonic() + 2 * LONG)


@pytest.fixture
def new(store: LocalStore, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start(script: str = "eda.py", **options: Any) -> Child:
        child = Child(tmp_path, script, **options)
        children.append(child)
        child.run(PRELUDE)
        return child

    yield start
    for child in children:
        child.__exit__()
    store.gc()


# -- taken back ------------------------------------------------------------------------------------


def test_it_is_all_there_again(store: LocalStore, new: Callable[..., Child]) -> None:
    eda = new()
    before = store.publish({"exp1/X": np.arange(1000.0)}, note="n", keep=True)[0].info
    (done,) = store.release(["exp1/X"], undo=LONG)
    assert (done.undoable, done.nbytes, done.freed) == (True, 8000, 0)
    assert store.names() == eda.run("store.names()") == []
    assert "SegmentNotFoundError" in eda.fails("store.attach(['exp1/X'])").kinds
    assert store.check() == []
    eda.run("store.gc(); store.publish({'other': np.zeros(3)}); store.segments(); store.check()")
    assert store.restore(["exp1/X"]) == ["exp1/X"]
    after = store.info("exp1/X")
    assert after == before
    assert eda.run("float(store.attach(['exp1/X'])[0].value.sum())") == np.arange(1000.0).sum()
    assert segment_fds(store) == 0
    assert store.check() == []
    assert store.publish({"exp1/X": np.zeros(3)})[0].info.version == 2


def test_held_old_versions_stay_and_come_back(store: LocalStore, new: Callable[..., Child]) -> None:
    eda = new()
    store.publish({"X": np.zeros(100)})
    eda.run("x = store.attach(['X'])[0].value")
    store.publish({"X": np.ones(50)})
    (done,) = store.release(["X"], undo=LONG)
    assert (done.nbytes, done.freed, done.undoable) == (1200, 0, True)
    assert len(files(store)) == 2
    store.restore(["X"])
    assert [(i.version, i.state, i.in_use) for i in store.segments()] == [
        (1, "old", True), (2, "current", False),
    ]  # fmt: skip
    assert eda.run("float(store.attach(['X'], version=1)[0].value.sum())") == 0
    store.release(["X"], undo=LONG)
    let_time_pass(store)
    assert files(store) == []
    assert eda.run("x.shape") == [100]


def test_an_object_and_the_arrays_that_it_refers_to(
    store: LocalStore, new: Callable[..., Child]
) -> None:
    eda = new()
    store.publish({"A": np.arange(5000.0)})
    shared = store.attach(["A"])[0].value
    own = store.allocate((3000,), "f8")
    own[:] = 7
    store.publish({"O": {"shared": shared, "own": own}})
    del shared, own
    gc.collect()
    store.flush()
    assert len(files(store)) == 3
    for names in (["O"], ["A"], ["A", "O"], ["O", "A"]):
        assert all(done.undoable for done in store.release(names, undo=LONG))
        eda.run("store.gc()")
        assert len(files(store)) == 3, names
        assert store.check() == []
        store.restore(names)
        found = eda.run(
            "v = store.attach(['O'])[0].value; float(v['shared'].sum() + v['own'].sum())"
        )
        assert found == np.arange(5000.0).sum() + 21000
        eda.run("del v; store.flush()")
        assert store.names() == ["A", "O"]
    # One of the two for good: what the other needs, stays.
    store.release(["A", "O"], undo=LONG)
    store.restore(["O"])
    let_time_pass(store)
    assert store.names() == ["O"]
    assert eda.run("float(store.attach(['O'])[0].value['shared'].sum())") == np.arange(5000.0).sum()
    store.release(["O"], undo=LONG)
    let_time_pass(store)
    assert files(store) == []


def test_aliases(store: LocalStore) -> None:
    store.publish({"X": np.arange(3000.0)})
    array = store.attach(["X"])[0].value
    assert store.publish({"Y": array})[0].how == "alias"
    del array
    gc.collect()
    store.flush()
    store.release(["X"], undo=LONG)
    assert (store.names(), len(files(store))) == (["Y"], 1)
    store.restore(["X"])
    assert store.names() == ["X", "Y"]
    store.release(["X", "Y"], undo=LONG)
    store.restore(["Y"])
    let_time_pass(store)
    assert store.names() == ["Y"]
    assert store.attach(["Y"])[0].value.sum() == np.arange(3000.0).sum()
    assert store.check() == []
    store.release(["Y"], undo=LONG)
    let_time_pass(store)
    assert files(store) == []


def test_writable(store: LocalStore) -> None:
    store.publish({"live": np.zeros(10)}, writable=True)
    store.release(["live"], undo=LONG)
    store.restore(["live"])
    store.attach(["live"], "r+")[0].value[3] = 1
    assert store.attach(["live"])[0].value.sum() == 1
    gc.collect()


# -- refused ---------------------------------------------------------------------------------------


def test_all_names_or_none(store: LocalStore) -> None:
    store.publish({"X": np.zeros(3), "Y": np.zeros(3), "Z": np.zeros(3)})
    store.release(["X", "Y"], undo=LONG)
    store.release(["Z"])
    with pytest.raises(jshm.SegmentNotFoundError, match="Z"):
        store.restore(["X", "Z", "Y"])
    with pytest.raises(jshm.SegmentNotFoundError, match="never"):
        store.restore(["X", "never"])
    assert store.names() == []
    store.publish({"Y": np.ones(3)})
    with pytest.raises(jshm.SegmentExistsError, match="Y was published again"):
        store.restore(["X", "Y"])
    assert store.names() == ["Y"]
    assert store.restore(["X"]) == ["X"]
    assert store.attach(["Y"])[0].value.sum() == 3
    with pytest.raises(jshm.SegmentNotFoundError):
        store.restore(["X"])
    assert store.names() == ["X", "Y"]


def test_published_again_by_another_process(store: LocalStore, new: Callable[..., Child]) -> None:
    eda = new()
    store.publish({"X": np.zeros(1000)})
    store.release(["X"], undo=LONG)
    assert eda.run("store.publish({'X': np.ones(10)})[0].info.version") == 2
    with pytest.raises(jshm.SegmentExistsError, match=r"eda\.py"):
        store.restore(["X"])
    let_time_pass(store)
    assert len(files(store)) == 1
    assert eda.run("float(store.attach(['X'])[0].value.sum())") == 10
    assert store.check() == []
    store.release(["X"], force=True)


def test_published_again_and_released_for_good_by_another_process(
    store: LocalStore, new: Callable[..., Child]
) -> None:
    """That release takes all versions along: there is nothing left to be brought back."""
    eda = new()
    store.publish({"X": np.zeros(1000)})
    store.release(["X"], undo=LONG)
    eda.run("store.publish({'X': np.ones(10)}); store.release(['X'])")
    try:
        restored = store.restore(["X"])
    except jshm.SegmentNotFoundError:
        restored = []
    assert store.check() == []
    assert store.names() == restored
    if restored:
        assert store.attach(["X"])[0].value.sum() == 0
    let_time_pass(store)
    assert held_and_gone(store) == []


def test_without_undo_nothing_comes_back(store: LocalStore) -> None:
    store.publish({"X": np.zeros(1000)})
    (done,) = store.release(["X"])
    assert (done.undoable, done.freed) == (False, 8000)
    with pytest.raises(jshm.SegmentNotFoundError, match="X"):
        store.restore(["X"])


def test_it_is_this_process_s_alone(store: LocalStore, new: Callable[..., Child]) -> None:
    eda = new()
    store.publish({"X": np.zeros(1000)})
    store.release(["X"], undo=LONG)
    assert "SegmentNotFoundError" in eda.fails("store.restore(['X'])").kinds
    assert store.restore(["X"]) == ["X"]


def test_another_notebook_s_needs_force(store: LocalStore, new: Callable[..., Child]) -> None:
    eda = new()
    eda.run("store.publish({'X': np.zeros(10)})")
    with pytest.raises(jshm.NotOwnerError):
        store.release(["X"], undo=LONG)
    assert segment_fds(store) == 0
    store.release(["X"], force=True, undo=LONG)
    store.restore(["X"])
    assert eda.run("store.info('X').mine") is True
    with pytest.raises(jshm.SegmentNotFoundError):
        store.release(["X", "missing"], force=True, undo=LONG)
    assert (store.names(), segment_fds(store)) == (["X"], 0)
    store.release(["X"], force=True)


# -- over ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["flush", "segments", "gc", "release"])
def test_the_memory_goes_when_the_time_is_over(store: LocalStore, operation: str) -> None:
    store.publish({"X": np.zeros(1000), "Y": np.zeros(3)})
    store.release(["X"], undo=0.01)
    assert len(files(store)) == 2
    time.sleep(0.02)
    {
        "flush": store.flush, "segments": store.segments, "gc": store.gc,
        "release": lambda: store.release(["Y"], undo=LONG),
    }[operation]()  # fmt: skip
    assert len(files(store)) == 1
    with pytest.raises(jshm.SegmentNotFoundError, match="cannot be taken back"):
        store.restore(["X"])
    assert segment_fds(store) == (operation == "release")


def test_a_restore_after_its_time_is_refused_whoever_looked_meanwhile(store: LocalStore) -> None:
    """Or works, with all of the data: nothing in between."""
    store.publish({"X": np.arange(1000.0)})
    store.release(["X"], undo=0.01)
    time.sleep(0.02)
    with contextlib.suppress(jshm.SegmentNotFoundError):
        store.restore(["X"])
        assert store.attach(["X"])[0].value.sum() == np.arange(1000.0).sum()


def test_released_twice(store: LocalStore) -> None:
    store.publish({"X": np.zeros(1000)})
    store.release(["X"], undo=LONG)
    with pytest.raises(jshm.SegmentNotFoundError):
        store.release(["X"], undo=LONG)
    with pytest.raises(jshm.SegmentNotFoundError):
        store.release(["X"])
    assert store.restore(["X"]) == ["X"]


def test_released_published_and_released_again(store: LocalStore) -> None:
    """The newer release is the one that can be taken back; of the older one nothing stays for ever."""
    store.publish({"X": np.zeros(1000)})
    store.release(["X"], undo=LONG)
    store.publish({"X": np.ones(1000)})
    (done,) = store.release(["X"], undo=LONG)
    assert done.undoable
    assert store.restore(["X"]) == ["X"]
    assert store.info("X").version == 2
    assert store.attach(["X"])[0].value.sum() == 1000
    gc.collect()
    store.release(["X"], undo=LONG)
    let_time_pass(store)
    assert files(store) == []
    assert held_and_gone(store) == []
    assert segment_fds(store) == 0


def test_the_time_of_the_first_release_is_not_the_second_s(store: LocalStore) -> None:
    store.publish({"X": np.zeros(1000)})
    store.release(["X"], undo=0.01)
    store.publish({"X": np.ones(1000)})
    time.sleep(0.02)
    store.release(["X"], undo=LONG)
    store.flush()
    assert store.restore(["X"]) == ["X"]
    assert store.attach(["X"])[0].value.sum() == 1000
    assert len(files(store)) == 1


def test_many_at_once_are_gone_for_good(store: LocalStore) -> None:
    count = undo.MOST + 1
    store.publish({f"x{i}": np.zeros(3) for i in range(count)})
    done = store.release([f"x{i}" for i in range(count)], undo=LONG)
    assert not any(one.undoable for one in done)
    assert (files(store), segment_fds(store)) == ([], 0)
    # Those of several releases count together; what fits, fits.
    store.publish({f"x{i}": np.zeros(3) for i in range(count)})
    done = store.release([f"x{i}" for i in range(count - 1)], undo=LONG)
    assert all(one.undoable for one in done)
    (last,) = store.release([f"x{count - 1}"], undo=LONG)
    assert not last.undoable
    assert len(store.restore([f"x{i}" for i in range(count - 1)])) == count - 1
    assert segment_fds(store) == 0
    assert store.check() == []


def test_release_works_where_no_more_files_can_be_opened(
    store: LocalStore, new: Callable[..., Child]
) -> None:
    """Whether it can be taken back or not: release always works."""
    store.publish({f"x{i}": np.zeros(3) for i in range(100)}, keep=True)
    eda = new(prefix=("prlimit", "--nofile=64:64"))
    done = eda.run(
        f"sorted({{d.undoable for d in store.release(store.names(), force=True, undo={LONG})}})"
    )
    assert done == [False]
    assert (store.names(), files(store)) == ([], [])


def test_release_without_undo_works_there(store: LocalStore, new: Callable[..., Child]) -> None:
    store.publish({f"x{i}": np.zeros(3) for i in range(100)}, keep=True)
    new(prefix=("prlimit", "--nofile=64:64")).run("store.release(store.names(), force=True); None")
    assert (store.names(), files(store)) == ([], [])


def test_a_file_that_something_removed(store: LocalStore) -> None:
    store.publish({"X": np.zeros(3), "Y": np.zeros(3)})
    os.unlink(store.path("X"))
    done = store.release(["X", "Y"], undo=LONG)
    assert [one.undoable for one in done] == [False, True]
    assert store.restore(["Y"]) == ["Y"]
    assert store.check() == []


def test_a_holder_keeps_it_for_himself(store: LocalStore, new: Callable[..., Child]) -> None:
    eda = new()
    store.publish({"X": np.arange(1000.0)})
    eda.run("x = store.attach(['X'])[0].value")
    store.release(["X"], undo=LONG)
    assert [(i.state, len(i.holders)) for i in store.segments()] == [("old", 1)]
    let_time_pass(store)
    assert files(store) == []
    assert [(i.state, len(i.holders)) for i in store.segments()] == [("released", 1)]
    assert eda.run("float(x.sum())") == np.arange(1000.0).sum()


# -- processes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["publish", "segments", "gc"])
def test_killed_within_its_time(
    store: LocalStore, new: Callable[..., Child], operation: str
) -> None:
    store.publish({"X": np.zeros(1000), "O": [np.zeros(5000)], "kept": np.zeros(3)}, keep=True)
    eda = new()
    eda.run(f"store.release(['X', 'O'], force=True, undo={LONG})")
    store.gc()
    assert len(files(store)) == 3
    eda.kill()
    store.presence._next_reap = 0.0
    {
        "publish": lambda: store.publish({"kept": np.zeros(3)}, replace=True),
        "segments": store.segments,
        "gc": store.gc,
    }[operation]()
    assert len(files(store)) == 1
    assert store.names() == ["kept"]
    assert store.check() == []


def test_killed_within_its_time_what_an_object_needs_has_no_name(
    store: LocalStore, new: Callable[..., Child]
) -> None:
    """Its memory stays, so no reaping would ever find the name."""
    store.publish({"X": np.arange(1000.0)}, keep=True)
    x = store.attach(["X"])[0].value
    store.publish({"O": {"x": x}}, keep=True)
    del x
    eda = new()
    eda.run(f"store.release(['X'], force=True, undo={LONG})")
    eda.kill()
    assert store.names() == ["O"]
    assert [(i.name, i.version) for i in store.segments()] == [("O", 1)]
    for path in glob.glob(f"{store.directory.registry}*"):
        os.unlink(path)
    assert store.names() == ["O"]


def test_what_an_object_needed_comes_back_though_the_object_is_gone(store: LocalStore) -> None:
    store.publish({"X": np.arange(1000.0)}, keep=True, note="the note")
    x = store.attach(["X"])[0].value
    store.publish({"O": {"x": x}}, keep=True)
    del x
    store.release(["X"], undo=LONG)
    store.release(["O"])
    store.presence.reap()  # the memory is only held by now
    store.restore(["X"])
    assert store.info("X").note == "the note"
    assert store.attach(["X"])[0].value.sum() == np.arange(1000.0).sum()
    assert store.check() == []
    for path in glob.glob(f"{store.directory.registry}*"):
        os.unlink(path)
    assert store.names() == ["X"]


def test_what_an_object_needs_comes_back_into_a_registry_that_was_rebuilt(
    store: LocalStore,
) -> None:
    store.publish({"X": np.arange(1000.0)}, keep=True)
    store.publish({"O": {"x": store.attach(["X"])[0].value}}, keep=True)
    store.release(["X"], undo=LONG)
    store.registry.close()
    for path in glob.glob(f"{store.directory.registry}*"):
        os.unlink(path)
    assert store.names() == ["O"]
    store.restore(["X"])
    assert store.names() == ["O", "X"]
    assert store.attach(["X"])[0].value.sum() == np.arange(1000.0).sum()
    assert store.publish({"X": np.zeros(3)})[0].info.version == 2


_POINTS = [
    "jshm.store.local.undo.Undo._hold", "jshm.store.local.undo.release",
    "jshm.store.local.release.Retiring.retire",
    "jshm.store.local.release.Retiring.spare", "jshm.store.local.release.Retiring.dispose",
    "jshm.store.local.release.Retiring.finish", "jshm.store.local.release.Retiring.done",
]  # fmt: skip
# A process that forks others, each of which dies just before, or just after, a function of it runs.
_MOTHER = """
import importlib
def arm(where, after):
    path, name = where.rpartition('.')[::2]
    try:
        place = importlib.import_module(path)
    except ModuleNotFoundError:
        module, kind = path.rpartition('.')[::2]
        place = getattr(importlib.import_module(module), kind)
    real = getattr(place, name)
    def dying(*args, **kwargs):
        if after:
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(place, name, dying)
def die(first, where, after, last):
    pid = os.fork()
    if not pid:
        try:
            first()
            arm(where, after)
            last()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def release():
    store.release(['X', 'Y'], force=True, undo=60)
def restore():
    store.restore(['X', 'Y'])
def expire():
    store._undo.expire()
def nothing():
    pass
"""
_KILLED = {
    "release": _POINTS,
    "restore": ["jshm.store.local.registry.rows.current",
        "jshm.store.local.registry.rows.bring_back",
        "jshm.segment.file.close"],
    "expire": [
        "jshm.segment.file.close", "jshm.store.local.release.Retiring.finish",
        "jshm.store.local.release.Retiring.dispose", "jshm.store.local.collect.Doomed.execute",
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", _KILLED)
def test_killed_at_any_moment(store: LocalStore, new: Callable[..., Child], what: str) -> None:
    """Everything is as before, or as after; and no byte is lost."""
    mother = new("dies.py")
    mother.run(_MOTHER)
    first = "nothing" if what == "release" else "release"
    for point, after in itertools.product(_KILLED[what], (False, True)):
        store.publish({"X": np.arange(1000.0), "Y": np.zeros(9)}, keep=True, replace=True)
        code = mother.run(f"die({first}, {point!r}, {after}, {what})")
        assert code == -signal.SIGKILL, point
        store.gc()
        assert store.check() == [], point
        names = store.names()
        assert names in ([], ["X", "Y"]), point
        assert len(files(store)) == len(names), point
        if names:
            assert store.attach(["X"])[0].value.sum() == np.arange(1000.0).sum()
            gc.collect()
            store.flush()


def test_a_fork_holds_nothing_and_restores_nothing(store: LocalStore) -> None:
    store.publish({"X": np.zeros(1000)})
    store.release(["X"], undo=LONG)
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:  # pragma: no cover
        answer = b"?"
        with contextlib.suppress(BaseException):
            try:
                store.restore(["X"])
                answer = b"restored"
            except jshm.SegmentNotFoundError:
                answer = b"refused"
        os.write(ready[1], answer)
        os.read(done[0], 1)
        os._exit(0)
    try:
        assert os.read(ready[0], 100) == b"refused"
        let_time_pass(store)
        assert files(store) == []  # though the child lives
        held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert not any(target.startswith(f"{store.directory.segments}/") for target in held)
    finally:
        os.write(done[1], b"x")
        os.waitpid(pid, 0)
        for fd in (*ready, *done):
            os.close(fd)


def test_a_fork_leaves_it_to_the_parent(store: LocalStore, new: Callable[..., Child]) -> None:
    eda = new()
    eda.run("store.publish({'X': np.zeros(1000)}, keep=True)")
    eda.run(f"store.release(['X'], undo={LONG})")
    eda.run(
        "pid = os.fork()\n"
        "if not pid:\n"
        "    try:\n        store.gc(); store.flush(); store.segments()\n"
        "    finally:\n        os._exit(0)\n"
        "os.waitpid(pid, 0)"
    )
    assert eda.run("store.restore(['X'])") == ["X"]
    assert store.names() == ["X"]
    store.release(["X"], force=True)


def test_the_end_of_a_process_frees_it(store: LocalStore, new: Callable[..., Child]) -> None:
    store.publish({"X": np.zeros(1000), "Y": np.zeros(3)})
    eda = new()
    eda.run(f"store.release(['X'], force=True, undo={LONG})")
    assert len(files(store)) == 2
    eda.exit()
    assert len(files(store)) == 1  # nobody else has used the store


def test_two_processes_release_different_names(
    store: LocalStore, new: Callable[..., Child]
) -> None:
    eda, train = new("eda.py"), new("train.py")
    store.publish({f"x{i}": np.zeros(100) for i in range(40)})
    for child, first in ((eda, 0), (train, 1)):
        child.send(
            f"for i in range({first}, 40, 2):\n"
            f"    store.release([f'x{{i}}'], force=True, undo={LONG})\n"
            "    if i % 3 == 0:\n        store.restore([f'x{i}'])\n"
        )
    eda.receive()
    train.receive()
    assert store.names() == sorted(f"x{i}" for i in range(40) if i % 3 == 0)
    assert store.check() == []
    eda.run("store._undo.expire()")
    train.run("store._undo.expire()")
    assert len(files(store)) == len(store.names())


def test_two_processes_release_the_same_name(store: LocalStore, new: Callable[..., Child]) -> None:
    eda, train = new("eda.py"), new("train.py")
    attempt = (
        "try:\n    done = store.release(['X'], force=True, undo=60)[0].undoable\n"
        "except jshm.SegmentNotFoundError:\n    done = None\n"
    )
    for _ in range(20):
        store.publish({"X": np.zeros(100)})
        eda.send(attempt)
        train.send(attempt)
        eda.receive()
        train.receive()
        done = [eda.run("done"), train.run("done")]
        assert sorted(done, key=bool) == [None, True]
        winner = eda if done[0] else train
        assert winner.run("store.restore(['X'])") == ["X"]
        assert store.names() == ["X"]
        store.release(["X"], force=True)
        assert files(store) == []


def test_threads(store: LocalStore) -> None:
    """Each name is released and restored by one, while others do the same and time passes."""
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for i in range(15):
                store.publish({name: np.full(10, i)})
                assert store.release([name], undo=LONG)[0].undoable
                store.restore([name])
                assert store.info(name).version == i + 1
                store.release([name], undo=1e-9)
                store.flush()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"x{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store.flush()
    assert (files(store), segment_fds(store), held_and_gone(store)) == ([], 0, [])


def test_the_registry_says_unwanted_from_the_start(store: LocalStore, tmp_path: Path) -> None:
    """What `undo` keeps is no row but a lock: any reaper frees it as soon as that is gone."""
    store.publish({"X": np.zeros(3)})
    store.release(["X"], undo=LONG)
    with Child(tmp_path) as child:
        rows = child.run(
            "import sqlite3\n"
            f"con = sqlite3.connect({store.directory.registry!r})\n"
            "con.execute('SELECT n.current, s.wanted, s.unlinked FROM names n JOIN versions v "
            "ON v.name = n.name JOIN segments s ON s.id = v.segment').fetchall()"
        )
    assert rows == [[None, 0, 0]]
    until(
        lambda: store.gc() == 0, 5
    )  # also of what this very process keeps: that is what gc is for
    assert files(store) == []
