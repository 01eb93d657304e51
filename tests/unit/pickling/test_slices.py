"""A slice takes about its own bytes, and not those of the whole array."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pytest

from jshm.pickling import dumps, loads

from .test_arrays import send

N = 20_000
INDEX = np.arange(N)


def _arrays() -> dict[str, Any]:
    pa: Any = pytest.importorskip("pyarrow")
    texts = [None if i % 7 == 3 else f"é{i}" for i in range(N)]
    numbers = [None if i % 3 else i for i in range(N)]
    lists = [None if i % 5 == 0 else list(range(i % 4)) for i in range(N)]
    return {
        "integers": pa.array(INDEX),
        "with nothing": pa.array(numbers),
        "booleans": pa.array([None if i % 11 == 0 else i % 2 == 0 for i in range(N)]),
        "halves": pa.array(INDEX.astype("f2")),
        "instants": pa.array(INDEX, pa.timestamp("ns", "UTC")),
        "days": pa.array([dt.date(2020, 1, 1)] * N),
        "decimals": pa.array([decimal.Decimal(i) / 4 for i in range(N)]),
        "texts": pa.array(texts),
        "large texts": pa.array(texts, pa.large_string()),
        "bytes": pa.array([t and t.encode() for t in texts]),
        "large bytes": pa.array([t and t.encode() for t in texts], pa.large_binary()),
        "fixed bytes": pa.array([b"abc", None] * (N // 2), pa.binary(3)),
        "views": pa.array([t and t * 4 for t in texts], pa.string_view()),
        "views of bytes": pa.array([t and t.encode() * 4 for t in texts], pa.binary_view()),
        "lists": pa.array(lists),
        "lists of texts": pa.array([t and [t, t] for t in texts]),
        "fixed lists": pa.array([[i, i] for i in range(N)], pa.list_(pa.int64(), 2)),
        "structures": pa.array([{"x": i, "y": t} for i, t in enumerate(texts)]),
        "maps": pa.array([[("a", i)] for i in range(N)], pa.map_(pa.string(), pa.int64())),
        "categories": pa.array([t and t[:2] for t in texts]).dictionary_encode(),
        "nulls": pa.nulls(N),
        "runs": pa.RunEndEncodedArray.from_arrays(
            pa.array(np.arange(1, N + 1, dtype="i4")), pa.array(INDEX)
        ),
    }


KINDS = [
    "integers", "with nothing", "booleans", "halves", "instants", "days", "decimals", "texts",
    "large texts", "bytes", "large bytes", "fixed bytes", "views", "views of bytes", "lists",
    "lists of texts", "fixed lists", "structures", "maps", "categories", "nulls", "runs",
]  # fmt: skip


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    found = _arrays()
    assert list(found) == KINDS
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_of_an_arrow_array(arrays: dict[str, Any], kind: str) -> None:
    pa: Any = pytest.importorskip("pyarrow")
    whole = arrays[kind]
    for start, length in ((0, 5), (1, 5), (8, 3), (N - 5, 5), (N // 2 + 3, 1), (77, 0), (3, 9000)):
        part = whole[start : start + length]
        for again in (part, part[1:-1]):  # a slice of a slice
            found, inside, outside = send(again)
            found.validate(full=True)
            assert found.type == again.type
            assert found.equals(again)
            assert found.to_pylist() == again.to_pylist()
            assert found.null_count == again.null_count
            # Arrow counts all that views could show; it keeps more of run-encoded arrays.
            own = 50 * len(again) if "views" in kind else again.nbytes
            assert inside + outside < own * 1.25 + 2000 or kind == "runs"
            assert loads(dumps(again)).equals(again)
    found, _, outside = send([whole, pa.chunked_array([whole[:4], whole[9:12]])])
    assert found[0].equals(whole)
    assert found[1].to_pylist() == whole[:4].to_pylist() + whole[9:12].to_pylist()
    assert outside <= whole.get_total_buffer_size() + 2000 or kind in ("views", "runs")


def test_a_slice_of_an_arrow_table(arrays: dict[str, Any]) -> None:
    pa: Any = pytest.importorskip("pyarrow")
    few = {k: v for k, v in arrays.items() if k not in ("views", "runs")}
    table = pa.table(few)
    for part in (table[5:10], table.slice(N - 3), table.to_batches()[0].slice(7, 3)):
        found, inside, outside = send(part)
        assert found.equals(part)
        assert found.schema == part.schema
        assert inside + outside < 8000


def test_whole_arrays_are_not_copied(arrays: dict[str, Any]) -> None:
    """Also not if little is left out, and not for plain numbers and texts."""
    for kind in ("integers", "with nothing", "texts", "booleans", "lists"):
        whole = arrays[kind]
        for part in (
            (whole, whole[100:]) if kind == "lists" else (whole, whole[100:], whole[10_000:])
        ):
            buffers: list[Any] = []
            dumps(part, buffer_callback=buffers.append)
            memory = [np.frombuffer(b, np.uint8) for b in whole.buffers() if b is not None]
            sent = [np.frombuffer(b, np.uint8) for b in buffers]
            largest = max(sent, key=lambda b: b.nbytes)
            if kind == "texts" and part is not whole:  # its offsets are new
                largest = sent[-1]
            assert any(np.shares_memory(largest, m) for m in memory)


def test_a_slice_of_arrow_columns_in_pandas(arrays: dict[str, Any]) -> None:
    pa: Any = pytest.importorskip("pyarrow")
    pd: Any = pytest.importorskip("pandas")
    table = pa.table({k: arrays[k] for k in ("integers", "texts", "lists", "with nothing")})
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    frame["text"] = pd.array([f"é{i}" for i in range(N)], dtype="string[pyarrow]")
    for part in (frame[5:10], frame["texts"][5:10], frame["text"][N - 3 :]):
        found, inside, outside = send(part)
        assert found.equals(part)
        assert inside + outside < 6000


def test_slices_of_numpy_arrays() -> None:
    whole = np.arange(100_000)
    items = np.empty(2, object)
    items[0], items[1] = whole[5:8], whole[::-1][:3]
    found, inside, outside = send([items, memoryview(whole)[3:6], memoryview(bytes(100_000))[7:9]])
    assert [a.tolist() for a in found[0]] == [[5, 6, 7], [99999, 99998, 99997]]
    assert found[1].tolist() == [3, 4, 5]
    assert bytes(found[2]) == bytes(2)
    assert inside + outside < 1000
