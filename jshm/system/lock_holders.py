"""Who keeps a lock, and what people call them: whoever waits in vain says for whom.

The kernel lists locks in ``/proc/locks``, with the pid of whoever took each.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_NOBODY = "another process"


def keeping(file: int | str, kind: str, access: str = "WRITE", span: range = range(1)) -> list[int]:
    """Return the pids of other processes that keep a lock on a file.

    Parameters
    ----------
    file : int or str
        Descriptor or path.
    kind : {'FLOCK', 'POSIX'}
    access : {'READ', 'WRITE'}
        Shared or exclusive.
    span : range
        Bytes of the file, one of which is locked; of a ``POSIX`` lock.
    """
    try:
        status = os.stat(file)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        with open("/proc/locks") as locks:
            lines = [line.split() for line in locks if "->" not in line]  # those wait
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
    return sorted(found - {os.getpid(), 0})  # 0: in a container, and not to be seen from here


def described(pids: Iterable[int]) -> str:
    """Return who these processes are: ``train.ipynb (pid 12)``."""
    return ", ".join(f"{_who(pid)} (pid {pid})" for pid in pids) or _NOBODY


def described_by(who: Callable[[int], str]) -> None:
    """Say how to find out what people call a process."""
    global _who  # noqa: PLW0603
    _who = who


def _a_process(_: int) -> str:
    return "a process"


_who: Callable[[int], str] = _a_process
