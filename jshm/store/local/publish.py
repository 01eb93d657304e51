"""Publish: from a value to a segment, and from the segment to the rows of its versions.

SIGKILL at any instruction leaves the old version or the new one. First the file is written; it is locked,
and no other process knows it. Then one transaction assigns the version, writes the file's trailer and
magic, and adds the rows. What the version supersedes is deleted after the commit.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import (
    InvalidNameError,
    JshmError,
    NoSpaceError,
    NotOwnerError,
    NotShareableError,
    Remedy,
    SegmentNotFoundError,
)
from ...pickling import static
from ...segment import copying, pages, progress
from ...segment import file as segment_file
from ...segment.array_layout import describe, describe_array, is_plain
from ...segment.progress import Progress
from ...system import signals
from ...text import age_text, size_text
from ..base import Published
from ..names import check_name, check_note
from . import collect, inspection, new_segment
from .mappings import is_mapped_by
from .objects import Pickled, pickle_objects
from .references import NewArrays
from .registry import rows
from .registry.rows import Entry
from .space import Budget

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from ...segment.array_layout import ArrayLayout, Order
    from ..base import How
    from ..identity import Identity
    from .collect import Removals
    from .lease import Lease
    from .lookup import Lookup
    from .new_segment import NewSegment
    from .registry.rows import SegmentRow
    from .registry.statements import Transaction

    Array = np.ndarray[Any, Any]

# The last version number and the newest version of a name that was never published.
_NEVER: tuple[int, Entry | None] = (0, None)


@dataclass(slots=True)
class _Item:
    """The content of one segment; `place` finds the segment that holds it.

    Attributes
    ----------
    names : tuple of str
        Several names of an array are the same array; each name of an object is one of its parts.
    content : ndarray or Pickled
    how : {'copied', 'sealed', 'alias'}
    row : SegmentRow
    new : NewSegment or None
        The segment, if the content is copied.
    needs : list of str
        The segments that an object refers to.
    """

    names: tuple[str, ...]
    content: Array | Pickled
    how: How = "copied"
    row: SegmentRow = None  # type: ignore[assignment]
    new: NewSegment | None = None
    needs: Sequence[str] = ()


def publish(
    store: Lookup,
    values: Mapping[str, Any],
    *,
    replace: bool = False,
    keep: bool = False,
    writable: bool = False,
    note: str = "",
    once: str = "",
) -> list[Published]:
    """Publish values, all or none; see `jshm.store.base.Store.publish`."""
    values = dict(zip(_check_names(values), values.values(), strict=True))
    check_note(note)
    if writable:
        _require_arrays(values)
    process = store.process
    try:
        budget = _budget(store)
        items = _items(store, values)
        nbytes = sum([item.content.nbytes for item in items])
        large = nbytes >= segment_file.MIN_SPARE_SIZE
        shown = Progress(_label(values), nbytes) if large else contextlib.nullcontext()
        # An interrupt must not leave a new segment open. A long copy handles signals between its pieces.
        with signals.deferred(), shown:
            # For a large copy, space is freed first. A small copy takes as long as a look at the registry:
            # its own transaction frees space.
            store.housekeeping.prepare(flush=large)
            if large:
                # The transaction decides; this check avoids a useless copy.
                _check_owners(store.registry.current([*values]), process.identity, replace=replace)
            try:
                written: list[str] = []
                for item in items:
                    _place(store, budget, item, written, writable=writable)
                    written.append(item.row.id)
                with process.transaction() as (tx, removals):
                    budget.confirm(tx)
                    lease = process.lease(tx)
                    entries = _register(
                        store, tx, removals, items, lease,
                        replace=replace, keep=keep, note=note, once=once,
                    )  # fmt: skip
                    tx.on_commit(partial(_close, store, items, writable=writable))
            except BaseException:
                for item in items:
                    if item.new is not None:
                        item.new.discard()
                raise
            if not tx.is_in_place:
                raise process.gone("published", "Publish again")
    except NoSpaceError as error:
        raise _with_unused(store, error) from None
    done = {
        name: _published(store, item, entries[name], lease.identity)
        for item in items
        for name in item.names
    }
    return [done[name] for name in values]


def require_owner(store: Lookup, names: Sequence[str], *, replace: bool) -> None:
    """Raise NotOwnerError if publishing under these names would."""
    entries = store.registry.current(_check_names(names))
    _check_owners(entries, store.process.identity, replace=replace)


def allocate(
    store: Lookup, shape: tuple[int, ...], dtype: npt.DTypeLike, order: Order, *, zero: bool
) -> Array:
    """Return a writable array in a new segment that has no name; its holders keep it."""
    store.housekeeping.prepare()
    return _allocate(store, describe(shape, dtype, order), None, zero=zero)


def copy(store: Lookup, array: Array) -> Array:
    """Return a copy of an array, as from `allocate`."""
    store.housekeeping.prepare()
    layout = describe_array(array)
    with Progress("copy", layout.nbytes):
        return _allocate(store, layout, array, zero=False)


def _allocate(store: Lookup, layout: ArrayLayout, source: Array | None, *, zero: bool) -> Array:
    process = store.process
    try:
        budget = _budget(store)
        if source is None:
            new = new_segment.reserve(budget, layout, zero=zero)
        else:
            new = new_segment.write_array(budget, source, layout, writable=True)
        try:
            mapping = new.map()
            with process.transaction() as (tx, _):
                budget.confirm(tx)
                new.register(tx, None, wanted=False)
                tx.on_commit(new.close)
        except BaseException:
            new.discard()
            raise
    except NoSpaceError as error:
        raise _with_unused(store, error) from None
    process.mappings.adopt(mapping)
    process.tell_holds()
    array = layout.view(segment_file.sealable(mapping))
    process.born[new.row.id] = array
    return array


# -- the values ------------------------------------------------------------------------------------


def _check_names(given: Iterable[str]) -> list[str]:
    names = [check_name(name) for name in given]
    if len(set(names)) < len(names):
        raise InvalidNameError(f"the same name twice: {', '.join(names)}")
    return names


def _label(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first


def _require_arrays(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if not is_array(value):
            raise NotShareableError(
                f"{name} is a {static.name(type(value))}: only plain arrays can be shared writable (LIVE)",
                remedy=Remedy("publish", (name,), {"writable": False}, "Publish it read-only"),
            )


def is_array(value: object) -> bool:
    """Return whether a value is published as an array: a plain one, of a dtype that ``.npy`` keeps."""
    # np.memmap is an ndarray whose subclass only says where the bytes came from.
    if type(value) is not np.ndarray and type(value) is not np.memmap:
        return False
    if is_plain(value.dtype):
        return True
    try:
        describe_array(value)
    except NotShareableError:
        return False
    return True


def _items(store: Lookup, values: Mapping[str, Any]) -> list[_Item]:
    """Return the contents of segments: arrays first, because pickled objects may refer to them.

    Raises
    ------
    NotShareableError
        Something in an object cannot be pickled; says what and where.
    """
    arrays: dict[int, _Item] = {}
    objects: dict[str, Any] = {}
    for name, value in values.items():
        if not is_array(value):
            objects[name] = value
        elif id(value) in arrays:
            arrays[id(value)].names += (name,)
        else:
            arrays[id(value)] = _Item((name,), value)
    items = list(arrays.values())
    if objects:
        new = NewArrays([item.content for item in items])  # type: ignore[misc]
        items += [_Item(one.names, one) for one in pickle_objects(store, objects, new)]
    return items


# -- the segment -----------------------------------------------------------------------------------


def _place(
    store: Lookup, budget: Budget, item: _Item, written: Sequence[str], *, writable: bool
) -> None:
    """Find the segment for an item, or write a new one; `written` are the segments of those before."""
    content = item.content
    if isinstance(content, Pickled):
        item.needs = content.references.segments(written)
        item.new = new_segment.write_object(
            budget, content.layout(item.needs), content.pickle, content.buffers
        )
    else:
        mapping = segment_file.find_mapping(content)
        if mapping is not None and _reuse(store, item, content, mapping, writable=writable):
            progress.advance(content.nbytes)
            return
        layout = describe_array(content)
        item.new = new_segment.write_array(budget, content, layout, writable=writable)
    item.row = item.new.row


def _reuse(
    store: Lookup, item: _Item, array: Array, mapping: segment_file.Mapping, *, writable: bool
) -> bool:
    """Publish the segment that an array is in, without a copy; return False if it must be copied.

    The array must be all of the segment. It is sealed if it is the very array that `allocate` returned
    and no other process has the segment mapped: sealing makes *that* array read-only, and no other view.
    It is an alias if it still shows exactly the segment's snapshot.
    """
    registry, process = store.registry, store.process
    row = registry.segment(mapping.segment)
    if row is None or row.unlinked or not _is_whole(array, mapping, row):
        return False
    if writable and registry.is_needed(row.id):
        return False  # an object refers to the snapshot
    path = store.path_of(row)
    if not is_mapped_by(path, mapping):
        return False  # the directory was copied, and another file has the path
    if mapping.mode == "r+" and not registry.of_segment(row.id):
        if process.born.get(row.id) is not array or process.is_held_elsewhere(row.id):
            return False
        copying.clear(array)
        item.how, item.row = "sealed", row._replace(writable=writable)
        return True
    if mapping.mode == "r+":
        # Sealed, and this array too: only views made before that can still write.
        same = not array.flags.writeable and not row.writable
    else:
        same = not row.writable and pages.is_pristine(mapping)
    if not same or writable or not segment_file.is_ours(path):
        return False
    item.how, item.row = "alias", row
    return True


def _is_whole(array: Array, mapping: segment_file.Mapping, row: SegmentRow) -> bool:
    if row.kind != "array":
        return False
    layout = row.layout
    address = array.__array_interface__["data"][0]
    # A layout has no strides: a transposed or broadcast view may have the shape of the whole.
    return (
        array.flags.forc
        and address == mapping.address + layout.offset
        and describe_array(array) == layout
    )


# -- the rows --------------------------------------------------------------------------------------


def _check_owners(entries: Iterable[Entry], me: Identity, *, replace: bool) -> None:
    for entry in entries:
        if not replace and not me.owns(entry.publisher):
            raise NotOwnerError(
                f"{entry.name} v{entry.version} was published by {entry.publisher.label}, "
                f"{age_text(entry.created)}",
                remedy=(
                    Remedy("publish", (), {"as": "NAME"}, "Choose another name"),
                    Remedy(
                        "publish", (entry.name,), {"replace": True}, "Make yours the next version"
                    ),
                ),
            )


def _register(
    store: Lookup,
    tx: Transaction,
    removals: Removals,
    items: Sequence[_Item],
    lease: Lease,
    *,
    replace: bool,
    keep: bool,
    note: str,
    once: str,
) -> dict[str, Entry]:
    """Make each item the newest version of its names; return the versions by name."""
    now = time.time()
    newest = tx.newest([name for item in items for name in item.names])
    _check_owners([old for _, old in newest.values() if old], lease.identity, replace=replace)
    entries: dict[str, Entry] = {}
    for item in items:
        content, row, made = item.content, item.row, []
        has_parts = isinstance(content, Pickled) and len(item.names) > 1
        for number, name in enumerate(item.names, 1):
            last, old = newest.get(name, _NEVER)
            # A kept name stays kept until it is released: a notebook that runs again must not lose it.
            kept = keep or (old is not None and bool(old.keep))
            entries[name] = entry = Entry(
                name, last + 1, last + 1, lease.id, now, kept, note, once,
                number if has_parts else 0, lease.text, row,
            )  # fmt: skip
            made.append(entry)
        if item.new is not None:
            if isinstance(content, Pickled):
                content.references.register(tx, row.id, item.needs)
            item.new.register(tx, [rows.trailer_record(entry) for entry in made], wanted=True)
        elif tx.set_writable(row.id, writable=row.writable):
            tx.mark_stale(row.id)
        else:
            raise SegmentNotFoundError(
                "the array's memory was released at this moment; publish again"
            )
        for entry in made:
            tx.add_version(entry)
            if item.new is None:
                tx.mark_wanted([row.id])
                tx.forget_older_in_segment(entry)
    # After all are registered: one of them may refer to what another one supersedes.
    for name, entry in entries.items():
        old = newest.get(name, _NEVER)[1]
        if old is not None and old.segment.id != entry.segment.id:
            _supersede(store, tx, removals, old)
    store.process.collect(tx, removals)
    return entries


def _supersede(store: Lookup, tx: Transaction, removals: Removals, old: Entry) -> None:
    row, spares = old.segment, store.process.spares
    if not tx.is_unwanted(row.id):
        collect.forget_version(tx, old)
        return
    adopt = None
    if row.nbytes >= segment_file.MIN_SPARE_SIZE and not row.overflow:
        adopt = partial(spares.adopt, old.name)
    # Mostly nobody holds the segment; then its row is deleted at once, and needs no mark.
    if not collect.segment(tx, store.directory, row, removals, adopt):
        tx.mark_wanted([row.id])
        if adopt is not None:
            path = store.directory.path(row.id, overflow=False, kind=row.kind)
            tx.on_commit(partial(spares.expect, path, row.nbytes, old.name))


def _close(store: Lookup, items: Sequence[_Item], *, writable: bool) -> None:
    """Close the files of published items; a spare stays mapped for the next version of its name."""
    for item in items:
        content, new = item.content, item.new
        if new is not None:
            spare = new.confirm()
            if spare is not None:
                store.process.spares.keep(spare, item.names[0])
        if isinstance(content, Pickled):
            content.references.seal()
        elif item.how == "sealed" and not writable:
            segment_file.seal(content)


def _published(store: Lookup, item: _Item, entry: Entry, me: Identity) -> Published:
    details = None
    if isinstance(item.content, Pickled) and item.new is not None:
        layout: Any = item.new.layout
        others = [name for name in item.names if name != entry.name]
        details = inspection.details_of(layout.part(entry.part), store.registry, others)
    return Published(inspection.info_of(entry, me, alive=True, details=details), item.how)


# -- space -----------------------------------------------------------------------------------------


def _budget(store: Lookup) -> Budget:
    process = store.process
    return Budget(
        store.directory, store.registry, process.spares, process.reclaim, partial(_unused, store)
    )


def _with_unused(store: Lookup, error: NoSpaceError) -> NoSpaceError:
    """Return the error with the names whose release would free the most space, if there are any."""
    unused = _unused(store)
    if not unused:
        return error
    return NoSpaceError(
        f"{error.message}; largest not in use: {unused}. Release what you no longer need, or make it "
        "smaller",
        remedy=error.remedies,
    )


def _unused(store: Lookup) -> str:
    """Return this user's largest versions in memory that are not in use, as text; the largest first."""
    with contextlib.suppress(JshmError):  # a full or damaged store cannot tell
        infos = [i for i in store.segments() if i.releasable and not (i.in_use or i.overflow)]
        infos.sort(key=lambda info: -info.nbytes)
        return ", ".join(f"{i.name} ({size_text(i.nbytes)}, {i.publisher})" for i in infos[:3])
    return ""
