"""The layout of an object's segment, and every bounds check on it.

::

    magic, format, length and CRC-32 of the header   20 bytes, little-endian
    header                                           JSON, UTF-8
    pickle                                           protocol 5, at the next multiple of 64
    buffers                                          each at the next multiple of 64, or of 4096
    trailer                                          at the next multiple of 64 (`jshm.segment.trailer`)

The header contains everything that lists, previews and a rebuild of the registry need. Nothing is
unpickled to look at an object.
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

from ..errors import CorruptSegmentError, FormatVersionError, NotShareableError, Remedy
from .file import ID
from .trailer import aligned, alignment, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

OBJECT_MAGIC = b"\x93JSHMOBJ"
# Increased by changes that an older jshm would misread. New fields of the header do not count.
# 1 was never released: its pickles name functions that are gone.
OBJECT_FORMAT = 2
_PRELUDE = struct.Struct("<8sIII")
# Bytes; a million buffers take about eight.
_HEADER_LIMIT = 64 << 20
# Bytes. Smaller files are read and not mapped, which is faster.
_READ = 1 << 16
# Bytes. Parsed headers up to this length are cached.
_SMALL = 1 << 14


@dataclass(frozen=True, slots=True)
class Description:
    """A description of an object, made by its publisher.

    Attributes
    ----------
    summary : str
        A few words: ``function train(X, lr=0.1)``.
    doc : str
        First line of its docstring.
    place : str
        The file or cell that defines it.
    python : str
        Python version of the publisher.
    modules : dict of str to str
        The packages that it needs, and their versions.
    columns : list of str
        The columns of a table that are copied and not shared, because they hold Python objects.
    preview : dict
        The preview, in the terms of `jshm.pickling.describe.preview`; empty if there is none. Another
        version of jshm may have written it, so readers must expect any content.
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
    """The positions of an object's parts in its segment.

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
        The object's; of several values, the first one's.
    parts : tuple of Description
        Each value's, if there are several and the pickle is a tuple of them; else empty.
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
    def trailer_offset(self) -> int:
        """The start of the trailer."""
        return aligned(self.end)

    @property
    def nbytes(self) -> int:
        """Bytes of pickle and buffers."""
        return self.pickled + sum(self.buffers)

    def part(self, part: int) -> ObjectLayout:
        """Return the layout with the description of one value: counted from 1; 0 if there is only one.

        Raises
        ------
        CorruptSegmentError
            There is no such value.
        """
        if not part and not self.parts:
            return self
        if not 0 < part <= len(self.parts):
            raise CorruptSegmentError(
                f"the registry names value {part} of a segment that has {len(self.parts)}: it is damaged",
                remedy=Remedy("check", (), {"fix": True}, "Rebuild it"),
            )
        return replace(self, description=self.parts[part - 1])

    def spans(self) -> list[tuple[int, int]]:
        """Return the start and the end of each buffer."""
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
    """Return the layout of an object, or of several values; for the parameters see `ObjectLayout`.

    Raises
    ------
    NotShareableError
        It has too many buffers.
    """
    content: dict[str, Any] = {
        "pickle": [pickled, checksum],
        "buffers": buffers,
        "references": references,
        "what": _as_dict(descriptions[0]),
    }
    parts = descriptions if len(descriptions) > 1 else ()
    if parts:
        content["parts"] = [_as_dict(part) for part in parts]
    body = encode(content).encode(errors="replace")
    if len(body) > _HEADER_LIMIT:
        raise NotShareableError(
            f"{len(buffers):,} buffers are too many for one object: share fewer, larger arrays"
        )
    header = _PRELUDE.pack(OBJECT_MAGIC, OBJECT_FORMAT, len(body), zlib.crc32(body)) + body
    return ObjectLayout(
        header, pickled, checksum, tuple(buffers), tuple(references), descriptions[0], parts
    )


def _as_dict(description: Description) -> dict[str, Any]:
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
        The header is not one that jshm wrote, or parts reach beyond the end of the file.
    FormatVersionError
        A newer jshm wrote it, or one from before the first release.
    """
    if len(data) < _PRELUDE.size:
        raise CorruptSegmentError("not a complete object")
    magic, version, length, checksum = _PRELUDE.unpack_from(data)
    if magic != OBJECT_MAGIC:
        raise CorruptSegmentError("not an object that jshm wrote: wrong magic")
    if version < 1:
        raise CorruptSegmentError("not an object that jshm wrote: format 0")
    if version != OBJECT_FORMAT:
        advice = "upgrade jshm in this environment"
        if version < OBJECT_FORMAT:
            advice = "it is from before the first release, so release the name and publish again"
        raise FormatVersionError(
            f"the object has format {version}, and this jshm knows {OBJECT_FORMAT}: {advice}"
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
        raise ValueError("invalid size")
    if not all(isinstance(r, str) and ID.fullmatch(r) for r in references):
        raise ValueError("invalid segment id")
    description = _parse_description(content["what"])
    parts = tuple(map(_parse_description, content.get("parts", ())))
    if "parts" in content and len(parts) < 2:  # noqa: PLR2004 - only several values have parts
        raise ValueError(f"{len(parts)} values instead of several")
    return ObjectLayout(header, pickled, checksum, buffers, references, description, parts)


def _parse_description(what: dict[str, Any]) -> Description:
    encode(what).encode()  # raises at half a surrogate pair
    preview = what.get("preview")
    return Description(
        **{name: str(what.get(name, "")) for name in ("summary", "doc", "place", "python")},
        modules={str(name): str(version) for name, version in what["modules"].items()},
        columns=[str(name) for name in what["columns"]],
        preview=preview if isinstance(preview, dict) else {},
    )


# An object that is attached repeatedly is parsed once.
_parse_again = lru_cache(maxsize=256)(_parse)
