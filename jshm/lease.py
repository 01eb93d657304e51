"""Tell whether a process lives, and what it says that it holds.

A lease is a small file that its process keeps locked (``flock(LOCK_EX)``). The kernel drops the lock
when the process ends, however it ends, so a probe (``LOCK_SH | LOCK_NB``) never lies; a pid can be
reused, and means nothing in another pid namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from typing import TYPE_CHECKING

from .identity import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable

_TEMPORARY = ".new-"
_HOLDS = ".holds"
# Lines of a log that may be out of date before it is written anew.
_LOG_SLACK = 1000

Hold = tuple[str, str]
"""Segment id and mode."""


class Lease:
    """The proof that this process lives: a locked file, until `close` or the process's end.

    Parameters
    ----------
    directory : str
        Where leases are kept.
    identity : Identity
        Written into the file, for people.

    Attributes
    ----------
    text : str
        The identity as JSON.
    """

    def __init__(self, directory: str, identity: Identity) -> None:
        self.identity = identity
        self.text = identity.to_json()
        self.id = os.urandom(8).hex()
        self.pid = os.getpid()
        self._path = os.path.join(directory, self.id)
        self._held: set[Hold] = set()
        self._log = -1
        self._lines = 0
        self._fd = self._create(os.path.join(directory, _TEMPORARY + self.id))
        _leases.add(self)

    def _create(self, temporary: str) -> int:
        # Locked before it has its name: nobody ever sees it unlocked while its process lives.
        while True:
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                os.write(fd, self.text.encode())
                os.rename(temporary, self._path)
            except FileNotFoundError:  # a reaper won the instant between creation and lock
                os.close(fd)
            except BaseException:
                os.close(fd)
                raise
            else:
                return fd

    def is_valid(self) -> bool:
        """Tell whether it is this process's, and others can still see it."""
        return self.pid == os.getpid() and self._fd >= 0 and os.path.exists(self._path)

    def close(self) -> None:
        """Give the lease up."""
        if self._fd >= 0 and self.pid == os.getpid():
            for path in (self._path + _HOLDS, self._path):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptor only: in a forked child, where the lock belongs to the parent."""
        for fd in (self._fd, self._log):
            if fd >= 0:
                os.close(fd)
        self._fd = self._log = -1

    def note(self, changes: Iterable[tuple[Hold, bool]]) -> None:
        """Say which segments this process holds now, or holds no more.

        A log beside the lease, and not rows: appending a line costs a tenth of a transaction, waits
        for nobody, and vanishes with the process. It is for display; the kernel's locks decide.
        """
        lines = []
        for hold, held in changes:
            (self._held.add if held else self._held.discard)(hold)
            lines.append(f"{'+' if held else '-'}{hold[0]} {hold[1]}\n")
        self._lines += len(lines)
        if self._log < 0 or self._lines > _LOG_SLACK + 4 * len(self._held):
            self._rewrite()
        elif lines:
            os.write(self._log, "".join(lines).encode())

    def _rewrite(self) -> None:
        """Begin a new log with what is held now; readers see the old one or the new one."""
        path = self._path + _HOLDS
        temporary = os.path.join(os.path.dirname(path), _TEMPORARY + os.path.basename(path))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        log = os.open(temporary, flags, 0o600)
        try:
            os.write(log, "".join(f"+{hold[0]} {hold[1]}\n" for hold in self._held).encode())
            os.rename(temporary, path)
        except BaseException:
            os.close(log)
            raise
        if self._log >= 0:
            os.close(self._log)
        self._log, self._lines = log, len(self._held)


_leases: weakref.WeakSet[Lease] = weakref.WeakSet()


def _abandon_inherited() -> None:
    # A child that kept the descriptor open would make a dead parent look alive.
    for lease in _leases:
        lease.abandon()


os.register_at_fork(after_in_child=_abandon_inherited)


def is_alive(directory: str, lease_id: str) -> bool:
    """Tell whether the process of a lease lives."""
    try:
        fd = os.open(os.path.join(directory, lease_id), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def living(directory: str) -> list[tuple[Identity, set[Hold]]]:
    """Return who lives, and what each says that it holds."""
    found = []
    for name in os.listdir(directory):
        if "." not in name and is_alive(directory, name):
            path = os.path.join(directory, name)
            with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
                with open(path, encoding="utf-8") as file:
                    identity = Identity.from_json(file.read())
                held: set[Hold] = set()
                with contextlib.suppress(FileNotFoundError):
                    held = _read_log(path + _HOLDS)
                found.append((identity, held))
    return found


def _read_log(path: str) -> set[Hold]:
    held: set[Hold] = set()
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            if not line.endswith("\n"):
                break  # being written
            segment, _, mode = line[1:-1].partition(" ")
            (held.add if line[0] == "+" else held.discard)((segment, mode))
    return held


def sweep(directory: str) -> None:
    """Remove the files of dead processes, also of those that died while making one."""
    for name in os.listdir(directory):
        lease = name.removeprefix(_TEMPORARY).removesuffix(_HOLDS)
        owner = name if name.startswith(_TEMPORARY) and not name.endswith(_HOLDS) else lease
        if not is_alive(directory, owner):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name))
