"""Directories that nobody can enter but those whose they are."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from ..errors import JshmError, NoSpaceError, UnsafeDirectoryError
from ..segment.file import limit_error
from ..store.identity import user_name
from .access import PRIVATE
from .directories import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .access import Access

# A directory that is made may be removed again at once: `rm -r` under a process that publishes.
TRIES = 20


def open_(
    path: str,
    access: Access = PRIVATE,
    parent: Place | None = None,
    *,
    setting: str = "JSHM_DIR",
) -> Place:
    """Open a directory that only they can enter whose it is.

    Parameters
    ----------
    path : str
    access : Access
    parent : Place, optional
        Where the last component is looked up.
    setting : str
        The variable that says where else it could be.

    Raises
    ------
    FileNotFoundError
    UnsafeDirectoryError
        It is a symbolic link, another user's, or open to others.
    """
    try:
        place = Place(path, parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise limit_error(error) from None
        name, there = (path, None) if parent is None else (os.path.basename(path), parent.fd)
        try:
            status = os.stat(name, dir_fd=there, follow_symlinks=False)
        except OSError:
            pass
        else:
            _refuse(path, status, access, setting)
        raise UnsafeDirectoryError(
            f"{path} cannot be used: {error.strerror}. Set {_named(setting, access)} to a directory of "
            "your own"
        ) from None
    check(place, access, setting=setting)
    return place


def make_private(
    path: str, parent: Place | None = None, *, parents: bool = False, setting: str = "JSHM_DIR"
) -> Place:
    """Open a directory that only this user can enter; it is made if it is not there.

    Parameters
    ----------
    path : str
    parent : Place, optional
        Where the last component is looked up.
    parents : bool
        Whether to make those above it, too.
    setting : str
        The variable that says where else it could be.

    Raises
    ------
    UnsafeDirectoryError
        It is a symbolic link, another user's, or open to others.
    FileNotFoundError
        `parent` was removed.
    NoSpaceError
        It is not there, and there is no room for it.
    """
    name, place = (path, None) if parent is None else (os.path.basename(path), parent.fd)
    try:
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):
                return open_(path, PRIVATE, parent, setting=setting)
            if parents:
                os.makedirs(os.path.dirname(path), exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.mkdir(name, PRIVATE.directory, dir_fd=place)
        return open_(path, PRIVATE, parent, setting=setting)
    except JshmError:
        raise
    except OSError as error:
        if parent is not None and isinstance(error, FileNotFoundError):
            raise  # the parent was removed
        cannot = f"cannot make the directory {path}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(
                f"{cannot}. Free space there, or set {setting} to a directory that has room"
            ) from None
        where = "in memory (a tmpfs)" if setting == "JSHM_DIR" else "on disk"
        raise UnsafeDirectoryError(
            f"{cannot}. Set {setting} to a directory of yours {where}"
        ) from None


def make_for_group(root: str, names: Sequence[str], hidden: str, access: Access) -> None:
    """Make a directory that a group reads, and those in it; or check what is there.

    Under another name first: nobody ever sees it before it belongs to the group. `hidden` in it is
    its user's alone.

    Raises
    ------
    UnsafeDirectoryError
    """
    _check_place(os.path.dirname(root))
    if not os.path.lexists(root):
        making = f"{root}.{os.urandom(8).hex()}"
        places = [making, *(os.path.join(making, name) for name in names)]
        try:
            for place in places:
                _make_readable(place, access)
            places.append(os.path.join(making, hidden))
            os.mkdir(places[-1], PRIVATE.directory)
            os.rename(making, root)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
                raise UnsafeDirectoryError(
                    f"cannot make the directory {root}: {error.strerror}. Set JSHM_GROUP_DIR to a "
                    "directory in memory (a tmpfs) in which all members may make one"
                ) from None
        finally:
            for place in reversed(places):
                with contextlib.suppress(OSError):
                    os.rmdir(place)
    open_(root, access)
    for name in (*names, hidden):  # one of them may have been removed
        place = os.path.join(root, name)
        if not os.path.lexists(place):
            with contextlib.suppress(FileExistsError):
                if name == hidden:
                    os.mkdir(place, PRIVATE.directory)
                else:
                    _make_readable(place, access)
        open_(place, PRIVATE if name == hidden else access)


def _make_readable(place: str, access: Access) -> None:
    os.mkdir(place, PRIVATE.directory)
    os.chown(place, -1, access.gid)
    os.chmod(place, access.directory)


def _check_place(place: str) -> None:
    """Raise UnsafeDirectoryError if others could rename the directories that are in a place."""
    try:
        status = os.stat(place)
    except OSError as error:
        raise UnsafeDirectoryError(
            f"{place}, where the group's directories are to be, cannot be used: {error.strerror}. Set "
            "JSHM_GROUP_DIR to a directory in memory (a tmpfs) in which all members may make one"
        ) from None
    if status.st_uid not in (0, os.geteuid()):
        raise UnsafeDirectoryError(
            f"{place} belongs to {user_name(status.st_uid)}, who could put another directory in the place "
            f"of yours: refused. Let root have it (`chown root {place}`), or set JSHM_GROUP_DIR to a "
            "directory that root has"
        )
    mode = status.st_mode
    if mode & 0o022 and not mode & stat.S_ISVTX:
        raise UnsafeDirectoryError(
            f"{place} has mode {stat.S_IMODE(mode):o}: whoever may write there could put a directory of "
            f"their own in the place of yours: refused. `chmod +t {place}`"
        )


def _named(setting: str, access: Access) -> str:
    return "JSHM_GROUP_DIR" if access.group else setting


def check(place: Place, access: Access = PRIVATE, *, setting: str = "JSHM_DIR") -> None:
    """Raise UnsafeDirectoryError unless only they can enter a directory whose it is.

    `setting` is the variable that says where else it could be.
    """
    _refuse(place, os.fstat(place.fd), access, setting)


def _refuse(path: str, status: os.stat_result, access: Access, setting: str) -> None:
    setting = _named(setting, access)
    if not stat.S_ISDIR(status.st_mode):
        remove = "remove it, or " if status.st_uid == os.geteuid() else ""
        raise UnsafeDirectoryError(
            f"{path} is not a directory; {remove}set {setting} to a directory of your own"
        )
    if not access.accepts(status):
        raise UnsafeDirectoryError(
            f"{path} belongs to user {status.st_uid} and group {status.st_gid}, and not to you and the "
            f"group {access.group}: refused. Let who made it, or root, remove it"
            if access.group
            else f"{path} belongs to user {status.st_uid}, not to you (user {os.geteuid()}): refused. "
            f"Set {setting} to a directory of your own"
        )
    mode = stat.S_IMODE(status.st_mode)
    if access.group and mode != access.directory:
        raise UnsafeDirectoryError(
            f"{path} has mode {mode:o}, and not {access.directory:o}, which lets the group's members "
            "read, and only you write: refused. "
            f"`chmod {access.directory:o} {path}` if you trust what is in it"
        )
    if not access.group and mode & 0o077:
        raise UnsafeDirectoryError(
            f"{path} has mode {mode:o}, so others could reach your data: "
            f"refused. `chmod 700 {path}` if you trust what is in it, or set {setting} to another "
            "directory"
        )
