"""A process that was stopped (Ctrl-Z, a debugger) at the worst moment: others wait, but not for ever."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.store.local.registry import files
from jshm.system import file_locks

from ..support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

BEGIN = """
import os, signal
import numpy as np, jshm
from jshm.store import default_store
store = default_store()
jshm.publish("theirs", np.zeros(10))
def stop_before(where, name):
    true, left = getattr(where, name), [1]
    def stopping(*args, **more):
        if left:
            left.pop()
            os.kill(os.getpid(), signal.SIGSTOP)
        return true(*args, **more)
    setattr(where, name, stopping)
"""
MEGABYTE = 1 << 20


@pytest.fixture
def child(store: LocalStore, tmp_path: Path) -> Iterator[Child]:
    with Child(tmp_path, "stopped.py") as made:
        made.run(BEGIN)
        yield made


@pytest.fixture(autouse=True)
def _impatient(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.registry, "timeout", 0.2)
    monkeypatch.setattr(file_locks, "LOCK_TIMEOUT", 0.2)


@contextmanager
def times_out(child: Child) -> Iterator[None]:
    """The body waits in vain, and its error names the stopped process."""
    with pytest.raises(jshm.RegistryTimeout, match=rf"stopped\.py.* \(pid {child.pid}\)"):
        yield


def finish(child: Child, way: str) -> None:
    if way == "killed":
        child.kill()
        jshm.gc()  # reaping is for the next second, else
    else:
        child.signal(signal.SIGCONT)
        child.receive()


@pytest.mark.parametrize("way", ["continued", "killed"])
def test_in_the_middle_of_a_transaction(store: LocalStore, child: Child, way: str) -> None:
    jshm.publish("X", np.arange(10))
    child.run("from jshm.store.local.registry.statements import Transaction")
    child.run("stop_before(Transaction, 'add_version')")
    child.send("jshm.publish('theirs', np.ones(10))")
    child.stands()
    for operation in (
        lambda: jshm.publish("X", np.zeros(5)),
        lambda: jshm.empty(5),
        lambda: jshm.release("X"),
        jshm.gc,
    ):
        with times_out(child):
            operation()
    # Readers do not wait.
    assert jshm.attach("X")[3] == 3
    assert not jshm.attach("theirs").any()
    assert {(info.name, info.version) for info in jshm.segments()} == {("X", 1), ("theirs", 1)}
    assert jshm.info("theirs").publisher == "stopped.py"
    finish(child, way)
    jshm.publish("X", np.zeros(5))
    assert jshm.info("X").version == 2
    if way == "continued":
        assert jshm.attach("theirs").all()


@pytest.mark.parametrize("way", ["continued", "killed"])
def test_while_a_segment_is_claimed(store: LocalStore, child: Child, way: str) -> None:
    """A version that is about to be removed cannot be mapped meanwhile."""
    jshm.publish("X", np.arange(10))
    child.run("from jshm.store.local import collect\nstop_before(collect.Removals, 'add')")
    child.send("jshm.publish('X', np.ones(10), replace=True)")
    child.stands()
    with times_out(child):
        jshm.attach("X")
    assert not jshm.attach("theirs").any()
    assert len(jshm.segments()) == 2
    finish(child, way)
    assert jshm.attach("X")[3] == (1 if way == "continued" else 3)


@pytest.mark.parametrize("way", ["continued", "killed"])
def test_while_a_segment_is_written(store: LocalStore, child: Child, way: str) -> None:
    child.run("from jshm.segment import file as segment\nstop_before(segment, 'write')")
    child.send("jshm.publish('theirs', np.ones(10))")
    child.stands()
    jshm.publish("X", np.arange(10))
    jshm.publish("X", np.ones(10))
    jshm.gc()
    assert jshm.check() == []
    assert len(store.directory.files()) == 3  # nobody takes away what is being made
    finish(child, way)
    jshm.gc()
    # The names of a process that ended go with it.
    assert len(store.directory.files()) == (2 if way == "continued" else 1)


def test_while_the_registry_is_made(store_dir: str, tmp_path: Path) -> None:
    from jshm.store import default_store

    with Child(tmp_path, "stopped.py") as child:
        child.run(BEGIN.replace("jshm.publish(", "None and ("))
        child.run("from jshm.store.local.registry import files\nstop_before(files, 'clear')")
        child.send("jshm.segments()")
        child.stands()
        store = default_store()
        store.registry.timeout = 0.2
        with pytest.raises(jshm.RegistryTimeout, match=rf"\(pid {child.pid}\)"):
            jshm.segments()
        finish(child, "continued")
        assert jshm.segments() == []


STOP_IN_A_SELECT = """
raw, steps = store.registry._connection().raw, [0]
def stop():
    steps[0] += 1
    if steps[0] == 30:
        os.kill(os.getpid(), signal.SIGSTOP)
    return 0
raw.set_progress_handler(stop, 1)
"""


def log_size(root: str) -> int:
    return os.stat(os.path.join(root, "registry.db-wal")).st_size


@pytest.mark.parametrize("way", ["continued", "killed"])
def test_a_reader_does_not_let_the_log_grow_without_bound(
    store: LocalStore, store_dir: str, child: Child, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(files, "_LONG", MEGABYTE)
    monkeypatch.setattr(files, "_STEP", MEGABYTE)
    monkeypatch.setattr(files, "_TOO_LONG", 5 * MEGABYTE)
    array = np.zeros(10)
    for i in range(100):
        jshm.publish(f"many/{i}", array)
    child.run(STOP_IN_A_SELECT)
    child.send("len(store.registry.everything())")
    child.stands()
    with times_out(child):
        for _ in range(2000):
            jshm.publish("X", array)
    assert 5 * MEGABYTE <= log_size(store_dir) < 8 * MEGABYTE  # it looks at each 64th commit
    with times_out(child):
        jshm.empty(10)
    assert jshm.attach("X")[3] == 0
    jshm.release("X")  # what frees memory goes on
    jshm.gc()
    assert log_size(store_dir) < 8 * MEGABYTE
    finish(child, way)
    jshm.publish("X", array)
    assert log_size(store_dir) < MEGABYTE


def test_short_lives_do_not_let_the_log_grow_either(
    store: LocalStore, store_dir: str, child: Child, tmp_path: Path
) -> None:
    """Each process looks when it begins, not only at its sixty-fourth commit."""
    limits = f"from jshm.store.local.registry import files\nfiles._TOO_LONG = {MEGABYTE}\n"
    child.run(STOP_IN_A_SELECT)
    child.send("len(store.registry.everything())")
    child.stands()
    with Child(tmp_path, "first.py") as first:
        first.run(limits + "import jshm, numpy as np")
        error = first.fails("for i in range(2000): jshm.publish('X', np.zeros(10))")
        assert error.kinds[0] == "RegistryTimeout"
    with Child(tmp_path, "second.py") as second:
        error = second.fails(limits + "import jshm, numpy as np\njshm.publish('Y', np.zeros(10))")
        assert f"stopped.py (pid {child.pid})" in error.message
    finish(child, "continued")
