"""The store's directory: where it is, and whether it is safe.

``/dev/shm/jshm-<uid>/`` where that is a tmpfs, else the platform's runtime or temporary directory;
``JSHM_DIR`` overrides. Segments that do not fit (`room`) overflow to a directory on disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ..access import PRIVATE
from ..errors import CorruptRegistryError, UnsafeDirectoryError
from ..identity import boot_id
from ..segment import ID, limit_error
from .safety import check, is_private, make_for_group, make_private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..access import Access

_BOOT_ID = re.compile("[0-9a-f]{8}")
ARRAY = ".npy"
OTHER = ".jshm"
# What jshm calls a segment's file; anything else is not jshm's to delete.
_FILE = re.compile(r"([0-9a-f]{16})\.(npy|jshm)")
IN_MEMORY = {"tmpfs", "ramfs"}
_OVERFLOW = "JSHM_OVERFLOW_DIR"
_PLACES = ("segments", "leases", "locks")
_NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
}  # fmt: skip


# Cached, as is `_platform_root`: every operation asks.
_normal = lru_cache(maxsize=8)(os.path.normpath)


def group_root(group: str) -> str:
    """Return the directory that the members of a Unix group share.

    ``/dev/shm/jshm-group-<name>``, or in ``JSHM_GROUP_DIR``; it is nobody's private directory.
    """
    chosen = os.environ.get("JSHM_GROUP_DIR")
    place = os.path.abspath(chosen) if chosen else _shared_memory()
    return os.path.join(place, f"jshm-group-{group}")


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


@dataclass(frozen=True, slots=True)
class Directory:
    """The places of one store. Made by `open`.

    Attributes
    ----------
    root : str
    chosen_overflow : str
        Where segments should go that do not fit, as this process was told. Empty: nowhere.
    in_memory : bool
        Whether `root` is memory, so that memory limits concern it.
    access : Access
        Whose it is: one user's, or a group's. A group's has no overflow.
    """

    root: str
    chosen_overflow: str
    in_memory: bool
    access: Access = PRIVATE

    @classmethod
    def open(cls, root: str, access: Access = PRIVATE) -> Directory:
        """Make or check the directory and what is in it."""
        if access.group:
            make_for_group(root, _PLACES, access)
        else:
            make_private(root, parents=True)
        kind = filesystem(root)
        if kind in _NETWORK:
            raise UnsafeDirectoryError(
                f"{root} is on a network file system ({kind}), where memory cannot be shared: set "
                "JSHM_DIR to a local directory"
            )
        if access.group:
            return cls(root, "", kind in IN_MEMORY, access)
        for name in _PLACES:
            make_private(os.path.join(root, name))
        return cls(root, _overflow_for(root), kind in IN_MEMORY)

    def make_again(self) -> None:
        """Make again what was removed."""
        Directory.open(self.root, self.access)

    def check(self) -> None:
        """Raise UnsafeDirectoryError unless it is still theirs alone whose it is, and all in it."""
        for place in (self.root, self.segments, self.leases, self.locks):
            if place == self.root or os.path.lexists(place):
                check(place, self.access)

    @property
    def registry(self) -> str:
        return f"{self.root}/registry.db"

    @property
    def segments(self) -> str:
        return f"{self.root}/segments"

    @property
    def leases(self) -> str:
        return f"{self.root}/leases"

    @property
    def locks(self) -> str:
        return f"{self.root}/locks"

    def path(self, segment: str, *, overflow: bool, kind: str = "array") -> str:
        """Return the path of a segment's file: a ``.npy`` for an array, a ``.jshm`` for all else.

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
        ending = ARRAY if kind == "array" else OTHER
        return f"{self.overflow if overflow else self.segments}/{segment}{ending}"

    def files(self) -> dict[str, str]:
        """Return segment id → path of every file that jshm may have made where segments are.

        Nothing else there is ever touched. Kinds that only a newer jshm knows are in ``.jshm`` files.
        """
        return {
            match[1]: entry.path
            for entry in self._entries()
            if (match := _FILE.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)
        }

    def foreign(self) -> list[str]:
        """Return the paths of what is there and no segment. jshm makes none, and touches none."""
        return [
            entry.path
            for entry in self._entries()
            if not (_FILE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False))
        ]

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        places = [self.segments]
        if self.has_overflow():
            places.append(self.overflow)
        for place in places:
            try:
                with os.scandir(place) as entries:
                    yield from entries
            except FileNotFoundError:
                pass
            except OSError as error:
                raise limit_error(error) from None

    @property
    def overflow(self) -> str:
        """Where segments go that do not fit; made when first needed. Empty: nowhere.

        All processes of a store use the same directory, whatever ``JSHM_OVERFLOW_DIR`` is for each: the
        one that was used first, as long as it is there.
        """
        if self.access.group:
            return ""
        try:
            used = os.readlink(self._overflow_record)
        except OSError:
            return self.chosen_overflow
        # Another store's it is not, also if the directory was moved or copied.
        own = used.split("/")[-2:] == [_this_boot(), _own_name(self.root)]
        return used if own and _is_safe(used) else self.chosen_overflow

    @property
    def _overflow_record(self) -> str:
        return f"{self.root}/overflow"

    def has_overflow(self) -> bool:
        """Tell whether the overflow directory is there, and safe to look into."""
        return _is_safe(self.overflow)

    def check_overflow(self) -> None:
        """Raise UnsafeDirectoryError if the overflow directory is there and must not be used."""
        overflow = self.overflow
        boots = os.path.dirname(overflow)
        for place in filter(None, (os.path.dirname(boots), boots, overflow)):
            if not os.path.lexists(place):
                return
            check(place, setting=_OVERFLOW)

    def open_overflow(self) -> None:
        """Make the overflow directory, and remove those of earlier boots."""
        import shutil

        overflow = self.overflow
        boots = os.path.dirname(overflow)
        base = os.path.dirname(boots)
        make_private(base, parents=True, setting=_OVERFLOW)
        try:
            names = os.listdir(base)
        except OSError as error:
            raise limit_error(error) from None
        for name in names:
            if name != os.path.basename(boots) and _BOOT_ID.fullmatch(name):
                shutil.rmtree(os.path.join(base, name), ignore_errors=True)
        make_private(boots, setting=_OVERFLOW)
        make_private(overflow, setting=_OVERFLOW)
        self._record(overflow)

    def _record(self, overflow: str) -> None:
        """Let all processes find it. Where there is no inode left, those do that were told the same."""
        record = self._overflow_record
        with contextlib.suppress(OSError):
            if os.path.islink(record) and os.readlink(record) != overflow:
                os.unlink(record)
            os.symlink(overflow, record)


def _is_safe(overflow: str) -> bool:
    """Tell whether an overflow directory is there, and safe to look into.

    It is below a directory that is everybody's: whoever makes it first could lead us, by a link, to
    files that are ours and no segments.
    """
    boots = os.path.dirname(overflow)
    return bool(overflow) and all(map(is_private, (os.path.dirname(boots), boots, overflow)))


def _overflow_for(root: str) -> str:
    """Return this store's overflow directory; stores never share one, their reapers would fight."""
    chosen = os.environ.get(_OVERFLOW)
    if chosen == "":
        return ""
    base = os.path.join(os.path.abspath(chosen or "/var/tmp"), f"jshm-{os.geteuid()}")  # noqa: S108
    if filesystem(os.path.dirname(base)) in _NETWORK:
        return ""
    return os.path.join(base, _this_boot(), _own_name(root))


def _own_name(root: str) -> str:
    import hashlib

    # Its path is bytes, and need not be text.
    place = f"{os.stat(root).st_dev}:".encode() + os.fsencode(os.path.realpath(root))
    return hashlib.sha256(place).hexdigest()[:16]


def _this_boot() -> str:
    return boot_id() or "boot"
