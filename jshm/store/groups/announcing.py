"""The list of what a member shares: a file that the other members of a group read.

Nobody but its user opens a member's registry. A database in WAL mode cannot be read by a user who may
not write beside it, once its last writer has closed it (SQLite, "WAL-mode databases on read-only
media"); a reader's locks keep its log from being emptied; and SQLite runs what is in a schema: views,
triggers. So what is shared is written to a file that is only ever appended to, a few lines for each
commit, and begun anew when most of it is out of date. A reader reads what is new.

The file has a line of JSON for each name that changed, with all versions of it, and a line with a dot
behind those of one commit: who reads counts only what is before a dot. Lines are written after the
commit. The registry remembers which names they are still to be written for, so that a killed process
leaves that to the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from ...errors import JshmError
from ...segment.trailer import encode
from ...system.directories import File, beside, exists, open_file, remove, rename
from ..local import locks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..local.directory import Directory
    from ..local.registry.registry import Registry
    from ..local.registry.rows import Entry
    from ..local.registry.statements import Transaction

FORMAT = 1
FILE = "names"
END = b".\n"
# Between the id of a segment or lease of another member, and that user's.
BETWEEN = "@"
# A file of so many bytes is never begun anew: that takes longer than to read it.
_SMALL = 64 << 10
# Seconds to wait for other writers: the next operation of anybody does it as well.
_PATIENCE = 0.2


class Announcer:
    """What writes the list of one member.

    Parameters
    ----------
    directory : Directory
    registry : Registry
    """

    def __init__(self, directory: Directory, registry: Registry) -> None:
        self._directory = directory
        self._registry = registry

    @property
    def _path(self) -> File:
        return File(self._directory.place, FILE)

    def tell(self, *, anew: bool = False) -> None:
        """Write what changed. Where there is no room or no time now, the next operation does it.

        Parameters
        ----------
        anew : bool
            Write the whole file.
        """
        with contextlib.suppress(JshmError, OSError):
            if not anew and not self._registry.has_unannounced() and exists(self._path):
                return
            with self._registry.transact(_PATIENCE) as tx:
                identity = tx.list_id()
                changed = {name: tx.versions(name) for name in tx.unannounced()}
                if anew or not self._append(identity, [_line(*item) for item in changed.items()]):
                    self._begin(identity, tx)
                # Members find the locks of what is LIVE, and of nothing else.
                for name, entries in changed.items():
                    live = any(entry.is_current and entry.segment.writable for entry in entries)
                    locks.show(self._directory, name, shown=live)
                tx.forget_unannounced()

    def _append(self, identity: str, lines: Sequence[bytes]) -> bool:
        """Add lines to the file; False if it must be begun anew."""
        try:
            fd = open_file(self._path, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            status = os.fstat(fd)
            head = parse_head(os.pread(fd, HEAD, 0))
            if (
                not self._directory.access.accepts(status)
                or head is None
                or head[0] != identity
                or status.st_size > _SMALL + 2 * head[1]
                or os.pread(fd, len(END), status.st_size - len(END)) != END
            ):
                return False
            if lines:
                written = b"".join([*lines, END])
                return os.write(fd, written) == len(written)
            return True
        finally:
            os.close(fd)

    def _begin(self, identity: str, tx: Transaction) -> None:
        """Write the whole file; who reads it has the old one, or the new one."""
        by_name: dict[str, list[Entry]] = {}
        for entry in tx.everything():
            by_name.setdefault(entry.name, []).append(entry)
        body = b"".join(_line(name, entries) for name, entries in by_name.items())
        path = self._path
        temporary = beside(path, ".new")
        remove(temporary)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        fd = open_file(temporary, flags, self._directory.access.own)
        try:
            self._directory.access.settle(fd, self._directory.access.shown)
            left = memoryview(_head(identity, len(body)) + body + END)
            while left:
                left = left[os.write(fd, left) :]
            rename(temporary, path)
        finally:
            os.close(fd)


# The first line, padded: it is read at once.
HEAD = 128


def _head(identity: str, nbytes: int) -> bytes:
    line = encode({"jshm": FORMAT, "list": identity, "bytes": nbytes}).encode()
    return line.ljust(HEAD - 1) + b"\n"


def parse_head(line: bytes) -> tuple[str, int] | None:
    """Return which list a file is, and how many bytes it had when it was begun; None if it is none."""
    try:
        content: Any = json.loads(line)
        found = content["list"], content["bytes"]
        known = content["jshm"] == FORMAT and type(found[0]) is str and type(found[1]) is int
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if known and found[1] >= 0 else None


def _line(name: str, entries: Iterable[Entry]) -> bytes:
    """Return what is said of a name: all versions of it that can be attached."""
    said = [_said(entry) for entry in entries if not entry.segment.unlinked]
    return encode([name, said]).encode() + b"\n"


def _said(entry: Entry) -> list[Any]:
    row = entry.segment
    return [
        entry.version, int(entry.is_current), entry.lease, entry.created, int(entry.keep), entry.note,
        entry.once, entry.part, entry.identity, row.id, row.kind, row.descr, row.shape, row.order,
        row.nbytes, int(row.writable),
    ]  # fmt: skip


def entries_in(line: bytes, uid: int) -> tuple[str, list[tuple[Any, ...]]]:
    """Return a name, and the rows of its versions, for `Entry.parse`.

    Segments and leases are called after the user too: ids of two users have nothing to do with each
    other.

    Raises
    ------
    ValueError, TypeError, RecursionError
        It is no line that jshm wrote.
    """
    name, said = json.loads(line)
    if type(name) is not str or type(said) is not list:
        raise TypeError("no name")
    found = []
    for one in said:
        (version, is_current, lease, created, keep, note, once, part, identity, segment, kind, descr,
         shape, order, nbytes, writable) = one  # fmt: skip
        found.append((
            name, version, version if is_current else None, f"{lease}{BETWEEN}{uid}", created, keep, note,
            once, part, identity, f"{segment}{BETWEEN}{uid}", kind, descr, shape, order, nbytes, 0,
            writable, 0,
        ))  # fmt: skip
    return name, found
