"""File locks: taking one, keeping it out of forked children, and finding out which processes hold one.

``flock`` belongs to an *open file description*: it lasts until all descriptors and mappings of that
description are gone, it is inherited by a fork, and the kernel drops it when the last process that has
it is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import time
from typing import TYPE_CHECKING, Protocol

from ..errors import RegistryTimeout
from . import signals
from .access import PRIVATE
from .directories import open_file
from .forks import wait_for
from .weak import WeakSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Seconds to wait for a lock that other processes hold for microseconds.
LOCK_TIMEOUT = 5.0
# Seconds of sleep between two attempts, at least and at most.
_SHORTEST, _LONGEST = 5e-5, 4e-3


def lock(fd: int, operation: int, timeout: float | None = None) -> None:
    """Take a `flock`, waiting at most `timeout` seconds, by default `LOCK_TIMEOUT`.

    Raises
    ------
    RegistryTimeout
        Another process held a conflicting lock for longer. jshm holds such locks for microseconds, so
        that process was suspended in between.
    """
    timeout = LOCK_TIMEOUT if timeout is None else timeout
    for _ in attempts(timeout):
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return
    pids = flock_pids(fd, shared=not operation & fcntl.LOCK_EX)
    raise RegistryTimeout(
        f"timed out after {timeout:g} s waiting for a lock held by {describe(pids)}; if that "
        "process is suspended (Ctrl-Z, a debugger), resume or kill it"
    )


def attempts(timeout: float | None, growth: float = 0.5) -> Iterator[float]:
    """Yield before each attempt to get what other processes hold, until the time is over.

    It sleeps between two attempts, for a random time around a part of the time waited so far.

    Parameters
    ----------
    timeout : float or None
        Seconds after the first attempt; None: for ever.
    growth : float
        That part.

    Yields
    ------
    float
        The seconds waited so far.
    """
    waited = 0.0
    yield waited
    began = time.monotonic()
    while timeout is None or waited < timeout:
        signals.check()
        pause = min(max(waited * growth, _SHORTEST), _LONGEST)
        pause *= random.uniform(0.5, 1.5)  # noqa: S311 - jitter, not a secret
        time.sleep(pause if timeout is None else min(pause, timeout - waited))
        waited = time.monotonic() - began
        yield waited


# -- descriptors that no fork inherits -------------------------------------------------------------

# Open descriptors that hold a lock. A forked child closes its copies, or the lock would last as long as
# the child.
_locked: set[int] = set()
# A fork waits until a descriptor that another thread opens is in the set.
_opening = signals.Guard(signals.Order.DESCRIPTORS)


def open_locked(path: str, flags: int, directory: int | None = None) -> int:
    """Open a file that is to be locked, and return a descriptor that forked children close.

    `close` closes it. The path may be relative to an open directory.
    """
    with _opening:
        if directory is None:
            fd = open_file(path, flags, PRIVATE.own)
        else:
            flags |= os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(path, flags, PRIVATE.own, dir_fd=directory)
        _locked.add(fd)
    return fd


def close(fd: int) -> None:
    """Close a descriptor that `open_locked` returned.

    In a forked child this does nothing: the child has closed the parent's descriptors already.
    """
    with _opening:
        if fd in _locked:
            _locked.remove(fd)
            os.close(fd)


def _close_inherited() -> None:
    while _locked:
        with contextlib.suppress(OSError):
            os.close(_locked.pop())


wait_for(_opening.lock)
os.register_at_fork(after_in_child=_close_inherited)


# -- which processes hold a lock -------------------------------------------------------------------


class Labels(Protocol):
    """An object that knows what people call the processes of a store."""

    def label_of(self, pid: int) -> str:
        """Return a process's label (``train.ipynb``), or '' if the process is not known."""


_labels: WeakSet[Labels] = WeakSet()
# An open store adds itself here, so that messages can name the notebooks that hold a lock.
add_labels = _labels.add


def pids_locking(
    file: int | str, kind: str, access: str = "WRITE", span: range = range(1)
) -> list[int]:
    """Return the pids of other processes that hold a lock on a file, as ``/proc/locks`` lists them.

    Parameters
    ----------
    file : int or str
        Descriptor or path.
    kind : {'FLOCK', 'POSIX'}
    access : {'READ', 'WRITE'}
        Shared or exclusive.
    span : range
        For ``POSIX`` locks: bytes of the file; a lock on any of them counts.
    """
    try:
        status = os.stat(file)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        with open("/proc/locks") as locks:
            # "->": the process waits for the lock.
            lines = [line.split() for line in locks if "->" not in line]
    except OSError:
        return []
    found = {
        int(pid)
        for _, found_kind, _, found_access, pid, node, start, end in lines
        if (found_kind, found_access) == (kind, access)
        and node == f"{device}:{status.st_ino}"
        and int(start) < span.stop
        and (end == "EOF" or int(end) >= span.start)
    }
    # 0 stands for a process that is not visible in this container.
    return sorted(found - {os.getpid(), 0})


def flock_pids(fd: int, *, shared: bool) -> list[int]:
    """Return the pids of other processes whose `flock` conflicts with a shared or an exclusive one."""
    pids = pids_locking(fd, "FLOCK", "WRITE")
    return pids if shared else pids + pids_locking(fd, "FLOCK", "READ")


def describe(pids: Iterable[int]) -> str:
    """Return what people call these processes: ``train.ipynb (pid 12)``."""
    return ", ".join(f"{_label(pid)} (pid {pid})" for pid in pids) or "another process"


def _label(pid: int) -> str:
    return next(filter(None, (known.label_of(pid) for known in _labels)), "a process")
