"""How much fits: on the file system of the store's directory, in memory, within ``JSHM_QUOTA``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from ...errors import NoSpaceError
from ...system.limits import limit_error
from ...system.memory import SCARCE, available_memory, size_setting, tightest
from ...text import size_text
from .directory import IN_MEMORY, filesystem, is_anything_shared
from .spares import spare_bytes, spares_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...system.directories import OpenDirectory
    from .directory import Directory
    from .registry.registry import Registry
    from .registry.statements import Transaction
    from .spares import Spares

# Never filled: room for the registry's log.
RESERVE = 1 << 20
# Bytes written between two looks at the available memory: a look costs more than to copy fewer bytes.
_LOOK_EVERY = 1 << 20
# Memory that a large write needs besides the segment: a strided array is copied in pieces, twice.
_WORKING = 32 << 20
# Memory that a process needs in any case, for example to report that there is no more.
_MINIMUM = 4 << 20
# Seconds between two warnings that memory is low.
_WARNING_INTERVAL = 60.0

_written = 0
_next_warning = 0.0


class Limit(NamedTuple):
    """A limit: the bytes that are left, of what, and how to raise it."""

    left: int
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{size_text(max(self.left, 0))} {self.what}"


class Budget:
    """The space that one operation may take.

    Parameters
    ----------
    directory : Directory
    registry : Registry
    spares : Spares
        Memory that may be written into instead of new memory.
    reclaim : callable
        Takes away all spares of all processes; returns whether there were any.
    unused : callable
        Returns the largest versions that could be released, as text.

    Attributes
    ----------
    directory : Directory
    spares : Spares
    overflows : bool
        Whether the user has been warned that something goes to disk.
    """

    def __init__(
        self,
        directory: Directory,
        registry: Registry,
        spares: Spares,
        reclaim: Callable[[], bool],
        unused: Callable[[], str] = str,
    ) -> None:
        self.directory = directory
        self.spares = spares
        self._registry = registry
        self._reclaim = reclaim
        self._unused = unused
        self._quota = quota()
        spares_limit()  # an invalid setting raises before anything is done
        self._taken = 0
        self.overflows = False

    def choose(self, nbytes: int) -> Limit | None:
        """Return None if the bytes fit into memory; otherwise the limit that sends them to disk.

        Raises
        ------
        NoSpaceError
            They fit nowhere; says how much is free where.
        """
        global _written  # noqa: PLW0603
        directory = self.directory
        look = False
        if directory.in_memory:
            _written += nbytes
            if look := _written >= _LOOK_EVERY:
                _written = 0
        if self._quota is None and not look and nbytes <= _free(directory.made()):
            return None
        limit = min(self._limits(nbytes, look=look))
        if nbytes > limit.left and self._reclaim():
            limit = min(self._limits(nbytes, look=look))
        if nbytes <= limit.left:
            return None
        if not directory.chosen_overflow:
            raise NoSpaceError(
                f"needs {size_text(nbytes)}, {limit} (overflow to disk is switched off). "
                f"{limit.remedy}"
            )
        directory.open_overflow()
        disk = Limit(_free(directory.overflow), "on disk in", "")
        if filesystem(directory.overflow) in IN_MEMORY:
            disk = min(disk, Limit(available_memory(), "of memory for", ""))
        if nbytes > disk.left:
            raise NoSpaceError(
                f"needs {size_text(nbytes)}, {limit}, {disk} {directory.overflow}. {limit.remedy}"
            )
        return limit

    def _limits(self, nbytes: int, *, look: bool) -> list[Limit]:
        root = self.directory.root
        limits = [Limit(_free(self.directory.made()), f"free in {root}", _enlarge(root))]
        if self._quota is not None:
            used = self._registry.bytes_in_memory() + spare_bytes(self.directory) + self._taken
            what = f"left of the quota of {size_text(self._quota)} (JSHM_QUOTA)"
            limits.append(Limit(self._quota - used, what, "Raise JSHM_QUOTA"))
        if look:
            left = available_memory() - max(min(nbytes, _WORKING), _MINIMUM)
            limits.append(Limit(left, "of memory available", "Close programs that use memory"))
        return limits

    def ran_full(self) -> Limit:
        """Return the limit of a file system that ran full although `choose` found room."""
        root = self.directory.root
        return Limit(0, f"free any more in {root}", _enlarge(root))

    @property
    def could_be_released(self) -> bool:
        """Whether a release would give room: of shared segments, or of this operation's."""
        return bool(self._taken) or is_anything_shared(self.directory.root)

    def take(self, nbytes: int) -> None:
        """Count bytes that were written into memory and are not registered yet."""
        self._taken += nbytes

    def confirm(self, tx: Transaction) -> None:
        """Check the quota again, inside the transaction that registers what was written.

        Raises
        ------
        NoSpaceError
            Other processes have used what was left.
        """
        if self._quota is None or not self._taken:
            return
        left = self._quota - tx.bytes_in_memory()
        if left < self._taken:
            raise NoSpaceError(
                f"needs {size_text(self._taken)}, and other processes have used what was left of the "
                f"quota of {size_text(self._quota)} (JSHM_QUOTA; {size_text(max(left, 0))} now). Raise "
                "JSHM_QUOTA"
            )

    def danger(self, nbytes: int) -> str:
        """Return a warning that writing this many bytes makes memory scarce; mostly ''.

        Linux kills processes when memory runs out: the warning comes while there is time to act.
        """
        global _next_warning  # noqa: PLW0603
        now = time.monotonic()
        if not self.directory.in_memory or nbytes < _LOOK_EVERY or now < _next_warning:
            return ""
        memory = tightest()
        left = memory.available - nbytes
        if left >= SCARCE * memory.total:
            return ""
        _next_warning = now + _WARNING_INTERVAL
        unused = self._unused()
        return (
            f"memory runs low: {size_text(nbytes)} more leave {size_text(left)} of "
            f"{size_text(memory.total)}, and Linux kills processes when it runs out"
            + (f"; largest not in use: {unused}" if unused else "")
        )


def _enlarge(root: str) -> str:
    """Return how to enlarge the file system of a store's directory."""
    if root.startswith("/dev/shm/"):  # noqa: S108
        return "Enlarge /dev/shm (Docker: --shm-size)"
    return f"Free space in {root}, or set JSHM_DIR to a directory that has more"


# -- sums ------------------------------------------------------------------------------------------


def free(directory: Directory, registry: Registry, spares: int) -> int:
    """Return the bytes of memory that are free, given the bytes that spares take."""
    left = [_free(directory.made())]
    if directory.in_memory:
        left.append(available_memory())
    allowed = quota()
    if allowed is not None:
        left.append(allowed - registry.bytes_in_memory() - spares)
    return max(0, min(left))


def _free(place: OpenDirectory) -> int:
    try:
        found = os.statvfs(place.fd)
    except OSError as error:
        raise limit_error(error) from None
    return found.f_bavail * found.f_frsize - RESERVE


def capacity(place: OpenDirectory) -> int:
    """Return the bytes that fit on the file system of a directory, within the quota."""
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
