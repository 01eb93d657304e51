"""Damaged segments: headers of arrays and objects, records, and references into them."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import struct
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

import jshm
from jshm.pickling.frozen import load_view
from jshm.segment.array_layout import read_layout
from jshm.segment.object_layout import read_object_layout
from jshm.store import default_store
from jshm.store.local import rebuild as rebuilding

from .common import assert_inside, assert_mended, look_at_all, refusing, store_of
from .mutators import BOUNDARIES, as_json, change_structure, checked, damage, odd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from jshm.store.local.store import LocalStore

PRELUDE = struct.Struct("<8sIII")
RECORD = struct.Struct("<8sII")
RECORD_MAGIC = b"\x93JSHMREC"
MODES = ("r", "c")
# Of the mutations of a segment, how many are followed by the rebuilding of a whole registry.
_REBUILT = 0.01
ID = "0123456789abcdef"

# The first ends with its mapping's last page: a byte more would be outside.
ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "page": np.arange(1008.0).reshape(63, 16),
    "fortran": np.asfortranarray(np.arange(60, dtype=">i4").reshape(12, 5)),
    "fields": np.zeros(9, np.dtype([("a", "u1"), ("b", "<f8", (2,)), ("é", "<U3")])),
    "scalar": np.array(3.5),
    "empty": np.empty((0, 3), np.float32),
    "times": np.arange(40).astype("m8[s]").reshape(2, 20),
    "picture": np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3),
    "texts": np.array(["a", "bcd"]),
}


def up(offset: int) -> int:
    """The next multiple of 64."""
    return (offset + 63) // 64 * 64


class Segment:
    """The file of a name, to be overwritten in place: as an accident would, under the same inode."""

    def __init__(self, store: LocalStore, name: str) -> None:
        self.name = name
        self.path = store.location(name)
        self.id = os.path.basename(self.path).partition(".")[0]
        os.chmod(self.path, 0o600)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self.whole = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        self.records = self.whole.index(RECORD_MAGIC)

    def write(self, content: bytes) -> None:
        os.ftruncate(self._fd, len(content))
        os.pwrite(self._fd, content, 0)

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)


def described(content: bytes, ending: str) -> Any:
    """Return a store's files: one segment, and no registry."""
    return {f"segments/{ID}.{ending}": content}


class Headers:
    """``.npy`` headers of arrays."""

    def __init__(self, root: str) -> None:
        self.tried: object = None
        self._root = root
        self._store = default_store()
        self._store.publish(ARRAYS, keep=True)
        self._segments = [Segment(self._store, name) for name in ARRAYS]
        self._sizes = {
            one.name: (10 + int.from_bytes(one.whole[8:10], "little"), ARRAYS[one.name].nbytes)
            for one in self._segments
        }

    def _mutated(self, random: Random, one: Segment) -> bytes:
        header, _ = self._sizes[one.name]
        if random.random() < 0.4:
            return damage(random, one.whole, 0, random.choice((16, header, header, None)))
        text = one.whole[10:header]
        fields = change_structure(random, ast.literal_eval(text.decode("latin1")))
        body = repr(fields)
        if random.random() < 0.2:
            body = damage(random, body.encode(errors="replace")).decode("latin1")
        if random.random() < 0.02:
            at, depth = random.randint(0, len(body)), random.choice((50, 200, 100_000))
            body = body[:at] + random.choice("[({-~") * depth + body[at:]
        return npy(random, body.encode(errors="surrogatepass")) + one.whole[header:]

    def attempt(self, random: Random) -> None:
        one = random.choice(self._segments)
        content = self._mutated(random, one)
        self.tried = one.name, content[:400]
        one.write(content)
        header, nbytes = self._sizes[one.name]
        intact = content[:header] == one.whole[:header] and len(content) >= header + nbytes
        with one.opened() as fd, refusing():
            layout = read_layout(fd)
            assert 0 < layout.offset <= layout.end <= len(content)
            found = layout.view(np.frombuffer(content, np.uint8))
            reference = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
            assert (found.dtype, found.shape) == (reference.dtype, reference.shape)
            assert found.tobytes("A") == reference.tobytes("A")
            assert found.nbytes <= len(content)
        with refusing():
            look_at(self._store, one.name)
        rebuilding.read_segment(one.id, one.path, self._store.directory)
        try:
            array = self._store.attach([one.name], random.choice(MODES))[0].value
        except jshm.CorruptSegmentError:
            assert not intact
        else:
            assert intact
            assert_inside(array)
            assert array.tobytes("A") == content[header : header + nbytes]
        if random.random() < _REBUILT:
            with store_of(f"{self._root}/rebuilt", described(content, "npy")) as store:
                exercise(store)


def npy(random: Random, body: bytes) -> bytes:
    """Return a header of the right length around a text."""
    version = random.choice((1, 1, 1, 2, 3, 0, 255))
    wide = version not in (0, 1)
    start = 12 if wide else 10
    size = up(start + len(body) + 1) - start
    length = size.to_bytes(4, "little") if wide else (size & 0xFFFF).to_bytes(2, "little")
    return b"\x93NUMPY" + bytes((version, 0)) + length + body.ljust(size - 1) + b"\n"


def look_at(store: LocalStore, name: str) -> None:
    """Ask for the preview of one name, as the front end does."""
    from jshm.browse import preview

    with store.reader(name) as reader:
        json.dumps(preview.preview(reader, reader.layout), allow_nan=False).encode()


def exercise(store: LocalStore) -> None:
    """Run everything that reads the store; it may refuse, but not crash."""
    look_at_all(store)
    for name in store.names():
        with refusing():
            value = store.attach([name])[0].value
            if isinstance(value, np.ndarray):
                assert_inside(value)
    assert_mended(store)
    store.release(store.names(), force=True)
    store.gc()
    assert store.names() == []


class Canary:
    """To unpickle it changes how often threads are switched, which is easily seen."""

    SUNG, SILENT = 0.0625, 0.005

    def __reduce__(self) -> Any:
        return sys.setswitchinterval, (self.SUNG,)

    @classmethod
    def has_sung(cls) -> bool:
        sung = sys.getswitchinterval() == cls.SUNG
        sys.setswitchinterval(cls.SILENT)
        return sung


class Objects:
    """Preludes, JSON headers, pickles and buffers of objects."""

    def __init__(self, root: str) -> None:
        self.tried: object = None
        self._root = root
        self._store = store = default_store()
        sys.setswitchinterval(Canary.SILENT)
        store.publish({"needed": np.arange(100.0)}, keep=True)
        needed = store.attach(["needed"])[0].value
        values = {
            "small": [Canary(), {"a": 1}, "text"],
            "mapped": [Canary(), np.arange(300.0), np.arange(7, dtype=np.int16)],
            "large": [Canary(), np.arange(10_000.0), b"x" * 1000],
            "refers": [Canary(), needed[::-2], np.arange(50.0)],
        }
        shared = [Canary(), np.arange(50.0)]
        values |= {"one": [shared], "other": [np.arange(9.0), shared]}
        store.publish(values, keep=True)
        self._segments = [Segment(store, name) for name in values]

    def _mutated(self, random: Random, one: Segment) -> bytes:
        length = PRELUDE.size + PRELUDE.unpack_from(one.whole)[2]
        kind = random.random()
        if kind < 0.4:
            stop = random.choice((PRELUDE.size, length, one.records, None))
            return damage(random, one.whole, random.choice((0, 0, up(length))), stop)
        content = json.loads(one.whole[PRELUDE.size : length])
        body = as_json(random, change_structure(random, content))
        usual = PRELUDE.unpack_from(one.whole)[1]
        version = random.choice((*[usual] * 7, 0, 1, 2, 3, 4, 2**32 - 1))
        header = checked(PRELUDE, b"\x93JSHMOBJ", version, body=body)
        return header.ljust(up(len(header)), b"\0") + one.whole[up(length) :]

    def attempt(self, random: Random) -> None:
        one = random.choice(self._segments)
        content = self._mutated(random, one)
        self.tried = one.name, content[:1000]
        one.write(content)
        Canary.has_sung()
        with one.opened() as fd, refusing():
            layout = read_object_layout(fd)
            assert 0 < layout.offset <= layout.end <= len(content)
            assert all(0 < start <= end <= len(content) for start, end in layout.spans())
            assert all(
                len(r) == 16 and set(r) <= set("0123456789abcdef") for r in layout.references
            )
        with refusing():
            json.dumps(self._store.info(one.name).details, default=str).encode()
        with refusing():
            look_at(self._store, one.name)
        rebuilding.read_segment(one.id, one.path, self._store.directory)
        assert not Canary.has_sung()
        self._attach(one, content, random.choice(MODES))
        if random.random() < _REBUILT:
            with store_of(f"{self._root}/rebuilt", described(content, "jshm")) as store:
                with contextlib.suppress(Exception):  # what was unpickled may fail as it likes
                    exercise(store)
                Canary.has_sung()
                assert_mended(store)

    def _attach(self, one: Segment, content: bytes, mode: Any) -> None:
        error = value = None
        try:
            value = self._store.attach([one.name], mode)[0].value
        except Exception as found:
            error = found
        if Canary.has_sung():
            # By struct, json and zlib alone: it was the pickle that the header vouches for.
            magic, version, length, checksum = PRELUDE.unpack_from(content)
            body = content[PRELUDE.size : PRELUDE.size + length]
            assert (magic, checksum) == (b"\x93JSHMOBJ", zlib.crc32(body))
            assert version in (1, 2, 3)
            pickled, expected = json.loads(body)["pickle"]
            start = up(PRELUDE.size + length)
            assert zlib.crc32(content[start : start + pickled]) == expected
        elif error is not None and not isinstance(error, jshm.JshmError):
            raise error
        for part in value if isinstance(value, list) else ():
            if isinstance(part, np.ndarray):
                assert_inside(part)


class Records:
    """The trailers of segments, and registries that are rebuilt from them alone."""

    def __init__(self, root: str) -> None:
        self.tried: object = None
        self._root = root
        store = default_store()
        store.publish({"X": np.arange(20.0), "O": {"a": 1}}, keep=True, note="the note")
        self._segments = [(Segment(store, "X"), "npy"), (Segment(store, "O"), "jshm")]

    def attempt(self, random: Random) -> None:
        one, ending = random.choice(self._segments)
        start = one.records
        _, length, _ = RECORD.unpack_from(one.whole, start)
        good = json.loads(one.whole[start + RECORD.size : start + RECORD.size + length])
        records = b""
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            body = as_json(random, change_structure(random, good))
            head = checked(RECORD, RECORD_MAGIC, body=body)
            records += head.ljust(up(len(head)), b"\0")
        if random.random() < 0.3:
            records = damage(random, records)
        content = one.whole[:start] + records
        self.tried = one.name, records[:1000]
        one.write(content)
        rebuilding.read_segment(one.id, one.path, default_store().directory)
        if random.random() < 5 * _REBUILT:
            with store_of(f"{self._root}/rebuilt", described(content, ending)) as store:
                exercise(store)


class References:
    """Arrays in pickles that are in a segment: offset, dtype, shape, strides."""

    DTYPES = (
        "u1", "<i2", ">f8", "V0", "V7", "U3", "S1", "O", "m8[s]", "V2147483647", "f2,f4", "(3,)f8",
        [("a", "O")], [("a", "u1"), ("b", "(2,2)f8")],
    )  # fmt: skip

    def __init__(self, root: str) -> None:
        self.tried: object = None
        store = default_store()
        store.publish({"X": ARRAYS["page"], "O": {"a": np.arange(500.0)}}, keep=True)
        self._ids = [
            os.path.basename(store.location(name)).partition(".")[0] for name in ("X", "O")
        ]
        self._held = [store.attach([name])[0].value for name in ("X", "O")]
        self._dtypes = [np.dtype(dtype) for dtype in self.DTYPES]

    def _number(self, random: Random) -> Any:
        kind = random.random()
        if kind < 0.5:
            return random.choice((0, 1, 2, 8, 16, 64, 128, 1008, 4096, 8191, 8192)) * random.choice(
                (1, 1, -1)
            )
        if kind < 0.8:
            return random.randint(-9000, 9000)
        return odd(random) if kind < 0.82 else random.choice(BOUNDARIES)

    def attempt(self, random: Random) -> None:
        which = random.choice((*self._ids, *self._ids, *self._ids, ID))
        dtype: Any = random.choice(self._dtypes)
        ndim = random.choice((0, 1, 1, 2, 2, 3, 64, 65))
        shape: Any = tuple(self._number(random) for _ in range(ndim))
        strides: Any = tuple(self._number(random) for _ in range(ndim))
        offset = self._number(random)
        if random.random() < 0.1:
            dtype, shape, strides = (
                odd(random) if random.random() < 0.4 else value for value in (dtype, shape, strides)
            )
        self.tried = which, offset, dtype, shape, strides
        try:
            array = load_view(which, offset, dtype, shape, strides)
        except jshm.JshmError:
            return
        assert type(array) is np.ndarray
        assert memory_is_mapped(array)
        assert_inside(array)
        if array.size and array.itemsize and array.nbytes < 1 << 20:
            array.tobytes()  # reads it


def memory_is_mapped(array: np.ndarray[Any, Any]) -> bool:
    from .common import memory_of

    return memory_of(array) is not None
