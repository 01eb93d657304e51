"""Processes of this machine as the operating system shows them, mostly in ``/proc``."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from .limits import limit_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_PROC = os.path.isdir("/proc/self")
# How ipykernel is told its connection file: in the next word, or after an equals sign.
_OPTIONS = (b"-f", b"--f", b"--IPKernelApp.connection_file")
# Bytes that are read of a connection file.
_LONGEST = 1 << 16
# Seconds between two checks whether a process has ended.
_PAUSE = 0.005


# -- identity and life -----------------------------------------------------------------------------


def process_start(pid: int) -> str | None:
    """Return boot id and start time of a process, which with the pid identify it; None if it is not visible.

    Raises
    ------
    TooManyFilesError
        This process cannot open another file to find out.
    """
    if _PROC:
        if not _shows_us():
            return None
        fields = stat_fields(pid)
        # State and start time are fields 3 and 22 of proc_pid_stat(5); the name may hold blanks.
        return None if fields is None or fields[0] == "Z" else f"{boot_id()}:{fields[19]}"
    import subprocess

    shown = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or None


def is_running(pid: int, start: str, pid_ns: str) -> bool:
    """Return whether a process runs; True also for a process that cannot be judged from here."""
    boot = start.partition(":")[0]
    if boot and boot_id() and boot != boot_id():
        return False  # it ran before the last boot
    if not start or pid_ns != pid_namespace() or (_PROC and not _shows_us()):
        return True
    return process_start(pid) == start


def is_ancestor(pid: int, process: int) -> bool:
    """Return whether `pid` started `process`, or started a process that did."""
    if not _PROC:
        return pid == os.getppid()
    seen = process
    while seen > 1 and seen != pid:
        fields = stat_fields(seen)
        if fields is None:
            return False
        seen = int(fields[1])
    return seen == pid != process


def stat_fields(pid: int) -> list[str] | None:
    """Return the fields of proc_pid_stat(5) from the third on; None if the process is not visible."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode().split()
    except OSError as error:
        _refuse_to_guess(error)
        return None


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return eight characters that identify this boot of the machine, or '' if they are not available."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read(8)
    except OSError as error:
        _refuse_to_guess(error)
        return ""


def pid_namespace() -> str:
    """Return the name of this process's pid namespace, or '' if it is not available."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def shows_others() -> bool:
    """Return whether ``/proc`` shows other users' processes: proc(5), mount option ``hidepid``."""
    return stat_fields(1) is not None


def _shows_us() -> bool:
    """Return whether ``/proc`` belongs to our pid namespace; after ``unshare --pid`` alone it does not."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _refuse_to_guess(error: OSError) -> None:
    """Raise TooManyFilesError if only this process's limits prevented the look.

    Otherwise a living process would count as ended, and its names as expired.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        raise limit_error(error) from None


@lru_cache(maxsize=64)
def user_name(uid: int) -> str:
    """Return a user's name, or the number if the user has no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# -- what a process was started with ---------------------------------------------------------------


def command(pid: int) -> list[bytes]:
    """Return the words of a command line; empty if the process has ended or is not visible."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def executable(pid: int) -> str:
    """Return the path of a process's executable; '' if the process has ended or is not visible."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with.

    Raises
    ------
    OSError
        The process has ended, or belongs to another user.
    """
    with open(f"/proc/{pid}/environ", "rb") as file:
        pairs = (os.fsdecode(pair).partition("=") for pair in file.read().split(b"\0"))
    return {name: value for name, _, value in pairs}


def connection_file(pid: int) -> str:
    """Return the real path of a kernel's connection file; '' if the process is not a kernel.

    Raises
    ------
    OSError
        The process has ended, or belongs to another user.
    """
    path = named_connection_file(command(pid))
    if not path:
        return ""
    path = os.path.join(os.readlink(f"/proc/{pid}/cwd"), path)
    return os.path.realpath(path) if _is_connection_file(path) else ""


def named_connection_file(words: Sequence[bytes]) -> str:
    """Return the connection file that a command line names, or ''."""
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


# -- searching all processes -----------------------------------------------------------------------


def mapped_by_younger(start: str) -> set[str]:
    """Return the names, without ending, of files that this user's younger processes have mapped.

    Parameters
    ----------
    start : str
        Start of a process (`process_start`): all its descendants are younger.
    """
    found: set[str] = set()
    since = int(start.rpartition(":")[2] or 0) if _PROC else 0
    for pid in _pids():
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            fields = stat_fields(pid)
            if fields is not None and int(fields[19]) >= since and pid != os.getpid():
                with open(f"/proc/{pid}/maps", "rb") as file:
                    found |= {_stem(line) for line in file if b"/" in line}
    return found


def _pids() -> Iterable[int]:
    try:
        return map(int, filter(str.isdecimal, os.listdir("/proc")))
    except FileNotFoundError:
        return ()


def _stem(line: bytes) -> str:
    return os.path.splitext(os.fsdecode(line.rstrip().rpartition(b"/")[2]))[0]


def kernels_of(parent: int) -> list[int]:
    """Return the kernels that a process started and that end when it has ended.

    ipykernel polls its parent: a kernel whose parent is not ``JPY_PARENT_PID`` any more ends within a
    second, without exit handlers.
    """
    found = []
    # A /proc of another pid namespace shows other processes under these numbers.
    if _PROC and process_start(parent) is not None:
        for pid in _pids():
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


# -- ending processes ------------------------------------------------------------------------------


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
    """Return whether a child process still runs; it has ended when all its threads have."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:  # other code has waited for it
        return False


def after_workers(action: Callable[[], None]) -> Callable[[], None]:
    """Return a function for `atexit` that acts after multiprocessing has ended this process's workers."""

    def act() -> None:
        util = sys.modules.get("multiprocessing.util")
        if util is None or util.is_exiting():
            action()
        else:  # a lower priority than any that others use
            util.Finalize(None, action, exitpriority=-1000)

    return act
