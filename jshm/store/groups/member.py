"""What another member of a Unix group shares: read, and nothing else.

Another member's directory is opened anew for each use, and followed by descriptor from there. Every
file in it is opened without following a link and without waiting for a FIFO, belongs to that member, is
read up to a limit, and is believed only as far as it makes sense. Nothing is written there, renamed,
removed, or locked in a way that keeps its owner waiting.
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
from ...segment import file as segment
from ...segment.file import ID
from ...system import file_locks
from ...system import signals as interrupts
from ...system.limits import limit_error
from ..identity import Identity, seems_to_run
from ..local import lease_log as holdings
from ..local.directory import file_name
from ..local.registry.rows import Entry
from ..names import check_name, check_note
from . import announcing
from .announcing import BETWEEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..local.lease_log import Said
    from ..local.registry.rows import SegmentRow

# Of what a member lists: 30,000 names have as many bytes.
_LONGEST_LIST = 16 << 20
# So much is read at once, whenever it is new.
_SHORT_LIST = 128 << 10
# Characters that say one version, and that say all dtypes of a member: to understand a dtype takes a
# hundred times as much memory as its description, and a microsecond for each character.
_LONGEST_VERSION = 1 << 16
_LONGEST_DTYPES = 1 << 20
# Of what fits into a number of SQLite's.
_MOST = 1 << 63
# Of all that the processes of one member say that they hold, of how many of them, and of how many files
# beside these.
_LONGEST_SAID = 1 << 20
_PROCESSES = 100
_FILES = 10_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Seconds of work from which on something counts as slow, and the share of time that it may take then.
_SLOW = 0.2
_SHARE = 0.2
_LOG = re.compile(r"[0-9a-f]{16}\.holds")
_MODES = frozenset({"r", "r+", "c"})


class Pace:
    """How often to read again what others can make long, and change at any time."""

    def __init__(self) -> None:
        self._next = 0.0

    def is_due(self) -> bool:
        """Tell whether it may be read again: what was slow has to wait."""
        return time.monotonic() >= self._next

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Read it."""
        began = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - began
            if spent > _SLOW:
                self._next = time.monotonic() + spent / _SHARE


class _Read(NamedTuple):
    """What was read of a list: which file, up to which byte, and what it says.

    Never changed, only replaced: threads, and handlers of signals, read at any time.
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
        Of what the member shares with the group.
    gid : int
        Of the group.
    """

    def __init__(self, uid: int, login: str, path: str, gid: int) -> None:
        self.uid = uid
        self.login = login
        self.path = path
        self._gid = gid
        self._read = _Read()
        self._pace = Pace()

    @property
    def problem(self) -> str:
        """Why nothing of the member's can be used; empty if it can."""
        return self._read.problem

    @property
    def entries(self) -> Mapping[str, list[Entry]]:
        """What is shared, by name, as of the last `look`; of each the oldest version first."""
        return self._read.entries

    def shares(self, name: str) -> bool:
        """Tell whether a name has a newest version."""
        return any(entry.is_current for entry in self.entries.get(name, ()))

    # -- what is shared --------------------------------------------------------------------------

    def look(self) -> object:
        """Read what is new; return a value that changes when anything has.

        Raises
        ------
        TooManyFilesError
            Limits of this process keep it from reading.
        """
        signature, known = self._look_at_list(), self._read
        if signature != known.signature:
            try:
                with self._pace.measured():
                    self._read = self._read_list(known, signature)
            except FileNotFoundError:  # removed, or not made yet
                self._read = _Read(signature)
            except JshmError as error:
                self._read = _Read(signature, problem=str(error))
            except OSError as error:
                if isinstance(limit_error(error), TooManyFilesError):  # not the member's fault
                    raise limit_error(error) from None
                # It may pass without any sign, so it is tried again.
                self._read = _Read(problem=str(error))
        return self._read.signature

    def _look_at_list(self) -> object:
        try:
            place = os.lstat(self.path)
            there = os.lstat(f"{self.path}/{announcing.FILE}")
        except OSError as error:
            return error.errno
        return (
            place.st_dev, place.st_ino, place.st_uid, place.st_gid, place.st_mode,
            there.st_ino, there.st_size, there.st_uid, there.st_mode,
        )  # fmt: skip

    def _read_list(self, known: _Read, signature: object) -> _Read:
        """Return what the list says, of which some is known already."""
        with self._open_directory() as place, self._open(announcing.FILE, place) as (fd, status):
            if status.st_size > _LONGEST_LIST:
                raise CorruptRegistryError(
                    f"the list of what {self.login} shares has {status.st_size:,} bytes, and more than "
                    f"{_LONGEST_LIST:,} are not read"
                )
            file = status.st_dev, status.st_ino
            if known.file != file or status.st_size < known.size:
                if status.st_size > _SHORT_LIST and not self._pace.is_due():
                    return known
                if announcing.parse_head(os.pread(fd, announcing.HEAD, 0)) is None:
                    raise self._not_ours("its first line")
                known = _Read(file=file, size=announcing.HEAD)
            data = os.pread(fd, status.st_size - known.size, known.size)
        return self._with(known, data)._replace(signature=signature)

    def _with(self, known: _Read, data: bytes) -> _Read:
        """Return what is known with what whole commits say; the rest of the data is being written."""
        whole = data.rfind(b"\n" + announcing.END) + 1
        if not whole and not data.startswith(announcing.END):
            return known
        entries = dict(known.entries)
        parsed = [
            self._parse(line) for line in data[:whole].split(b"\n") if line not in (b"", b".")
        ]
        rows = [entry.segment for _, found in parsed for entry in found]
        dtypes = known.dtypes.union(row.descr for row in rows if row.kind == "array")
        if sum(map(len, dtypes)) > _LONGEST_DTYPES:
            raise self._not_ours(f"dtypes of more than {_LONGEST_DTYPES:,} characters")
        for name, found in parsed:
            self._check(found)
            if found:
                entries[name] = found
            else:
                entries.pop(name, None)
        size = known.size + whole + len(announcing.END)
        return known._replace(size=size, entries=entries, dtypes=dtypes, problem="")

    def _parse(self, line: bytes) -> tuple[str, list[Entry]]:
        try:
            name, said = announcing.entries_in(line, self.uid)
            if check_name(name) != name:
                raise ValueError("a name in another form")
            entries = []
            for one in said:
                if sum(len(text) for text in one if type(text) is str) > _LONGEST_VERSION:
                    raise ValueError(f"a version of more than {_LONGEST_VERSION:,} characters")
                entry = Entry.parse((*one[:9], self._signed(one[9]), *one[10:]))
                identity = entry.segment.id.partition(BETWEEN)[0]
                numbers = entry.version, entry.segment.nbytes, entry.created
                if not ID.fullmatch(identity) or min(numbers) < 0 or max(numbers) >= _MOST:
                    raise ValueError("a segment that is none")
                check_note(entry.note)
                entries.append(entry)
            entries.sort(key=lambda entry: entry.version)
            if len({entry.version for entry in entries}) < len(entries):
                raise ValueError("two versions of one number")
            if sum(entry.is_current for entry in entries) > 1:
                raise ValueError("two newest versions")
        except (JshmError, ValueError, TypeError, RecursionError, OverflowError) as error:
            raise self._not_ours(f"{line[:60]!r}: {str(error)[:200]}") from None
        return name, entries

    def _check(self, entries: list[Entry]) -> None:
        """Raise CorruptRegistryError unless what the versions are makes sense."""
        try:
            for entry in entries:
                row = entry.segment
                _ = row.layout if row.kind == "array" else row.summary(entry.part)
        except (JshmError, ValueError, TypeError, RecursionError, OverflowError) as error:
            raise self._not_ours(f"{entry.name!r:.60}: {str(error)[:200]}") from None

    def _signed(self, identity: object) -> str:
        """Return who published, as JSON, with the user that it is and not the one that it says."""
        if type(identity) is not str:
            raise TypeError("no identity")
        return replace(Identity.from_json(identity), uid=self.uid).to_json()

    def _not_ours(self, found: str) -> CorruptRegistryError:
        return CorruptRegistryError(
            f"the list of what {self.login} shares is damaged, or of another jshm: {found}. "
            f"`jshm --group … check --fix` of {self.login} writes it anew"
        )

    # -- files -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open_directory(self, name: str = "") -> Iterator[int]:
        """Open the member's directory, or one in it."""
        with contextlib.ExitStack() as stack:
            fd = self._opened(stack, self.path, None)
            yield self._opened(stack, name, fd) if name else fd

    def _opened(self, stack: contextlib.ExitStack, path: str, place: int | None) -> int:
        fd = os.open(path, _DIRECTORY, dir_fd=place)
        stack.callback(os.close, fd)
        status = os.fstat(fd)
        if status.st_uid != self.uid or status.st_gid != self._gid or status.st_mode & 0o022:
            raise UnsafeDirectoryError(
                f"{self.path} is not a directory that only {self.login} can write: refused"
            )
        return fd

    def _is_file(self, status: os.stat_result) -> bool:
        """Tell whether it is a regular file of the member's."""
        return stat.S_ISREG(status.st_mode) and status.st_uid == self.uid

    @contextlib.contextmanager
    def _open(
        self, name: str, place: int, *, writable: bool = False
    ) -> Iterator[tuple[int, os.stat_result]]:
        """Open a file of the member's."""
        with interrupts.deferred():
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
        """Open a segment's file; `held`: what is mapped of it counts as held, for its owner.

        Raises
        ------
        SegmentNotFoundError
            It is gone.
        CorruptSegmentError, UnsafeDirectoryError, TooManyFilesError
        """
        name = file_name(row.id.partition(BETWEEN)[0], row.kind)
        try:
            with (
                self._open_directory("segments") as place,
                self._open(name, place, writable=writable) as (fd, status),
            ):
                if held:
                    segment.hold(fd, group=True)
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
        """Return the path of a segment's file, for people."""
        return f"{self.path}/segments/{file_name(row.id.partition(BETWEEN)[0], row.kind)}"

    def open_lock(self, name: str) -> int:
        """Open a file that was made to be locked; `file_locks.close` it.

        Raises
        ------
        SegmentNotFoundError
            There is none: what it was for is LIVE no more.
        """
        try:
            with self._open_directory("locks") as place:
                fd = file_locks.open_locked(name, os.O_RDONLY | _FILE, place)
        except FileNotFoundError:
            raise SegmentNotFoundError(f"{self.login} shares that as LIVE data no more") from None
        except OSError as error:
            raise limit_error(error) from None
        if not self._is_file(os.fstat(fd)):
            file_locks.close(fd)
            raise UnsafeDirectoryError(
                f"a lock in {self.path} is not a file of {self.login}: refused"
            )
        return fd

    # -- who holds what --------------------------------------------------------------------------

    def said(self) -> list[tuple[Identity, Said]]:
        """Return what the member's living processes say that they hold.

        Segments are called as in `entries`, or, if they are this user's, as this user calls them.
        """
        found: list[tuple[Identity, Said]] = []
        left = _LONGEST_SAID
        with contextlib.suppress(OSError, JshmError), self._open_directory("leases") as place:
            for name in _logs(place):
                with contextlib.suppress(OSError, JshmError), self._open(name, place) as (fd, _):
                    data = os.read(fd, left)
                    left -= len(data)
                    said = holdings.parse(
                        data.decode(errors="replace").splitlines(keepends=True), 0.0
                    )
                    with contextlib.suppress(ValueError, TypeError):
                        who = replace(Identity.from_json(said.who), uid=self.uid)
                        if seems_to_run(who):
                            found.append(
                                (who, said._replace(held=self._translated(said.held), kept={}))
                            )
                if left <= 0:
                    break
        return found

    def _translated(self, held: set[holdings.Hold]) -> set[holdings.Hold]:
        found = set()
        for identity, mode in held:
            plain, _, owner = identity.partition(BETWEEN)
            if not ID.fullmatch(plain) or mode not in _MODES:
                continue
            owner = owner or str(self.uid)
            found.add((plain if owner == str(os.geteuid()) else f"{plain}{BETWEEN}{owner}", mode))
        return found

    def said_state(self) -> object:
        """Return a value that changes when `said` may have changed."""
        with contextlib.suppress(OSError, JshmError), self._open_directory("leases") as place:
            logs = [
                (name, os.stat(name, dir_fd=place, follow_symlinks=False)) for name in _logs(place)
            ]
            return frozenset((name, log.st_ino, log.st_size) for name, log in logs)
        return None


def _logs(place: int) -> list[str]:
    """Return the first names of logs in a directory, if they are among its first files."""
    found = []
    with os.scandir(place) as entries:
        for entry in islice(entries, _FILES):
            if _LOG.fullmatch(entry.name):
                found.append(entry.name)
                if len(found) >= _PROCESSES:
                    break
    return found
