"""The store's directory: finds it, creates it, and checks that it is safe.

It is ``/dev/shm/jshm-<uid>/`` where that is a tmpfs, else the platform's runtime or temporary directory;
``JSHM_DIR`` overrides. Segments that do not fit into memory overflow to a directory on disk.
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
from ...segment.file import ID, open_unheld
from ...system.access import (
    PRIVATE,
    TRIES,
    check_directory,
    make_directory,
    make_group_directory,
    open_directory,
)
from ...system.directories import DirectoryPath, File, OpenDirectory, Resolved, identity_of, status
from ...system.limits import limit_error
from ...system.processes import boot_id
from .mappings import is_mapped_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...segment.file import Mapping
    from ...system.access import Access
    from .registry.rows import SegmentRow

_BOOT_ID = re.compile("[0-9a-f]{8}")
ARRAY = ".npy"
OTHER = ".jshm"
# The names of segment files; jshm never deletes any other.
_FILE = re.compile(r"([0-9a-f]{16})\.(npy|jshm)")
IN_MEMORY = {"tmpfs", "ramfs"}
_OVERFLOW = "JSHM_OVERFLOW_DIR"
_PLACES = ("segments", "leases", "locks")
# The subdirectory with the registry in a group's store: only its user can enter it.
_HIDDEN = "private"
_NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
}  # fmt: skip


# Cached, as `_platform_root` is: every operation needs it.
_normal = lru_cache(maxsize=8)(os.path.normpath)


def group_place() -> str:
    """Return the directory for the directories of groups: ``JSHM_GROUP_DIR``, or ``/dev/shm``."""
    chosen = os.environ.get("JSHM_GROUP_DIR")
    return os.path.abspath(chosen) if chosen else _shared_memory()


def group_root(place: str, group: str, user: int) -> str:
    """Return the directory in which one member shares with a Unix group.

    The members' directories are side by side in `place`, which is sticky like ``/dev/shm``. A common
    parent would belong to one member, and its owner could rename the other members' directories.
    """
    return os.path.join(place, f"jshm-group-{group}-{user}")


def default_root(chosen: str | None = None) -> str:
    """Return the directory to use: ``JSHM_DIR``, ``/dev/shm/jshm-<uid>``, or the platform's.

    Parameters
    ----------
    chosen : str, optional
        The value of ``JSHM_DIR`` in another process, empty if it is not set; by default the value here.
    """
    if chosen is None:
        chosen = os.environ.get("JSHM_DIR", "")
    if chosen:
        return _normal(chosen) if chosen.startswith("/") else os.path.abspath(chosen)
    return _platform_root(os.geteuid())


# Cached: reading the list of mounts costs more than an attach.
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
    """Return a directory that all users may write to, in memory if there is one."""
    if filesystem("/dev/shm") == "tmpfs" and os.access("/dev/shm", os.W_OK):  # noqa: S108
        return "/dev/shm"  # noqa: S108
    import tempfile

    return tempfile.gettempdir()


def filesystem(path: str) -> str:
    """Return the type of the file system of a path; '' where the system does not tell.

    Raises
    ------
    TooManyFilesError
        It cannot be found out now. A wrong guess would lead to another directory, and so another store.
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
        if error.errno in (errno.EMFILE, errno.ENFILE):  # an exception is not cached
            raise limit_error(error) from None
        return ""
    return kind


def different_store(pid: int) -> str:
    """Return why another process on this machine does not use this store by default; '' if it does."""
    try:
        found = os.stat(f"/proc/{pid}")
        if found.st_uid != os.geteuid():
            return "belongs to another user"
        theirs = os.stat(f"/proc/{pid}/root/dev/shm")
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = dict(v.partition(b"=")[::2] for v in file.read().split(b"\0"))
    except OSError:  # it has ended, or there is no /proc
        return ""
    ours = os.stat("/dev/shm")  # noqa: S108
    chosen = default_root(os.fsdecode(variables.get(b"JSHM_DIR", b"")))
    if os.path.realpath(chosen) != os.path.realpath(default_root()):
        return "has another JSHM_DIR"
    if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
        return "runs in another container"
    return ""


def file_name(segment: str, kind: str) -> str:
    """Return the name of a segment's file.

    Raises
    ------
    CorruptRegistryError
        It is not a segment id, so the path could lead anywhere.
    """
    if not ID.fullmatch(segment):
        raise CorruptRegistryError(
            f"the registry is damaged: a segment has the id {segment!r:.80}. No data was lost",
            remedy=Remedy("check", (), {"fix": True}, "Rebuild the registry from the segments"),
        )
    return f"{segment}{ARRAY if kind == 'array' else OTHER}"


def id_in(path: str) -> str:
    """Return the id of the segment in a file."""
    return os.path.splitext(os.path.basename(path))[0]


def kind_in(path: str) -> str:
    """Return the kind of the segment in a file; 'object' stands for the kinds of a newer jshm, too."""
    return "array" if path.endswith(ARRAY) else "object"


@dataclass(slots=True)
class Directory:
    """The directory of one store, with its subdirectories. `open` makes it.

    Subdirectories and files are reached through descriptors (`OpenDirectory`). When the path leads to another
    directory, files found in the old one are never confused with files of the same name in the new one.

    Attributes
    ----------
    root : str
    chosen_overflow : str
        This process's setting for segments that do not fit; empty to switch overflow off.
    in_memory : bool
        Whether `root` is in memory, so that memory limits concern it.
    access : Access
        Of one user or of a group. A group's directory has no overflow.
    spot : DirectoryPath
        Tells which directory `root` leads to now. Every use of the registry looks at it.
    """

    root: str
    chosen_overflow: str
    in_memory: bool
    access: Access = PRIVATE
    spot: DirectoryPath = field(init=False, repr=False, compare=False)
    # The same for the registry's directory; it looks at `root`, too.
    registry_spot: DirectoryPath = field(init=False, repr=False, compare=False)
    # By subdirectory: the look at the root at which it was found, and what was found.
    _inner: dict[str, tuple[Resolved, OpenDirectory]] = field(init=False, repr=False, compare=False)
    _overflow: DirectoryPath = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare without I/O."""
        self.spot = DirectoryPath(self.root, lambda path: open_directory(path, self.access))
        self.registry_spot = (
            DirectoryPath(os.path.dirname(self.registry), open_directory, self.spot)
            if self.access.group
            else self.spot
        )
        self._inner = {}
        self._overflow = DirectoryPath("")

    @classmethod
    def open(cls, root: str, access: Access = PRIVATE) -> Directory:
        """Create or check the directory and its subdirectories."""
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
        """Create what does not exist or was removed."""
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):
                if self.access.group:
                    make_group_directory(self.root, _PLACES, _HIDDEN, self.access)
                else:
                    place = make_directory(self.root, parents=True)
                    for name in _PLACES:
                        make_directory(f"{self.root}/{name}", place)
                self.spot.resolve()
                return
        raise UnsafeDirectoryError(
            f"{self.root} is removed again and again while it is created: something deletes it. Try again"
        )

    def made(self) -> OpenDirectory:
        """Return the directory; create it again if it was removed."""
        if not self.place:
            self.make_again()
        return self.place

    def close(self) -> None:
        """Close all descriptors, until the next use."""
        self.spot.close()
        self.registry_spot.close()
        self._inner.clear()
        self._overflow = DirectoryPath("")

    def check(self) -> None:
        """Raise UnsafeDirectoryError if other users can write to the directory or a subdirectory."""
        for place in (self.place, self.segments, self.leases, self.locks):
            if place:
                check_directory(place, self.access)
        if self.access.group:
            with contextlib.suppress(FileNotFoundError):
                check_directory(self.registry_file.directory)

    @property
    def place(self) -> OpenDirectory:
        """The directory to which the path led at the last look; a missing one if there was none."""
        try:
            return (self.spot.resolved or self.spot.resolve()).directory
        except FileNotFoundError:
            return OpenDirectory.missing(self.root)

    @property
    def registry(self) -> str:
        # Hidden from the group: a process that can read a file can also lock it.
        hidden = f"/{_HIDDEN}" if self.access.group else ""
        return f"{self.root}{hidden}/registry.db"

    @property
    def registry_file(self) -> File:
        """The registry's file, in the directory to which its path leads now.

        Raises
        ------
        FileNotFoundError
            The directory does not exist.
        """
        return File(self.registry_spot.resolve().directory, os.path.basename(self.registry))

    @property
    def segments(self) -> OpenDirectory:
        known = self._inner.get("segments")  # as in `_in`, but faster
        return known[1] if known and known[0] is self.spot.resolved else self._in("segments")

    @property
    def leases(self) -> OpenDirectory:
        return self._in("leases")

    @property
    def locks(self) -> OpenDirectory:
        return self._in("locks")

    def _in(self, name: str) -> OpenDirectory:
        """Return a subdirectory: the known one, unless the root was looked at again since it was found.

        Raises
        ------
        UnsafeDirectoryError, TooManyFilesError
        """
        seen, known = self.spot.resolved, self._inner.get(name)
        if known is not None and known[0] is seen:
            return known[1]
        path = f"{self.root}/{name}"
        try:
            seen = self.spot.resolve()
            there = identity_of(status(File(seen.directory, name)))
            if known is None or known[1].identity != there:
                known = seen, open_directory(path, self.access, seen.directory)
        except FileNotFoundError:
            return OpenDirectory.missing(path)
        self._inner[name] = seen, known[1]
        return known[1]

    def path(self, segment: str, *, overflow: bool, kind: str = "array") -> File:
        """Return the path of a segment's file: ``.npy`` for an array, ``.jshm`` for anything else.

        Raises
        ------
        CorruptRegistryError
            It is not a segment id, so the path could lead anywhere.
        """
        return File(self.overflow if overflow else self.segments, file_name(segment, kind))

    def has(self, place: OpenDirectory) -> bool:
        """Return whether segments are in that directory now."""
        now = place.identity
        return now == self.segments.identity or now == self.overflow.identity  # noqa: PLR1714 - slower

    def leads_to(self, row: SegmentRow, mapping: Mapping) -> bool:
        """Return whether a segment's path leads to the file of a mapping now."""
        place = self.segments
        if mapping.directory is place:
            return True
        if not is_mapped_by(self.path(row.id, overflow=bool(row.overflow), kind=row.kind), mapping):
            return False
        if not row.overflow:
            mapping.directory = place  # for the fast answer next time
        return True

    def files(self) -> dict[str, File]:
        """Return segment id → path of every segment file, also of kinds that only a newer jshm knows.

        Other files in these directories are never touched.
        """
        return {
            match[1]: path
            for path, is_file in self._entries()
            if is_file and (match := _FILE.fullmatch(path.name))
        }

    def foreign(self) -> list[str]:
        """Return the paths of all other files there, which jshm did not create."""
        return [
            path
            for path, is_file in self._entries()
            if not (is_file and _FILE.fullmatch(path.name))
        ]

    def _entries(self) -> Iterator[tuple[File, bool]]:
        """Yield every directory entry beside the segments, and whether it is a file."""
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
    def overflow(self) -> OpenDirectory:
        """The directory for segments that do not fit, created when first needed. Empty path: none.

        All processes of a store use the same one, even if their ``JSHM_OVERFLOW_DIR`` differ: the first
        one used, as long as it exists. It is below a directory to which all users can write, so every
        component is checked: another user could make a link there that leads to our other files.
        """
        if self.access.group:
            return OpenDirectory.missing("")
        try:
            place = self.place
            used = os.readlink("overflow", dir_fd=place.fd)
        except OSError:
            return self._overflow_at(self.chosen_overflow)
        # The link may be a copy from another store, or from before the directory was moved.
        if used.split("/")[-2:] == [_this_boot(), _own_name(place)]:
            found = self._overflow_at(used)
            if found:
                return found
        return self._overflow_at(self.chosen_overflow)

    def _overflow_at(self, path: str) -> OpenDirectory:
        if not path:
            return OpenDirectory.missing("")
        if self._overflow.path != path:
            self._overflow = DirectoryPath(path, _open_overflow)
        try:
            return self._overflow.resolve().directory
        except TooManyFilesError:
            raise
        except OSError:  # it does not exist, or is not safe; `open_overflow` raises for that
            return OpenDirectory.missing(path)

    def check_overflow(self) -> None:
        """Raise UnsafeDirectoryError if the overflow directory exists and is not safe."""
        if overflow := str(self.overflow):
            with contextlib.suppress(FileNotFoundError):
                _open_overflow(overflow)

    def open_overflow(self) -> None:
        """Create the overflow directory, and remove those of earlier boots."""
        import shutil

        overflow = str(self.overflow)
        boots = os.path.dirname(overflow)
        base = make_directory(os.path.dirname(boots), parents=True, setting=_OVERFLOW)
        try:
            names = base.names()
        except OSError as error:
            raise limit_error(error) from None
        for name in names:
            if name != os.path.basename(boots) and _BOOT_ID.fullmatch(name):
                shutil.rmtree(name, ignore_errors=True, dir_fd=base.fd)
        try:
            make_directory(
                overflow, make_directory(boots, base, setting=_OVERFLOW), setting=_OVERFLOW
            )
        except FileNotFoundError:
            raise UnsafeDirectoryError(
                f"{overflow} was removed while it was created: something deletes it. Try again"
            ) from None
        self._record(overflow)

    def _record(self, overflow: str) -> None:
        """Make all processes use this directory, by a link.

        Without a free inode for the link, only processes with the same setting use it.
        """
        with contextlib.suppress(OSError):
            place = self.place.fd
            with contextlib.suppress(OSError):
                if os.readlink("overflow", dir_fd=place) != overflow:
                    os.unlink("overflow", dir_fd=place)
            os.symlink(overflow, "overflow", dir_fd=place)


def _open_overflow(path: str) -> OpenDirectory:
    """Open an overflow directory, after a check that all parents below the base are this user's."""
    boots = os.path.dirname(path)
    base = open_directory(os.path.dirname(boots), setting=_OVERFLOW)
    return open_directory(
        path, parent=open_directory(boots, parent=base, setting=_OVERFLOW), setting=_OVERFLOW
    )


def _overflow_for(place: OpenDirectory) -> str:
    """Return this store's overflow directory. Stores never share one: each would remove the other's files."""
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
        The system's message.
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


def _own_name(place: OpenDirectory) -> str:
    import hashlib

    # As bytes, because a path need not be valid text.
    own = f"{place.identity[0]}:".encode() + os.fsencode(os.path.realpath(place))
    return hashlib.sha256(own).hexdigest()[:16]


def _this_boot() -> str:
    return boot_id() or "boot"
