"""What a process says that it holds, and that it keeps as spares: a log beside its lease.

A log, and not rows: appending a line costs a tenth of a transaction, waits for nobody, and vanishes
with the process. Of what is held it is for display: the kernel's locks decide. Of spares it is what
lets others leave them alone.

A line is ``+ID MODE`` or ``-ID MODE`` of what is held (no more), ``*ID BYTES NAME`` or ``/ID`` of what
is (no more) a spare. The first, ``=JSON``, says who the process is, where members of a group read it:
the lease is its user's alone, for whoever may read a file may lock it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from ...segment.file import ID
from ...system.access import PRIVATE
from ...system.directories import identity_of, is_at, open_file, remove, rename
from ...system.forks import wait_for
from ...system.signals import Guard, Order

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...system.access import Access
    from ...system.directories import Identity

# Lines that may be out of date before the log is written anew: who reads it reads them all.
_SLACK = 200

# Threads write into the logs of a process in turn: a descriptor that one of them has closed may be
# another file's by now.
_guard = Guard(Order.HOLDINGS)
wait_for(_guard.lock)

Hold = tuple[str, str]
"""Segment id and mode."""


class Kept(NamedTuple):
    """What a process keeps to write into it again: a spare, or what becomes one when it is let go.

    Attributes
    ----------
    nbytes : int
    name : str
        What was published in it, and is likely to be again.
    """

    nbytes: int
    name: str


class Said(NamedTuple):
    """What a log says.

    Attributes
    ----------
    held : set of (str, str)
        Segment ids and modes.
    kept : dict of str to Kept
        By segment id.
    idle : float
        Seconds since it last said anything.
    who : str
        Whose it is, as JSON; empty where only its user reads it.
    """

    held: set[Hold]
    kept: dict[str, Kept]
    idle: float
    who: str = ""


class Holdings:
    """The log of one process.

    Parameters
    ----------
    path : str
    temporary : str
        What it is called until it is complete.
    access : Access
        Who may read it.
    who : str
        The identity of its process, as JSON.
    """

    def __init__(self, path: str, temporary: str, access: Access = PRIVATE, who: str = "") -> None:
        self.move(path, temporary)
        self._access = access
        self._who = f"={who}\n" if access.group else ""
        self._held: set[Hold] = set()
        self._kept: dict[str, Kept] = {}
        self._log = -1
        self._file: Identity | None = None
        self._lines = 0

    def move(self, path: str, temporary: str) -> None:
        """Let it be written elsewhere, from the next `restore` on: its directory is another one."""
        self._path = path
        self._temporary = temporary

    def is_there(self) -> bool:
        """Tell whether others find it, or nothing was said yet."""
        return self._log < 0 or is_at(self._path, self._log)

    def note(self, changes: Iterable[tuple[Hold, bool]]) -> None:
        """Say which segments this process holds now, or holds no more."""
        with _guard:
            lines = []
            for hold, held in changes:
                (self._held.add if held else self._held.discard)(hold)
                lines.append(f"{'+' if held else '-'}{hold[0]} {hold[1]}\n")
            self._write(lines)

    def keep(self, segment: str, nbytes: int, name: str) -> None:
        """Say that this process keeps a segment as a spare."""
        with _guard:
            self._kept[segment] = Kept(nbytes, name)
            self._write([_kept_line(segment, self._kept[segment])])

    def give_back(self, segment: str) -> None:
        """Say that it does so no more."""
        with _guard:
            if self._kept.pop(segment, None):
                self._write([f"/{segment}\n"])

    def _write(self, lines: list[str]) -> None:
        self._lines += len(lines)
        if self._log < 0 or self._lines > _SLACK + 4 * (len(self._held) + len(self._kept)):
            self._rewrite()
        elif lines:
            os.write(self._log, "".join(lines).encode())

    def _is_open(self) -> bool:
        """Tell whether the descriptor is the log's: one that something has closed may be another file's."""
        try:
            return self._log >= 0 and identity_of(os.fstat(self._log)) == self._file
        except OSError:
            return False

    def restore(self) -> None:
        """Write it again, if anything was said: the file was removed."""
        with _guard:
            if self._log >= 0:
                self._rewrite()

    def _rewrite(self) -> None:
        """Begin a new log with what is so now; readers see the old one or the new one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        remove(self._temporary)  # of a try that failed
        log = open_file(self._temporary, flags, PRIVATE.own)
        try:
            self._access.settle(log, self._access.shown)
            lines = [f"+{hold[0]} {hold[1]}\n" for hold in self._held]
            lines += [_kept_line(*item) for item in self._kept.items()]
            os.write(log, "".join([self._who, *lines]).encode())
            rename(self._temporary, self._path)
        except BaseException:
            os.close(log)
            raise
        if self._is_open():
            os.close(self._log)
        self._log, self._file, self._lines = log, identity_of(os.fstat(log)), len(lines)

    def close(self) -> None:
        """Close the descriptor; the file stays."""
        with _guard:
            if self._is_open():
                os.close(self._log)
            self._log = -1


def _kept_line(segment: str, kept: Kept) -> str:
    return f"*{segment} {kept.nbytes} {kept.name.encode('unicode_escape').decode()}\n"


def read(path: str) -> Said:
    """Return what a log says; nothing if there is none.

    Raises
    ------
    OSError
    """
    with (
        contextlib.suppress(FileNotFoundError),
        open(path, encoding="utf-8", errors="replace", newline="\n", opener=opener) as file,
    ):
        return parse(file, time.time() - os.fstat(file.fileno()).st_mtime)
    return parse((), 0.0)


def parse(lines: Iterable[str], idle: float) -> Said:
    """Return what the lines of a log say."""
    held: set[Hold] = set()
    kept: dict[str, Kept] = {}
    who = ""
    for line in lines:
        if not line.endswith("\n"):
            break  # being written
        segment, _, more = line[1:-1].partition(" ")
        if line[0] == "+":
            held.add((segment, more))
        elif line[0] == "-":
            held.discard((segment, more))
        elif line[0] == "*" and ID.fullmatch(segment):
            kept[segment] = _parse_kept(more)
        elif line[0] == "/":
            kept.pop(segment, None)
        elif line[0] == "=":
            who = line[1:-1]
    return Said(held, kept, idle, who)


def _parse_kept(text: str) -> Kept:
    """Return what is said of a spare; of what jshm did not write so, as much as can be told."""
    nbytes, _, name = text.partition(" ")
    try:
        return Kept(int(nbytes), name.encode("ascii", "replace").decode("unicode_escape"))
    except ValueError:
        return Kept(0, "")


def opener(path: str, flags: int) -> int:
    """Open a regular file; FileNotFoundError for a link, a FIFO, a device: jshm makes none."""
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
