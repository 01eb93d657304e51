"""Directories that nobody can enter but those whose they are."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from ..access import PRIVATE
from ..errors import JshmError, UnsafeDirectoryError
from ..places import Place
from ..segment import limit_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..access import Access

# A directory that is made may be removed again at once: `rm -r` under a process that publishes.
_TRIES = 20


def open_(path: str, access: Access = PRIVATE, parent: Place | None = None) -> Place:
    """Open a directory that only they can enter whose it is.

    Parameters
    ----------
    path : str
    access : Access
    parent : Place, optional
        Where the last component is looked up.

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
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UnsafeDirectoryError(
                f"{path} is not a directory; remove it, or set {_setting(access)}"
            ) from None
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise limit_error(error) from None
        name, there = (path, None) if parent is None else (os.path.basename(path), parent.fd)
        try:
            status = os.stat(name, dir_fd=there, follow_symlinks=False)
        except OSError:
            pass
        else:
            _refuse(path, status, access)
        raise UnsafeDirectoryError(f"{path} cannot be used: {error.strerror}") from None
    check(place, access)
    return place


def make_private(path: str, parent: Place | None = None, *, parents: bool = False) -> Place:
    """Open a directory that only this user can enter; it is made if it is not there.

    Raises
    ------
    UnsafeDirectoryError
        It is a symbolic link, another user's, or open to others.
    FileNotFoundError
        `parent` was removed.
    """
    name, place = (path, None) if parent is None else (os.path.basename(path), parent.fd)
    try:
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                return open_(path, PRIVATE, parent)
            if parents:
                os.makedirs(os.path.dirname(path), exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.mkdir(name, PRIVATE.directory, dir_fd=place)
        return open_(path, PRIVATE, parent)
    except JshmError:
        raise
    except OSError as error:
        if parent is not None and isinstance(error, FileNotFoundError):
            raise  # the parent was removed
        raise UnsafeDirectoryError(
            f"cannot make the directory {path}: {error.strerror}. Set JSHM_DIR to a directory of "
            "yours in memory (a tmpfs)"
        ) from None


def make_for_group(root: str, names: Sequence[str], access: Access) -> None:
    """Make a directory, and those in it, for a group; or check what is there.

    Under another name first: nobody ever sees it before it belongs to the group.

    Raises
    ------
    UnsafeDirectoryError
    """
    inside = [os.path.join(root, name) for name in names]
    if not os.path.lexists(root):
        making = f"{root}.{os.urandom(8).hex()}"
        places = [making, *(os.path.join(making, name) for name in names)]
        try:
            for place in places:
                os.mkdir(place, PRIVATE.directory)
                os.chown(place, -1, access.gid)
                os.chmod(place, access.directory)
            os.rename(making, root)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another member was faster
                raise UnsafeDirectoryError(
                    f"cannot make the directory {root}: {error.strerror}. Set JSHM_GROUP_DIR to a "
                    "directory in memory (a tmpfs) in which all members may make one"
                ) from None
        finally:
            for place in reversed(places):
                with contextlib.suppress(OSError):
                    os.rmdir(place)
    for place in (root, *inside):
        open_(place, access)


def _setting(access: Access) -> str:
    return "JSHM_GROUP_DIR" if access.group else "JSHM_DIR"


def check(place: Place, access: Access = PRIVATE) -> None:
    """Raise UnsafeDirectoryError unless only they can enter a directory whose it is."""
    _refuse(place, os.fstat(place.fd), access)


def _refuse(path: str, status: os.stat_result, access: Access) -> None:
    if not access.accepts(status):
        # Only a member, or root, can give a directory to a group.
        raise UnsafeDirectoryError(
            f"{path} belongs to user {status.st_uid} and group {status.st_gid}, and not to the group "
            f"{access.group}: refused. Let who made it, or root, remove it"
            if access.group
            else f"{path} belongs to user {status.st_uid}, not to you (user {os.geteuid()}): refused. "
            "Set JSHM_DIR to a directory of your own"
        )
    mode = stat.S_IMODE(status.st_mode)
    if access.group and mode != access.directory:
        raise UnsafeDirectoryError(
            f"{path} has mode {mode:o}, and not {access.directory:o}, which lets the group's members "
            f"in and nobody else: refused. `chmod {access.directory:o} {path}` if you trust what is in it"
        )
    if not access.group and mode & 0o077:
        raise UnsafeDirectoryError(
            f"{path} has mode {mode:o}, so others could reach your data: "
            f"refused. `chmod 700 {path}` if you trust what is in it"
        )
