"""Objects in and out of their segments: pickle, buffers, and what they say of themselves."""

from __future__ import annotations

import os
import pickle
import zlib
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import CorruptSegmentError, JshmError, NotShareableError
from ...pickling import Pickler, arrays, classes, describe, frozen, libraries, modules, sharing
from ...pickling.code import PYTHON
from ...pickling.writer import Output, bytes_of
from ...segment import file as segment
from ...segment.array_layout import describe_array, is_plain
from ...segment.object_layout import (
    Description,
    ObjectLayout,
    describe_object,
    parse_object,
    read_object_layout,
)
from ...system import signals as interrupts
from .references import Beside, Referring, Resolving, publishing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pickle import PickleBuffer

    from ...segment.file import Mapping as Mapped
    from ...segment.file import Mode
    from .lookup import Lookup
    from .new_segment import Buffer
    from .references import World
    from .registry.rows import SegmentRow

# Objects without buffers, up to so many bytes, are read and not mapped: that is faster.
_SMALL = 1 << 18
_PROTOCOL = 5


@dataclass(slots=True)
class Packed:
    """An object that is ready to be written.

    Attributes
    ----------
    names : tuple of str
        Several values that share state are one, a tuple, and each has its name.
    descriptions : list of Description
        Of each.
    pickle : list of bytes
    buffers : list of memoryview or ndarray
        Of the object's own memory: nothing is copied before it is written. An array that does not lie
        in memory as it is to be written is there itself.
    referring : Referring
        The segments that it needs.
    pickler : Pickler
        That has written it.
    value : object
    """

    names: tuple[str, ...]
    descriptions: list[Description]
    pickle: list[bytes]
    buffers: list[Buffer]
    referring: Referring
    pickler: Pickler
    value: object

    @property
    def nbytes(self) -> int:
        """Bytes to be written."""
        return sum(map(len, self.pickle)) + sum(buffer.nbytes for buffer in self.buffers)

    def layout(self) -> ObjectLayout:
        """Return what is written before it; the arrays that it refers to are written by now."""
        checksum = 0
        for chunk in self.pickle:
            checksum = zlib.crc32(chunk, checksum)
        return describe_object(
            sum(map(len, self.pickle)),
            checksum,
            [buffer.nbytes for buffer in self.buffers],
            self.referring.segments(),
            *self.descriptions,
        )


@dataclass(slots=True)
class Ready:
    """What goes into one segment.

    Attributes
    ----------
    names : tuple of str
        One or more: of values that share state, each is a part; of an array, all are the array.
    content : Packed or ndarray
    """

    names: tuple[str, ...]
    content: Packed | np.ndarray[Any, Any]

    @property
    def nbytes(self) -> int:
        """Bytes to be written."""
        return self.content.nbytes

    def part(self, name: str) -> int:
        """Return which value of the segment a name is; 0 where there is only one."""
        one = len(self.names) == 1 or not isinstance(self.content, Packed)
        return 0 if one else 1 + self.names.index(name)


def prepare(store: Lookup, values: Mapping[str, object]) -> list[Ready]:
    """Return arrays as they are, and anything else packed: together what shares state.

    Arrays come first: objects refer to those that are published with them.

    Raises
    ------
    NotShareableError
        Something in an object cannot be pickled; says what and where.
    """
    arrays: dict[int, Ready] = {}
    others: list[str] = []
    for name, value in values.items():
        if not is_array(value):
            others.append(name)
        elif id(value) in arrays:
            arrays[id(value)].names += (name,)
        else:
            arrays[id(value)] = Ready((name,), value)  # type: ignore[arg-type]
    ready = list(arrays.values())
    if not others:
        return ready
    beside = Beside([one.content for one in ready])  # type: ignore[misc]
    packed = [_pack(store, (name,), values[name], beside) for name in others]
    if len(packed) > 1:
        packed = _joined(store, packed, beside)
    return [*ready, *(Ready(one.names, one) for one in packed)]


def _joined(store: Lookup, packed: list[Packed], beside: Beside) -> list[Packed]:
    """Pack anew, as one, what shares state."""

    def by_reference(array: np.ndarray[Any, Any]) -> bool:
        return segment.find_mapping(array) is not None or beside.find(array) is not None

    written = [sharing.Written(one.value, one.pickler, by_reference) for one in packed]
    found = []
    for group in sharing.together(written):
        ones = [packed[i] for i in group]
        if len(ones) > 1:
            names = tuple(one.names[0] for one in ones)
            descriptions = [one.descriptions[0] for one in ones]
            values = tuple(one.value for one in ones)
            found.append(_pack(store, names, values, beside, descriptions))
        else:
            found += ones
    return found


def is_array(value: object) -> bool:
    """Tell whether a value is of kind ``array``: a plain one, of a dtype that ``.npy`` keeps exactly."""
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


def _pack(
    store: Lookup,
    names: tuple[str, ...],
    value: object,
    beside: Beside,
    said: Sequence[Description] = (),
) -> Packed:
    """Pickle an object; its large parts stay where they are.

    Of several values that were described already, `said` is how.
    """
    output = Output()
    chunks = output.chunks
    buffers: list[Buffer] = []

    def take(buffer: PickleBuffer) -> bool:
        """Keep a buffer for the segment; return True for one that belongs into the pickle."""
        memory = bytes_of(buffer)
        inside = libraries.is_little(memory)
        if not inside:
            buffers.append(memory)
        return inside

    referring = Referring(store, beside)
    pickler = Pickler(
        output,
        _PROTOCOL,
        take,
        name=" and ".join(names),
        notebook=store.process.identity.label,
        publishes=True,
        refer=referring.refer,
        refers_to_any=bool(beside),
    )

    def dump() -> None:
        publishing.set(referring)
        pickler.dump(value)

    copy_context().run(dump)  # whatever happens, it does not stay set
    with interrupts.deferred():
        needs = modules.versions(pickler.needs) | arrays.version(pickler.needs)
        descriptions = [replace(one, modules=needs) for one in said] or [
            Description(
                describe.summary(value),
                describe.documentation(value),
                describe.place(value),
                PYTHON,
                needs,
                describe.copied_columns(value),
                describe.preview(value),
            )
        ]
    return Packed(names, descriptions, chunks, buffers, referring, pickler, value)


@dataclass(slots=True)
class Opened:
    """An object that is ready to be unpickled.

    Attributes
    ----------
    name : str
        What messages call it.
    layout : ObjectLayout
    data : bytes or memoryview
        The whole segment.
    needs : dict of str to Mapping
        The segments that it refers to, mapped.
    """

    name: str
    layout: ObjectLayout
    data: Any
    needs: dict[str, Mapped]

    @property
    def shares(self) -> bool:
        """Whether any memory of it is shared."""
        return bool(self.layout.buffers or self.needs)


def open_object(
    store: Lookup, row: SegmentRow, name: str, mode: Mode, world: World, *, trust: bool = False
) -> Opened:
    """Map an object, and all that it refers to that is not in `world` yet; nothing of it is run.

    Raises
    ------
    SegmentNotFoundError
        The segment, or one that it refers to, is gone.
    UntrustedError
        It is another member's of a group, and the caller does not `trust` the members.
    CorruptSegmentError
    """
    if not trust:
        store.require_trust(row, name)
    with store.opened(row) as (fd, status):
        data: Any = os.pread(fd, status.st_size, 0) if status.st_size <= _SMALL else b""
        layout = parse_object(data) if data else None
        if layout is None or layout.buffers:
            if not status.st_size:
                raise CorruptSegmentError(f"the segment of {name} is empty")
            mapping = world.mappings.get(row.id)
            if mapping is None:
                mapping = store.process.mappings.get_whole(row.id, fd, mode)
                world.mappings[row.id] = mapping
            data = segment.memory(mapping)
            layout = parse_object(data)
    needs = {
        needed: world.map(store, store.beside(row, needed), mode) for needed in layout.references
    }
    return Opened(name, layout, data, needs)


def map_segment(store: Lookup, row: SegmentRow, mode: Mode) -> Mapped:
    """Return a mapping of an object's segment, for what refers to an array in it."""
    with store.opened(row) as (fd, _):
        return store.process.mappings.get_whole(row.id, fd, mode)


def unpickle(store: Lookup, opened: Opened, world: World) -> Any:
    """Return the object, or the tuple of several. This runs code of who published it.

    Raises
    ------
    MissingModuleError
        It needs a package that this Python cannot import. Nothing of it was run.
    CorruptSegmentError
    """
    layout, data, name = opened.layout, opened.data, opened.name
    pickled = data[layout.offset : layout.offset + layout.pickled]
    if zlib.crc32(pickled) != layout.checksum:
        raise CorruptSegmentError(
            f"{name} was overwritten: its pickle is not what was published. Release the name and "
            "publish again"
        )
    modules.require(layout.description.modules, name)

    def load() -> Any:
        frozen.resolver.set(Resolving(store, opened.needs, world))
        classes.making.set(set())
        buffers = segment.split(data, layout.spans()) if layout.buffers else ()
        return pickle.loads(pickled, buffers=buffers)  # noqa: S301 - the file is this user's own

    try:
        value = copy_context().run(load)  # whatever happens, nothing of it stays set
    except JshmError:
        raise
    except Exception as error:
        error.add_note(f"{name} was being attached{_differences(layout.description)}")
        if isinstance(error, ValueError) and "read-only" in str(error) and _is_read_only(opened):
            error.add_note(
                "Its arrays are read-only here, and it writes into them while it is made: attach it with "
                "mode='c' (--mode c)"
            )
        raise
    if layout.parts and not (type(value) is tuple and len(value) == len(layout.parts)):
        raise CorruptSegmentError(f"the segment of {name} does not hold the values that it says")
    return value


def _is_read_only(opened: Opened) -> bool:
    whole = [opened.data] if opened.layout.buffers else []
    return any(memoryview(data).readonly for data in whole) or any(
        mapping.mode == "r" for mapping in opened.needs.values()
    )


def _differences(written: Description) -> str:
    """Return how what an object was written with differs from what is here."""
    others = [
        f"{top} {version} (here {here})"
        for top, version in written.modules.items()
        if version != (here := modules.version(top))
    ]
    if written.python != PYTHON:
        others.append(f"Python {written.python} (here {PYTHON})")
    return f"; it was written by {', '.join(others)}" if others else ""


def read_layout(store: Lookup, row: SegmentRow) -> ObjectLayout:
    """Return what an object's segment says of it; nothing is unpickled."""
    with store.opened(row) as (fd, _):
        return read_object_layout(fd)
