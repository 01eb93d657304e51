"""Kills at system calls, SQLite's included, by strace's injection of signals."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from .trials import finish, spawn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .scenarios import Scenario
    from .trials import Kill

# Calls that change something that outlives the process or that others see. Reads change nothing:
# before one, all is as it was after the call before it.
CALLS = (
    "pwrite64", "pwritev", "write", "writev", "fsync", "fdatasync", "unlink", "unlinkat", "symlink", "rename",
    "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "open", "openat", "flock", "fcntl",
    "ftruncate", "fallocate", "fchmod", "fchmodat", "chmod", "fchown", "fchownat", "chown", "mmap", "munmap",
    "mremap", "close",
)  # fmt: skip
STRACE = shutil.which("strace")


def can_trace() -> bool:
    """Tell whether strace is here, and may look into processes and kill them."""
    if STRACE is None:
        return False
    kill = [STRACE, "-qq", "-o", os.devnull, "-e", "inject=close:signal=KILL:when=1", "true"]
    return subprocess.run(kill, check=False, stderr=subprocess.DEVNULL).returncode < 0


def at_call(call: str, number: int) -> Kill:
    """Kill at the n-th system call of one name, before it does anything."""
    return lambda scenario: _trace(
        scenario, "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={number}"
    )


def noted(log: str) -> Kill:
    """Run an operation to its end, and write its system calls to a file."""
    return lambda scenario: _trace(scenario, "-o", log)


def points(log: str) -> Iterator[tuple[str, int]]:
    """Yield each system call that was noted: its name, and the how many-th of that name it is."""
    seen: Counter[str] = Counter()
    for call in re.findall(r"^(?:\d+ +)?(\w+)\(", log, re.MULTILINE):
        seen[call] += 1
        yield call, seen[call]


def _trace(scenario: Scenario, *options: str) -> bool:
    """Trace a victim after its preparation; return whether it was killed."""
    (ready, readying), (going, go) = os.pipe(), os.pipe()

    def operate() -> None:
        steps = scenario.operation()
        next(steps)
        # Of this very process: the scenario may have forked.
        os.write(readying, str(os.getpid()).encode())
        os.read(going, 1)
        next(steps, None)
        os._exit(0)  # the trace ends where the operation ends

    pid, report = spawn(operate)
    target = int(os.read(ready, 20))
    traced = ",".join(f"?{call}" for call in CALLS)
    words = ["-f", "-p", str(target), "-e", f"trace={traced}", "-e", "signal=none", *options]
    with subprocess.Popen([str(STRACE), *words], stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        while "attached" not in (line := tracer.stderr.readline()):
            assert line, "strace ended before it began"
        os.write(go, b"!")
        tracer.stderr.read()
    for fd in (ready, readying, going, go):
        os.close(fd)
    return finish(pid, report) is None
