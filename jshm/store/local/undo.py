"""Names that were released a moment ago, and whose memory this process keeps for a while."""

from __future__ import annotations

import contextlib
import resource
import time
from typing import TYPE_CHECKING, NamedTuple

from ...errors import JshmError, SegmentExistsError, SegmentNotFoundError
from ...segment import file as segment
from ...system import signals as interrupts
from .registry import rows
from .release import Retiring, release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..base import Released
    from .directory import Directory
    from .process import Presence
    from .registry.registry import Registry
    from .registry.rows import Entry

# Each keeps a descriptor open.
MOST = 200


def undo_limit() -> int:
    """Return how many names can be kept at once; more are released for good."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(MOST, limit // 4) if limit > 0 else MOST


class _Kept(NamedTuple):
    """A name that can be brought back: its newest version, held by `fd`, and all versions."""

    entry: Entry
    fd: int
    until: float
    versions: list[Entry]


class Undo:
    """What one process can take back.

    The names are retired at once, for everybody: their memory is unwanted, and only stays because this
    process holds it (`LOCK_SH`). So nothing is lost or leaked when it is killed: the next operation of
    anybody frees it, as it does with all that is unwanted and not held.
    """

    def __init__(self, presence: Presence, registry: Registry, directory: Directory) -> None:
        self._presence = presence
        self._registry = registry
        self._directory = directory
        self._guard = interrupts.Guard(interrupts.Order.UNDO)
        self._kept: dict[str, _Kept] = {}

    def release(self, names: Sequence[str], *, force: bool, seconds: float) -> list[Released]:
        """Retire names, and keep their memory for so many seconds, if they are not too many."""
        # Ctrl-C waits: what is held must not be left with nobody to let go of it.
        with self._guard:
            self.expire(time.monotonic())
            few = len(names) + len(self._kept) <= undo_limit()
            held = self._hold(self._registry.current(names)) if few else {}
            try:
                released, spared = release(
                    self._presence, self._registry, self._directory, names, force=force,
                    spare={name: entry.segment.id for name, (entry, _) in held.items()},
                )  # fmt: skip
            except BaseException:
                spared = {}
                raise
            finally:
                until = time.monotonic() + seconds
                for name, (entry, fd) in held.items():
                    if name not in spared:
                        segment.close(fd)
                        continue
                    if name in self._kept:  # an older version; it is among those spared now
                        segment.close(self._kept[name].fd)
                    self._kept[name] = _Kept(entry, fd, until, spared[name])
            return released

    def _hold(self, entries: Sequence[Entry]) -> dict[str, tuple[Entry, int]]:
        """Hold what can be held: what cannot is released all the same, without an undo."""
        held, access = {}, self._directory.access
        for entry in entries:
            row = entry.segment
            path = self._directory.path(row.id, overflow=row.overflow, kind=row.kind)
            with contextlib.suppress(JshmError, OSError):
                held[entry.name] = entry, segment.open_shared(path, access, writable=False)[0]
        return held

    def restore(self, names: Sequence[str]) -> None:
        """Make names current again, all or none.

        Raises
        ------
        SegmentNotFoundError, SegmentExistsError
        """
        # Ctrl-C waits: what is restored and still kept would be let go of later.
        with self._guard:
            for name in names:
                if name not in self._kept:
                    raise SegmentNotFoundError(f"the release of {name} cannot be taken back now")
            with self._presence.transaction() as (tx, _):
                for taken in tx.current(names):
                    raise SegmentExistsError(
                        f"{taken.name} was published again meanwhile, by {taken.publisher.label}"
                    )
                for name in names:
                    if not rows.bring_back(tx, self._kept[name].entry):
                        raise SegmentNotFoundError(f"{name} was released for good meanwhile")
            if not tx.is_in_place:
                raise self._presence.gone("restored", "Take it back again")
            for name in names:
                segment.close(self._kept.pop(name).fd)

    def expire(self, now: float | None = None) -> None:
        """Let go of what cannot be taken back any more; by default of everything."""
        if not self._kept:
            return
        with self._guard:
            over = [name for name, kept in self._kept.items() if now is None or kept.until <= now]
            gone = [self._kept.pop(name) for name in over]
            for kept in gone:
                segment.close(kept.fd)
        if gone:
            retiring = Retiring(self._directory, self._registry, over, self._presence.holders())
            retiring.left = [entry for kept in gone for entry in kept.versions]
            retiring.finish(self._presence)

    def after_fork_in_child(self) -> None:
        """Leave it to the parent: a child's descriptors of it are closed already."""
        self._guard = interrupts.Guard(interrupts.Order.UNDO)
        self._kept.clear()
