"""How a value gets under a name.

Order of a publish, so that SIGKILL at any instruction leaves the old version or the new one: write the
file (unknown to anybody, locked), then one transaction that numbers the version, writes the file's record
and magic, and adds the rows; after the commit, delete what it superseded.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import InvalidNameError, JshmError, NoSpaceError, NotOwnerError, NotShareableError
from ...pickling import static as looking
from ...segment import file as segment
from ...segment import progress
from ...segment.array_layout import describe_array
from ...segment.object_layout import ObjectLayout
from ...segment.progress import Progress
from ...system import signals as interrupts
from ...text import age_text, size_text
from ..base import Published
from ..names import check_name, check_note
from . import collect, inspection, objects
from . import new_segment as drafts
from .registry import rows
from .registry.rows import Entry
from .source import Source, source_of
from .space import Room

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from .collect import Removals
    from .lookup import Lookup
    from .registry.database import Transaction

# What is known of a name that never was: its last version, and its newest.
_NEVER: tuple[int, Entry | None] = (0, None)


class Publisher:
    """What publishes into one store."""

    def __init__(self, store: Lookup) -> None:
        self._store = store

    def publish(
        self,
        values: Mapping[str, Any],
        *,
        replace: bool = False,
        keep: bool = False,
        writable: bool = False,
        note: str = "",
        once: str = "",
    ) -> list[Published]:
        names = _check_names(values)
        check_note(note)
        if writable:
            _check_all_arrays(values)
        with self.room() as room:
            ready = objects.prepare(self._store, values)
            nbytes = sum(one.nbytes for one in ready)
            large = nbytes >= segment.MIN_SPARE_SIZE
            shown = Progress(_label(names), nbytes) if large else contextlib.nullcontext()
            # A draft must not be left with nobody to close it. Of a long copy each piece lets handlers in.
            with interrupts.deferred(), shown:
                # Room is made before a large copy; a small one, which is as fast as to ask the registry
                # twice, leaves it to its own transaction.
                self._store.housekeeping.prepare(flush=large)
                if large:
                    # The transaction decides. This is so that nobody waits for a copy in vain.
                    self._check_owners(self._store.registry.current(names), replace=replace)
                sources: list[Source] = []
                try:
                    for one in ready:
                        sources.append(self._source(one, sources, room, writable=writable))
                    with self._store.process.transaction() as (tx, doomed):
                        room.confirm(tx)
                        entries = self._enter(
                            tx, doomed, ready, sources,
                            replace=replace, keep=keep, note=note, once=once,
                        )  # fmt: skip
                        for one, source in zip(ready, sources, strict=True):
                            seal = source.how == "sealed" and not writable
                            sealed: Any = one.content if seal else None
                            tx.on_commit(partial(self._close, one.names[0], source, sealed))
                except BaseException:
                    for source in sources:
                        source.discard()
                    raise
                if not tx.is_here:
                    raise self._store.process.gone("published", "Publish again")
        done = {
            name: self._published(one, source, entries[name])
            for one, source in zip(ready, sources, strict=True)
            for name in one.names
        }
        return [done[name] for name in names]

    def _enter(
        self,
        tx: Transaction,
        doomed: Removals,
        ready: Sequence[objects.Ready],
        sources: Sequence[Source],
        *,
        replace: bool,
        keep: bool,
        note: str,
        once: str,
    ) -> dict[str, Entry]:
        """Make what was written the newest version of its names."""
        lease, now = self._store.process.lease(tx), time.time()
        newest = rows.newest(tx, [name for one in ready for name in one.names])
        self._check_owners((old for _, old in newest.values() if old), replace=replace)
        entries: dict[str, Entry] = {}
        for one, source in zip(ready, sources, strict=True):
            made = []
            for name in one.names:
                last, old = newest.get(name, _NEVER)
                # Kept once is kept until released: a notebook that runs again must not lose it.
                kept = keep or (old is not None and bool(old.keep))
                entry = Entry(
                    name, last + 1, last + 1, lease.id, now, kept, note, once, one.part(name),
                    lease.text, source.row,
                )  # fmt: skip
                made.append(entry)
            self._register(tx, source, made)
            entries.update((entry.name, entry) for entry in made)
        # Only now: one of them may refer to what another supersedes.
        for entry in entries.values():
            self._supersede(tx, doomed, entry, newest.get(entry.name, _NEVER)[1])
        self._store.process.collect(tx, doomed)
        return entries

    def _published(self, one: objects.Ready, source: Source, entry: Entry) -> Published:
        details = None
        if source.draft is not None and isinstance(source.draft.layout, ObjectLayout):
            others = [name for name in one.names if name != entry.name]
            layout = source.draft.layout.part(entry.part)
            details = inspection.details_of(layout, self._store.registry, others)
        me = self._store.process.identity
        return Published(inspection.info_of(entry, me, alive=True, details=details), source.how)

    def _source(
        self, one: objects.Ready, before: Sequence[Source], room: Room, *, writable: bool
    ) -> Source:
        """Find out how a value gets into a segment, and write it there if it must be written.

        `before` are the sources of the arrays that an object may refer to, and of other objects.
        """
        content = one.content
        if isinstance(content, objects.Packed):
            content.referring.know([source.row.id for source in before])
            draft = drafts.write_object(room, content.layout(), content.pickle, content.buffers)
            return Source("copied", draft.row, draft.path, draft, content.referring)
        return self._array_source(content, room, writable=writable)

    def _array_source(self, array: np.ndarray[Any, Any], room: Room, *, writable: bool) -> Source:
        source = source_of(
            array,
            self._store.registry,
            self._store.directory,
            self._store.process,
            writable=writable,
        )
        if source is not None:
            progress.advance(array.nbytes)
            return source
        layout = describe_array(array)
        draft = drafts.write_array(room, array, layout)
        return Source("copied", rows.with_writable(draft.row, writable=writable), draft.path, draft)

    @contextlib.contextmanager
    def room(self) -> Iterator[Room]:
        """Room for what is written within; where there is none, the error says what could go."""
        try:
            process = self._store.process
            yield Room(
                self._store.directory, self._store.registry, process.spares, process.reclaim,
                self._idle,
            )  # fmt: skip
        except NoSpaceError as error:
            idle = self._idle()
            if not idle:
                raise
            raise NoSpaceError(
                f"{error}; largest not in use: {idle}. Release what you can spare, or make it smaller"
            ) from None

    def _register(self, tx: Transaction, source: Source, entries: Sequence[Entry]) -> None:
        source.seal(tx, [rows.metadata(entry) for entry in entries])
        for entry in entries:
            rows.put_version(tx, entry)
            if source.draft is None:
                rows.judge(tx, [entry.segment.id])
                rows.forget_versions_in(tx, entry)

    def _supersede(
        self, tx: Transaction, doomed: Removals, entry: Entry, old: Entry | None
    ) -> None:
        if old is None or old.segment.id == entry.segment.id:
            return
        if not rows.is_needless(tx, old.segment.id):
            collect.forget_version(tx, old)
            # Mostly nobody holds what is superseded. Then its row goes at once, unmarked.
            return
        row, spares = old.segment, self._store.process.spares
        adopt = None
        if row.nbytes >= segment.MIN_SPARE_SIZE and not row.overflow:
            adopt = partial(spares.adopt, entry.name)
        if not collect.segment(tx, self._store.directory, row, doomed, adopt):
            rows.judge(tx, [row.id])
            if adopt is not None:
                path = self._store.directory.path(row.id, overflow=False, kind=row.kind)
                tx.on_commit(partial(spares.expect, path, row.nbytes, entry.name))

    def _close(self, name: str, source: Source, sealed: np.ndarray[Any, Any] | None) -> None:
        """Let go of the file of what is published by now; a spare stays mapped for the next one."""
        if source.draft is not None:
            source.draft.confirm()
            spare = source.draft.leave_spare()
            if spare is not None:
                self._store.process.spares.keep(spare, name)
        source.close(sealed)

    def require_owner(self, names: Sequence[str], *, replace: bool) -> None:
        """Raise NotOwnerError now if publishing under these names would."""
        self._check_owners(self._store.registry.current(_check_names(names)), replace=replace)

    def _check_owners(self, entries: Iterable[Entry], *, replace: bool) -> None:
        for entry in entries:
            if not replace and not self._store.process.identity.owns(entry.publisher):
                raise NotOwnerError(
                    f"{entry.name} v{entry.version} was published by {entry.publisher.label}, "
                    f"{age_text(entry.created)}: publish under another name (--as NAME), or add "
                    "--replace (replace=True) to make yours the next version"
                )

    def _idle(self) -> str:
        """Return what is in memory, not in use, and this user's to release, the largest first."""
        with contextlib.suppress(JshmError):  # of what is so full or damaged nothing can be said
            infos = self._store.segments()
            idle = [i for i in infos if i.releasable and not (i.in_use or i.overflow)]
            idle.sort(key=lambda info: -info.nbytes)
            return ", ".join(f"{i.name} ({size_text(i.nbytes)}, {i.publisher})" for i in idle[:3])
        return ""


def _label(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _check_all_arrays(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if not objects.is_array(value):
            raise NotShareableError(
                f"{name} is a {looking.name(type(value))}: only plain arrays can be shared writable (LIVE); "
                "publish it without --writable (writable=True)"
            )


def _check_names(given: Iterable[str]) -> list[str]:
    names = [check_name(name) for name in given]
    if len(set(names)) < len(names):
        raise InvalidNameError(f"the same name twice: {', '.join(names)}")
    return names
