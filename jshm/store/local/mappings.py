"""The segments that this process has mapped, and the changes that its log does not list yet.

Finalizers can run anywhere, also inside a transaction: they only append to a deque. `settle` finds out
later what is mapped.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from ...segment import file as segment_file
from ...segment import pages
from ...system import file_locks, signals
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
_MODES = ("r", "r+", "c")


class _Reference(weakref.ref[segment_file.Mapping]):
    """A weak reference to a mapping, with the mapping's key."""

    __slots__ = ("key",)

    key: Key


def _drain(queue: deque[T]) -> Iterator[T]:
    """Yield the items of a queue and remove them; finalizers append to it meanwhile."""
    with contextlib.suppress(IndexError):
        while True:
            yield queue.popleft()


class Mappings:
    """The mappings of one process. Those of modes ``'r'`` and ``'r+'`` are shared, those of ``'c'`` never.

    Parameters
    ----------
    access : Access
        Who may read the segments.
    """

    def __init__(self, access: Access = PRIVATE) -> None:
        self._access = access
        self._guard = signals.Guard(signals.Order.MAPPINGS)
        # A list is replaced and never changed, so that it can be read without the guard.
        self._live: dict[Key, list[_Reference]] = {}
        self._changed: deque[Key] = deque()
        self._gone: deque[_Reference] = deque()

    # -- map -------------------------------------------------------------------------------------

    def get(self, identity: str, mode: Mode, file: Identity | None = None) -> Mapping | None:
        """Return a mapping of a segment that can be shared, or None.

        A mapping that C code has written into, past the read-only flag, is not shared: it shows other
        data than the segment. With `file`, only a mapping of that file is returned: in another directory
        another file may have the segment's name.
        """
        return None if mode == "c" else self._intact((identity, mode), file)

    def open(self, identity: str, path: str, mode: Mode, layout: ArrayLayout) -> Mapping:
        """Return a new mapping of a segment, whose header must be that of `layout`."""
        # Without the guard: this waits for the file's lock. Another thread may hold that lock and wait
        # for the guard.
        with signals.deferred():
            fd, found = segment_file.open_shared(path, self._access, writable=mode == "r+")
            try:
                layout.verify(fd, found.st_size)
                mapping = segment_file.map_file(fd, layout.end, mode, identity, found)
            finally:
                file_locks.close(fd)
        return self._adopt_first(mapping)

    def get_whole(self, identity: str, fd: int, mode: Mode, length: int | None = None) -> Mapping:
        """Return a mapping of a segment's whole file, which is open, or of its first bytes.

        The caller keeps `fd`.
        """
        found = os.fstat(fd)
        mapping = self.get(identity, mode, identity_of(found))
        if mapping is not None:
            return mapping
        return self._adopt_first(
            segment_file.map_file(fd, length or found.st_size, mode, identity, found)
        )

    def _adopt_first(self, opened: Mapping) -> Mapping:
        """Return the mapping of the thread that was first."""
        with self._guard:
            mapping = self.get(opened.segment, opened.mode, opened.file)
            if mapping is None:
                self.adopt(opened)
                return opened
            return mapping

    def adopt(self, mapping: Mapping) -> None:
        """Add a mapping that was made elsewhere."""
        key = (mapping.segment, mapping.mode)
        # The callback is not a Python function: Ctrl-C inside one would be lost, and the change with it.
        reference = _Reference(mapping, self._gone.append)
        reference.key = key
        with self._guard:
            others = self._live.get(key, ())
            self._live[key] = [reference, *(ref for ref in others if ref() is not None)]
        self._changed.append(key)

    # -- find ------------------------------------------------------------------------------------

    def _is_live(self, key: Key) -> bool:
        return any(ref() is not None for ref in self._live.get(key, ()))

    def _intact(self, key: Key, file: Identity | None = None) -> Mapping | None:
        """Return a mapping that shows the data of its segment."""
        for ref in self._live.get(key, ()):
            mapping = ref()
            if mapping is None or (file is not None and mapping.file != file):
                continue
            if mapping.mode == "r+" or pages.is_pristine(mapping):
                return mapping
        return None

    def is_mapped(self, identity: str) -> bool:
        """Return whether this process has a segment mapped, in any mode."""
        return any(self._is_live((identity, mode)) for mode in _MODES)

    def ids(self) -> set[str]:
        """Return the ids of the segments that this process has mapped, in any mode."""
        with self._guard:
            keys = list(self._live)
        return {key[0] for key in keys if self._is_live(key)}

    def of(self, identity: str) -> list[Mapping]:
        """Return the living mappings of a segment, in all modes."""
        with self._guard:
            refs = [ref for mode in _MODES for ref in self._live.get((identity, mode), ())]
        return [mapping for ref in refs if (mapping := ref()) is not None]

    def find(self, identity: str) -> Mapping | None:
        """Return a mapping that shows the data of a segment, or None."""
        found = (self._intact((identity, mode)) for mode in ("r+", "r", "c"))
        return next(filter(None, found), None)

    # -- changes ---------------------------------------------------------------------------------

    def settle(self) -> list[tuple[Key, bool]]:
        """Return what changed since the last call: keys, and whether they are mapped now."""
        keys: dict[Key, None] = {}
        with self._guard:
            for reference in _drain(self._gone):
                keys[reference.key] = None
            for key in _drain(self._changed):
                keys[key] = None
            state = [(key, self._is_live(key)) for key in keys]
            for key, mapped in state:
                if not mapped:
                    self._live.pop(key, None)
        return state

    def unsettle(self, keys: Iterable[Key]) -> None:
        """Add changes again that could not be logged."""
        self._changed.extend(keys)

    @property
    def changed(self) -> bool:
        """Whether `settle` would return anything."""
        return bool(self._changed or self._gone)

    def forget(self, identity: str) -> None:
        """Stop sharing the mappings of a segment: the next attach makes a new one."""
        with self._guard:
            for mode in _MODES:
                if self._live.pop((identity, mode), None):
                    self._changed.append((identity, mode))

    def tell_again(self) -> None:
        """Count everything as changed, because a new lease has an empty log."""
        self._changed.extend(list(self._live))

    def after_fork_in_child(self) -> None:
        """Count inherited mappings as the child's; it logs them when it first uses the store."""
        self._guard = signals.Guard(signals.Order.MAPPINGS)
        self.tell_again()


def is_mapped_by(path: str, mapping: Mapping) -> bool:
    """Return whether a path leads to the file of a mapping."""
    try:
        return identity_of(status(path)) == mapping.file
    except OSError:
        return False
