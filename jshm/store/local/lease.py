"""Tell whether a process lives, and what it says that it holds.

A lease is a small file that its process keeps locked (``flock(LOCK_EX)``). The kernel drops the lock
when the process ends, however it ends, so a probe (``LOCK_SH | LOCK_NB``) never lies; a pid can be
reused, and means nothing in another pid namespace.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from typing import TYPE_CHECKING, Literal

from ...errors import RegistryError, UnsafeDirectoryError
from ...system import signals as interrupts
from ...system.access import PRIVATE
from ...system.directories import (
    OpenDirectory,
    file_in,
    identity_of,
    is_at,
    names_in,
    open_file,
    remove,
    rename,
    status,
    with_ending,
)
from ...system.file_locks import close, lock, open_locked
from ...system.limits import limit_error
from ...system.weak import WeakSet
from ..identity import Identity
from . import lease_log as holdings
from .lease_log import Holdings, Said

if TYPE_CHECKING:
    from ...system.access import Access
    from .lease_log import Hold

_TEMPORARY = ".new-"
_HOLDS = ".holds"
# What jshm calls its files here; anything else is not jshm's to delete.
_OURS = re.compile(r"(\.new-)?[0-9a-f]{16}(\.holds)?")
# Characters of an identity that is believed.
_LONGEST = 1 << 20

State = Literal["alive", "dead", "missing"]


class Lease:
    """The proof that this process lives: a locked file, until `close` or the process's end.

    Parameters
    ----------
    directory : str
        Where leases are kept.
    identity : Identity
        Written into the file, for people.
    access : Access
        Who may look at it.

    Attributes
    ----------
    directory : str
        Where it is.
    text : str
        The identity as JSON.
    holdings : Holdings
        What this process says that it holds.
    """

    def __init__(self, directory: str, identity: Identity, access: Access = PRIVATE) -> None:
        self.identity = identity
        self._access = access
        self.text = identity.to_json()
        self.id = os.urandom(8).hex()
        self.pid = os.getpid()
        self.directory = directory
        self.holdings = Holdings(*self._logs(), access, self.text)
        self._fd, self._file = -1, (0, 0)
        self._create()
        _leases.add(self)

    def move(self, directory: str) -> None:
        """Let it be elsewhere, from the next `restore` on: leases are kept in another directory."""
        self.directory = directory
        self.holdings.move(*self._logs())

    @property
    def _path(self) -> str:
        return file_in(self.directory, self.id)

    def _logs(self) -> tuple[str, str]:
        """Return the path of what it says that it holds, and what that is called until it is complete."""
        name = self.id + _HOLDS
        return file_in(self.directory, name), file_in(self.directory, _TEMPORARY + name)

    def _create(self) -> None:
        # Locked before it has its name: nobody ever sees it unlocked while its process lives.
        temporary = file_in(self.directory, _TEMPORARY + self.id)
        for _ in interrupts.ATTEMPTS:
            interrupts.check()
            fd = open_locked(temporary, os.O_RDWR | os.O_CREAT)
            try:
                lock(fd, fcntl.LOCK_EX)
                self._access.settle(fd, self._access.own)
                os.write(fd, self.text.encode())
                rename(temporary, self._path)
                if not is_at(self._path, fd):
                    raise FileNotFoundError(temporary)
            except FileNotFoundError:  # a reaper won the instant between creation and lock
                close(fd)
            except BaseException:
                close(fd)
                raise
            else:
                self._close()
                self._fd, self._file = fd, identity_of(os.fstat(fd))
                return
        raise RegistryError(
            f"{temporary} is removed again and again while it is made: find out what does that"
        )

    def _is_open(self) -> bool:
        """Tell whether the descriptor is the file's: one that something has closed may be another's."""
        try:
            return self._fd >= 0 and identity_of(os.fstat(self._fd)) == self._file
        except OSError:
            return False

    def _close(self) -> None:
        if self._is_open():
            close(self._fd)
        self._fd = -1

    def is_valid(self) -> bool:
        """Tell whether it is this process's, and others can still see it."""
        return (
            self.pid == os.getpid()
            and self._is_open()
            and is_at(self._path, self._fd)
            and self.holdings.is_there()
        )

    def restore(self) -> bool:
        """Make the file again, under the same id, if something removed it under its live process.

        What was published under this id so has a living publisher again.

        Returns
        -------
        bool
            Whether the lease is valid now; False if it was given up, or belongs to a parent process:
            then only a new one helps.
        """
        if self.pid != os.getpid() or self._fd < 0:
            return False
        if not self.is_valid():
            self._create()
            self.holdings.restore()  # whoever removed the one removed the other
        return True

    def close(self) -> None:
        """Give the lease up."""
        if self._fd >= 0 and self.pid == os.getpid():
            with contextlib.suppress(FileNotFoundError):
                remove(self._logs()[0])
                remove(self._path, self._fd)
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptors only: in a forked child, where the lock belongs to the parent."""
        self._close()
        self.holdings.close()


_leases: WeakSet[Lease] = WeakSet()


def _abandon_inherited() -> None:
    # A child that kept the descriptor open would make a dead parent look alive.
    for lease in _leases:
        lease.abandon()


os.register_at_fork(after_in_child=_abandon_inherited)


def is_alive(directory: str, lease_id: str) -> bool:
    """Tell whether the process of a lease lives."""
    return state(directory, lease_id) == "alive"


def state(directory: str, lease_id: str) -> State:
    """Tell whether the process of a lease lives, or that no file tells.

    Missing is mostly dead: a process that ends removes its file. But something may have removed the
    file of one that lives, which then makes it again when it next uses jshm.

    Raises
    ------
    TooManyFilesError, UnsafeDirectoryError
        It cannot be judged now.
    """
    if not _OURS.fullmatch(lease_id):  # a damaged registry says so; no file is called that
        return "missing"
    with interrupts.deferred():  # the descriptor must not be left with nobody to close it
        return _probe(file_in(directory, lease_id))


def _probe(path: str) -> State:
    try:
        fd = open_file(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):  # a link, a socket, a device
            return "dead"  # jshm makes none
        raise _explain(error, path) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # Unlocked because it was removed since it was opened: its process may have made another.
        return "dead" if os.fstat(fd).st_nlink else "missing"
    except BlockingIOError:
        return "alive"
    finally:
        os.close(fd)


def _explain(error: OSError, path: str) -> OSError:
    """Return the error, or one that says what to do."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return UnsafeDirectoryError(
            f"{path} cannot be read: {error.strerror}. Somebody else made it, or changed whose it is: "
            "remove it, or set JSHM_DIR to a directory of your own"
        )
    return limit_error(error)


def _names(directory: str) -> list[str]:
    try:
        return names_in(directory)
    except FileNotFoundError:  # removed as a whole, and not made again yet
        return []
    except OSError as error:
        raise _explain(error, directory) from None


def living(directory: str) -> list[tuple[Identity, set[Hold]]]:
    """Return who lives, and what each says that it holds.

    Raises
    ------
    TooManyFilesError, UnsafeDirectoryError
    """
    return [(identity, said.held) for identity, said in said_by(directory)]


def said_by(directory: str) -> list[tuple[Identity, Said]]:
    """Return who lives, and all that each says.

    Raises
    ------
    TooManyFilesError, UnsafeDirectoryError
    """
    with interrupts.deferred():  # once, and not for each
        alive = [
            name for name in _names(directory) if "." not in name and is_alive(directory, name)
        ]
        found = [_read(file_in(directory, name)) for name in alive]
    return [one for one in found if one is not None]


def _read(path: str) -> tuple[Identity, Said] | None:
    """Return what a lease says; None if it is gone, or says nothing."""
    try:
        with open(path, encoding="utf-8", opener=holdings.opener) as file:
            identity = Identity.from_json(file.read(_LONGEST))
        return identity, holdings.read(with_ending(path, _HOLDS))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    except OSError as error:
        raise _explain(error, path) from None


def signature(directory: str) -> frozenset[tuple[str, bool, int, int]]:
    """Return a value that changes when `living` may have changed: who lives, and each one's log.

    Raises
    ------
    TooManyFilesError, UnsafeDirectoryError
    """
    found = []
    for name in _names(directory):
        if "." not in name:
            try:
                log = status(file_in(directory, name + _HOLDS))
                size = (log.st_ino, log.st_size)
            except FileNotFoundError:
                size = (0, 0)
            found.append((name, is_alive(directory, name), *size))
    return frozenset(found)


def sweep(directory: str) -> None:
    """Remove the files of dead processes, also of those that died while making one.

    Raises
    ------
    TooManyFilesError, UnsafeDirectoryError
    """
    with interrupts.deferred():
        try:
            place = directory if isinstance(directory, OpenDirectory) else OpenDirectory(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _explain(error, directory) from None
        for name in filter(_OURS.fullmatch, _names(place)):
            _sweep(place, name)


def _sweep(directory: OpenDirectory, name: str) -> None:
    lease = name.removeprefix(_TEMPORARY).removesuffix(_HOLDS)
    owner = name if name.startswith(_TEMPORARY) and not name.endswith(_HOLDS) else lease
    found = state(directory, owner)
    # A lease that is gone by now may come back: then that is another file.
    if found == "dead" or (found == "missing" and name != owner):
        try:  # in the very directory that was listed, whatever has its name by now
            remove(file_in(directory, name))
        except OSError as error:
            raise _explain(error, file_in(directory, name)) from None
