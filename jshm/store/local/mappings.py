"""What this process has mapped, and which changes of that others have not been told yet.

Finalizers may run anywhere, also inside a transaction: they only append to a deque. `settle` finds out
later what is true by then.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from ...segment import file as segment
from ...segment import pages
from ...system import file_locks
from ...system import signals as interrupts
from ...system.access import PRIVATE
from ...system.directories import identity_of, status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ...segment.array_layout import ArrayLayout
    from ...segment.file import Mapping, Mode
    from ...system.access import Access
    from ...system.directories import Identity

T = TypeVar("T")
Key = tuple[str, str]
"""Segment id and mode."""


class _Watched(weakref.ref[segment.Mapping]):
    """A weak reference that says of what it was."""

    __slots__ = ("key",)

    key: Key


def _taken(queue: deque[T]) -> Iterator[T]:
    """Yield what is in a queue, and take it out: a finalizer may empty it meanwhile."""
    with contextlib.suppress(IndexError):
        while True:
            yield queue.popleft()


class Mappings:
    """The mappings of one process. ``'r'`` and ``'r+'`` are shared while they live, ``'c'`` never."""

    def __init__(self, access: Access = PRIVATE) -> None:
        self._access = access
        self._guard = interrupts.Guard(interrupts.Order.MAPPINGS)
        # The lists are replaced, and not changed: who reads one needs no lock.
        self._live: dict[Key, list[_Watched]] = {}
        self._changed: deque[Key] = deque()
        self._gone: deque[_Watched] = deque()

    def get(self, identity: str, mode: Mode, file: Identity | None = None) -> Mapping | None:
        """Return the mapping of a segment that is shared here, if there is one in this mode.

        None that code in C wrote into, past the read-only flag: it does not show any more what the
        segment holds. With `file`, only of that file: in another directory another one may have the
        segment's name.
        """
        return None if mode == "c" else self._find_true((identity, mode), file)

    def open(self, identity: str, path: str, mode: Mode, layout: ArrayLayout) -> Mapping:
        """Map a segment, checked against `layout`."""
        # Without the lock: this waits for the file's, which another thread may hold that has claimed
        # the segment and waits for ours.
        return self._adopt_first(self._open(identity, path, mode, layout))

    def get_whole(self, identity: str, fd: int, mode: Mode, length: int | None = None) -> Mapping:
        """Return a mapping of all of a segment's file, which is open, or of its first bytes.

        The caller keeps `fd`.
        """
        found = os.fstat(fd)
        mapping = self.get(identity, mode, identity_of(found))
        if mapping is not None:
            return mapping
        return self._adopt_first(
            segment.map_file(fd, length or found.st_size, mode, identity, found)
        )

    def _open(self, identity: str, path: str, mode: Mode, layout: ArrayLayout) -> Mapping:
        # As `segment.opened_shared` does it, which takes longer.
        with interrupts.deferred():
            fd, found = segment.open_shared(path, self._access, writable=mode == "r+")
            try:
                layout.verify(fd, found.st_size)
                return segment.map_file(fd, layout.end, mode, identity, found)
            finally:
                file_locks.close(fd)

    def _adopt_first(self, opened: Mapping) -> Mapping:
        with self._guard:
            mapping = self.get(opened.segment, opened.mode, opened.file)
            if mapping is None:  # else another thread was faster
                self.adopt(opened)
                return opened
            return mapping

    def adopt(self, mapping: Mapping) -> None:
        """Watch a mapping that was made elsewhere."""
        key = (mapping.segment, mapping.mode)
        # No function in Python: Ctrl-C inside one would be lost, and with it that the mapping is gone.
        watched = _Watched(mapping, self._gone.append)
        watched.key = key
        with self._guard:
            refs = self._live.get(key, ())
            self._live[key] = [watched, *(ref for ref in refs if ref() is not None)]
        self._changed.append(key)

    def _find(self, key: Key) -> Mapping | None:
        for ref in self._live.get(key, ()):
            mapping = ref()
            if mapping is not None:
                return mapping
        return None

    def _find_true(self, key: Key, file: Identity | None = None) -> Mapping | None:
        """Return a mapping whose bytes are the segment's."""
        for ref in self._live.get(key, ()):
            mapping = ref()
            if mapping is None or (file is not None and mapping.file != file):
                continue
            if mapping.mode == "r+" or pages.is_pristine(mapping):
                return mapping
        return None

    def settle(self) -> list[tuple[Key, bool]]:
        """Return what changed since the last call: keys, and whether they are mapped now."""
        keys: dict[Key, None] = {}
        with self._guard:  # nobody else takes any
            for watched in _taken(self._gone):
                keys[watched.key] = None
            for key in _taken(self._changed):
                keys[key] = None
            state = [(key, self._find(key) is not None) for key in keys]
            for key, mapped in state:
                if not mapped:
                    self._live.pop(key, None)
        return state

    def unsettle(self, keys: Iterable[Key]) -> None:
        """Take changes back that could not be told."""
        self._changed.extend(keys)

    @property
    def changed(self) -> bool:
        """Whether `settle` would return anything."""
        return bool(self._changed or self._gone)

    def is_mapped(self, identity: str) -> bool:
        """Tell whether this process has the segment mapped, in any mode."""
        return any(self._find((identity, mode)) is not None for mode in ("r", "r+", "c"))

    def ids(self) -> set[str]:
        """Return the ids of the segments that this process has mapped, in any mode."""
        with self._guard:
            keys = list(self._live)
        return {key[0] for key in keys if self._find(key) is not None}

    def private(self, identities: Iterable[str]) -> list[Mapping]:
        """Return the living copy-on-write mappings of these segments."""
        with self._guard:
            refs = [ref for identity in identities for ref in self._live.get((identity, "c"), ())]
        return [mapping for ref in refs if (mapping := ref()) is not None]

    def of(self, identity: str) -> list[Mapping]:
        """Return the living mappings of a segment, in every mode."""
        with self._guard:
            refs = [
                ref for mode in ("r", "r+", "c") for ref in self._live.get((identity, mode), ())
            ]
        return [mapping for ref in refs if (mapping := ref()) is not None]

    def find(self, identity: str) -> Mapping | None:
        """Return a mapping of a segment whose bytes are the segment's, if there is one here."""
        found = (self._find_true((identity, mode)) for mode in ("r+", "r", "c"))
        return next(filter(None, found), None)

    def forget(self, identity: str) -> None:
        """Let who maps a segment next get a new mapping of it."""
        with self._guard:
            for mode in ("r", "r+", "c"):
                if self._live.pop((identity, mode), None):
                    self._changed.append((identity, mode))

    def length(self, identity: str) -> int:
        """Return the bytes that are mapped of a segment; 0 if it is not mapped here."""
        found = (self._find((identity, mode)) for mode in ("r", "r+", "c"))
        return max((len(mapping) for mapping in found if mapping is not None), default=0)

    def tell_again(self) -> None:
        """Take everything for changed: there is a new lease to write it under."""
        self._changed.extend(list(self._live))

    def after_fork_in_child(self) -> None:
        """Inherited mappings are the child's too: it says so when it first uses the store."""
        self._guard = interrupts.Guard(interrupts.Order.MAPPINGS)
        self.tell_again()


def is_mapped_by(path: str, mapping: Mapping) -> bool:
    """Tell whether a path leads to the file that a mapping is of."""
    try:
        return identity_of(status(path)) == mapping.file
    except OSError:
        return False
