"""The store's directory: where it is, and whether it is safe.

``/dev/shm/jshm-<uid>/`` where that is a tmpfs, else the platform's runtime or temporary directory;
``JSHM_DIR`` overrides. Segments that do not fit (`room`) overflow to a directory on disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from ...errors import (
    CorruptRegistryError,
    JshmError,
    NoSpaceError,
    Remedy,
    TooManyFilesError,
    UnsafeDirectoryError,
)
from ...segment.file import ID, limit_error, open_unheld
from ...system.access import PRIVATE
from ...system.directories import File, Place, Seen, Spot, identity_of, status
from ...system.private import TRIES, check, make_for_group, make_private, open_
from ..identity import boot_id
from .mappings import is_mapped_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...segment.file import Mapping
    from ...system.access import Access
    from .registry.rows import SegmentRow

_BOOT_ID = re.compile("[0-9a-f]{8}")
ARRAY = ".npy"
OTHER = ".jshm"
# What jshm calls a segment's file; anything else is not jshm's to delete.
_FILE = re.compile(r"([0-9a-f]{16})\.(npy|jshm)")
IN_MEMORY = {"tmpfs", "ramfs"}
_OVERFLOW = "JSHM_OVERFLOW_DIR"
_PLACES = ("segments", "leases", "locks")
# Where the registry is of what is shared with a group: its user's alone.
_HIDDEN = "private"
_NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
}  # fmt: skip


# Cached, as is `_platform_root`: every operation asks.
_normal = lru_cache(maxsize=8)(os.path.normpath)


def group_place() -> str:
    """Return the directory that groups' directories are in: ``JSHM_GROUP_DIR``, or ``/dev/shm``."""
    chosen = os.environ.get("JSHM_GROUP_DIR")
    return os.path.abspath(chosen) if chosen else _shared_memory()


def group_root(place: str, group: str, user: int) -> str:
    """Return the directory of what one member shares with a Unix group.

    Beside those of the other members, and not in one that a member owns: its owner could rename what
    is in it. In ``/dev/shm``, which is sticky, nobody else can.
    """
    return os.path.join(place, f"jshm-group-{group}-{user}")


def default_root(chosen: str | None = None) -> str:
    """Return the directory to use: ``JSHM_DIR``, ``/dev/shm/jshm-<uid>``, or a platform's own.

    Parameters
    ----------
    chosen : str, optional
        What ``JSHM_DIR`` says to another process; empty: nothing. By default, what it says here.
    """
    if chosen is None:
        chosen = os.environ.get("JSHM_DIR", "")
    if chosen:
        return _normal(chosen) if chosen.startswith("/") else os.path.abspath(chosen)
    return _platform_root(os.geteuid())


# Reading the list of mounts costs more than an attach.
@lru_cache(maxsize=8)
def _platform_root(user: int) -> str:
    import platformdirs

    shared = _shared_memory()
    if not shared.startswith("/dev/"):
        runtime = platformdirs.user_runtime_dir("jshm")
        if filesystem(os.path.dirname(runtime)) == "tmpfs":
            return runtime
    return os.path.join(shared, f"jshm-{user}")


@lru_cache(maxsize=1)
def _shared_memory() -> str:
    """Return a directory that everybody may write to, in memory where there is one."""
    if filesystem("/dev/shm") == "tmpfs" and os.access("/dev/shm", os.W_OK):  # noqa: S108
        return "/dev/shm"  # noqa: S108
    import tempfile

    return tempfile.gettempdir()


def filesystem(path: str) -> str:
    """Return the type of the file system that a path is on, or '' where nothing tells.

    Raises
    ------
    TooManyFilesError
        It cannot be told now. A guess would be another directory, and so another store.
    """
    path = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open("/proc/self/mounts") as file:
            for line in file:
                _, point, found, *_ = line.split()
                point = point.replace("\\040", " ")
                inside = path == point or path.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, kind = point, found
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):  # what is not known now is not cached
            raise limit_error(error) from None
        return ""
    return kind


def file_name(segment: str, kind: str) -> str:
    """Return what a segment's file is called.

    Raises
    ------
    CorruptRegistryError
        It is no segment's id: the path could be anybody's.
    """
    if not ID.fullmatch(segment):
        raise CorruptRegistryError(
            f"the registry is damaged: a segment is called {segment!r:.80}. The data is not: "
            "`jshm check --fix` rebuilds the registry from the segments"
        )
    return f"{segment}{ARRAY if kind == 'array' else OTHER}"


@dataclass(slots=True)
class Directory:
    """The places of one store. Made by `open`.

    What is in it is reached through descriptors (`places`): when its path leads to another directory, all
    that was found in the old one stays there, and nothing of it is taken for what has the same name now.

    Attributes
    ----------
    root : str
    chosen_overflow : str
        Where segments should go that do not fit, as this process was told. Empty: nowhere.
    in_memory : bool
        Whether `root` is memory, so that memory limits concern it.
    access : Access
        Whose it is: one user's, or a group's. A group's has no overflow.
    spot : Spot
        Tells which directory `root` leads to now. Every use of the registry looks at it.
    """

    root: str
    chosen_overflow: str
    in_memory: bool
    access: Access = PRIVATE
    spot: Spot = field(init=False, repr=False, compare=False)
    # That of the registry, which looks at `root` too.
    registry_spot: Spot = field(init=False, repr=False, compare=False)
    # Of each directory in it: as of which look at the root, and what was found.
    _inner: dict[str, tuple[Seen, Place]] = field(init=False, repr=False, compare=False)
    _overflow: Spot = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look at nothing yet."""
        self.spot = Spot(self.root, lambda path: open_(path, self.access))
        self.registry_spot = (
            Spot(os.path.dirname(self.registry), open_, self.spot)
            if self.access.group
            else self.spot
        )
        self._inner = {}
        self._overflow = Spot("")

    @classmethod
    def open(cls, root: str, access: Access = PRIVATE) -> Directory:
        """Make or check the directory and what is in it."""
        made = cls(root, "", in_memory=False, access=access)
        made.make_again()
        kind = filesystem(root)
        if kind in _NETWORK:
            raise UnsafeDirectoryError(
                f"{root} is on a network file system ({kind}), where memory cannot be shared: set "
                "JSHM_DIR to a local directory"
            )
        made.in_memory = kind in IN_MEMORY
        if not access.group:
            made.chosen_overflow = _overflow_for(made.place)
        return made

    def make_again(self) -> None:
        """Make what is not there, or was removed."""
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):
                if self.access.group:
                    make_for_group(self.root, _PLACES, _HIDDEN, self.access)
                else:
                    place = make_private(self.root, parents=True)
                    for name in _PLACES:
                        make_private(f"{self.root}/{name}", place)
                self.spot.look()
                return
        raise UnsafeDirectoryError(
            f"{self.root} is removed again and again while it is made: something deletes it. Try again"
        )

    def made(self) -> Place:
        """Return the directory, which is made again if it was removed."""
        if not self.place:
            self.make_again()
        return self.place

    def close(self) -> None:
        """Hold nothing of it open, until the next use."""
        self.spot.close()
        self.registry_spot.close()
        self._inner.clear()
        self._overflow = Spot("")

    def check(self) -> None:
        """Raise UnsafeDirectoryError unless it is still theirs alone whose it is, and all in it."""
        for place in (self.place, self.segments, self.leases, self.locks):
            if place:
                check(place, self.access)
        if self.access.group:
            with contextlib.suppress(FileNotFoundError):
                check(self.registry_file.place)

    @property
    def place(self) -> Place:
        """The directory that the path led to when it was looked at last; missing, if there was none."""
        try:
            return (self.spot.seen or self.spot.look()).place
        except FileNotFoundError:
            return Place.missing(self.root)

    @property
    def registry(self) -> str:
        # Others may read a group's directories; to lock one is as much as to read it.
        hidden = f"/{_HIDDEN}" if self.access.group else ""
        return f"{self.root}{hidden}/registry.db"

    @property
    def registry_file(self) -> File:
        """The registry's file, in the directory that its path leads to now.

        Raises
        ------
        FileNotFoundError
            There is no such directory.
        """
        return File(self.registry_spot.look().place, os.path.basename(self.registry))

    @property
    def segments(self) -> Place:
        known = self._inner.get("segments")  # as `_in`, which takes longer
        return known[1] if known and known[0] is self.spot.seen else self._in("segments")

    @property
    def leases(self) -> Place:
        return self._in("leases")

    @property
    def locks(self) -> Place:
        return self._in("locks")

    def _in(self, name: str) -> Place:
        """Return a directory that is in it, if nothing has changed since the last look at it; else look.

        Raises
        ------
        UnsafeDirectoryError, TooManyFilesError
        """
        seen, known = self.spot.seen, self._inner.get(name)
        if known is not None and known[0] is seen:
            return known[1]
        path = f"{self.root}/{name}"
        try:
            seen = self.spot.look()
            there = identity_of(status(File(seen.place, name)))
            if known is None or known[1].identity != there:
                known = seen, open_(path, self.access, seen.place)
        except FileNotFoundError:
            return Place.missing(path)
        self._inner[name] = seen, known[1]
        return known[1]

    def path(self, segment: str, *, overflow: bool, kind: str = "array") -> File:
        """Return the path of a segment's file: a ``.npy`` for an array, a ``.jshm`` for all else.

        Raises
        ------
        CorruptRegistryError
            It is no segment's id: the path could be anybody's.
        """
        return File(self.overflow if overflow else self.segments, file_name(segment, kind))

    def has(self, place: Place) -> bool:
        """Tell whether segments are in that directory now."""
        now = place.identity
        return now == self.segments.identity or now == self.overflow.identity  # noqa: PLR1714 - dearer

    def leads_to(self, row: SegmentRow, mapping: Mapping) -> bool:
        """Tell whether a segment's path leads, now, to the file that a mapping is of."""
        place = self.segments
        if mapping.place is place:
            return True
        if not is_mapped_by(self.path(row.id, overflow=bool(row.overflow), kind=row.kind), mapping):
            return False
        if not row.overflow:
            mapping.place = place  # it need not be asked again
        return True

    def files(self) -> dict[str, File]:
        """Return segment id → path of every file that jshm may have made where segments are.

        Nothing else there is ever touched. Kinds that only a newer jshm knows are in ``.jshm`` files.
        """
        return {
            match[1]: path
            for path, is_file in self._entries()
            if is_file and (match := _FILE.fullmatch(path.name))
        }

    def foreign(self) -> list[str]:
        """Return the paths of what is there and no segment. jshm makes none, and touches none."""
        return [
            path
            for path, is_file in self._entries()
            if not (is_file and _FILE.fullmatch(path.name))
        ]

    def _entries(self) -> Iterator[tuple[File, bool]]:
        """Yield what is where segments are, and whether it is a file."""
        for place in filter(None, (self.segments, self.overflow)):
            try:
                fd = place.open_anew()
                try:
                    with os.scandir(fd) as entries:
                        for entry in entries:
                            yield File(place, entry.name), entry.is_file(follow_symlinks=False)
                finally:
                    os.close(fd)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise limit_error(error) from None

    @property
    def overflow(self) -> Place:
        """Where segments go that do not fit; made when first needed. Its path is empty: nowhere.

        All processes of a store use the same directory, whatever ``JSHM_OVERFLOW_DIR`` is for each: the
        one that was used first, as long as it is there. It is below a directory that is everybody's:
        whoever makes it first could lead us, by a link, to files that are ours and no segments.
        """
        if self.access.group:
            return Place.missing("")
        try:
            place = self.place
            used = os.readlink("overflow", dir_fd=place.fd)
        except OSError:
            return self._overflow_at(self.chosen_overflow)
        # Another store's it is not, also if the directory was moved or copied.
        if used.split("/")[-2:] == [_this_boot(), _own_name(place)]:
            found = self._overflow_at(used)
            if found:
                return found
        return self._overflow_at(self.chosen_overflow)

    def _overflow_at(self, path: str) -> Place:
        if not path:
            return Place.missing("")
        if self._overflow.path != path:
            self._overflow = Spot(path, _open_overflow)
        try:
            return self._overflow.look().place
        except TooManyFilesError:
            raise
        except OSError:  # it is not there; or it is not safe, which `open_overflow` says
            return Place.missing(path)

    def has_overflow(self) -> bool:
        """Tell whether the overflow directory is there, and safe to look into."""
        return bool(self.overflow)

    def check_overflow(self) -> None:
        """Raise UnsafeDirectoryError if the overflow directory is there and must not be used."""
        if overflow := str(self.overflow):
            with contextlib.suppress(FileNotFoundError):
                _open_overflow(overflow)

    def open_overflow(self) -> None:
        """Make the overflow directory, and remove those of earlier boots."""
        import shutil

        overflow = str(self.overflow)
        boots = os.path.dirname(overflow)
        base = make_private(os.path.dirname(boots), parents=True, setting=_OVERFLOW)
        try:
            names = base.names()
        except OSError as error:
            raise limit_error(error) from None
        for name in names:
            if name != os.path.basename(boots) and _BOOT_ID.fullmatch(name):
                shutil.rmtree(name, ignore_errors=True, dir_fd=base.fd)
        try:
            make_private(overflow, make_private(boots, base, setting=_OVERFLOW), setting=_OVERFLOW)
        except FileNotFoundError:
            raise UnsafeDirectoryError(
                f"{overflow} was removed while it was made: something deletes it. Try again"
            ) from None
        self._record(overflow)

    def _record(self, overflow: str) -> None:
        """Let all processes find it. Where there is no inode left, those do that were told the same."""
        with contextlib.suppress(OSError):
            place = self.place.fd
            with contextlib.suppress(OSError):
                if os.readlink("overflow", dir_fd=place) != overflow:
                    os.unlink("overflow", dir_fd=place)
            os.symlink(overflow, "overflow", dir_fd=place)


def _open_overflow(path: str) -> Place:
    """Open an overflow directory, and on the way there nothing but directories of this user."""
    boots = os.path.dirname(path)
    base = open_(os.path.dirname(boots), setting=_OVERFLOW)
    return open_(path, parent=open_(boots, parent=base, setting=_OVERFLOW), setting=_OVERFLOW)


def _overflow_for(place: Place) -> str:
    """Return this store's overflow directory; stores never share one, their reapers would fight."""
    chosen = os.environ.get(_OVERFLOW)
    if chosen == "":
        return ""
    base = os.path.join(os.path.abspath(chosen or "/var/tmp"), f"jshm-{os.geteuid()}")  # noqa: S108
    if filesystem(os.path.dirname(base)) in _NETWORK:
        return ""
    return os.path.join(base, _this_boot(), _own_name(place))


def disk_full(what: str, root: str, reason: object) -> NoSpaceError:
    """Return the error for a store's file system that has no space.

    Parameters
    ----------
    what : str
        What is to be written: ``a lease``.
    root : str
        The store's directory.
    reason : object
        What the system says.
    """
    remedy = Remedy("list", purpose="Release names that you no longer need; this lists their costs")
    return NoSpaceError(
        f"no space left for {what} in {root} ({reason}): free space there, or set JSHM_DIR to a "
        "directory that has room",
        remedy=remedy if is_anything_shared(root) else (),
    )


def is_anything_shared(root: str) -> bool:
    """Return whether a store's directory has a segment: whether anything could be released."""
    with contextlib.suppress(OSError), os.scandir(f"{root}/segments") as entries:
        return any(_is_finished(entry.path) for entry in entries)
    return False


def _is_finished(path: str) -> bool:
    """Return whether a segment's file is complete: until then its publisher keeps it locked."""
    try:
        fd = open_unheld(path)
    except (JshmError, OSError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _own_name(place: Place) -> str:
    import hashlib

    # Its path is bytes, and need not be text.
    own = f"{place.identity[0]}:".encode() + os.fsencode(os.path.realpath(place))
    return hashlib.sha256(own).hexdigest()[:16]


def _this_boot() -> str:
    return boot_id() or "boot"
