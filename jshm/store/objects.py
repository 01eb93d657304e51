"""Objects in and out of their segments: pickle, buffers, and what they say of themselves."""

from __future__ import annotations

import os
import pickle
import zlib
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import segment
from ..errors import CorruptSegmentError, JshmError, NotShareableError, UntrustedError
from ..identity import user_name
from ..layout import describe_array, is_plain
from ..object_layout import (
    Description,
    ObjectLayout,
    describe_object,
    parse_object,
    read_object_layout,
)
from ..pickling import Pickler, arrays, classes, describe, modules, numeric
from ..pickling.code import PYTHON
from ..pickling.pickler import Output
from ..pickling.preview import preview
from .references import Referring, publishing, resolving

if TYPE_CHECKING:
    from ..rows import SegmentRow
    from ..segment import Mapping, Mode
    from .draft import Buffer
    from .references import Segments

# Objects without buffers, up to so many bytes, are read and not mapped: that is faster.
_SMALL = 1 << 18
_PROTOCOL = 5


@dataclass(slots=True)
class Packed:
    """An object that is ready to be written.

    Attributes
    ----------
    layout : ObjectLayout
    pickle : list of bytes
    buffers : list of memoryview or ndarray
        Of the object's own memory: nothing is copied before it is written. An array that does not lie
        in memory as it is to be written is there itself.
    referring : Referring
        The segments that it needs.
    """

    layout: ObjectLayout
    pickle: list[bytes]
    buffers: list[Buffer]
    referring: Referring

    @property
    def nbytes(self) -> int:
        """Bytes to be written."""
        return self.layout.nbytes


def prepare(store: Segments, name: str, value: object) -> Packed | np.ndarray[Any, Any]:
    """Return an array as it is, and anything else packed.

    Raises
    ------
    NotShareableError
        Something in it cannot be pickled; says what and where.
    """
    return value if is_array(value) else _pack(store, name, value)  # type: ignore[return-value]


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


def _pack(store: Segments, name: str, value: object) -> Packed:
    """Pickle an object; its large parts stay where they are."""
    output = Output()
    chunks = output.chunks
    buffers: list[Buffer] = []
    pickler = Pickler(output, _PROTOCOL, lambda buffer: buffers.append(arrays.bytes_of(buffer)))
    pickler.name = name
    pickler.publishes = True
    referring = Referring(store)
    pickler.refer = referring.refer
    _ = store.presence.identity  # a first lease tells `sources` what this notebook is called

    def dump() -> None:
        publishing.set(referring)
        pickler.dump(value)

    copy_context().run(dump)  # whatever happens, it does not stay set
    checksum = 0
    for chunk in chunks:
        checksum = zlib.crc32(chunk, checksum)
    description = Description(
        describe.summary(value),
        describe.documentation(value),
        describe.place(value),
        PYTHON,
        modules.versions(pickler.needs) | numeric.version(pickler.needs),
        describe.copied_columns(value),
        preview(value),
    )
    layout = describe_object(
        sum(map(len, chunks)),
        checksum,
        [buffer.nbytes for buffer in buffers],
        sorted(referring.needs),
        description,
    )
    return Packed(layout, chunks, buffers, referring)


@dataclass(slots=True)
class Opened:
    """An object that is ready to be unpickled.

    Attributes
    ----------
    name, segment : str
        What messages call it, and where it is.
    layout : ObjectLayout
    data : bytes or memoryview
        The whole segment.
    needs : dict of str to Mapping
        The segments that it refers to, mapped.
    """

    name: str
    segment: str
    layout: ObjectLayout
    data: Any
    needs: dict[str, Mapping]

    @property
    def shares(self) -> bool:
        """Whether any memory of it is shared."""
        return bool(self.layout.buffers or self.needs)


def open_object(
    store: Segments, row: SegmentRow, name: str, mode: Mode, *, trust: bool = False
) -> Opened:
    """Map an object, and all that it refers to; nothing of it is run.

    Raises
    ------
    SegmentNotFoundError
        The segment, or one that it refers to, is gone.
    UntrustedError
        It is in the store of a group, and the caller does not `trust` its members.
    CorruptSegmentError
    """
    with segment.shared(store.path_of(row), store.directory.access) as (fd, status):
        group = store.directory.access.group
        if group and not trust:
            # Also one's own: members can write the registry, and what is whose they can arrange.
            raise UntrustedError(
                f"{name} is an object, shared with the group {group} (its file is of the user "
                f"{user_name(status.st_uid)}): attaching it runs code, as yours. Arrays never run code. "
                "If you trust all members with all that is yours: --trust (trust=True)"
            )
        data: Any = os.pread(fd, status.st_size, 0) if status.st_size <= _SMALL else b""
        layout = parse_object(data) if data else None
        if layout is None or layout.buffers:
            if not status.st_size:
                raise CorruptSegmentError(f"the segment of {name} is empty")
            mapping = store.presence.mappings.get_whole(row.id, fd, mode)
            data = segment.memory(mapping)
            layout = parse_object(data)
    needs = {needed: store.attach_segment(needed, mode) for needed in layout.references}
    return Opened(name, row.id, layout, data, needs)


def map_segment(store: Segments, row: SegmentRow, mode: Mode) -> Mapping:
    """Return a mapping of an object's segment, for what refers to an array in it."""
    with segment.shared(store.path_of(row), store.directory.access) as (fd, _):
        return store.presence.mappings.get_whole(row.id, fd, mode)


def unpickle(opened: Opened) -> Any:
    """Return the object. This runs code of who published it.

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
        resolving.set(opened.needs)
        classes.making.set(set())
        buffers = segment.parts(data, layout.spans()) if layout.buffers else ()
        return pickle.loads(pickled, buffers=buffers)  # noqa: S301 - the file is this user's own

    try:
        return copy_context().run(load)  # whatever happens, nothing of it stays set
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


def read_layout(store: Segments, row: SegmentRow) -> ObjectLayout:
    """Return what an object's segment says of it; nothing is unpickled."""
    with segment.shared(store.path_of(row), store.directory.access) as (fd, _):
        return read_object_layout(fd)
