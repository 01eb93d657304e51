"""What is inside an object's segment, and every bounds check on it.

::

    magic, format, length and CRC-32 of the header   20 bytes, little-endian
    header                                           JSON, UTF-8
    pickle                                           protocol 5, at the next multiple of 64
    buffers                                          each at the next multiple of 64, or of 4096
    records                                          at the next multiple of 64 (`jshm.segment.trailer`)

The header says all that is needed for lists and previews, and for the registry to be rebuilt; to
look at an object, nothing is unpickled.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import CorruptSegmentError, FormatVersionError, NotShareableError
from .file import ID
from .trailer import aligned, alignment, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

OBJECT_MAGIC = b"\x93JSHMOBJ"
# Raised by changes that a jshm which does not know them would misread; fields of the header are added
# freely.
# 1 was never released: its pickles name functions that are gone.
OBJECT_FORMAT = 2
_PRELUDE = struct.Struct("<8sIII")
# Bytes; a million buffers take about eight.
_HEADER_LIMIT = 64 << 20
# Files up to so many bytes are read and not mapped: that is faster.
_READ = 1 << 16
# Headers of so few bytes are remembered, parsed.
_SMALL = 1 << 14


@dataclass(frozen=True, slots=True)
class Description:
    """What an object is, as its publisher saw it.

    Attributes
    ----------
    summary : str
        In a few words: ``function train(X, lr=0.1)``.
    doc : str
        First line of its docstring.
    place : str
        Where it was defined.
    python : str
        Version of the Python that wrote it.
    modules : dict of str to str
        Packages that it needs, and their versions.
    columns : list of str
        Columns of a table that are copied, not shared: they hold Python objects.
    preview : dict
        What is shown of it, in the terms of `jshm.pickling.describe.preview`; empty if nothing is. A reader
        must expect anything in it: another version of jshm may have written it.
    """

    summary: str
    doc: str = ""
    place: str = ""
    python: str = ""
    modules: dict[str, str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    preview: dict[str, Any] = field(default_factory=dict)


_DESCRIBED = tuple(field.name for field in fields(Description))


@dataclass(frozen=True, slots=True)
class ObjectLayout:
    """Where an object's parts lie in its segment.

    Attributes
    ----------
    header : bytes
        Prelude, magic included, and JSON.
    pickled : int
        Bytes of the pickle.
    checksum : int
        CRC-32 of the pickle.
    buffers : tuple of int
        Bytes of each out-of-band buffer.
    references : tuple of str
        Ids of the segments that it needs.
    description : Description
        Of several values, that of the first.
    parts : tuple of Description
        Of each value, where there are several: the pickle is a tuple of them. Else empty.
    """

    header: bytes = field(repr=False)
    pickled: int
    checksum: int
    buffers: tuple[int, ...]
    references: tuple[str, ...]
    description: Description
    parts: tuple[Description, ...] = ()
    offset: int = field(init=False, repr=False, compare=False)
    end: int = field(init=False, repr=False, compare=False)

    magic: ClassVar[bytes] = OBJECT_MAGIC

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", aligned(len(self.header)))
        spans = self.spans()
        object.__setattr__(self, "end", spans[-1][1] if spans else self.offset + self.pickled)

    @property
    def records(self) -> int:
        """Where the records start."""
        return aligned(self.end)

    @property
    def nbytes(self) -> int:
        """Bytes of pickle and buffers."""
        return self.pickled + sum(self.buffers)

    def part(self, part: int) -> ObjectLayout:
        """Return the layout with the description of one value: from 1, and 0 where there is only one.

        Raises
        ------
        CorruptSegmentError
            There is no such value.
        """
        if not part and not self.parts:
            return self
        if not 0 < part <= len(self.parts):
            raise CorruptSegmentError(
                f"value {part} of {len(self.parts)} is asked for: the registry is damaged, and "
                "`jshm check --fix` rebuilds it"
            )
        return replace(self, description=self.parts[part - 1])

    def spans(self) -> list[tuple[int, int]]:
        """Return where each buffer starts and ends."""
        found, end = [], self.offset + self.pickled
        for length in self.buffers:
            start = aligned(end, alignment(length))
            end = start + length
            found.append((start, end))
        return found


def describe_object(
    pickled: int,
    checksum: int,
    buffers: Sequence[int],
    references: Sequence[str],
    *descriptions: Description,
) -> ObjectLayout:
    """Return the layout of an object, or of several; for the parameters see `ObjectLayout`.

    Raises
    ------
    NotShareableError
        It has too many buffers.
    """
    content: dict[str, Any] = {
        "pickle": [pickled, checksum],
        "buffers": buffers,
        "references": references,
        "what": _said(descriptions[0]),
    }
    parts = descriptions if len(descriptions) > 1 else ()
    if parts:
        content["parts"] = [_said(part) for part in parts]
    body = encode(content).encode(errors="replace")
    if len(body) > _HEADER_LIMIT:
        raise NotShareableError(
            f"{len(buffers):,} buffers are too many for one object: share fewer, larger arrays"
        )
    header = _PRELUDE.pack(OBJECT_MAGIC, OBJECT_FORMAT, len(body), zlib.crc32(body)) + body
    return ObjectLayout(
        header, pickled, checksum, tuple(buffers), tuple(references), descriptions[0], parts
    )


def _said(description: Description) -> dict[str, Any]:
    return {name: getattr(description, name) for name in _DESCRIBED}


def read_object_layout(fd: int) -> ObjectLayout:
    """Parse and check the header of an open segment; see `parse_object`."""
    size = os.fstat(fd).st_size
    if size <= _READ:
        return parse_object(os.pread(fd, size, 0))
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
        return parse_object(mapped)


def parse_object(data: Any) -> ObjectLayout:
    """Parse and check the header of an object's segment.

    Parameters
    ----------
    data : bytes-like
        The whole file.

    Raises
    ------
    CorruptSegmentError
        Not a header that jshm wrote, or parts that reach beyond the file.
    FormatVersionError
        A newer jshm wrote it.
    """
    if len(data) < _PRELUDE.size:
        raise CorruptSegmentError("not a complete object")
    magic, version, length, checksum = _PRELUDE.unpack_from(data)
    if magic != OBJECT_MAGIC:
        raise CorruptSegmentError("not an object that jshm wrote: it has another magic")
    if version < 1:
        raise CorruptSegmentError("not an object that jshm wrote: it has no format")
    if version < OBJECT_FORMAT:
        raise FormatVersionError(
            f"the object has format {version}, from before the first release of jshm, and this jshm knows "
            f"{OBJECT_FORMAT}: release the name and publish again"
        )
    if version > OBJECT_FORMAT:
        raise FormatVersionError(
            f"the object has format {version}, and this jshm knows {OBJECT_FORMAT}: upgrade jshm in "
            "this environment"
        )
    body = bytes(data[_PRELUDE.size : _PRELUDE.size + min(length, _HEADER_LIMIT)])
    if len(body) != length or zlib.crc32(body) != checksum:
        raise CorruptSegmentError("the header of an object was truncated or overwritten")
    parse = _parse_again if length <= _SMALL else _parse
    try:
        layout = parse(bytes(data[: _PRELUDE.size]) + body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptSegmentError(f"unreadable header of an object: {error}") from error
    if layout.end > len(data):
        raise CorruptSegmentError(f"truncated: {layout.end} bytes expected, {len(data)} found")
    return layout


def _parse(header: bytes) -> ObjectLayout:
    content = json.loads(header[_PRELUDE.size :])
    pickled, checksum = content["pickle"]
    buffers, references = tuple(content["buffers"]), tuple(content["references"])
    if not all(type(n) is int and n >= 0 for n in (pickled, checksum, *buffers)):
        raise ValueError("a size that is none")
    if not all(isinstance(r, str) and ID.fullmatch(r) for r in references):
        raise ValueError("a reference to what is no segment")
    description = _parse_description(content["what"])
    parts = tuple(map(_parse_description, content.get("parts", ())))
    if "parts" in content and len(parts) < 2:  # noqa: PLR2004 - it is there for several values
        raise ValueError(f"{len(parts)} values instead of several")
    return ObjectLayout(header, pickled, checksum, buffers, references, description, parts)


def _parse_description(what: dict[str, Any]) -> Description:
    encode(what).encode()  # half a surrogate pair is no text
    preview = what.get("preview")
    return Description(
        **{name: str(what.get(name, "")) for name in ("summary", "doc", "place", "python")},
        modules={str(name): str(version) for name, version in what["modules"].items()},
        columns=[str(name) for name in what["columns"]],
        preview=preview if isinstance(preview, dict) else {},
    )


# What is attached again and again is parsed once.
_parse_again = lru_cache(maxsize=256)(_parse)
