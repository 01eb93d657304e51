"""Proof that a process lives, and the log of the segments that it holds.

A lease is a small file that its process keeps locked (``flock(LOCK_EX)``). The operating system drops
the lock when the process ends, however it ends, so a probe (``LOCK_SH | LOCK_NB``) is always right. A pid
is not enough: it can be reused, and means nothing in another pid namespace.

Beside the lease is a log of what the process holds and of its spares. It is a log, and not rows, because
appending a line costs a tenth of a transaction, waits for nobody, and is void when the process ends. Held
segments are listed for display only: the locks on their files decide. A listed spare is left alone by
other processes.

A line of the log is ``+ID MODE`` or ``-ID MODE`` (held, no longer held), ``*ID BYTES NAME`` or ``/ID`` (a
spare, no longer one). In a group's store the first line, ``=JSON``, is the process's identity: members
can read the log, but not the lease, because a process that can read a file can also lock it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from ...errors import RegistryError, UnsafeDirectoryError
from ...segment.file import ID
from ...system import signals
from ...system.access import PRIVATE
from ...system.directories import (
    OpenDirectory,
    file_in,
    identity_of,
    is_at,
    names_in,
    open_file,
    remove,
    rename,
    status,
    with_ending,
)
from ...system.file_locks import close, lock, open_locked
from ...system.forks import wait_for
from ...system.limits import limit_error
from ...system.weak import WeakSet
from ..identity import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...system.access import Access
    from ...system.directories import Identity as FileIdentity

_TEMPORARY = ".new-"
_LOG = ".holds"
# The names of jshm's files here; it never deletes any other.
_OURS = re.compile(r"(\.new-)?[0-9a-f]{16}(\.holds)?")
# An identity may not have more characters than this.
_LONGEST = 1 << 20
# The log is rewritten when it has this many lines that are out of date: a reader reads all of them.
_SLACK = 200

Hold = tuple[str, str]
"""Segment id and mode."""
State = Literal["alive", "dead", "missing"]

# Serializes the log writes of all threads: after one thread closes a descriptor, its number may belong to
# another file.
_log_guard = signals.Guard(signals.Order.HOLDINGS)
wait_for(_log_guard.lock)


# -- the log -----------------------------------------------------------------------------------------


class LoggedSpare(NamedTuple):
    """A segment that a process reserves for its next publish: a spare, or one that is still held.

    Attributes
    ----------
    nbytes : int
    name : str
        The name that was published in it, and probably will be again.
    """

    nbytes: int
    name: str


class LogContent(NamedTuple):
    """What the log of one process says.

    Attributes
    ----------
    held : set of (str, str)
        Segment ids and modes.
    spares : dict of str to LoggedSpare
        By segment id.
    idle : float
        Seconds since the last entry.
    identity : str
        The identity of the process, as JSON; empty in a store that no group reads.
    """

    held: set[Hold]
    spares: dict[str, LoggedSpare]
    idle: float
    identity: str = ""


class LeaseLog:
    """The log of one process. Without a lease (`begin`), it only remembers.

    Parameters
    ----------
    access : Access
        Who may read it.
    """

    def __init__(self, access: Access = PRIVATE) -> None:
        self._access = access
        self._path = self._temporary = ""
        self._first = ""
        self._held: set[Hold] = set()
        self._spares: dict[str, LoggedSpare] = {}
        self._fd = -1
        self._file: FileIdentity | None = None
        self._lines = 0

    def begin(self, path: str, temporary: str, identity: str) -> None:
        """Start an empty log for a new lease; its file is created by the first entry.

        Parameters
        ----------
        path : str
        temporary : str
            The name of the file until it is complete.
        identity : str
            The identity of the process, as JSON.
        """
        with _log_guard:
            self.close()
            self._first = f"={identity}\n" if self._access.group else ""
            self._held.clear()
            self._spares.clear()
            self.move(path, temporary)

    def move(self, path: str, temporary: str) -> None:
        """Write the log to another directory, from the next `restore` on."""
        self._path, self._temporary = path, temporary

    def is_there(self) -> bool:
        """Return whether other processes find the file, or nothing was written yet."""
        return self._fd < 0 or is_at(self._path, self._fd)

    def note(self, changes: Iterable[tuple[Hold, bool]]) -> None:
        """Record which segments this process holds now, or does not hold any more."""
        with _log_guard:
            lines = []
            for hold, held in changes:
                (self._held.add if held else self._held.discard)(hold)
                lines.append(f"{'+' if held else '-'}{hold[0]} {hold[1]}\n")
            self._write(lines)

    def add_spare(self, segment: str, nbytes: int, name: str) -> None:
        """Record that this process reserves a segment."""
        with _log_guard:
            self._spares[segment] = LoggedSpare(nbytes, name)
            self._write([_spare_line(segment, self._spares[segment])])

    def remove_spare(self, segment: str) -> None:
        """Record that this process does not reserve a segment any more."""
        with _log_guard:
            if self._spares.pop(segment, None):
                self._write([f"/{segment}\n"])

    def _write(self, lines: list[str]) -> None:
        if not self._path:
            return
        self._lines += len(lines)
        if self._fd < 0 or self._lines > _SLACK + 4 * (len(self._held) + len(self._spares)):
            self._rewrite()
        elif lines:
            os.write(self._fd, "".join(lines).encode())

    def restore(self) -> None:
        """Create the file again after something removed it."""
        with _log_guard:
            if self._fd >= 0:
                self._rewrite()

    def _rewrite(self) -> None:
        """Replace the file by one with only the present state; a reader sees the old or the new file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        remove(self._temporary)  # left by an attempt that failed
        fd = open_file(self._temporary, flags, PRIVATE.own)
        try:
            self._access.settle(fd, self._access.shown)
            lines = [f"+{hold[0]} {hold[1]}\n" for hold in self._held]
            lines += [_spare_line(*item) for item in self._spares.items()]
            os.write(fd, "".join([self._first, *lines]).encode())
            rename(self._temporary, self._path)
        except BaseException:
            os.close(fd)
            raise
        if _is_open(self._fd, self._file):
            os.close(self._fd)
        self._fd, self._file, self._lines = fd, identity_of(os.fstat(fd)), len(lines)

    def close(self) -> None:
        """Write no more, until the next `begin`; the file stays."""
        with _log_guard:
            if _is_open(self._fd, self._file):
                os.close(self._fd)
            self._fd = -1
            self._path = self._temporary = ""


def _is_open(fd: int, file: FileIdentity | None) -> bool:
    """Return whether a descriptor is a file's; after a foreign close it may be another file's."""
    try:
        return fd >= 0 and identity_of(os.fstat(fd)) == file
    except OSError:
        return False


def _spare_line(segment: str, spare: LoggedSpare) -> str:
    return f"*{segment} {spare.nbytes} {spare.name.encode('unicode_escape').decode()}\n"


def read_log(path: str) -> LogContent:
    """Return what a log says; an empty content if there is no file.

    Raises
    ------
    OSError
    """
    with (
        contextlib.suppress(FileNotFoundError),
        open(path, encoding="utf-8", errors="replace", newline="\n", opener=_open_regular) as file,
    ):
        return parse_log(file, time.time() - os.fstat(file.fileno()).st_mtime)
    return parse_log((), 0.0)


def parse_log(lines: Iterable[str], idle: float) -> LogContent:
    """Return what the lines of a log say."""
    held: set[Hold] = set()
    spares: dict[str, LoggedSpare] = {}
    identity = ""
    for line in lines:
        if not line.endswith("\n"):
            break  # another process is writing it
        segment, _, more = line[1:-1].partition(" ")
        if line[0] == "+":
            held.add((segment, more))
        elif line[0] == "-":
            held.discard((segment, more))
        elif line[0] == "*" and ID.fullmatch(segment):
            spares[segment] = _parse_spare(more)
        elif line[0] == "/":
            spares.pop(segment, None)
        elif line[0] == "=":
            identity = line[1:-1]
    return LogContent(held, spares, idle, identity)


def _parse_spare(text: str) -> LoggedSpare:
    """Return what a line says of a spare; 0 bytes and no name if the line is damaged."""
    nbytes, _, name = text.partition(" ")
    try:
        return LoggedSpare(int(nbytes), name.encode("ascii", "replace").decode("unicode_escape"))
    except ValueError:
        return LoggedSpare(0, "")


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file. A link, a FIFO or a device raises FileNotFoundError: jshm makes none."""
    try:
        fd = open_file(path, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise FileNotFoundError(error.errno, error.strerror, path) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
    return fd


# -- this process's lease ----------------------------------------------------------------------------


class Lease:
    """The locked file that proves that this process lives, until `close` or the end of the process.

    Parameters
    ----------
    directory : str
        Where leases are.
    identity : Identity
        Written into the file, for messages and lists.
    access : Access
        Who may read the log.
    log : LeaseLog, optional
        Records what this process holds; by default a new one.

    Attributes
    ----------
    directory : str
    text : str
        The identity as JSON.
    log : LeaseLog
    """

    def __init__(
        self,
        directory: str,
        identity: Identity,
        access: Access = PRIVATE,
        log: LeaseLog | None = None,
    ) -> None:
        self.identity = identity
        self._access = access
        self.text = identity.to_json()
        self.id = os.urandom(8).hex()
        self.pid = os.getpid()
        self.directory = directory
        self.log = LeaseLog(access) if log is None else log
        self.log.begin(*self._log_paths(), self.text)
        self._fd, self._file = -1, (0, 0)
        self._create()
        _leases.add(self)

    def move(self, directory: str) -> None:
        """Use another directory, from the next `restore` on."""
        self.directory = directory
        self.log.move(*self._log_paths())

    @property
    def _path(self) -> str:
        return file_in(self.directory, self.id)

    def _log_paths(self) -> tuple[str, str]:
        """Return the path of the log, and its path until it is complete."""
        name = self.id + _LOG
        return file_in(self.directory, name), file_in(self.directory, _TEMPORARY + name)

    def _create(self) -> None:
        # Locked before it gets its name: no process ever sees the lease of a living process unlocked.
        temporary = file_in(self.directory, _TEMPORARY + self.id)
        for _ in signals.ATTEMPTS:
            signals.check()
            fd = open_locked(temporary, os.O_RDWR | os.O_CREAT)
            try:
                lock(fd, fcntl.LOCK_EX)
                self._access.settle(fd, self._access.own)
                os.write(fd, self.text.encode())
                rename(temporary, self._path)
                if not is_at(self._path, fd):
                    raise FileNotFoundError(temporary)
            except FileNotFoundError:  # a collection removed it between creation and lock
                close(fd)
            except BaseException:
                close(fd)
                raise
            else:
                self._close()
                self._fd, self._file = fd, identity_of(os.fstat(fd))
                return
        raise RegistryError(
            f"{temporary} is removed each time it is created: find out which program does that"
        )

    def _close(self) -> None:
        if _is_open(self._fd, self._file):
            close(self._fd)
        self._fd = -1

    def is_valid(self) -> bool:
        """Return whether this process owns the lease, and other processes can see it."""
        return (
            self.pid == os.getpid()
            and _is_open(self._fd, self._file)
            and is_at(self._path, self._fd)
            and self.log.is_there()
        )

    def restore(self) -> bool:
        """Create the file again, under the same id, if something removed it.

        The names that were published under this id then have a living publisher again.

        Returns
        -------
        bool
            Whether the lease is valid now. It is False for a closed lease and for one of a parent
            process: these need a new lease.
        """
        if self.pid != os.getpid() or self._fd < 0:
            return False
        if not self.is_valid():
            self._create()
            self.log.restore()  # it was probably removed together with the lease
        return True

    def close(self) -> None:
        """Give the lease up."""
        if self._fd >= 0 and self.pid == os.getpid():
            with contextlib.suppress(FileNotFoundError):
                remove(self._log_paths()[0])
                remove(self._path, self._fd)
        self.abandon()

    def abandon(self) -> None:
        """Only close the descriptors: in a forked child the lock belongs to the parent."""
        self._close()
        self.log.close()


_leases: WeakSet[Lease] = WeakSet()


def _abandon_inherited() -> None:
    # If a child kept the descriptor open, a dead parent would seem to live.
    for lease in _leases:
        lease.abandon()


os.register_at_fork(after_in_child=_abandon_inherited)


# -- the leases of all processes ---------------------------------------------------------------------


def is_alive(directory: str, lease_id: str) -> bool:
    """Return whether the process of a lease lives."""
    return state(directory, lease_id) == "alive"


def state(directory: str, lease_id: str) -> State:
    """Return whether the process of a lease lives, or that its file is missing.

    Missing usually means dead: a process removes its file when it ends. But something may have removed
    the file of a living process, which creates it again with its next operation.

    Raises
    ------
    TooManyFilesError, UnsafeDirectoryError
        It cannot be decided now.
    """
    if not _OURS.fullmatch(lease_id):  # comes from a damaged registry
        return "missing"
    with signals.deferred():  # else Ctrl-C could leave the descriptor open
        return _probe(file_in(directory, lease_id))


def _probe(path: str) -> State:
    try:
        fd = open_file(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):  # a link, a socket, a device
            return "dead"  # jshm makes none
        raise _explain(error, path) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # A removed file is unlocked, too: its process may have created another one.
        return "dead" if os.fstat(fd).st_nlink else "missing"
    except BlockingIOError:
        return "alive"
    finally:
        os.close(fd)


def _explain(error: OSError, path: str) -> OSError:
    """Return the error, or one that says what to do."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return UnsafeDirectoryError(
            f"{path} cannot be read: {error.strerror}. Another user created it or changed its "
            "permissions: remove it, or set JSHM_DIR to a private directory"
        )
    return limit_error(error)


def _names(directory: str) -> list[str]:
    try:
        return names_in(directory)
    except FileNotFoundError:  # removed, and not created again yet
        return []
    except OSError as error:
        raise _explain(error, directory) from None


def living(directory: str) -> list[tuple[Identity, LogContent]]:
    """Return the living processes, each with what its log says.

    Raises
    ------
    TooManyFilesError, UnsafeDirectoryError
    """
    with signals.deferred():  # once for all, because it costs time
        alive = [
            name for name in _names(directory) if "." not in name and is_alive(directory, name)
        ]
        found = [_read(file_in(directory, name)) for name in alive]
    return [one for one in found if one is not None]


def _read(path: str) -> tuple[Identity, LogContent] | None:
    """Return the identity in a lease and its log; None if it is gone or damaged."""
    try:
        with open(path, encoding="utf-8", opener=_open_regular) as file:
            identity = Identity.from_json(file.read(_LONGEST))
        return identity, read_log(with_ending(path, _LOG))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    except OSError as error:
        raise _explain(error, path) from None


def signature(directory: str) -> frozenset[tuple[str, bool, int, int]]:
    """Return a value that changes when `living` may have changed.

    Raises
    ------
    TooManyFilesError, UnsafeDirectoryError
    """
    found = []
    for name in _names(directory):
        if "." not in name:
            try:
                log = status(file_in(directory, name + _LOG))
                size = (log.st_ino, log.st_size)
            except FileNotFoundError:
                size = (0, 0)
            found.append((name, is_alive(directory, name), *size))
    return frozenset(found)


def sweep(directory: str) -> None:
    """Remove the files of dead processes, including those of unfinished leases.

    Raises
    ------
    TooManyFilesError, UnsafeDirectoryError
    """
    with signals.deferred():
        try:
            place = directory if isinstance(directory, OpenDirectory) else OpenDirectory(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _explain(error, directory) from None
        for name in filter(_OURS.fullmatch, _names(place)):
            _sweep(place, name)


def _sweep(directory: OpenDirectory, name: str) -> None:
    lease = name.removeprefix(_TEMPORARY).removesuffix(_LOG)
    owner = name if name.startswith(_TEMPORARY) and not name.endswith(_LOG) else lease
    found = state(directory, owner)
    # A missing lease may be restored, but then under a new file.
    if found == "dead" or (found == "missing" and name != owner):
        try:  # in the directory that was listed, even if its path leads elsewhere now
            remove(file_in(directory, name))
        except OSError as error:
            raise _explain(error, file_in(directory, name)) from None
