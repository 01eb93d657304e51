"""A fork in the middle of everything: each side has what is its own, and nothing waits for ever."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm

from ..support.processes import Child, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

BEGIN = """
import gc, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
import numpy as np, jshm
from jshm.store import default_store
store = default_store()
jshm.publish("theirs", np.arange(10), keep=True)
def in_child(work):
    # Fork, and return the exit status of a child that did this.
    pid = os.fork()
    if not pid:
        signal.alarm(30)
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]
def use_it():
    jshm.publish("child", np.ones(10), keep=True)
    assert jshm.attach("theirs")[3] == 3
    jshm.segments()
    jshm.release("child")
def at_once(work):
    # Fork in another thread in the midst of what this one does.
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(in_child(use_it)))
    thread.start()
    work()
    thread.join(30)
    return statuses
"""


@pytest.fixture
def child(store: LocalStore, tmp_path: Path) -> Iterator[Child]:
    with Child(tmp_path, "forker.py") as made:
        made.run(BEGIN)
        yield made


@pytest.mark.parametrize(
    "place",
    [
        "jshm.store.local.registry.statements.Transaction.add_version",  # inside of a transaction
        "jshm.store.local.collect.Removals.add",  # with a segment claimed
        "jshm.segment.file.write",  # with a draft that is locked
        "jshm.store.local.mappings.Mappings.adopt",  # between a mapping and what is told of it
        "jshm.store.local.lease.LeaseLog.note",
    ],
)
def test_by_another_thread_in_the_midst_of_a_publish(
    store: LocalStore, child: Child, place: str
) -> None:
    statuses = child.run(f"""
import importlib
path, _, name = {place!r}.rpartition(".")
try:
    where = importlib.import_module(path)
except ModuleNotFoundError:
    path, _, kind = path.rpartition(".")
    where = getattr(importlib.import_module(path), kind)
true, forking = getattr(where, name), []
def forks(*args, **more):
    if forking:
        return true(*args, **more)
    forking.append(threading.Thread(target=lambda: statuses.append(in_child(use_it))))
    forking[0].start()
    time.sleep(0.05)  # whether it waits or not: both are tried
    return true(*args, **more)
setattr(where, name, forks)
statuses = []
jshm.publish("theirs", np.arange(10), keep=True)
kept = jshm.attach("theirs", mode="c")
setattr(where, name, true)
forking[0].join(30)
statuses
""")
    assert statuses == [0]
    assert jshm.info("theirs").version == 2
    assert jshm.attach("theirs")[3] == 3


def test_a_child_does_not_close_what_is_not_its_own(child: Child) -> None:
    """It goes on in the midst of the transaction: its files are its parent's to remove."""
    assert child.run("""
from jshm.store.local import collect
def fork_inside():
    let_go = collect.Removals._drop_last
    def forking(doomed):
        if not pids:
            pids.append(os.fork())
        return let_go(doomed)
    pids, collect.Removals._drop_last = [], forking
    try:
        jshm.publish("theirs", np.arange(10), keep=True)
    finally:
        collect.Removals._drop_last = let_go
    return pids[0]
pid = fork_inside()
if not pid:
    try:
        use_it()
        assert jshm.check() == []
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
[os.waitpid(pid, 0)[1], jshm.info("theirs").version]
""") == [0, 2]


def test_a_child_holds_on_when_its_parent_is_killed(store: LocalStore, child: Child) -> None:
    """Inherited views stay valid, and the child does not keep its parent's lease."""
    read, write = os.pipe()
    grandchild = child.run("""
held = jshm.attach("theirs")
made = jshm.zeros(1000)
pid = os.fork()
if not pid:
    if os.fork():
        os._exit(0)
    signal.alarm(60)
    while not (jshm.attach("go", mode="r") if "go" in store.names() else False):
        time.sleep(0.01)
    ok = held[3] == 3 and not made.any() and jshm.attach("theirs")[3] == 3
    jshm.publish("answer", np.array([ok]), keep=True)
    while "end" not in store.names():
        time.sleep(0.01)
    os._exit(0)
os.waitpid(pid, 0)
jshm.segments()
""")
    os.close(read)
    os.close(write)
    assert len(grandchild) == 1
    child.kill()
    jshm.gc()
    assert jshm.segments()[0].publisher_alive is False
    jshm.publish("go", np.ones(1))
    until(lambda: "answer" in store.names())
    assert jshm.attach("answer").all()
    assert {holder.pid for holder in jshm.info("theirs").holders} != {child.pid}
    assert jshm.info("theirs").in_use
    # Nobody but the grandchild has the parent's array that never had a name.
    assert len(store.directory.files()) == 4
    jshm.publish("end", np.ones(1))
    until(lambda: jshm.gc() or len(store.directory.files()) == 4)
    until(lambda: not jshm.info("theirs").in_use)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools(store: LocalStore, tmp_path: Path, method: str) -> None:
    """The workers of a pool attach and publish, and end without exit handlers."""
    program = f"""
import warnings
warnings.simplefilter("ignore")
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import numpy as np, jshm
def work(i):
    total = float(jshm.attach("base").sum())
    jshm.publish(f"pool/{{i}}", np.full(10, total), keep=True)
    return total
if __name__ == "__main__":
    jshm.publish("base", np.ones(100), keep=True)
    base = jshm.attach("base")
    with ProcessPoolExecutor(2, multiprocessing.get_context({method!r})) as pool:
        assert list(pool.map(work, range(6))) == [100.0] * 6
    print(len(jshm.segments()))
"""
    assert run(tmp_path, program).strip() == "7"
    jshm.gc()
    assert all(jshm.attach(f"pool/{i}")[0] == 100 for i in range(6))
    leases = [name for name in os.listdir(store.directory.leases) if "." not in name]
    assert len(leases) == 1  # ours


def run(directory: Path, program: str) -> str:
    """Run a program to its end, which must say nothing on stderr."""
    import subprocess
    import sys

    path = directory / "program.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_signal_in_a_forked_child_is_the_childs(child: Child) -> None:
    status = child.run("""
def work():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    os.kill(os.getpid(), signal.SIGTERM)
    jshm.publish("child", np.ones(10))
in_child(work)
""")
    assert os.waitstatus_to_exitcode(status) == 7
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_fork_waits_for_an_import_by_another_thread(store_dir: str, tmp_path: Path) -> None:
    """Else the module stayed locked in the child, for ever."""
    program = """
import warnings
warnings.simplefilter("ignore")
import logging, os, signal, sys, threading, time  # logging asks for a lock at forks, too
import jshm
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "jshm.api":
            importing.set()
            time.sleep(0.3)
importing = threading.Event()
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=lambda: jshm.publish)
thread.start()
importing.wait()
pid = os.fork()
if not pid:
    signal.alarm(20)
    jshm.publish
    os._exit(0)
thread.join()
print(os.waitpid(pid, 0)[1])
"""
    assert run(tmp_path, program).strip() == "0"
