"""Objects in segments: pickle them, and unpickle them as views of their segments."""

from __future__ import annotations

import os
import pickle
import zlib
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...errors import CorruptSegmentError, JshmError, Remedy
from ...pickling import Pickler, arrays, classes, describe, frozen, libraries, modules, sharing
from ...pickling.code import PYTHON
from ...pickling.writer import Output, bytes_of
from ...segment import file as segment_file
from ...segment.object_layout import Description, ObjectLayout, describe_object, parse_object
from ...system import signals
from .references import ObjectReferences, ObjectResolver, publishing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pickle import PickleBuffer

    import numpy as np

    from ...segment.file import Mapping as MappedSegment
    from ...segment.file import Mode
    from .lookup import Lookup
    from .new_segment import Buffer
    from .references import Attachment, NewArrays
    from .registry.rows import SegmentRow

# Smaller objects without buffers are read, and not mapped: that is faster.
_SMALL = 1 << 18
_PROTOCOL = 5


# -- pickle ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Pickled:
    """A pickled object, or several that share state; its buffers are still in the object's memory.

    Attributes
    ----------
    names : tuple of str
        Several values that share state are pickled as one tuple, and each has its name.
    descriptions : list of Description
        One for each name.
    pickle : list of bytes
    buffers : list of memoryview or ndarray
        Nothing is copied before it is written. An array is written in C order.
    references : ObjectReferences
    pickler : Pickler
    value : object
    """

    names: tuple[str, ...]
    descriptions: list[Description]
    pickle: list[bytes]
    buffers: list[Buffer]
    references: ObjectReferences
    pickler: Pickler
    value: object

    @property
    def nbytes(self) -> int:
        """Bytes to be written."""
        return sum(map(len, self.pickle)) + sum(buffer.nbytes for buffer in self.buffers)

    def layout(self, needs: Sequence[str]) -> ObjectLayout:
        """Return the layout of its segment, which refers to the segments `needs`."""
        checksum = 0
        for chunk in self.pickle:
            checksum = zlib.crc32(chunk, checksum)
        return describe_object(
            sum(map(len, self.pickle)),
            checksum,
            [buffer.nbytes for buffer in self.buffers],
            needs,
            *self.descriptions,
        )


def pickle_objects(store: Lookup, values: Mapping[str, object], new: NewArrays) -> list[Pickled]:
    """Pickle values; those that share state are pickled as one.

    Parameters
    ----------
    store : Lookup
    values : mapping of str to object
    new : NewArrays
        The arrays that are published together with the values.

    Raises
    ------
    NotShareableError
        Something in a value cannot be pickled; says what and where.
    """
    pickled = [_pickle(store, (name,), value, new) for name, value in values.items()]
    if len(pickled) == 1:
        return pickled

    def by_reference(array: np.ndarray[Any, Any]) -> bool:
        return segment_file.find_mapping(array) is not None or new.find(array) is not None

    found = []
    written = [sharing.Written(one.value, one.pickler, by_reference) for one in pickled]
    for group in sharing.together(written):
        ones = [pickled[i] for i in group]
        if len(ones) > 1:
            names = tuple(one.names[0] for one in ones)
            descriptions = [one.descriptions[0] for one in ones]
            found.append(_pickle(store, names, tuple(one.value for one in ones), new, descriptions))
        else:
            found += ones
    return found


def _pickle(
    store: Lookup,
    names: tuple[str, ...],
    value: object,
    new: NewArrays,
    described: Sequence[Description] = (),
) -> Pickled:
    """Pickle one object, or a tuple of several that were `described` already."""
    output = Output()
    buffers: list[Buffer] = []

    def take(buffer: PickleBuffer) -> bool:
        """Keep a buffer for the segment; return True to put it into the pickle."""
        memory = bytes_of(buffer)
        in_pickle = libraries.is_little(memory)
        if not in_pickle:
            buffers.append(memory)
        return in_pickle

    references = ObjectReferences(store, new)
    pickler = Pickler(
        output, _PROTOCOL, take, name=" and ".join(names), notebook=store.process.identity.label,
        publishes=True, refer=references.refer, refers_to_any=bool(new),
    )  # fmt: skip

    def dump() -> None:
        publishing.set(references)
        pickler.dump(value)

    copy_context().run(dump)  # an error leaves nothing set
    with signals.deferred():
        needs = modules.versions(pickler.needs) | arrays.version(pickler.needs)
        descriptions = [replace(one, modules=needs) for one in described] or [
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
    return Pickled(names, descriptions, output.chunks, buffers, references, pickler, value)


# -- unpickle --------------------------------------------------------------------------------------


@dataclass(slots=True)
class OpenObject:
    """An object that is mapped and not unpickled yet.

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
    needs: dict[str, MappedSegment]

    @property
    def shares(self) -> bool:
        """Whether any of its memory is shared."""
        return bool(self.layout.buffers or self.needs)


def open_object(
    store: Lookup, row: SegmentRow, name: str, mode: Mode, attachment: Attachment, *, trust: bool
) -> OpenObject:
    """Map an object and all segments that it refers to. Nothing of it is run.

    Raises
    ------
    SegmentNotFoundError
        The segment, or one that it refers to, is gone.
    UntrustedError
        It belongs to another member of a group, and the caller does not `trust` the members.
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
            mapping = attachment.mappings.get(row.id)
            if mapping is None:
                mapping = store.process.mappings.get_whole(row.id, fd, mode)
                attachment.mappings[row.id] = mapping
            data = segment_file.memory(mapping)
            layout = parse_object(data)
    needs = {
        needed: attachment.map(store, store.beside(row, needed), mode)
        for needed in layout.references
    }
    return OpenObject(name, layout, data, needs)


def unpickle(store: Lookup, opened: OpenObject, attachment: Attachment) -> Any:
    """Return the object, or the tuple of several. This runs its publisher's code.

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
            f"{name} was overwritten: its pickle is not what was published",
            remedy=Remedy("release", (name,), {}, "Release the name, then publish again"),
        )
    modules.require(layout.description.modules, name)

    def load() -> Any:
        frozen.resolver.set(ObjectResolver(store, opened.needs, attachment))
        classes.making.set(set())
        buffers = segment_file.split(data, layout.spans()) if layout.buffers else ()
        return pickle.loads(pickled, buffers=buffers)  # noqa: S301 - this user's, or a trusted member's

    try:
        value = copy_context().run(load)  # an error leaves nothing set
    except JshmError:
        raise
    except Exception as error:
        error.add_note(f"{name} was being attached{_differences(layout.description)}")
        if isinstance(error, ValueError) and "read-only" in str(error) and _is_read_only(opened):
            error.add_note(
                "Its arrays are read-only here, and it writes into them while it is loaded: attach it "
                "with mode 'c'"
            )
        raise
    if layout.parts and not (type(value) is tuple and len(value) == len(layout.parts)):
        raise CorruptSegmentError(
            f"the segment of {name} does not hold the {len(layout.parts)} values that its header lists"
        )
    return value


def _is_read_only(opened: OpenObject) -> bool:
    data = [opened.data] if opened.layout.buffers else []
    return any(memoryview(one).readonly for one in data) or any(
        mapping.mode == "r" for mapping in opened.needs.values()
    )


def _differences(written: Description) -> str:
    """Return how this environment differs from the publisher's: versions of Python and of packages."""
    others = [
        f"{top} {version} (here {here})"
        for top, version in written.modules.items()
        if version != (here := modules.version(top))
    ]
    if written.python != PYTHON:
        others.append(f"Python {written.python} (here {PYTHON})")
    return f"; it was written by {', '.join(others)}" if others else ""
