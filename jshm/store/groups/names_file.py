"""The names file: lists what a member of a group shares, for the other members.

Other members do not open a member's registry. They could not read a database in WAL mode after its last
writer has closed it (SQLite, "WAL-mode databases on read-only media"); their locks would keep its log
from being emptied; and SQLite runs what is in a schema: views, triggers. So each member writes a file to
which every commit appends a few lines, and which is rewritten when most of it is out of date. Readers read
only the new part.

The file has a line of JSON for each name that changed, with all its versions, and a line with a dot after
the lines of one commit: readers ignore lines without a dot after them. Lines are written after the commit.
The registry remembers for which names they are missing, so that after a kill the next process writes them.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from ...errors import JshmError
from ...segment.trailer import encode
from ...system.directories import File, exists, open_file, remove, rename, with_ending
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
# Separates the id of another member's segment or lease from the member's user id.
BETWEEN = "@"
# A file up to this size is never rewritten: that takes longer than to read it.
_SMALL = 64 << 10
# Seconds to wait for other writers; if that is not enough, the next operation writes the lines.
_PATIENCE = 0.2


class Announcer:
    """Writes the names file of this user.

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

    def announce(self, *, rewrite: bool = False) -> None:
        """Write what changed. If there is no room or no time now, the next operation does it.

        Parameters
        ----------
        rewrite : bool
            Write the whole file again.
        """
        with contextlib.suppress(JshmError, OSError):
            if not rewrite and not self._registry.has_unannounced() and exists(self._path):
                return
            with self._registry.transact(_PATIENCE) as tx:
                identity = tx.list_id()
                changed = {name: tx.versions(name) for name in tx.unannounced()}
                if rewrite or not self._append(
                    identity, [_line(*item) for item in changed.items()]
                ):
                    self._rewrite(identity, tx)
                # Other members may only lock LIVE data.
                for name, entries in changed.items():
                    live = any(entry.is_current and entry.segment.writable for entry in entries)
                    locks.show(self._directory, name, shown=live)
                tx.forget_unannounced()

    def _append(self, identity: str, lines: Sequence[bytes]) -> bool:
        """Append lines to the file; return False if it must be rewritten."""
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

    def _rewrite(self, identity: str, tx: Transaction) -> None:
        """Replace the file; a reader sees the old or the new one."""
        by_name: dict[str, list[Entry]] = {}
        for entry in tx.everything():
            by_name.setdefault(entry.name, []).append(entry)
        body = b"".join(_line(name, entries) for name, entries in by_name.items())
        path = self._path
        temporary = with_ending(path, ".new")
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


# The length of the first line, which is padded so that one read returns it.
HEAD = 128


def _head(identity: str, nbytes: int) -> bytes:
    line = encode({"jshm": FORMAT, "list": identity, "bytes": nbytes}).encode()
    return line.ljust(HEAD - 1) + b"\n"


def parse_head(line: bytes) -> tuple[str, int] | None:
    """Return the id of a names file and its size when it was written; None if the line is damaged."""
    try:
        content: Any = json.loads(line)
        found = content["list"], content["bytes"]
        known = content["jshm"] == FORMAT and type(found[0]) is str and type(found[1]) is int
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if known and found[1] >= 0 else None


def _line(name: str, entries: Iterable[Entry]) -> bytes:
    """Return the line of a name: all its versions that can be attached."""
    fields = [_fields(entry) for entry in entries if not entry.segment.unlinked]
    return encode([name, fields]).encode() + b"\n"


def _fields(entry: Entry) -> list[Any]:
    row = entry.segment
    return [
        entry.version, int(entry.is_current), entry.lease, entry.created, int(entry.keep), entry.note,
        entry.once, entry.part, entry.identity, row.id, row.kind, row.descr, row.shape, row.order,
        row.nbytes, int(row.writable),
    ]  # fmt: skip


def entries_in(line: bytes, uid: int) -> tuple[str, list[tuple[Any, ...]]]:
    """Return the name in a line, and the rows of its versions for `Entry.parse`.

    The ids of segments and leases get the user's id appended, because two users may have the same ids.

    Raises
    ------
    ValueError, TypeError, RecursionError
        jshm did not write this line.
    """
    name, versions = json.loads(line)
    if type(name) is not str or type(versions) is not list:
        raise TypeError("not a name")
    found = []
    for one in versions:
        (version, is_current, lease, created, keep, note, once, part, identity, segment, kind, descr,
         shape, order, nbytes, writable) = one  # fmt: skip
        found.append((
            name, version, version if is_current else None, f"{lease}{BETWEEN}{uid}", created, keep, note,
            once, part, identity, f"{segment}{BETWEEN}{uid}", kind, descr, shape, order, nbytes, 0,
            writable, 0,
        ))  # fmt: skip
    return name, found
