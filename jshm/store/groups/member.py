"""Reads what another member of a Unix group shares, without trust.

The member's directory is opened for each use, and files are reached from its descriptor. Every file is
opened without following a link and without waiting for a FIFO, must belong to that member, is read up to a
limit, and is checked. Nothing is written there, renamed, removed, or locked so that the owner must wait.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from dataclasses import replace
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ...errors import (
    CorruptRegistryError,
    CorruptSegmentError,
    JshmError,
    SegmentNotFoundError,
    TooManyFilesError,
    UnsafeDirectoryError,
)
from ...segment import file as segment_file
from ...segment.file import ID
from ...system import file_locks, signals
from ...system.limits import limit_error
from ..identity import Identity, seems_to_run
from ..local.directory import file_name
from ..local.lease import parse_log
from ..local.registry.rows import Entry
from ..names import check_name, check_note
from . import names_file
from .names_file import BETWEEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..local.lease import Hold, LogContent
    from ..local.registry.rows import SegmentRow

# Bytes of a names file that are read: enough for 30,000 names.
_LONGEST_LIST = 16 << 20
# A names file up to this size is read whenever it is new; a longer one as `Pace` allows.
_SHORT_LIST = 128 << 10
# Characters of one version, and of all dtypes of a member: a parsed dtype takes a hundred times the memory
# of its description, and a microsecond for each character.
_LONGEST_VERSION = 1 << 16
_LONGEST_DTYPES = 1 << 20
# SQLite's integers are smaller than this.
_MOST = 1 << 63
# Limits for the logs of one member's processes: bytes of all logs, number of processes, and number of files
# in the directory.
_LONGEST_LOGS = 1 << 20
_PROCESSES = 100
_FILES = 10_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Reading that takes more than this many seconds is slow, and may take at most this share of the time.
_SLOW = 0.2
_SHARE = 0.2
_LOG = re.compile(r"[0-9a-f]{16}\.holds")
_MODES = frozenset({"r", "r+", "c"})


class Pace:
    """Limits the time spent on reading what other users can make long and change at any time."""

    def __init__(self) -> None:
        self._next = 0.0

    def is_due(self) -> bool:
        """Return whether it may be read again now: after a slow read it has to wait."""
        return time.monotonic() >= self._next

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Measure a read."""
        began = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - began
            if spent > _SLOW:
                self._next = time.monotonic() + spent / _SHARE


class _Names(NamedTuple):
    """The part of a names file that was read: which file, up to which byte, and its content.

    It is replaced and never changed, because threads and signal handlers read at any time.
    """

    signature: object = None
    file: tuple[int, int] = (0, 0)
    size: int = 0
    entries: Mapping[str, list[Entry]] = MappingProxyType({})
    dtypes: frozenset[str] = frozenset()
    problem: str = ""


class Member:
    """Another member of the group.

    Parameters
    ----------
    uid : int
    login : str
    path : str
        The directory in which the member shares with the group.
    gid : int
        Of the group.
    """

    def __init__(self, uid: int, login: str, path: str, gid: int) -> None:
        self.uid = uid
        self.login = login
        self.path = path
        self._gid = gid
        self._read = _Names()
        self._pace = Pace()

    @property
    def problem(self) -> str:
        """Why nothing that the member shares can be used; empty if it can be used."""
        return self._read.problem

    @property
    def entries(self) -> Mapping[str, list[Entry]]:
        """The versions by name as of the last `look`, the oldest version of each name first."""
        return self._read.entries

    def shares(self, name: str) -> bool:
        """Return whether a name has a newest version."""
        return any(entry.is_current for entry in self.entries.get(name, ()))

    # -- what is shared --------------------------------------------------------------------------

    def look(self) -> object:
        """Read what is new; return a value that changes when anything has changed.

        Raises
        ------
        TooManyFilesError
            A limit of this process prevents it.
        """
        signature, known = self._look_at_list(), self._read
        if signature != known.signature:
            try:
                with self._pace.measured():
                    self._read = self._read_list(known, signature)
            except FileNotFoundError:  # removed, or not created yet
                self._read = _Names(signature)
            except JshmError as error:
                self._read = _Names(signature, problem=error.message)
            except OSError as error:
                if isinstance(limit_error(error), TooManyFilesError):  # not the member's fault
                    raise limit_error(error) from None
                # Without a signature, so that it is tried again: the error may pass unnoticed.
                self._read = _Names(problem=str(error))
        return self._read.signature

    def _look_at_list(self) -> object:
        try:
            place = os.lstat(self.path)
            there = os.lstat(f"{self.path}/{names_file.FILE}")
        except OSError as error:
            return error.errno
        return (
            place.st_dev, place.st_ino, place.st_uid, place.st_gid, place.st_mode,
            there.st_ino, there.st_size, there.st_uid, there.st_mode,
        )  # fmt: skip

    def _read_list(self, known: _Names, signature: object) -> _Names:
        """Return what is known, with the new part of the names file."""
        with self._open_directory() as place, self._open(names_file.FILE, place) as (fd, status):
            if status.st_size > _LONGEST_LIST:
                raise CorruptRegistryError(
                    f"the names file of {self.login} has {status.st_size:,} bytes; the limit is "
                    f"{_LONGEST_LIST:,}"
                )
            file = status.st_dev, status.st_ino
            if known.file != file or status.st_size < known.size:
                if status.st_size > _SHORT_LIST and not self._pace.is_due():
                    return known
                if names_file.parse_head(os.pread(fd, names_file.HEAD, 0)) is None:
                    raise self._damaged("its first line")
                known = _Names(file=file, size=names_file.HEAD)
            data = os.pread(fd, status.st_size - known.size, known.size)
        return self._with(known, data)._replace(signature=signature)

    def _with(self, known: _Names, data: bytes) -> _Names:
        """Return what is known, with the complete commits in the data; another process writes the rest."""
        whole = data.rfind(b"\n" + names_file.END) + 1
        if not whole and not data.startswith(names_file.END):
            return known
        entries = dict(known.entries)
        parsed = [
            self._parse(line) for line in data[:whole].split(b"\n") if line not in (b"", b".")
        ]
        rows = [entry.segment for _, found in parsed for entry in found]
        dtypes = known.dtypes.union(row.descr for row in rows if row.kind == "array")
        if sum(map(len, dtypes)) > _LONGEST_DTYPES:
            raise self._damaged(f"dtypes of more than {_LONGEST_DTYPES:,} characters")
        for name, found in parsed:
            self._check(found)
            if found:
                entries[name] = found
            else:
                entries.pop(name, None)
        size = known.size + whole + len(names_file.END)
        return known._replace(size=size, entries=entries, dtypes=dtypes, problem="")

    def _parse(self, line: bytes) -> tuple[str, list[Entry]]:
        try:
            name, versions = names_file.entries_in(line, self.uid)
            if check_name(name) != name:
                raise ValueError("a name that is not in its normal form")
            entries = []
            for one in versions:
                if sum(len(text) for text in one if type(text) is str) > _LONGEST_VERSION:
                    raise ValueError(f"a version of more than {_LONGEST_VERSION:,} characters")
                entry = Entry.parse((*one[:9], self._signed(one[9]), *one[10:]))
                identity = entry.segment.id.partition(BETWEEN)[0]
                numbers = entry.version, entry.segment.nbytes, entry.created
                if not ID.fullmatch(identity) or min(numbers) < 0 or max(numbers) >= _MOST:
                    raise ValueError("not a segment")
                check_note(entry.note)
                entries.append(entry)
            entries.sort(key=lambda entry: entry.version)
            if len({entry.version for entry in entries}) < len(entries):
                raise ValueError("two versions with the same number")
            if sum(entry.is_current for entry in entries) > 1:
                raise ValueError("two newest versions")
        except (JshmError, ValueError, TypeError, RecursionError, OverflowError) as error:
            raise self._damaged(f"{line[:60]!r}: {str(error)[:200]}") from None
        return name, entries

    def _check(self, entries: list[Entry]) -> None:
        """Raise CorruptRegistryError unless all versions can be described."""
        try:
            for entry in entries:
                row = entry.segment
                _ = row.layout if row.kind == "array" else row.summary(entry.part)
        except (JshmError, ValueError, TypeError, RecursionError, OverflowError) as error:
            raise self._damaged(f"{entry.name!r:.60}: {str(error)[:200]}") from None

    def _signed(self, identity: object) -> str:
        """Return a publisher's identity as JSON, with the member's user id instead of the one in it."""
        if type(identity) is not str:
            raise TypeError("not an identity")
        return replace(Identity.from_json(identity), uid=self.uid).to_json()

    def _damaged(self, found: str) -> CorruptRegistryError:
        return CorruptRegistryError(
            f"the names file of {self.login} is damaged, or of another version of jshm: {found}. A check "
            f"with fix by {self.login} writes it again"
        )

    # -- files -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open_directory(self, name: str = "") -> Iterator[int]:
        """Open the member's directory, or a subdirectory."""
        with contextlib.ExitStack() as stack:
            fd = self._opened(stack, self.path, None)
            yield self._opened(stack, name, fd) if name else fd

    def _opened(self, stack: contextlib.ExitStack, path: str, place: int | None) -> int:
        fd = os.open(path, _DIRECTORY, dir_fd=place)
        stack.callback(os.close, fd)
        status = os.fstat(fd)
        if status.st_uid != self.uid or status.st_gid != self._gid or status.st_mode & 0o022:
            raise UnsafeDirectoryError(
                f"{self.path} is not a directory that only {self.login} can write to: refused"
            )
        return fd

    def _is_file(self, status: os.stat_result) -> bool:
        """Return whether it is a regular file of the member."""
        return stat.S_ISREG(status.st_mode) and status.st_uid == self.uid

    @contextlib.contextmanager
    def _open(
        self, name: str, place: int, *, writable: bool = False
    ) -> Iterator[tuple[int, os.stat_result]]:
        """Open a file of the member."""
        with signals.deferred():
            flags = os.O_RDWR if writable else os.O_RDONLY
            fd = file_locks.open_locked(name, flags | _FILE, place)
            try:
                status = os.fstat(fd)
                if not self._is_file(status):
                    raise CorruptSegmentError(
                        f"{name} in {self.path} is not a regular file of {self.login}: refused"
                    )
                yield fd, status
            finally:
                file_locks.close(fd)

    @contextlib.contextmanager
    def opened(
        self, row: SegmentRow, *, held: bool = True, writable: bool = False
    ) -> Iterator[tuple[int, os.stat_result]]:
        """Open a segment's file; with `held`, its owner sees mappings made meanwhile as held.

        Raises
        ------
        SegmentNotFoundError
            The file is gone.
        CorruptSegmentError, UnsafeDirectoryError, TooManyFilesError
        """
        name = file_name(row.id.partition(BETWEEN)[0], row.kind)
        try:
            with (
                self._open_directory("segments") as place,
                self._open(name, place, writable=writable) as (fd, status),
            ):
                if held:
                    segment_file.hold(fd, group=True)
                yield fd, status
        except FileNotFoundError:
            raise SegmentNotFoundError(f"segment {name} of {self.login} is gone") from None
        except JshmError:
            raise
        except OSError as error:
            found = limit_error(error)
            if found is not error:
                raise found from None
            raise CorruptSegmentError(
                f"segment {name} of {self.login} cannot be opened: {error.strerror}"
            ) from None

    def path_of(self, row: SegmentRow) -> str:
        """Return the path of a segment's file, for messages."""
        return f"{self.path}/segments/{file_name(row.id.partition(BETWEEN)[0], row.kind)}"

    def open_lock(self, name: str) -> int:
        """Open the file of a lock; close it with `file_locks.close`.

        Raises
        ------
        SegmentNotFoundError
            It does not exist: the data is not LIVE any more.
        """
        try:
            with self._open_directory("locks") as place:
                fd = file_locks.open_locked(name, os.O_RDONLY | _FILE, place)
        except FileNotFoundError:
            raise SegmentNotFoundError(
                f"{self.login} does not share that as LIVE data any more"
            ) from None
        except OSError as error:
            raise limit_error(error) from None
        if not self._is_file(os.fstat(fd)):
            file_locks.close(fd)
            raise UnsafeDirectoryError(
                f"a lock in {self.path} is not a file of {self.login}: refused"
            )
        return fd

    # -- holders ---------------------------------------------------------------------------------

    def living(self) -> list[tuple[Identity, LogContent]]:
        """Return the member's processes that run, each with what it holds.

        Segments have ids as in `entries`; this user's segments have their plain ids.
        """
        found: list[tuple[Identity, LogContent]] = []
        left = _LONGEST_LOGS
        with contextlib.suppress(OSError, JshmError), self._open_directory("leases") as place:
            for name in _logs(place):
                with contextlib.suppress(OSError, JshmError), self._open(name, place) as (fd, _):
                    data = os.read(fd, left)
                    left -= len(data)
                    log = parse_log(data.decode(errors="replace").splitlines(keepends=True), 0.0)
                    with contextlib.suppress(ValueError, TypeError):
                        identity = replace(Identity.from_json(log.identity), uid=self.uid)
                        if seems_to_run(identity):
                            held = self._translated(log.held)
                            found.append((identity, log._replace(held=held, spares={})))
                if left <= 0:
                    break
        return found

    def _translated(self, held: set[Hold]) -> set[Hold]:
        """Return holds with the ids that segments have in this user's store."""
        found = set()
        for identity, mode in held:
            plain, _, owner = identity.partition(BETWEEN)
            if not ID.fullmatch(plain) or mode not in _MODES:
                continue
            owner = owner or str(self.uid)
            found.add((plain if owner == str(os.geteuid()) else f"{plain}{BETWEEN}{owner}", mode))
        return found

    def living_state(self) -> object:
        """Return a value that changes when `living` may have changed."""
        with contextlib.suppress(OSError, JshmError), self._open_directory("leases") as place:
            logs = [
                (name, os.stat(name, dir_fd=place, follow_symlinks=False)) for name in _logs(place)
            ]
            return frozenset((name, log.st_ino, log.st_size) for name, log in logs)
        return None


def _logs(place: int) -> list[str]:
    """Return the names of logs in a directory, up to the limits."""
    found = []
    with os.scandir(place) as entries:
        for entry in islice(entries, _FILES):
            if _LOG.fullmatch(entry.name):
                found.append(entry.name)
                if len(found) >= _PROCESSES:
                    break
    return found
