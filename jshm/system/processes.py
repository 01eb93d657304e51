"""Other processes of this user as ``/proc`` shows them: command line, environment, mapped files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import TYPE_CHECKING

from ..store.identity import process_start, stat_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# How ipykernel is told its connection file: in the next word, or behind an equals sign.
_OPTIONS = (b"-f", b"--f", b"--IPKernelApp.connection_file")
# Bytes of a connection file that is believed.
_LONGEST = 1 << 16
# Seconds between two looks at whether a process has ended.
_PAUSE = 0.005


def command(pid: int) -> list[bytes]:
    """Return the words of a command line; none of a process that has ended, or is not to be seen."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def executable(pid: int) -> str:
    """Return the file that a process executes; '' of one that has ended, or is not to be seen."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with.

    Raises
    ------
    OSError
        It has ended, or is somebody else's.
    """
    with open(f"/proc/{pid}/environ", "rb") as file:
        pairs = (os.fsdecode(pair).partition("=") for pair in file.read().split(b"\0"))
    return {name: value for name, _, value in pairs}


def connection_file(pid: int) -> str:
    """Return the real path of the connection file of a kernel; '' if the process is no kernel.

    Raises
    ------
    OSError
        It has ended, or is somebody else's.
    """
    path = named_connection_file(command(pid))
    if not path:
        return ""
    path = os.path.join(os.readlink(f"/proc/{pid}/cwd"), path)
    return os.path.realpath(path) if _is_connection_file(path) else ""


def named_connection_file(words: Sequence[bytes]) -> str:
    """Return the connection file that a command line names; '' if none."""
    for word, following in zip(words, [*words[1:], b""], strict=False):
        option, equals, value = word.partition(b"=")
        if option in _OPTIONS:
            return os.fsdecode(value if equals else following)
    return ""


def _is_connection_file(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(_LONGEST))
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"shell_port", "iopub_port", "key"} <= content.keys()


def mapped_by_younger(start: str) -> set[str]:
    """Return the names, without ending, of files that this user's younger processes have mapped.

    Parameters
    ----------
    start : str
        When a process was started (`identity.process_start`): all its descendants are younger.
    """
    found: set[str] = set()
    since = int(start.rpartition(":")[2] or 0) if os.path.isdir("/proc/self") else 0
    with contextlib.suppress(FileNotFoundError):  # no /proc
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # it has ended, or is nobody's business
                fields = stat_fields(int(pid))
                if fields is not None and int(fields[19]) >= since and int(pid) != os.getpid():
                    with open(f"/proc/{pid}/maps", "rb") as file:
                        found |= {_stem(line) for line in file if b"/" in line}
    return found


def _stem(line: bytes) -> str:
    return os.path.splitext(os.fsdecode(line.rstrip().rpartition(b"/")[2]))[0]


def kernels_of(parent: int) -> list[int]:
    """Return the kernels that a process started and that end when it has ended.

    ipykernel polls its parent: a kernel whose parent is not ``JPY_PARENT_PID`` any more ends within a
    second, without exit handlers.
    """
    found = []
    # A /proc of another pid namespace shows other processes by these numbers.
    if os.path.isdir("/proc/self") and process_start(parent) is not None:
        for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
            fields = stat_fields(pid)
            if (
                fields is None
                or int(fields[1]) != parent
                or not named_connection_file(command(pid))
            ):
                continue
            with contextlib.suppress(OSError):  # it has just ended
                if environment(pid).get("JPY_PARENT_PID") == str(parent):
                    found.append(pid)
    return found


def end_children(pids: Iterable[int], patience: float) -> None:
    """End child processes of this process, and return when they have ended.

    Each gets SIGTERM, and SIGKILL if it still runs after `patience` seconds. Their exit status is left
    to the code that started them.
    """
    left = list(filter(_runs, pids))  # no other process can have such a pid
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while (left := list(filter(_runs, left))) and time.monotonic() < deadline:
            time.sleep(_PAUSE)


def _runs(child: int) -> bool:
    """Tell whether a child process still runs; one has ended when all its threads have."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:  # something else has waited for it
        return False
