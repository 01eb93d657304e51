"""SIGKILL at every boundary of one operation; prints what was found, as JSON.

Run as ``harness.py SCENARIO STORE_PARENT [random N]``. It imports jshm but never uses it: each role
is a forked child of its own, because forks are cheap and nobody survives them by accident.

- *setup* publishes X, Y (v1), kept, and ends.
- *holder*, in some scenarios, attaches X and stays.
- *victim* runs the operation and kills itself before the n-th system call or SQL statement (a
  ``pwrite`` also in the middle).
- *next* does one ordinary operation, then looks through jshm.
- *raw* looks at the files and the tables with NumPy and sqlite3 alone.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback

import numpy as np

import jshm
from jshm import api, segment  # noqa: F401 - loaded before the forks
from jshm.store import default_store, local  # noqa: F401

LENGTH = 3000


def make(name: str, version: int) -> np.ndarray:
    """Return the only data that a name and version may ever show."""
    array = np.arange(LENGTH, dtype=np.float64) * version
    array[0] = sum(name.encode())
    return array


# -- the victim ------------------------------------------------------------------------------------

_CALLS = (
    "open", "close", "pwrite", "write", "unlink", "rename", "mkdir", "chmod", "fchmod",
    "posix_fallocate", "stat", "fstat",
)  # fmt: skip


class Fuse:
    """Counts boundaries, and kills this process at the n-th."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.armed = False
        self.count = 0

    def pass_(self) -> bool:
        if self.armed:
            self.count += 1
            self.left -= 1
        return self.left == 0 and self.armed

    def boundary(self) -> None:
        if self.pass_():
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        for name in _CALLS:
            setattr(os, name, self._before(getattr(os, name)))
        fcntl.flock = self._before(fcntl.flock)
        segment.map_file = self._before(segment.map_file)
        pwrite = os.pwrite.__wrapped__  # type: ignore[attr-defined]

        def torn_pwrite(fd: int, data: memoryview, offset: int) -> int:
            self.boundary()
            if self.pass_():
                pwrite(fd, memoryview(data)[: len(data) // 2], offset)
                os.kill(os.getpid(), signal.SIGKILL)
            return pwrite(fd, data, offset)

        os.pwrite = torn_pwrite  # type: ignore[assignment]
        fuse = self

        class Connection(sqlite3.Connection):
            def execute(self, *args):
                fuse.boundary()
                result = super().execute(*args)
                fuse.boundary()
                return result

        sqlite3.connect = functools.partial(sqlite3.connect, factory=Connection)  # type: ignore[assignment]

    def _before(self, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            self.boundary()
            return function(*args, **kwargs)

        return call


def publish_new(fuse: Fuse) -> None:
    fuse.armed = True  # first use, too: lease, registry, reaping
    jshm.publish("Z", make("Z", 1), keep=True)


def replace(fuse: Fuse) -> None:
    jshm.segments()
    fuse.armed = True
    jshm.publish("X", make("X", 2), keep=True)


def publish_two(fuse: Fuse) -> None:
    fuse.armed = True
    jshm.publish({"X": make("X", 2), "Y": make("Y", 2)}, keep=True)


def attach(fuse: Fuse) -> None:
    fuse.armed = True
    x, y = jshm.attach(["X", "Y"])
    assert x[1] == y[1]


def seal(fuse: Fuse) -> None:
    fuse.armed = True
    array = jshm.empty(LENGTH)
    array[:] = make("X", 2)
    jshm.publish("X", array, keep=True)


def alias(fuse: Fuse) -> None:
    x = jshm.attach("X")
    fuse.armed = True
    jshm.publish("A", x, keep=True)


def release(fuse: Fuse) -> None:
    jshm.segments()
    fuse.armed = True
    jshm.release("X")


def reap(fuse: Fuse) -> None:
    """Reap what a killed process left: a name, an array without one, a file in the making."""
    pid = os.fork()
    if not pid:
        jshm.publish("left", make("left", 1))
        array = jshm.empty(LENGTH)
        path = os.path.join(os.environ["JSHM_DIR"], "segments", "0123456789abcdef.npy")
        segment.create(path)
        assert array is not None
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    fuse.armed = True
    jshm.gc()


def everything(fuse: Fuse) -> None:
    """For kills at random times, also inside SQLite."""
    fuse.armed = False
    jshm.segments()
    fuse.armed = True
    version = 2
    while True:
        jshm.publish({"X": make("X", version), "Y": make("Y", version)}, keep=True)
        jshm.publish("scratch", make("scratch", version - 1), keep=True)
        jshm.release("scratch")
        array = jshm.empty(10)
        del array
        version += 1


SCENARIOS = {
    "publish_new": publish_new,
    "replace": replace,
    "replace_held": replace,
    "publish_two": publish_two,
    "attach": attach,
    "seal": seal,
    "alias": alias,
    "release": release,
    "release_held": release,
    "reap": reap,
    "everything": everything,
}


# -- roles -----------------------------------------------------------------------------------------


def spawn(role, *args):
    """Fork a role; return its pid and the pipe on which it reports."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, os.fdopen(reading)
    os.close(reading)
    status = 1
    try:
        report = role(*args)
        with os.fdopen(writing, "w") as pipe:
            json.dump(report, pipe)
        default_store().close()  # as at an ordinary exit
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def run(role, *args):
    """Fork a role, wait for its end; return its report, or None if it was killed."""
    pid, pipe = spawn(role, *args)
    with pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert status == 0, f"{role.__name__} failed"
    return json.loads(text)


def setup() -> None:
    jshm.publish({"X": make("X", 1), "Y": make("Y", 1)}, keep=True)


def hold(wake: int, ready: int) -> bool:
    """Attach X, say so, and tell at the end whether it still showed what it showed."""
    x = jshm.attach("X")
    os.write(ready, b"!")
    os.read(wake, 1)
    return bool((x == make("X", 1)).all())


def victim(scenario: str, at: int) -> int:
    fuse = Fuse(at)
    fuse.install()
    SCENARIOS[scenario](fuse)
    fuse.armed = False
    return fuse.count


def next_operation(kind: int) -> list[str]:
    """Do one ordinary operation, then look through jshm."""
    if kind == 0:
        jshm.segments()
    elif kind == 1:
        jshm.publish("next", np.zeros(3), keep=True)
    else:
        jshm.publish("next", np.zeros(3), keep=True)
        jshm.release("next")
    wrong = [problem.what for problem in jshm.check()]
    for name in default_store().names():
        if name == "next":
            continue
        info = jshm.info(name)
        array = jshm.attach(name)
        expected = make("X" if name == "A" else name, info.version)
        if not (array == expected).all():
            wrong.append(f"{name} v{info.version} shows {array[:3]}")
    return wrong


def raw(scenario: str, root: str, held: bool) -> list[str]:
    """Look with NumPy and sqlite3 alone; the registry is nobody else's by now, or the holder's."""
    wrong = []
    con = sqlite3.connect(f"{root}/registry.db")
    current = dict(con.execute("SELECT name, current FROM names WHERE current NOT NULL").fetchall())
    versions = con.execute(
        "SELECT v.name, v.version, v.segment, s.unlinked, s.writable FROM versions v "
        "JOIN segments s ON s.id = v.segment"
    ).fetchall()
    known = {row[0] for row in con.execute("SELECT id FROM segments WHERE NOT unlinked")}
    con.close()
    files = {name.removesuffix(".npy") for name in os.listdir(f"{root}/segments")}
    if files != known:
        wrong.append(f"files {sorted(files)}, rows {sorted(known)}")
    if known - {row[2] for row in versions}:
        wrong.append(f"segments without a name: {known - {row[2] for row in versions}}")
    for name, version, identity, unlinked, writable in versions:
        if version != current.get(name) and not (held and name == "X"):
            wrong.append(f"{name} v{version} is neither current nor held")
        if unlinked or name == "next":
            continue
        path = f"{root}/segments/{identity}.npy"
        if not (np.load(path) == make("X" if name == "A" else name, version)).all():
            wrong.append(f"{name} v{version} has torn data")
        # A second name is recorded in the sealed file itself, which is writable for that instant.
        if not writable and os.stat(path).st_mode & 0o222 and scenario != "alias":
            wrong.append(f"{name} v{version} is not sealed")
    if "Y" not in current or ("X" not in current and not scenario.startswith("release")):
        wrong.append(f"names were lost: {current}")
    if scenario in ("publish_two", "everything") and current["X"] != current["Y"]:
        wrong.append(f"half a group: {current}")
    if "left" in current:
        wrong.append("a leftover was not reaped")
    leases = os.listdir(f"{root}/leases")
    if len({name.removesuffix(".holds") for name in leases}) != held:
        wrong.append(f"lease files are left: {leases}")
    return wrong


def trial(
    scenario: str, parent: str, at: int, delay: float | None = None
) -> tuple[list[str], bool]:
    """Kill a victim at one boundary (or after a delay); return what is wrong, whether it died."""
    root = tempfile.mkdtemp(dir=parent)
    os.environ["JSHM_DIR"] = root
    wrong: list[str] = []
    held = scenario.endswith("_held")
    holder = None
    try:
        run(setup)
        if held:
            waking, wake = os.pipe()
            ready, readying = os.pipe()
            holder, report = spawn(hold, waking, readying)
            os.read(ready, 1)
        if delay is None:
            died = run(victim, scenario, at) is None
        else:
            pid, pipe = spawn(victim, scenario, 0)
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pipe.close()
            died = True
        wrong += run(next_operation, at % 3)
        wrong += run(raw, scenario, root, held)
        if holder:
            os.write(wake, b"!")
            with report:
                if not json.loads(report.read()):
                    wrong.append("the data of a holder changed")
            os.waitpid(holder, 0)
            for fd in (waking, wake, ready, readying):
                os.close(fd)
            run(next_operation, 0)
            wrong += [f"after the holder: {what}" for what in run(raw, scenario, root, False)]
    finally:
        shutil.rmtree(root)
    return wrong, died


def main() -> None:
    scenario, parent, *rest = sys.argv[1:]
    found: dict[str, list[str]] = {}
    at = 0
    if rest:
        at = int(rest[1])
        draw = random.Random(at)
        for i in range(at):
            wrong, _ = trial(scenario, parent, i, 0.02 + draw.random() * 0.05)
            if wrong:
                found[str(i)] = wrong
    else:
        died = True
        while died:
            at += 1
            wrong, died = trial(scenario, parent, at)
            if wrong:
                found[str(at)] = wrong
    json.dump({"boundaries": at, "wrong": found}, sys.stdout)


if __name__ == "__main__":
    main()
