"""The header of an object's segment is read back exactly; anything else is a typed error.

Nothing here trusts `jshm.segment.object_layout` for what a file says: headers are taken apart, and made, with
`struct`, `json` and `zlib` alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
import tempfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jshm
from jshm.segment import object_layout
from jshm.segment.object_layout import (
    OBJECT_FORMAT,
    Description,
    describe_object,
    parse_object,
    read_object_layout,
)
from jshm.store import default_store
from jshm.store.local.registry.rows import SegmentRow
from jshm.store.local.store import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.segment.object_layout import ObjectLayout

MAGIC = b"\x93JSHMOBJ"
PRELUDE = struct.Struct("<8sIII")
RECORD = struct.Struct("<8sII")
REFUSED = (jshm.CorruptSegmentError, jshm.FormatVersionError)

WHAT = {
    "summary": "dict of 2",
    "doc": "",
    "place": "",
    "python": "3.11",
    "modules": {},
    "columns": [],
}
CONTENT = {
    "pickle": [10, 7],
    "buffers": [100, 0, 3],
    "references": ["0123456789abcdef"],
    "what": WHAT,
}
ROOM = 4096


def crafted(content: Any, version: int = OBJECT_FORMAT, *, raw: bytes | None = None) -> bytes:
    """A header of any content, with the right length and checksum."""
    body = json.dumps(content).encode() if raw is None else raw
    return PRELUDE.pack(MAGIC, version, len(body), zlib.crc32(body)) + body


def taken_apart(data: bytes) -> dict[str, Any]:
    """The content of a header, read by the format's description alone."""
    magic, version, length, checksum = PRELUDE.unpack_from(data)
    body = data[PRELUDE.size : PRELUDE.size + length]
    assert (magic, version, checksum) == (MAGIC, OBJECT_FORMAT, zlib.crc32(body))
    found: dict[str, Any] = json.loads(body)
    return found


def up(offset: int) -> int:
    """The next multiple of 64."""
    return (offset + 63) // 64 * 64


# -- write and read back ---------------------------------------------------------------------------

segments = st.text("0123456789abcdef", min_size=16, max_size=16)
descriptions = st.builds(
    Description,
    st.text(),
    st.text(),
    st.text(),
    st.text(),
    st.dictionaries(st.text(), st.text(), max_size=3),
    st.lists(st.text(), max_size=3),
    st.fixed_dictionaries(
        {}, optional={"text": st.text(), "truncated": st.booleans(), "total": st.integers()}
    ),
)
layouts = st.tuples(
    st.integers(0, 500), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 300), max_size=6),
    st.lists(segments, max_size=3), descriptions,
)  # fmt: skip


@given(layouts)
@settings(max_examples=80, deadline=None)
def test_a_described_layout_is_parsed_exactly(parts: Any) -> None:
    pickled, checksum, buffers, references, description = parts
    layout = describe_object(*parts)
    data = layout.header.ljust(layout.end, b"\0")
    parsed = parse_object(data)
    assert parsed == layout
    assert (parsed.pickled, parsed.checksum, parsed.buffers) == (pickled, checksum, tuple(buffers))
    assert (parsed.references, parsed.description) == (tuple(references), description)
    content = taken_apart(data)
    assert content["pickle"] == [pickled, checksum]
    assert (content["buffers"], content["references"]) == (buffers, references)
    assert content["what"]["summary"] == description.summary
    assert content["what"]["modules"] == description.modules
    assert content["what"]["preview"] == description.preview
    # All positions follow from the lengths: pickle, buffers and trailer, each at a multiple of 64.
    position = up(len(layout.header)) + pickled
    assert parsed.offset == up(len(layout.header))
    for (start, end), length in zip(parsed.spans(), buffers, strict=True):
        assert (start, end) == (up(position), up(position) + length)
        position = end
    assert (parsed.end, parsed.trailer_offset) == (position, up(position))
    assert parsed.nbytes == pickled + sum(buffers)


@given(layouts)
@settings(max_examples=30, deadline=None)
def test_one_byte_less_than_its_parts_is_truncated(parts: Any) -> None:
    layout = describe_object(*parts)
    if layout.end > len(layout.header):
        with pytest.raises(jshm.CorruptSegmentError):
            parse_object(layout.header.ljust(layout.end - 1, b"\0"))
    for end in (0, 19, 20, len(layout.header) - 1):
        with pytest.raises(jshm.CorruptSegmentError):
            parse_object(layout.header[:end])


@pytest.mark.parametrize("length", [100, 1 << 16, (1 << 16) + 1, 1 << 20, 1 << 36])
def test_read_from_a_file(tmp_path: Path, length: int) -> None:
    """It is read or mapped, even if the file is larger than memory."""
    layout = describe_object(50, 1, [length], [], Description("x"))
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(layout.header)
        file.truncate(layout.end)
        assert read_object_layout(file.fileno()) == layout
        file.truncate(layout.end - 1)
        with pytest.raises(jshm.CorruptSegmentError, match="truncated"):
            read_object_layout(file.fileno())
        file.truncate(0)
        with pytest.raises(jshm.CorruptSegmentError):
            read_object_layout(file.fileno())


def test_half_surrogates_are_not_written() -> None:
    layout = describe_object(0, 0, [], [], Description("a\ud800b", columns=["\udfff"]))
    parsed = parse_object(layout.header.ljust(layout.end, b"\0"))
    assert (parsed.description.summary, parsed.description.columns) == ("a?b", ["?"])


def test_too_many_buffers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_layout, "_HEADER_LIMIT", 1000)
    with pytest.raises(jshm.NotShareableError, match="1,000 buffers are too many"):
        describe_object(0, 0, [8] * 1000, [], Description(""))
    whole = crafted({**CONTENT, "buffers": [0] * 1000}).ljust(1 << 20, b"\0")
    with pytest.raises(jshm.CorruptSegmentError):
        parse_object(whole)


# -- invalid headers -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> bytes:
    data = crafted(CONTENT).ljust(ROOM, b"\0")
    assert parse_object(data).buffers == (100, 0, 3)
    return data


@pytest.mark.parametrize("mask", [0x01, 0x02, 0x20, 0x80, 0xFF])
def test_every_byte_of_the_header_is_covered(whole: bytes, mask: int) -> None:
    length = PRELUDE.size + PRELUDE.unpack_from(whole)[2]
    for position in range(length):
        damaged = bytearray(whole)
        damaged[position] ^= mask
        with pytest.raises(REFUSED):
            parse_object(bytes(damaged))


def test_format_zero_is_corrupt(whole: bytes) -> None:
    with pytest.raises(REFUSED):
        parse_object(crafted(CONTENT, version=0).ljust(ROOM, b"\0"))


def test_a_format_that_was_never_released_says_so() -> None:
    with pytest.raises(jshm.FormatVersionError, match="before the first release"):
        parse_object(crafted(CONTENT, version=1).ljust(ROOM, b"\0"))


@pytest.mark.parametrize("version", [OBJECT_FORMAT + 1, 255, 1 << 16, 2**32 - 1])
def test_a_newer_format_is_refused(version: int) -> None:
    with pytest.raises(jshm.FormatVersionError, match="upgrade jshm"):
        parse_object(crafted(CONTENT, version).ljust(ROOM, b"\0"))


@pytest.mark.parametrize("length", [0, 1, 211, 2**31, 2**32 - 1])
def test_a_wrong_length_is_corrupt(whole: bytes, length: int) -> None:
    magic, version, _, checksum = PRELUDE.unpack_from(whole)
    with pytest.raises(jshm.CorruptSegmentError):
        parse_object(PRELUDE.pack(magic, version, length, checksum) + whole[PRELUDE.size :])


BAD: dict[str, Any] = {
    "a negative pickle": {**CONTENT, "pickle": [-1, 7]},
    "a huge pickle": {**CONTENT, "pickle": [2**63, 7]},
    "beyond all": {**CONTENT, "pickle": [10**40, 7]},
    "a pickle that is just too long": {**CONTENT, "pickle": [ROOM, 7]},
    "a float": {**CONTENT, "pickle": [10.0, 7]},
    "a truth": {**CONTENT, "pickle": [True, 7]},
    "a negative checksum": {**CONTENT, "pickle": [10, -7]},
    "no checksum": {**CONTENT, "pickle": [10]},
    "too much of it": {**CONTENT, "pickle": [10, 7, 7]},
    "a pickle of text": {**CONTENT, "pickle": "ab"},
    "a pickle of nothing": {**CONTENT, "pickle": None},
    "a negative buffer": {**CONTENT, "buffers": [-1]},
    # Together they end inside the file.
    "buffers that cancel out": {**CONTENT, "buffers": [2**40, -(2**40)]},
    "a huge buffer": {**CONTENT, "buffers": [2**63]},
    "many that do not fit": {**CONTENT, "buffers": [1] * 100},
    "empty ones that do not fit": {**CONTENT, "buffers": [*[1] * 61, ROOM]},
    "a buffer of text": {**CONTENT, "buffers": ["1"]},
    "buffers of text": {**CONTENT, "buffers": "ab"},
    "buffers of a buffer": {**CONTENT, "buffers": [[1]]},
    "a number of buffers": {**CONTENT, "buffers": 3},
    "a reference to a path": {**CONTENT, "references": ["../../etc/passwd"]},
    "too short": {**CONTENT, "references": ["0" * 15]},
    "too long": {**CONTENT, "references": ["0" * 17]},
    "a line more": {**CONTENT, "references": ["0" * 16 + "\n"]},
    "capitals": {**CONTENT, "references": ["ABCDEFABCDEFABCD"]},
    "other digits": {**CONTENT, "references": ["\u0661" * 16]},
    "a number": {**CONTENT, "references": [1]},
    "references of nothing": {**CONTENT, "references": None},
    "not said what": {k: v for k, v in CONTENT.items() if k != "what"},
    "no buffers": {k: v for k, v in CONTENT.items() if k != "buffers"},
    "what: nothing": {**CONTENT, "what": None},
    "what: a list": {**CONTENT, "what": []},
    "what: no modules": {**CONTENT, "what": {k: v for k, v in WHAT.items() if k != "modules"}},
    "modules in a list": {**CONTENT, "what": {**WHAT, "modules": ["numpy"]}},
    "a number of columns": {**CONTENT, "what": {**WHAT, "columns": 3}},
    "empty": {}, "a list": [], "a bare number": 5, "nothing": None, "text": "pickle",
}  # fmt: skip
RAW = {
    "nested": b"[" * 200_000 + b"]" * 200_000,
    "nested where a buffer is": json.dumps(CONTENT).replace("100", "[" * 100_000 + "]" * 100_000).encode(),
    "no text": b'"\xff\xfe\xfd"',
    "digits": json.dumps(CONTENT).replace("100", "9" * 5000).encode(),
    "infinite": json.dumps(CONTENT).replace("100", "Infinity").encode(),
    "no number": json.dumps(CONTENT).replace("100", "NaN").encode(),
    "exponent": json.dumps(CONTENT).replace("100", "1e2").encode(),
    "not closed": json.dumps(CONTENT).encode()[:-1],
    "zeros": bytes(100),
    "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_wrong_json_with_a_good_checksum_is_corrupt(what: str) -> None:
    with pytest.raises(jshm.CorruptSegmentError):
        parse_object(crafted(BAD[what]).ljust(ROOM, b"\0"))


@pytest.mark.parametrize("what", RAW)
def test_other_text_with_a_good_checksum_is_corrupt(what: str) -> None:
    with pytest.raises(jshm.CorruptSegmentError):
        parse_object(crafted(None, raw=RAW[what]).ljust(1 << 20, b"\0"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("0" * 16),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(anything)
@settings(max_examples=50, deadline=None)
def test_a_preview_is_any_dict(preview: Any) -> None:
    data = crafted({**CONTENT, "what": {**WHAT, "preview": preview}}).ljust(ROOM, b"\0")
    layout = parsed_or_refused(data)
    if layout is not None:
        found = layout.description.preview
        assert json.dumps(found) == json.dumps(preview if isinstance(preview, dict) else {})


def parsed_or_refused(data: bytes) -> ObjectLayout | None:
    """If a header is accepted, all parts are inside the file."""
    try:
        layout = parse_object(data)
    except REFUSED:
        return None
    assert all(0 < start <= end <= len(data) for start, end in layout.spans())
    assert 0 < layout.offset <= layout.end <= len(data)
    assert all(len(r) == 16 and set(r) <= set("0123456789abcdef") for r in layout.references)
    return layout


# -- in a store: everything is checked before anything is unpickled --------------------------------


class Tripwire:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.open, (self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC)


class Trap:
    """An object under the name `trap`, which notices that it was unpickled."""

    def __init__(self, directory: Path, also: Any) -> None:
        self.marker = str(directory / "unpickled")
        jshm.publish("trap", [Tripwire(self.marker), also])
        self.path = default_store().location("trap")
        os.chmod(self.path, 0o600)
        with open(self.path, "rb") as file:
            self.whole = file.read()
        self.length = PRELUDE.size + PRELUDE.unpack_from(self.whole)[2]
        self.pickled, _ = taken_apart(self.whole)["pickle"]

    def went_off(self) -> bool:
        there = os.path.exists(self.marker)
        if there:
            os.unlink(self.marker)
        return there

    def write(self, content: bytes) -> None:
        """In place, as an accident would; the length as well."""
        with open(self.path, "r+b", buffering=0) as file:
            file.write(content)
            file.truncate(len(content))


@pytest.fixture(params=["read", "mapped"])
def trap(store_dir: str, tmp_path: Path, request: pytest.FixtureRequest) -> Trap:
    """Without buffers a segment is read, with buffers it is mapped: two code paths with checks."""
    return Trap(tmp_path, np.arange(200.0) if request.param == "mapped" else None)


def test_the_trap_works(trap: Trap) -> None:
    fd = jshm.attach("trap")[0]
    os.close(fd)
    assert trap.went_off()
    # And without jshm: the pickle is at the position that the header says.
    start = up(trap.length)
    assert trap.whole[start : start + 1] == pickle.PROTO
    assert trap.whole[start + trap.pickled - 1 : start + trap.pickled] == pickle.STOP


def test_lists_and_previews_unpickle_nothing(trap: Trap) -> None:
    jshm.segments()
    assert jshm.info("trap").kind == "object"
    jshm.check()
    jshm.gc()
    default_store().registry.close()
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(default_store().directory.registry + ending)
    assert jshm.info("trap").version == 1  # rebuilt
    jshm.release("trap")
    assert not trap.went_off()


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_a_changed_byte_is_noticed_before_unpickling(trap: Trap, mask: int) -> None:
    start = up(trap.length)
    positions = [*range(trap.length), *range(start, start + trap.pickled)]
    for position in positions:
        damaged = bytearray(trap.whole)
        damaged[position] ^= mask
        trap.write(bytes(damaged))
        expected = jshm.CorruptSegmentError if position >= start else REFUSED
        with pytest.raises(expected):
            jshm.attach("trap", "c" if position % 2 else "r")
        assert not trap.went_off(), position
    trap.write(trap.whole)
    os.close(jshm.attach("trap")[0])
    assert trap.went_off()


def test_truncation_is_noticed_before_unpickling(trap: Trap) -> None:
    end = parse_object(trap.whole).end
    for length in [*range(0, end, 13), end - 1]:
        trap.write(trap.whole[:length])
        with pytest.raises(REFUSED):
            jshm.attach("trap")
        with pytest.raises(REFUSED):
            jshm.info("trap")
        assert not trap.went_off(), length
    trap.write(trap.whole[:end])  # only the trailer is lost
    os.close(jshm.attach("trap")[0])
    assert trap.went_off()


# -- a store that finds such files but no registry -------------------------------------------------


@pytest.fixture
def rebuilt(store_dir: str) -> Iterator[Callable[..., LocalStore]]:
    """A store that finds files but no registry."""
    made: list[LocalStore] = []

    def rebuild(**files: bytes) -> LocalStore:
        root = os.path.join(store_dir, f"rebuilt{len(made)}")
        os.makedirs(root + "/segments", 0o700)
        os.chmod(root, 0o700)
        for name, content in files.items():
            with open(f"{root}/segments/{name}", "wb") as file:
                file.write(content)
            os.chmod(file.name, 0o400)
        made.append(LocalStore(root))
        return made[-1]

    yield rebuild
    for store in made:
        store.close()


@pytest.fixture
def file(store_dir: str) -> bytes:
    """The file of O, ``{"a": 1}``, whose header the tests replace."""
    jshm.publish("O", {"a": 1}, keep=True, note="the note")
    with open(default_store().location("O"), "rb") as file:
        return file.read()


def with_header(file: bytes, **changes: Any) -> bytes:
    """The same pickle and trailer below another header with the right checksum."""
    old = parse_object(file)
    assert old.buffers == ()
    content = {**taken_apart(file), **changes}
    header = crafted(content)
    end = up(len(header)) + old.pickled
    for size in content["buffers"]:
        end = up(end) + size
    pickled = file[old.offset : old.end]
    start = (header.ljust(up(len(header)), b"\0") + pickled).ljust(end, b"\0")
    return start.ljust(up(end), b"\0") + file[old.trailer_offset :]


def exercise(store: LocalStore) -> None:
    """Call everything that reads the store. It may refuse, but must not fail otherwise."""
    for name in store.names():
        try:
            store.attach([name])
            store.info(name)
        except jshm.JshmError:
            pass
    store.segments()
    store.publish({"fresh": {"a": np.arange(3)}})
    store.release([name for name in store.names() if name != "fresh"], force=True)
    store.gc()
    store.check(fix=True)
    assert store.check() == []
    assert store.attach(["fresh"])[0].value["a"].tolist() == [0, 1, 2]


ID, OTHER = "0123456789abcdef", "fedcba9876543210"


def test_a_complete_file_is_restored(file: bytes, rebuilt: Any) -> None:
    store = rebuilt(**{f"{ID}.jshm": with_header(file)})
    assert store.names() == ["O"]
    assert store.attach(["O"])[0].value == {"a": 1}
    info = store.info("O")
    assert (info.summary, info.note, info.keep, info.kind) == (
        "dict of 1",
        "the note",
        True,
        "object",
    )
    exercise(store)


@pytest.mark.parametrize(
    "changes",
    [
        {"references": [OTHER]},  # it is not there
        {"references": [ID]},  # itself
        {"references": [OTHER, OTHER]},
        {"what": {**WHAT, "summary": "\0"}},
        {"what": {**WHAT, "summary": "x" * 100_000}},
        {"what": {**WHAT, "summary": ["a", {"b": 1}]}},
        {"what": {**WHAT, "modules": {"no such package": "1"}}},
        {"what": {**WHAT, "modules": {"..": "1", "": "2", "os.path.x": "3"}}},
        {"what": {**WHAT, "summary": "\ud800"}},
        {"what": {**WHAT, "preview": "x" * 100_000}},
        {"what": {**WHAT, "preview": {"text": "\ud800"}}},
        {"what": {**WHAT, "preview": {"rows": [[["a"]]], "total": -1}}},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_strange_header_breaks_nothing(file: bytes, rebuilt: Any, changes: Any) -> None:
    store = rebuilt(**{f"{ID}.jshm": with_header(file, **changes)})
    exercise(store)


def test_two_segments_that_refer_to_each_other(file: bytes, rebuilt: Any) -> None:
    store = rebuilt(
        **{
            f"{ID}.jshm": with_header(file, references=[OTHER]),
            f"{OTHER}.jshm": with_header(file, references=[ID]),
        }
    )
    # Both claim to be the same version: neither is lost.
    first, second = sorted(store.names())
    assert (first, second[:7]) == ("O", "O.lost-")
    exercise(store)


@pytest.mark.parametrize("cut", [0, 5, 8, 20, 100, -1])
def test_a_torn_file_is_garbage(file: bytes, rebuilt: Any, cut: int) -> None:
    end = parse_object(file).end
    store = rebuilt(**{f"{ID}.jshm": file[: end - 1 if cut < 0 else cut]})
    assert store.names() == []
    exercise(store)


def test_a_trailer_that_calls_an_object_writable(file: bytes, rebuilt: Any) -> None:
    start = file.index(b"\x93JSHMREC")
    _, length, _ = RECORD.unpack_from(file, start)
    content = json.loads(file[start + RECORD.size : start + RECORD.size + length])
    body = json.dumps({**content, "writable": True}).encode()
    record = (RECORD.pack(b"\x93JSHMREC", len(body), zlib.crc32(body)) + body).ljust(1024, b"\0")
    named = with_header(file[:start] + record, buffers=[100])
    store = rebuilt(**{f"{ID}.jshm": named})
    assert store.names() == ["O"]
    for mode in ("r", "c"):
        assert store.attach(["O"], mode)[0].value == {"a": 1}
    with pytest.raises(jshm.JshmError):
        store.attach(["O"], "r+")


# -- several values --------------------------------------------------------------------------------


def test_several_values_have_a_description_each() -> None:
    said = [Description("dict of 2"), Description("list\nof 3", place="In[1]")]
    layout = parse_object(describe_object(10, 7, [100], (), *said).header.ljust(ROOM, b"\0"))
    assert layout.parts == tuple(said)
    assert [layout.part(i).description for i in (1, 2)] == said
    for part in (-1, 0, 3):
        with pytest.raises(jshm.CorruptSegmentError, match="damaged"):
            layout.part(part)
    row = SegmentRow.of("0" * 16, layout, overflow=False, writable=False)
    assert [row.summary(part) for part in (1, 2)] == ["dict of 2", "list of 3"]
    with pytest.raises(jshm.CorruptRegistryError):
        row.summary(3)


@pytest.mark.parametrize(
    "parts",
    [[], [WHAT], [WHAT, None], [WHAT, {}], 2, {"a": WHAT, "b": WHAT}, "ab", None],
)
def test_invalid_parts_are_corrupt(parts: Any) -> None:
    with pytest.raises(jshm.CorruptSegmentError):
        parse_object(crafted({**CONTENT, "parts": parts}).ljust(ROOM, b"\0"))
