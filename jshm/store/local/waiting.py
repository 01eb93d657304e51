"""Waiting for versions of names, by reads that cost next to nothing while nothing changes."""

from __future__ import annotations

import operator
import time
from typing import TYPE_CHECKING

from ...errors import WaitTimeoutError
from ...system import signals as interrupts
from . import inspection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..base import SegmentInfo
    from ..groups.union import Union
    from .registry.registry import Registry
    from .registry.rows import Entry

# Seconds between two looks.
INTERVAL = 0.01
# So many names are said to be missing.
_SAID = 5


class Newest:
    """The newest versions of some names.

    Parameters
    ----------
    registry : Registry or Union
    names : sequence of str
    describe : callable
        Says of an entry what the store tells users.

    Attributes
    ----------
    found : dict of str to Entry
        As of the last `look`, at one moment.
    """

    def __init__(
        self,
        registry: Registry | Union,
        names: Sequence[str],
        describe: Callable[[Entry], SegmentInfo],
    ) -> None:
        self.names = names
        self.found: dict[str, Entry] = {}
        self.describe = describe
        self._registry = registry
        self._state: object = None

    @interrupts.deferred()
    def look(self) -> bool:
        """Read again if anything was committed since; tell whether it was."""
        state = self._registry.data_version()
        if state == self._state:
            return False
        self.found = {entry.name: entry for entry in self._registry.current(self.names)}
        self._state = state
        return True

    def missing(self, name: str) -> str:
        """Return what to tell whoever waits for a name in vain."""
        if name in self.found:
            return f"{name} is still v{self.found[name].version}"
        return inspection.missing(self._registry, name)


class Waiting:
    """A wait for all of some names to have a version that is new enough.

    Parameters
    ----------
    newest : Newest
    timeout : float or None
        Seconds.
    newer_than : int
        Their versions must be.
    """

    def __init__(self, newest: Newest, timeout: float | None, newer_than: int) -> None:
        self._newest = newest
        self._timeout = timeout
        self._newer_than = operator.index(newer_than)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._missing: list[str] = []

    @interrupts.deferred()
    def look(self) -> list[SegmentInfo] | None:
        """Return the versions if all are there by now.

        Raises
        ------
        WaitTimeoutError
            They are not, and time is over.
        """
        newest, found = self._newest, self._newest.found
        if newest.look():
            found = newest.found
            self._missing = [
                name
                for name in newest.names
                if name not in found or found[name].version <= self._newer_than
            ]
            if not self._missing:
                return [newest.describe(found[name]) for name in newest.names]
        if self._deadline is not None and time.monotonic() >= self._deadline:
            said = [newest.missing(name) for name in self._missing[:_SAID]]
            if more := len(self._missing) - _SAID:
                said += [f"and {more} more"] * (more > 0)
            raise WaitTimeoutError(f"waited {self._timeout:g} s: {'; '.join(said)}")
        return None

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        if self._deadline is None:
            return INTERVAL
        return min(INTERVAL, max(0.0, self._deadline - time.monotonic()))


class Seen:
    """Tells which versions of a name are new.

    Parameters
    ----------
    newer_than : int or None
        The first one must be; None: than the newest that is there now.
    now : Entry or None
        The newest that is there now.
    """

    def __init__(self, newer_than: int | None, now: Entry | None) -> None:
        self._newer_than = 0 if newer_than is None else operator.index(newer_than)
        self._last = None if now is None or newer_than is not None else _mark(now)

    def is_new(self, entry: Entry) -> bool:
        """Tell whether this is another version than the last one."""
        last, self._last = self._last, _mark(entry)
        return entry.version > self._newer_than if last is None else self._last != last


def _mark(entry: Entry) -> tuple[int, float]:
    # Numbers begin again where somebody removed the store's directory, and nobody had the name.
    return entry.version, entry.created
