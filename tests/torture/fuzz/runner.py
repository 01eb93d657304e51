"""Mutations by the thousand, in processes of their own: whoever crashes one is found and told.

Each mutation has a number, and all that is random in it follows from the seed and the number.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .common import Target

SHM = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
# Seconds of the processor for one mutation, and of waiting for anything.
_BUSY, _STUCK = 2.0, 20.0
# Bytes that a worker may take besides what it has when it begins.
_BALLOON = 1 << 30
# Of one target; more say nothing new.
_MOST_FAILURES = 20
_NUMBER = struct.Struct("<q")


@dataclass
class Found:
    """The result of a campaign: the number of mutations, and a line for each failure."""

    tried: int = 0
    failures: list[str] = field(default_factory=list)


def campaign(target: str, seed: int, count: int, workers: int = 1) -> Found:
    """Try `count` mutations of a target, numbered from 0."""
    share = -(-count // workers)
    parts = [range(first, min(first + share, count)) for first in range(0, count, share)]
    found = Found()
    with ThreadPoolExecutor(workers) as pool:
        for one in pool.map(lambda part: _supervise(target, seed, part), parts):
            found.tried += one.tried
            found.failures += one.failures
    return found


def _supervise(target: str, seed: int, numbers: range) -> Found:
    """Run a worker; where it dies, note the mutation and go on behind it with another."""
    found = Found()
    while numbers and len(found.failures) < _MOST_FAILURES:
        root = tempfile.mkdtemp(prefix=f"jt{os.getpid()}-fuzz-", dir=SHM)
        try:
            command = [sys.executable, "-m", "tests.torture.fuzz", target, str(seed)]
            command += ["--from", str(numbers.start), "--to", str(numbers.stop), "--root", root]
            ended = subprocess.run(command, stdout=subprocess.PIPE, check=False)
            with open(f"{root}/progress", "rb") as file:
                number = _NUMBER.unpack(file.read())[0]
        finally:
            shutil.rmtree(root)
        found.failures += map(json.loads, ended.stdout.splitlines())
        if ended.returncode:
            why = f"ended with {ended.returncode}"
            if ended.returncode < 0:
                why = signal.Signals(-ended.returncode).name
            found.failures.append(f"{target} {seed} {number}: the process {why}")
        found.tried += number + 1 - numbers.start
        numbers = range(number + 1, numbers.stop)
    return found


def work(target: Target, name: str, seed: int, numbers: range, root: str) -> Iterator[str]:
    """Try mutations in this process, and yield what failed; the last number is in a file."""
    with open(f"{root}/progress", "w+b") as file:
        file.write(_NUMBER.pack(numbers.start - 1))
        file.flush()
        progress = mmap.mmap(file.fileno(), _NUMBER.size)
    failures = 0
    for number in numbers:
        progress[:] = _NUMBER.pack(number)
        # Their default is to end the process, also where it never comes back to Python.
        signal.setitimer(signal.ITIMER_PROF, _BUSY)
        signal.setitimer(signal.ITIMER_REAL, _STUCK)
        try:
            _crash_if_told(number)
            target.attempt(Random(f"{name} {seed} {number}"))
        except BaseException as error:
            if not isinstance(error, Exception):
                raise
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            where = " > ".join(f"{os.path.basename(f.filename)}:{f.lineno}" for f in frames)
            what = f"{type(error).__name__}: {str(error)[:200]} ({where})"
            yield f"{name} {seed} {number}: {what}; tried {target.tried!r:.300}"
            failures += 1
            if failures >= _MOST_FAILURES:
                break
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _crash_if_told(number: int) -> None:
    """Crash if a test asked for it, to show that crashes are found."""
    if os.environ.get("JSHM_FUZZ_CRASH") == str(number):
        os.kill(os.getpid(), signal.SIGSEGV)


def limit_memory() -> None:
    """Limit the memory to one gigabyte more than now, and write no core file."""
    import resource

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (now + _BALLOON, now + _BALLOON))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
