"""Access rights: the modes of a store's files, and directories that only the right users can enter.

A store belongs to one user. Nobody else can enter its directories, unless it is the store of a Unix
group: then members of the group read them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import JshmError, NoSpaceError, UnknownGroupError, UnsafeDirectoryError
from .directories import OpenDirectory
from .limits import limit_error
from .processes import user_name

if TYPE_CHECKING:
    from collections.abc import Sequence

# Attempts to make a directory that something else (`rm -r`) removes at the same time.
TRIES = 20
# The set-group-ID bit: files that are made in the directory belong to the directory's group.
_INHERIT_GROUP = 0o2000


@dataclass(frozen=True, slots=True)
class Access:
    """The modes and the group of the files and directories that this user makes.

    Only the user writes them; members of a group also write LIVE data.

    Attributes
    ----------
    group : str
        Name of the Unix group that may read them; empty if nobody else may.
    gid : int
    """

    group: str = ""
    gid: int = -1

    @property
    def directory(self) -> int:
        """Mode of directories."""
        return 0o750 | _INHERIT_GROUP if self.group else 0o700

    @property
    def own(self) -> int:
        """Mode of files that nobody else reads: the registry, leases, segments that are being written."""
        return 0o600

    @property
    def shown(self) -> int:
        """Mode of files that members read: the list of shared names, and which process holds what."""
        return 0o640 if self.group else 0o600

    @property
    def live(self) -> int:
        """Mode of LIVE data, which members write too."""
        return 0o660 if self.group else 0o600

    @property
    def sealed(self) -> int:
        """Mode of a published version."""
        return 0o440 if self.group else 0o400

    def accepts(self, status: os.stat_result) -> bool:
        """Return whether a file or directory belongs to this user, and to the group if there is one."""
        return status.st_uid == os.geteuid() and (not self.group or status.st_gid == self.gid)

    def settle(self, fd: int, mode: int) -> None:
        """Give a new file its mode, whatever the umask; without a group it has the mode already."""
        if self.group:
            os.fchmod(fd, mode)


PRIVATE = Access()


def of_group(name: str) -> Access:
    """Return the access rights of a Unix group that this process is in.

    Raises
    ------
    UnknownGroupError
    """
    import grp

    try:
        gid = grp.getgrnam(name).gr_gid
    except KeyError:
        raise UnknownGroupError(
            f"there is no group {name!r} on this machine: `groups` shows yours"
        ) from None
    if gid not in {*os.getgroups(), os.getegid()}:
        raise UnknownGroupError(
            f"you are not in the group {name!r} here: `groups` shows yours. If you were added to it just "
            "now, log in again and restart the Jupyter server"
        )
    return Access(name, gid)


# -- directories -----------------------------------------------------------------------------------


def open_directory(
    path: str,
    access: Access = PRIVATE,
    parent: OpenDirectory | None = None,
    *,
    setting: str = "JSHM_DIR",
) -> OpenDirectory:
    """Open a directory, after a check that no other users can enter it.

    Parameters
    ----------
    path : str
    access : Access
    parent : OpenDirectory, optional
        Where the last component is looked up.
    setting : str
        The environment variable that would choose another directory.

    Raises
    ------
    FileNotFoundError
    UnsafeDirectoryError
        It is a symbolic link, belongs to another user, or is open to others.
    """
    try:
        directory = OpenDirectory(path, parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise limit_error(error) from None
        name, parent_fd = (path, None) if parent is None else (os.path.basename(path), parent.fd)
        try:
            status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        except OSError:
            pass
        else:
            _check(path, status, access, setting)
        raise UnsafeDirectoryError(
            f"{path} cannot be used: {error.strerror}. Set {_setting(setting, access)} to a directory "
            "of your own"
        ) from None
    check_directory(directory, access, setting=setting)
    return directory


def check_directory(
    directory: OpenDirectory, access: Access = PRIVATE, *, setting: str = "JSHM_DIR"
) -> None:
    """Raise UnsafeDirectoryError if other users can enter an open directory; see `open_directory`."""
    _check(directory, os.fstat(directory.fd), access, setting)


def make_directory(
    path: str,
    parent: OpenDirectory | None = None,
    *,
    parents: bool = False,
    setting: str = "JSHM_DIR",
) -> OpenDirectory:
    """Open a directory that only this user can enter, after making it if it is missing.

    Parameters
    ----------
    path : str
    parent : OpenDirectory, optional
        Where the last component is looked up.
    parents : bool
        Whether to make missing directories above it, too.
    setting : str
        The environment variable that would choose another directory.

    Raises
    ------
    UnsafeDirectoryError
        It is a symbolic link, belongs to another user, or is open to others.
    FileNotFoundError
        `parent` was removed.
    NoSpaceError
        It is missing, and there is no room for it.
    """
    name, parent_fd = (path, None) if parent is None else (os.path.basename(path), parent.fd)
    try:
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):
                return open_directory(path, PRIVATE, parent, setting=setting)
            if parents:
                os.makedirs(os.path.dirname(path), exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.mkdir(name, PRIVATE.directory, dir_fd=parent_fd)
        return open_directory(path, PRIVATE, parent, setting=setting)
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


def make_group_directory(root: str, names: Sequence[str], hidden: str, access: Access) -> None:
    """Make or check a directory that a group reads, and the directories in it.

    It is made under another name and renamed, so that nobody sees it before it belongs to the group.

    Parameters
    ----------
    root : str
    names : sequence of str
        Directories in it that the group reads.
    hidden : str
        The directory in it that only this user can enter.
    access : Access

    Raises
    ------
    UnsafeDirectoryError
    """
    _check_parent(os.path.dirname(root))
    if not os.path.lexists(root):
        making = f"{root}.{os.urandom(8).hex()}"
        made = [making, *(os.path.join(making, name) for name in names)]
        try:
            for path in made:
                _make_readable(path, access)
            made.append(os.path.join(making, hidden))
            os.mkdir(made[-1], PRIVATE.directory)
            os.rename(making, root)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
                raise UnsafeDirectoryError(
                    f"cannot make the directory {root}: {error.strerror}. Set JSHM_GROUP_DIR to a "
                    "directory in memory (a tmpfs) in which all members may make one"
                ) from None
        finally:
            for path in reversed(made):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
    open_directory(root, access)
    for name in (*names, hidden):  # one of them may have been removed
        path = os.path.join(root, name)
        if not os.path.lexists(path):
            with contextlib.suppress(FileExistsError):
                if name == hidden:
                    os.mkdir(path, PRIVATE.directory)
                else:
                    _make_readable(path, access)
        open_directory(path, PRIVATE if name == hidden else access)


def _make_readable(path: str, access: Access) -> None:
    os.mkdir(path, PRIVATE.directory)
    os.chown(path, -1, access.gid)
    os.chmod(path, access.directory)


def _check_parent(path: str) -> None:
    """Raise UnsafeDirectoryError if other users could rename the directories in this one."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise UnsafeDirectoryError(
            f"{path}, which holds the group's directories, cannot be used: {error.strerror}. Set "
            "JSHM_GROUP_DIR to a directory in memory (a tmpfs) in which all members may make one"
        ) from None
    if status.st_uid not in (0, os.geteuid()):
        raise UnsafeDirectoryError(
            f"{path} belongs to {user_name(status.st_uid)}, who could replace your directory by another "
            f"one: refused. Give it to root (`chown root {path}`), or set JSHM_GROUP_DIR to a directory "
            "that belongs to root"
        )
    mode = status.st_mode
    if mode & 0o022 and not mode & stat.S_ISVTX:
        raise UnsafeDirectoryError(
            f"{path} has mode {stat.S_IMODE(mode):o}: users who may write there could replace your "
            f"directory by one of theirs: refused. `chmod +t {path}`"
        )


def _setting(setting: str, access: Access) -> str:
    return "JSHM_GROUP_DIR" if access.group else setting


def _check(path: str, status: os.stat_result, access: Access, setting: str) -> None:
    setting = _setting(setting, access)
    if not stat.S_ISDIR(status.st_mode):
        remove = "remove it, or " if status.st_uid == os.geteuid() else ""
        raise UnsafeDirectoryError(
            f"{path} is not a directory; {remove}set {setting} to a directory of your own"
        )
    if not access.accepts(status):
        raise UnsafeDirectoryError(
            f"{path} belongs to user {status.st_uid} and group {status.st_gid}, and not to you and the "
            f"group {access.group}: refused. Ask its owner, or root, to remove it"
            if access.group
            else f"{path} belongs to user {status.st_uid}, not to you (user {os.geteuid()}): refused. "
            f"Set {setting} to a directory of your own"
        )
    mode = stat.S_IMODE(status.st_mode)
    if access.group and mode != access.directory:
        raise UnsafeDirectoryError(
            f"{path} has mode {mode:o}, not {access.directory:o}, which lets the group's members "
            "read and only you write: refused. "
            f"`chmod {access.directory:o} {path}` if you trust its content"
        )
    if not access.group and mode & 0o077:
        raise UnsafeDirectoryError(
            f"{path} has mode {mode:o}, so others could reach your data: "
            f"refused. `chmod 700 {path}` if you trust its content, or set {setting} to another "
            "directory"
        )
