"""What the other members of a Unix group share: read, and nothing else.

Another member's directory is opened anew for each use, and followed by descriptor from there. Every
file in it is opened without following a link and without waiting for a FIFO, belongs to that member, is
read up to a limit, and is believed only as far as it makes sense. Nothing is written there, renamed,
removed, or locked in a way that keeps its owner waiting.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from .. import holdings, interrupts, segment
from ..errors import (
    CorruptRegistryError,
    CorruptSegmentError,
    JshmError,
    SegmentNotFoundError,
    UnsafeDirectoryError,
)
from ..identity import Identity, seems_to_run
from ..rows import Entry
from ..segment import ID, limit_error
from . import announcing
from .directory import file_name
from .names import check_name, check_note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..access import Access
    from ..holdings import Said
    from ..rows import SegmentRow

# Of what a member lists: 30,000 names have as many bytes.
_LONGEST_LIST = 16 << 20
# Of what fits into a number of SQLite's.
_MOST = 1 << 63
# Of all that the processes of one member say that they hold, and of how many of them.
_LONGEST_SAID = 1 << 20
_PROCESSES = 100
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Seconds for which whoever was a member is taken for one.
_MEMBERSHIP = 60.0
# Seconds for which the time of a directory's last change may be that of a later change, too.
_TICK = 0.1
_BETWEEN = "@"
_MODES = frozenset({"r", "r+", "c"})


class _Read(NamedTuple):
    """What was read of a list: which file, up to which byte, and what it says.

    Never changed, only replaced: threads, and handlers of signals, read at any time.
    """

    signature: object = None
    file: tuple[int, int] = (0, 0)
    size: int = 0
    entries: Mapping[str, list[Entry]] = MappingProxyType({})
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

    @property
    def problem(self) -> str:
        """Why nothing of the member's can be used; empty if it can."""
        return self._read.problem

    @property
    def entries(self) -> Mapping[str, list[Entry]]:
        """What is shared, by name, as of the last `look`; of each the oldest version first."""
        return self._read.entries

    # -- what is shared --------------------------------------------------------------------------

    def look(self) -> object:
        """Read what is new; return a value that changes when anything has."""
        signature, known = self._look_at_list(), self._read
        if signature != known.signature:
            try:
                self._read = self._read_list(known)._replace(signature=signature)
            except FileNotFoundError:  # removed, or not made yet
                self._read = _Read(signature)
            except (JshmError, OSError) as error:
                self._read = _Read(signature, problem=str(error))
        return signature

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

    def _read_list(self, known: _Read) -> _Read:
        """Return what the list says, of which some is known already."""
        with self._open_directory() as place, self._open(announcing.FILE, place) as (fd, status):
            if status.st_size > _LONGEST_LIST:
                raise CorruptRegistryError(
                    f"the list of what {self.login} shares has {status.st_size:,} bytes, and more than "
                    f"{_LONGEST_LIST:,} are not read"
                )
            file = status.st_dev, status.st_ino
            if known.file != file or status.st_size < known.size:
                if announcing.parse_head(os.pread(fd, announcing.HEAD, 0)) is None:
                    raise self._not_ours("its first line")
                known = _Read(file=file, size=announcing.HEAD)
            data = os.pread(fd, status.st_size - known.size, known.size)
        return self._with(known, data)

    def _with(self, known: _Read, data: bytes) -> _Read:
        """Return what is known with what whole commits say; the rest of the data is being written."""
        whole = data.rfind(b"\n" + announcing.END) + 1
        if not whole and not data.startswith(announcing.END):
            return known
        entries = dict(known.entries)
        for line in data[:whole].split(b"\n"):
            if line not in (b"", b"."):
                name, found = self._parse(line)
                if found:
                    entries[name] = found
                else:
                    entries.pop(name, None)
        size = known.size + whole + len(announcing.END)
        return known._replace(size=size, entries=entries, problem="")

    def _parse(self, line: bytes) -> tuple[str, list[Entry]]:
        try:
            name, said = announcing.entries_in(line, self.uid)
            if check_name(name) != name:
                raise ValueError("a name in another form")
            entries = []
            for one in said:
                entry = Entry.parse((*one[:9], self._signed(one[9]), *one[10:]))
                identity = entry.segment.id.partition(_BETWEEN)[0]
                sizes = entry.version, entry.segment.nbytes
                if not ID.fullmatch(identity) or min(sizes) < 0 or max(sizes) >= _MOST:
                    raise ValueError("a segment that is none")
                check_note(entry.note)
                row = entry.segment  # it makes sense, or this raises
                _ = row.layout if row.kind == "array" else row.summary(entry.part)
                entries.append(entry)
        except (JshmError, ValueError, TypeError, RecursionError, OverflowError) as error:
            raise self._not_ours(f"{line[:60]!r}: {str(error)[:200]}") from None
        return name, entries

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

    @contextlib.contextmanager
    def _open(
        self, name: str, place: int, *, writable: bool = False
    ) -> Iterator[tuple[int, os.stat_result]]:
        """Open a file of the member's."""
        with interrupts.deferred():
            flags = os.O_RDWR if writable else os.O_RDONLY
            fd = segment.open_locked(name, flags | _FILE, place)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode) or status.st_uid != self.uid:
                    raise CorruptSegmentError(
                        f"{name} in {self.path} is not a regular file of {self.login}: refused"
                    )
                yield fd, status
            finally:
                segment.close(fd)

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
        name = file_name(row.id.partition(_BETWEEN)[0], row.kind)
        try:
            with (
                self._open_directory("segments") as place,
                self._open(name, place, writable=writable) as (fd, status),
            ):
                if held:
                    segment.hold(fd, shown=True)
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
        return f"{self.path}/segments/{file_name(row.id.partition(_BETWEEN)[0], row.kind)}"

    def open_lock(self, name: str) -> int:
        """Open a file that was made to be locked; `segment.close` it.

        Raises
        ------
        SegmentNotFoundError
            There is none: what it was for is LIVE no more.
        """
        try:
            with self._open_directory("locks") as place:
                fd = segment.open_locked(name, os.O_RDONLY | _FILE, place)
        except FileNotFoundError:
            raise SegmentNotFoundError(f"{self.login} shares that as LIVE data no more") from None
        except OSError as error:
            raise limit_error(error) from None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != self.uid:
            segment.close(fd)
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
            for name in _first(place, re.compile(r"[0-9a-f]{16}\.holds")):
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
            plain, _, owner = identity.partition(_BETWEEN)
            if not ID.fullmatch(plain) or mode not in _MODES:
                continue
            owner = owner or str(self.uid)
            found.add((plain if owner == str(os.geteuid()) else f"{plain}{_BETWEEN}{owner}", mode))
        return found

    def said_state(self) -> object:
        """Return a value that changes when `said` may have changed."""
        with contextlib.suppress(OSError, JshmError), self._open_directory("leases") as place:
            logs = [
                (name, os.stat(name, dir_fd=place, follow_symlinks=False))
                for name in _first(place, re.compile(r"[0-9a-f]{16}\.holds"))
            ]
            return frozenset((name, log.st_ino, log.st_size) for name, log in logs)
        return None


def _first(place: int, pattern: re.Pattern[str]) -> list[str]:
    """Return the first names in a directory that are so."""
    found = []
    with os.scandir(place) as entries:
        for entry in entries:
            if pattern.fullmatch(entry.name):
                found.append(entry.name)
                if len(found) >= _PROCESSES:
                    break
    return found


class Members:
    """The other members of a group that share anything.

    Parameters
    ----------
    place : str
        Where the members' directories are.
    access : Access
        Of the group.
    """

    def __init__(self, place: str, access: Access) -> None:
        self._place = place
        self._access = access
        self._mine = re.compile(rf"jshm-group-{re.escape(access.group)}-(0|[1-9][0-9]{{0,9}})")
        self._known: dict[int, Member] = {}
        self._are_members: dict[int, tuple[float, bool]] = {}
        self._listed: object = None
        self._checked = 0.0

    def all(self) -> list[Member]:
        """Return them, by login."""
        now = time.monotonic()
        try:
            status = os.stat(self._place)
        except FileNotFoundError:  # removed as a whole
            return []
        listed = status.st_dev, status.st_ino, status.st_mtime_ns
        if listed != self._listed or now > self._checked + _MEMBERSHIP:
            self._known = {uid: self._member(uid, path) for uid, path in self._find()}
            self._checked = now
            # What was changed just now may be changed again within the same tick of the clock.
            self._listed = listed if time.time() > status.st_mtime + _TICK else None
        return sorted(self._known.values(), key=lambda member: member.login)

    def _find(self) -> Iterator[tuple[int, str]]:
        with os.scandir(self._place) as entries:
            for entry in entries:
                match = self._mine.fullmatch(entry.name)
                if match and int(match[1]) != os.geteuid() and self._is_member(int(match[1])):
                    yield int(match[1]), entry.path

    def _member(self, uid: int, path: str) -> Member:
        known = self._known.get(uid)
        return known or Member(uid, pwd.getpwuid(uid).pw_name, path, self._access.gid)

    def _is_member(self, uid: int) -> bool:
        """Tell whether a user is in the group: by the system's databases, whatever files say."""
        known, now = self._are_members.get(uid), time.monotonic()
        if known is None or now > known[0] + _MEMBERSHIP:
            try:
                user = pwd.getpwuid(uid)
                groups = os.getgrouplist(user.pw_name, user.pw_gid)
            except (KeyError, OverflowError):
                groups = []
            known = self._are_members[uid] = now, self._access.gid in groups
        return known[1]

    def state(self) -> object:
        """Return a value that changes when what they share has; afterwards `entries` are as new."""
        return tuple((member.uid, member.look()) for member in self.all())

    @staticmethod
    def beside(identity: str, needed: str) -> str:
        """Return how a segment is called that another one, of the same member, refers to."""
        _, between, owner = identity.partition(_BETWEEN)
        return f"{needed}{between}{owner}"

    def called(self, root: str, identity: str, mine: str) -> str | None:
        """Return how a segment is called here that the member of a directory calls so.

        None if it is no member's directory; `mine` is this user's.
        """
        uid = next((m.uid for m in self.all() if m.path == root), None)
        if uid is None and root != mine:
            return None
        plain, _, owner = identity.partition(_BETWEEN)
        owner = owner or str(os.geteuid() if uid is None else uid)
        return plain if owner == str(os.geteuid()) else f"{plain}{_BETWEEN}{owner}"

    @staticmethod
    def is_theirs(identity: str) -> bool:
        """Tell whether a segment is another member's, by its id."""
        return _BETWEEN in identity

    def of_segment(self, identity: str) -> Member | None:
        """Return whose a segment is; None if it is this user's.

        Raises
        ------
        SegmentNotFoundError
            That member shares nothing any more.
        """
        if not self.is_theirs(identity):
            return None
        owner = identity.partition(_BETWEEN)[2]
        self.all()
        member = self._known.get(int(owner)) if owner.isdecimal() and len(owner) <= 10 else None  # noqa: PLR2004 - of 32 bits
        if member is None:
            raise SegmentNotFoundError(
                f"segment {identity} is gone: its owner shares nothing any more"
            )
        return member

    def said(self) -> list[tuple[Identity, Said]]:
        """Return what all their living processes say that they hold."""
        return [one for member in self.all() for one in member.said()]

    def said_state(self) -> object:
        """Return a value that changes when `said` may have changed."""
        return tuple((member.uid, member.said_state()) for member in self.all())
