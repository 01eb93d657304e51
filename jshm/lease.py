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
import weakref
from typing import TYPE_CHECKING, Literal

from . import holdings, interrupts
from .access import PRIVATE
from .errors import RegistryError, UnsafeDirectoryError
from .holdings import Holdings, Said
from .identity import Identity
from .segment import close, limit_error, lock, open_locked

if TYPE_CHECKING:
    from .access import Access
    from .holdings import Hold

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
        self._directory = directory
        self._path = os.path.join(directory, self.id)
        temporary = os.path.join(directory, _TEMPORARY + self.id + _HOLDS)
        self.holdings = Holdings(self._path + _HOLDS, temporary, access)
        self._fd = self._create()
        _leases.add(self)

    def _create(self) -> int:
        # Locked before it has its name: nobody ever sees it unlocked while its process lives.
        temporary = os.path.join(self._directory, _TEMPORARY + self.id)
        for _ in interrupts.ATTEMPTS:
            interrupts.check()
            fd = open_locked(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            try:
                lock(fd, fcntl.LOCK_EX)
                self._access.settle(fd, self._access.own)
                os.write(fd, self.text.encode())
                os.rename(temporary, self._path)
            except FileNotFoundError:  # a reaper won the instant between creation and lock
                close(fd)
            except BaseException:
                close(fd)
                raise
            else:
                return fd
        raise RegistryError(
            f"{temporary} is removed again and again while it is made: find out what does that"
        )

    def is_valid(self) -> bool:
        """Tell whether it is this process's, and others can still see it."""
        return self.pid == os.getpid() and self._fd >= 0 and os.path.exists(self._path)

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
        if not os.path.exists(self._path):
            old, self._fd = self._fd, self._create()
            close(old)
            self.holdings.restore()  # whoever removed the one removed the other
        return True

    def close(self) -> None:
        """Give the lease up."""
        if self._fd >= 0 and self.pid == os.getpid():
            for path in (self._path + _HOLDS, self._path):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptors only: in a forked child, where the lock belongs to the parent."""
        if self._fd >= 0:
            close(self._fd)
        self._fd = -1
        self.holdings.close()


_leases: weakref.WeakSet[Lease] = weakref.WeakSet()


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
        return _probe(os.path.join(directory, lease_id))


def _probe(path: str) -> State:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link: jshm makes none
            return "dead"
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
        return os.listdir(directory)
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
        found = [_read(os.path.join(directory, name)) for name in alive]
    return [one for one in found if one is not None]


def _read(path: str) -> tuple[Identity, Said] | None:
    """Return what a lease says; None if it is gone, or says nothing."""
    try:
        with open(path, encoding="utf-8", opener=holdings.opener) as file:
            identity = Identity.from_json(file.read(_LONGEST))
        return identity, holdings.read(path + _HOLDS)
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
                log = os.stat(os.path.join(directory, name + _HOLDS))
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
            place = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _explain(error, directory) from None
        try:
            try:
                names = os.listdir(place)
            except OSError as error:
                raise _explain(error, directory) from None
            for name in filter(_OURS.fullmatch, names):
                _sweep(directory, name, place)
        finally:
            os.close(place)


def _sweep(directory: str, name: str, place: int) -> None:
    lease = name.removeprefix(_TEMPORARY).removesuffix(_HOLDS)
    owner = name if name.startswith(_TEMPORARY) and not name.endswith(_HOLDS) else lease
    found = state(directory, owner)
    # A lease that is gone by now may come back: then that is another file.
    if found == "dead" or (found == "missing" and name != owner):
        try:  # in the very directory that was listed, whatever has its name by now
            os.unlink(name, dir_fd=place)
        except (FileNotFoundError, IsADirectoryError):
            pass
        except OSError as error:
            raise _explain(error, os.path.join(directory, name)) from None
