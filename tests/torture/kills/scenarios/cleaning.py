"""Ends, reaping and repair, in the middle of which a process is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import types
from typing import TYPE_CHECKING

import numpy as np

import jshm
from jshm.segment import file as segment
from jshm.store import default_store
from jshm.store.local import housekeeping, locks
from jshm.system import file_locks

from ..world import LENGTH, born, make
from . import Scenario, becomes, only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _dies(what: Callable[[], object]) -> None:
    """Run an action in a process that then kills itself."""
    pid = os.fork()
    if not pid:
        try:
            what()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def _file(name: str) -> str:
    """Return the path of a file in the store's directory."""
    return os.path.join(os.environ["JSHM_DIR"], name)


def reap() -> Iterator[None]:
    """Reap what a killed process left: a name, an array without one, a file in the making."""

    def leave() -> None:
        jshm.publish("left", make("left", 1))
        array = jshm.empty(LENGTH)
        segment.create(_file("segments/0123456789abcdef.npy"))
        del array

    _dies(leave)
    yield
    jshm.gc()


def reap_objects() -> Iterator[None]:
    """Reap the objects of a killed process, and what only they needed."""

    def leave() -> None:
        jshm.publish("left", {"x": jshm.attach("X"), "b": born(), "own": make("left", 1)})
        jshm.publish("left2", [jshm.attach("left")["own"]])

    _dies(leave)
    yield
    jshm.gc()


def reap_alias() -> Iterator[None]:
    """A leftover whose data are another name's too."""
    _dies(lambda: jshm.publish("left", jshm.attach("X")))
    yield
    jshm.gc()


def end_session() -> Iterator[None]:
    """A server ends, and frees what its kernels left."""
    os.environ["JPY_PARENT_PID"] = str(os.getpid())

    def kernel() -> None:
        app = types.SimpleNamespace(
            abs_connection_file="/run/kernel-aa.json",
            initialized=lambda: True,
            instance=lambda: app,
        )
        sys.modules["ipykernel.kernelapp"] = types.SimpleNamespace(IPKernelApp=app)  # type: ignore[assignment]
        jshm.publish({"left": make("left", 1), "left2": {"own": make("left2", 1), "v": 1}})

    _dies(kernel)
    jshm.segments()
    assert "left" in default_store().names()
    yield
    default_store().end_session()


def take_turns() -> Iterator[None]:
    """Locks are taken and left, and what a killed process left of them is swept up."""
    _dies(lambda: jshm.lock("left").__enter__())
    yield
    for shared in (False, True):
        with jshm.lock("X", shared=shared):
            pass
    jshm.lock("once-" + "0" * 32).__enter__()
    locks.sweep(default_store().directory.locks)


def exit_in_order() -> Iterator[None]:
    """The exit handlers of a process that held, allocated and published."""
    jshm.publish({"left": make("left", 1), "held": make("held", 1)})
    kept = jshm.attach(["held", "X", "O"]), born()
    yield
    housekeeping.close_all()
    del kept


def fork() -> Iterator[None]:
    """The child of a process that has used jshm uses it too, and inherits what was attached."""
    x, array = jshm.attach("X"), born()
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(os.waitstatus_to_exitcode(status))
    yield
    jshm.publish("Z", x * 1 - x + make("Z", 1), keep=True)
    jshm.attach("O")
    del array, x


def outlived() -> Iterator[None]:
    """A child goes on when its parent was killed: it inherited what was attached, and no lock but that."""
    x = jshm.attach("X")
    living, lives = os.pipe()
    if not os.fork():
        os.close(lives)
        os.read(living, 1)  # until the parent is dead
        whole = np.array_equal(x, make("X", 1)) and np.array_equal(jshm.attach("Y"), make("Y", 1))
        if not whole or "X" not in default_store().names():
            os.mkdir(_file("a-child-saw-something-else"))
        default_store().close()
        os._exit(0)
    os.close(living)
    yield
    jshm.publish("X", make("X", 2), keep=True)


def lose_the_lease() -> Iterator[None]:
    """Something removes the lease's file under its process, which makes it again."""
    held = jshm.attach("X"), born()
    default_store().flush()
    for name in os.listdir(_file("leases")):
        os.unlink(_file(f"leases/{name}"))
    yield
    jshm.publish("X", make("X", 2), keep=True)
    del held


def lose_the_registry() -> Iterator[None]:
    """Something removes the registry; the next who comes rebuilds it."""
    jshm.segments()
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_file(f"registry.db{ending}"))
    yield
    jshm.publish("X", make("X", 2), keep=True)


def fix() -> Iterator[None]:
    """A segment's file is gone, another one's is damaged, and there is a stray one."""
    for name in ("X", "P"):
        path = default_store().location(name)
        if name == "X":
            os.unlink(path)
        else:
            os.chmod(path, 0o600)
            with open(path, "r+b") as file:
                file.write(bytes(100))
    file_locks.close(segment.create(_file("segments/0123456789abcdef.npy")))
    yield
    jshm.check(fix=True)


def fix_the_registry() -> Iterator[None]:
    """The registry is damaged: it is put aside, and rebuilt."""
    default_store().close()
    with open(_file("registry.db"), "r+b") as file:
        file.write(b"damaged!" * 1000)
    yield
    jshm.check(fix=True)


CLEANING = [
    Scenario(reap, becomes(), 90),
    Scenario(reap_objects, becomes(), 120),
    Scenario(reap_alias, becomes(), 90),
    Scenario(end_session, becomes(), 60),
    Scenario(take_turns, becomes(), 80),
    Scenario(exit_in_order, becomes(), 80),
    Scenario(fork, becomes({"Z": 1}), 75),
    Scenario(outlived, becomes({"X": 2}), 70),
]
MENDING = [
    Scenario(lose_the_lease, becomes({"X": 2}), 40),
    Scenario(lose_the_registry, becomes({"X": 2}), 305),
    Scenario(fix, only({"X": None, "P": None}), 150, damaged=True),
    Scenario(fix_the_registry, becomes(), 260, damaged=True),
]
