"""How much fits: the file system of the store's directory, the memory that is left, ``JSHM_QUOTA``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from ...errors import NoSpaceError
from ...system.limits import limit_error
from ...system.memory import SCARCE, available_memory, size_setting, tightest
from ...text import size_text
from .directory import IN_MEMORY, filesystem
from .registry import rows
from .registry.ballast import is_anything_shared
from .spares import spare_bytes, spares_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...system.directories import OpenDirectory
    from .directory import Directory
    from .registry.database import Transaction
    from .registry.registry import Registry
    from .spares import Spares

# Never filled: room for the registry's log.
RESERVE = 1 << 20
# So many bytes may be written before it is looked again what the machine has left: to look costs more
# than to copy them.
_SMALL = 1 << 20
# The memory that it takes to write as much or more: of a strided array pieces are copied, twice.
_BESIDE = 32 << 20
# What a process needs in any case, also to say that there is no more.
_BREATH = 4 << 20
# How often to say that less memory is left than always should be.
_WARNING_INTERVAL = 60.0

_unlooked = 0
_next_warning = 0.0


class Limit(NamedTuple):
    """Something that is too small: how many bytes of what are left, and how to get more."""

    left: int
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{size_text(max(self.left, 0))} {self.what}"


class Room:
    """The room for what one operation writes. Made anew for each.

    Parameters
    ----------
    directory : Directory
    registry : Registry
    spares : Spares
        What may be written into instead.
    reclaim : callable
        Takes away all spares; tells whether there were any.
    idle : callable
        Returns what could be released, the largest first, as text.

    Attributes
    ----------
    directory : Directory
    spares : Spares
    overflows : bool
        Whether it was said already that something goes to disk.
    """

    def __init__(
        self,
        directory: Directory,
        registry: Registry,
        spares: Spares,
        reclaim: Callable[[], bool],
        idle: Callable[[], str] = str,
    ) -> None:
        self.directory = directory
        self.spares = spares
        self._registry = registry
        self._reclaim = reclaim
        self._idle = idle
        self._quota = quota()
        spares_limit()  # a slip in a setting is said before anything is done
        self._taken = 0
        self.overflows = False

    def choose(self, nbytes: int) -> Limit | None:
        """Return None if so many bytes fit into memory; else why they must overflow to disk.

        Raises
        ------
        NoSpaceError
            They fit nowhere; says how much is free where.
        """
        look = self.directory.in_memory and _must_look(nbytes)
        tightest = min(self._limits(nbytes, look=look))
        if nbytes > tightest.left and self._reclaim():
            tightest = min(self._limits(nbytes, look=look))
        if nbytes <= tightest.left:
            return None
        directory = self.directory
        if not directory.chosen_overflow:
            raise NoSpaceError(
                f"needs {size_text(nbytes)}, {tightest} (overflow to disk is switched off). "
                f"{tightest.remedy}"
            )
        directory.open_overflow()
        disk = Limit(_free(directory.overflow), "on disk in", "")
        if filesystem(directory.overflow) in IN_MEMORY:
            disk = min(disk, Limit(available_memory(), "of memory for", ""))
        if nbytes > disk.left:
            raise NoSpaceError(
                f"needs {size_text(nbytes)}, {tightest}, {disk} {directory.overflow}. "
                f"{tightest.remedy}"
            )
        return tightest

    def _limits(self, nbytes: int, *, look: bool) -> list[Limit]:
        root = self.directory.root
        free = _free(self.directory.made())
        limits = [Limit(free, f"free in {root}", _enlarge(root))]
        allowed = self._quota
        if allowed is not None:
            left = allowed - self._registry.in_memory() - spare_bytes(self.directory) - self._taken
            what = f"left of the quota of {size_text(allowed)} (JSHM_QUOTA)"
            limits.append(Limit(left, what, "Raise JSHM_QUOTA"))
        if look:
            left = available_memory() - max(min(nbytes, _BESIDE), _BREATH)
            limits.append(Limit(left, "of memory available", "Close what needs memory"))
        return limits

    def ran_full(self) -> Limit:
        """Return why what was found to fit must overflow all the same."""
        return Limit(0, f"free any more in {self.directory.root}", _enlarge(self.directory.root))

    @property
    def could_be_released(self) -> bool:
        """Whether a release would give room: of what others share, or of this operation's own."""
        return bool(self._taken) or is_anything_shared(self.directory.root)

    def take(self, nbytes: int) -> None:
        """Count what was written into memory, and is not registered yet."""
        self._taken += nbytes

    def confirm(self, tx: Transaction) -> None:
        """Make sure, in the transaction that registers what was written, that the quota allows it.

        Raises
        ------
        NoSpaceError
            Others have taken meanwhile what was left.
        """
        allowed = self._quota if self._taken else None
        if allowed is not None and (left := allowed - rows.in_memory(tx)) < self._taken:
            raise NoSpaceError(
                f"needs {size_text(self._taken)}, and others have taken meanwhile what was left of "
                f"the quota of {size_text(allowed)} (JSHM_QUOTA; {size_text(max(left, 0))} now). Raise "
                "JSHM_QUOTA"
            )

    def danger(self, nbytes: int) -> str:
        """Return what to warn of before so many bytes are written; mostly ''.

        Where memory runs out, Linux kills processes: it is said while something can still be done.
        """
        global _next_warning  # noqa: PLW0603
        now = time.monotonic()
        if not self.directory.in_memory or nbytes < _SMALL or now < _next_warning:
            return ""
        memory = tightest()
        left = memory.available - nbytes
        if left >= SCARCE * memory.total:
            return ""
        _next_warning = now + _WARNING_INTERVAL
        idle = self._idle()
        return (
            f"memory runs short: these {size_text(nbytes)} leave {size_text(left)} of "
            f"{size_text(memory.total)}, and where it runs out Linux kills processes"
            + (f"; largest not in use: {idle}" if idle else "")
        )


def _enlarge(root: str) -> str:
    """Return how the file system of a store's directory becomes larger."""
    if root.startswith("/dev/shm/"):  # noqa: S108
        return "Enlarge /dev/shm (Docker: --shm-size)"
    return f"Free space in {root}, or set JSHM_DIR to a directory that has more"


def _must_look(nbytes: int) -> bool:
    """Tell whether it is time to look again what the machine has left."""
    global _unlooked  # noqa: PLW0603
    _unlooked += nbytes
    if _unlooked < _SMALL:
        return False
    _unlooked = 0
    return True


# -- sums ------------------------------------------------------------------------------------------


def free(directory: Directory, registry: Registry, spares: int) -> int:
    """Return the bytes of memory that are free, where spares take so many."""
    left = [_free(directory.made())]
    if directory.in_memory:
        left.append(available_memory())
    allowed = quota()
    if allowed is not None:
        left.append(allowed - registry.in_memory() - spares)
    return max(0, min(left))


def _free(place: OpenDirectory) -> int:
    try:
        found = os.statvfs(place.fd)
    except OSError as error:
        raise limit_error(error) from None
    return found.f_bavail * found.f_frsize - RESERVE


def capacity(place: OpenDirectory) -> int:
    """Return the bytes that fit into the file system of a directory, and that the quota allows."""
    found = os.statvfs(place.fd)
    size = found.f_blocks * found.f_frsize
    allowed = quota()
    return size if allowed is None else min(size, allowed)


def quota() -> int | None:
    """Return the bytes that all segments together may take in memory: ``JSHM_QUOTA``.

    Raises
    ------
    InvalidSettingError
    """
    return size_setting("JSHM_QUOTA")
