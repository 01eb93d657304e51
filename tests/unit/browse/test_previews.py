"""Previews are made from a bounded sample, without mapping or unpickling anything."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import resource
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jshm
from jshm.browse import sample
from jshm.browse.previews import object_preview, preview
from jshm.segment.array_layout import describe, describe_array
from jshm.segment.object_layout import Description, describe_object, parse_object
from jshm.store.base import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jshm.segment.array_layout import ArrayLayout
    from jshm.store.local.store import LocalStore

KINDS = {
    "line": {"low", "high", "histogram"},
    "heatmap": {"width", "height", "data", "low", "high", "slice"},
    "image": {"width", "height", "data", "slice"},
    "table": {"columns", "rows", "total"},
    "source": {"text", "truncated"},
    "text": {"text", "truncated"},
    "none": {"text"},
}
STATS = {"min", "max", "mean", "nan", "count", "total", "exact"}


def checked(shown: dict[str, Any]) -> dict[str, Any]:
    """Return a preview after a check of its form, and that JSON can represent it."""
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert len(json.dumps(shown)) < 110_000
    json.dumps(shown, ensure_ascii=False).encode()  # no half of a surrogate pair
    kind = shown["type"]
    assert set(shown) == {"type", "stats", *KINDS[kind]}
    stats = shown["stats"]
    if stats is not None:
        assert STATS <= set(stats) <= STATS | {"infinite", "of"}
        assert stats["count"] <= 100_000
        assert stats["exact"] == (stats["count"] == stats["total"])
    if kind == "line":
        assert len(shown["low"]) == len(shown["high"]) <= 512
        bars = shown["histogram"]
        assert bars is None or 1 <= len(bars["counts"]) <= 64
    elif kind == "heatmap":
        assert shown["low"] <= shown["high"]
        assert len(pixels(shown)) == shown["width"] * shown["height"]
        assert max(shown["width"], shown["height"]) <= 96
    elif kind == "image":
        assert len(pixels(shown)) == 4 * shown["width"] * shown["height"]
        assert max(shown["width"], shown["height"]) <= 160
    elif kind == "table":
        assert len(shown["columns"]) <= 20
        assert len(shown["rows"]) <= 8
        assert all(len(row) == len(shown["columns"]) for row in shown["rows"])
        assert all(len(cell) <= 60 for row in shown["rows"] for cell in row)
    return shown


def pixels(shown: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(shown["data"]), np.uint8)


class FileReader(Reader):
    """Reads a file like a store, and counts the reads."""

    def __init__(self, fd: int, layout: ArrayLayout) -> None:
        self.fd = fd
        self.layout = layout
        self.reads: list[int] = []

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append(length)
        data = os.pread(self.fd, length, offset)
        if len(data) < length:
            raise jshm.CorruptSegmentError("truncated")
        return data


def shown(array: Any) -> dict[str, Any]:
    array = np.asarray(array)
    layout = describe_array(array)
    with tempfile.TemporaryFile(dir="/dev/shm", buffering=0) as file:
        file.write(layout.header)
        file.write(array.tobytes(layout.order))
        return checked(preview(FileReader(file.fileno(), layout)))


@contextlib.contextmanager
def sparse(shape: tuple[int, ...], dtype: Any, order: Any = "C") -> Iterator[FileReader]:
    layout = describe(shape, dtype, order)
    with tempfile.TemporaryFile(dir="/dev/shm", buffering=0) as file:
        file.write(layout.header)
        file.truncate(layout.end)
        yield FileReader(file.fileno(), layout)


# -- any array -------------------------------------------------------------------------------------

leaves = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)), hnp.complex_number_dtypes(endianness="?"),
    hnp.datetime64_dtypes(endianness="?"), hnp.timedelta64_dtypes(endianness="?"),
    hnp.byte_string_dtypes(min_len=1), hnp.unicode_string_dtypes(endianness="?", min_len=1),
    st.sampled_from([np.dtype("V3"), np.dtype("g")]),
)  # fmt: skip
# NumPy makes no subarray of what has no size.
empty = st.just(np.dtype("S0"))
dtypes = st.one_of(leaves, empty, hnp.array_dtypes(leaves, allow_subarrays=True))
shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)


def of_bytes(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], order: Any) -> Any:
    """Return an array of arbitrary bits."""
    size = math.prod(shape) * dtype.itemsize
    raw = (data * (size // len(data) + 1))[:size]
    return np.ndarray(shape, dtype, bytearray(raw), order=order)


@given(st.binary(min_size=1, max_size=200), shapes, dtypes, st.sampled_from("CF"))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bits_of_any_dtype_and_shape(data: bytes, shape: Any, dtype: Any, order: Any) -> None:
    array = of_bytes(data, shape, dtype, order)
    try:
        describe_array(array)
    except jshm.NotShareableError:
        return
    found = shown(array)
    numeric = array.dtype.kind in "biufc"
    assert (found["stats"] is not None) == numeric
    if not shape:
        assert found["type"] == "text"
    elif not numeric and array.dtype.kind not in "mM":
        assert (found["type"], found["total"]) == ("table", array.size)
        assert len(found["rows"]) == min(8, array.size)
    elif array.size and len(shape) == 1:
        assert (found["type"], len(found["low"])) == ("line", array.size)


@given(
    hnp.arrays(
        st.one_of(hnp.integer_dtypes(endianness="?"), hnp.floating_dtypes(endianness="?", sizes=(32, 64))),
        hnp.array_shapes(max_dims=4, max_side=9),
    )
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_statistics_are_those_of_numpy(array: np.ndarray[Any, Any]) -> None:
    stats = shown(array)["stats"]
    nan, finite = np.isnan(array), array[np.isfinite(array)].astype(array.dtype.newbyteorder("="))
    assert (stats["count"], stats["total"], stats["exact"]) == (array.size, array.size, True)
    assert stats["nan"] == nan.sum()
    assert stats.get("infinite", 0) == array.size - nan.sum() - finite.size
    if finite.size:
        assert (stats["min"], stats["max"]) == (finite.min(), finite.max())
        with np.errstate(over="ignore"):
            mean = finite.mean(dtype=np.float64)
        if np.isfinite(mean):
            assert stats["mean"] == pytest.approx(mean, rel=1e-12, abs=1e-300)
        assert np.isfinite(stats["mean"])
    else:
        assert stats["min"] is stats["max"] is stats["mean"] is None


# -- lines -----------------------------------------------------------------------------------------


def test_a_line_has_the_lowest_and_highest_of_each_stretch() -> None:
    values = np.sin(np.arange(51_200) / 700)
    values[777] = 50
    found = shown(values)
    assert found["low"] == values.reshape(512, 100).min(1).tolist()
    assert found["high"] == values.reshape(512, 100).max(1).tolist()
    assert max(found["high"]) == 50
    assert sum(found["histogram"]["counts"]) == 51_200
    assert shown(values.astype(">f8")) == found


def test_a_long_line_is_sampled_everywhere() -> None:
    found = shown(np.arange(3_000_000.0))
    stats = found["stats"]
    assert (stats["count"], stats["total"], stats["exact"]) == (65536, 3_000_000, False)
    width = 3_000_000 / 512
    for i, (low, high) in enumerate(zip(found["low"], found["high"], strict=True)):
        assert i * width - 1 <= low < high <= (i + 1) * width
    assert stats["mean"] == pytest.approx(1_500_000, rel=0.01)


def test_nan_and_infinity_are_not_drawn() -> None:
    found = shown([1.0, np.nan, np.inf, -np.inf, 3.0])
    assert found["low"] == found["high"] == [1.0, None, None, None, 3.0]
    assert sum(found["histogram"]["counts"]) == 2
    assert found["stats"] == {
        "min": 1, "max": 3, "mean": 2, "nan": 1, "infinite": 2, "count": 5, "total": 5, "exact": True,
    }  # fmt: skip
    found = shown([np.nan, np.inf])
    assert (found["low"], found["histogram"]) == ([None, None], None)
    whole = np.arange(1024.0)
    whole[0] = np.nan
    assert shown(whole)["low"][:2] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("values", "counts", "low", "high"),
    [
        ([True, False, True], [1, 2], 0, 1),
        ([False], [1], 0, 0),
        (np.repeat(np.arange(10), 7), [7] * 10, 0, 9),
        ([5, 5, 5], [3], 5, 5),
        ([-1e308, 1e308, 1e308], [1, 2], -1e308, 1e308),
        ([0.0, 5e-324], [2], 0, 5e-324),
        (np.array([0, 2**64 - 1], "u8"), [1, 1], 0, 2.0**64),
        ([2**63 - 1, -(2**63)], [1, 1], -(2.0**63), 2.0**63),
    ],
)
def test_histogram(values: Any, counts: list[int], low: float, high: float) -> None:
    assert shown(values)["histogram"] == {"counts": counts, "low": low, "high": high}


def test_times_are_a_line_without_statistics() -> None:
    days = np.array(["2020-01-01", "NaT", "2020-01-03"], ">M8[D]")
    found = shown(days)
    assert found["low"] == [18262, None, 18264]
    assert found["histogram"] is found["stats"] is None
    found = shown(days.reshape(1, 3))
    assert found["rows"] == [["[0, 0]", "2020-01-01"], ["[0, 1]", "NaT"], ["[0, 2]", "2020-01-03"]]


def test_complex_numbers_are_shown_by_their_magnitude() -> None:
    found = shown(np.array([3 + 4j, complex("nan"), complex("inf"), 0], ">c8"))
    assert found["low"] == [5, None, None, 0]
    assert (found["stats"]["max"], found["stats"]["of"]) == (5, "magnitude")
    assert (found["stats"]["nan"], found["stats"]["infinite"]) == (1, 1)


def test_large_integers_are_exact() -> None:
    stats = shown(np.array([2**64 - 1, 2**64 - 2], ">u8"))["stats"]
    assert (stats["min"], stats["max"]) == (2**64 - 2, 2**64 - 1)
    assert shown([1e308] * 4)["stats"]["mean"] == 1e308


# -- pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_small_heatmap_is_the_array(order: Any) -> None:
    array = np.array([[0.0, 1.0, 2.0], [3.0, np.nan, 4.0]], order=order)
    found = shown(array)
    assert (found["width"], found["height"], found["slice"]) == (3, 2, "")
    assert pixels(found).tolist() == [0, 64, 127, 190, 255, 254]
    assert (found["low"], found["high"]) == (0, 4)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "shape", [(480, 960), (3000, 1000), (100, 100_000), (100_000, 100), (7, 400_000)]
)
def test_a_large_heatmap_is_the_centres_of_its_cells(shape: tuple[int, int], order: Any) -> None:
    rows, columns = np.indices(shape, np.float32, sparse=True)
    array = np.asarray(rows / shape[0] + 2 * columns / shape[1], np.float32, order=order)
    found = shown(array)
    height, width = found["height"], found["width"]
    y, x = sample.centres(shape[0], height), sample.centres(shape[1], width)
    low, high = found["low"], found["high"]
    expected = (array[np.ix_(y, x)].astype(float) - low) / (high - low) * 254
    assert np.abs(pixels(found).reshape(height, width) - expected).max() <= 0.51
    assert max(width, height) >= 54
    assert (width > height) == (shape[1] > shape[0])


@pytest.mark.parametrize("value", [7.5, np.nan, np.inf, -np.inf, 0.0])
def test_constant_pictures(value: float) -> None:
    found = shown(np.full((3, 3), value))
    assert set(pixels(found)) == {0 if np.isfinite(value) else 255}
    assert found["low"] == found["high"] == (value if np.isfinite(value) else 0)


@pytest.mark.parametrize(
    ("shape", "expected", "axes"),
    [
        ((5, 28, 30), "[0, :, :]", (28, 30)),
        ((20, 30, 3), "[:, :, 0]", (20, 30)),
        ((4, 20, 30, 3), "[0, :, :, 0]", (20, 30)),
        ((2, 3, 4), "[0, :, :]", (3, 4)),
        ((3, 1), "", (3, 1)),
        ((1,) * 30 + (2, 3), f"[{'0, ' * 30}:, :]", (2, 3)),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_first_slice_of_more_axes(shape: Any, expected: str, axes: Any, order: Any) -> None:
    array = np.arange(math.prod(shape), dtype=float).reshape(shape).copy(order)
    found = shown(array)
    assert (found["slice"], (found["height"], found["width"])) == (expected, axes)
    first = (
        array[tuple(0 if w == "0" else slice(None) for w in expected[1:-1].split(", "))]
        if expected
        else array
    )
    assert (found["low"], found["high"]) == (first.min(), first.max())
    assert found["stats"]["max"] == array.max()
    assert np.all(np.diff(pixels(found).astype(int)) >= 0)


def picture(channels: int) -> Any:
    """Red above, green below left, blue below right."""
    image = np.zeros((4, 6, channels), np.uint8)
    image[:2, :, 0] = 200
    image[2:, :3, 1] = 210
    image[2:, 3:, 2] = 220
    image[..., 3:] = 99
    return image


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("channels", [3, 4])
def test_an_image_is_the_right_way_up(channels: int, order: Any) -> None:
    found = shown(picture(channels).copy(order))
    assert (found["type"], found["width"], found["height"], found["slice"]) == ("image", 6, 4, "")
    rgba = pixels(found).reshape(4, 6, 4)
    assert np.array_equal(rgba[..., :3], picture(channels)[..., :3])
    assert set(rgba[..., 3].flat) == {99 if channels == 4 else 255}
    assert found["stats"]["max"] == 220


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_image_keeps_its_proportions(order: Any) -> None:
    large = np.repeat(np.repeat(picture(3), 100, 0), 100, 1).copy(order)
    found = shown(large)
    assert found["width"] / found["height"] == pytest.approx(1.5, abs=0.02)
    rgba = pixels(found).reshape(found["height"], found["width"], 4)
    assert rgba[0, 0].tolist() == [200, 0, 0, 255]
    assert rgba[-1, 0].tolist() == [0, 210, 0, 255]
    assert rgba[-1, -1].tolist() == [0, 0, 220, 255]


def test_a_stack_of_images_shows_the_first() -> None:
    found = shown(np.stack([picture(3), 255 - picture(3)]))
    assert (found["type"], found["slice"]) == ("image", "[0, :, :, :]")
    assert pixels(found)[:4].tolist() == [200, 0, 0, 255]


@pytest.mark.parametrize("shape", [(1, 5, 3), (5, 1, 4), (5, 5, 2), (5, 3)])
def test_arrays_that_are_not_images(shape: Any) -> None:
    assert shown(np.zeros(shape, np.uint8))["type"] == "heatmap"
    assert shown(np.zeros((5, 5, 3), np.int8))["type"] == "heatmap"


# -- tables and texts ------------------------------------------------------------------------------


def test_first_rows_of_a_structured_array() -> None:
    dtype = [("name", "U5"), ("n", ">i4"), ("v", "f8", (2,)), ("in", [("a", "?"), ("b", "S2")])]
    array = np.zeros(20, dtype)
    array[0] = ("é\0x", 5, (1, 2.5), (True, b"\xff"))
    found = shown(array)
    assert (found["columns"], found["total"], len(found["rows"])) == (
        ["name", "n", "v", "in"],
        20,
        8,
    )
    assert found["rows"][0][:3] == ["é\0x", "5", "[1. 2.5]"]
    assert found["rows"][0][3].startswith("(True, ")


def test_tables_are_bounded() -> None:
    wide = np.zeros(1, [(f"f{i}", "i4") for i in range(50)])
    found = shown(wide)
    assert found["columns"] == [*(f"f{i}" for i in range(19)), "…"]
    assert found["rows"] == [["0"] * 19 + ["…"]]
    wide = wide.reshape(1, 1)
    assert shown(wide)["columns"] == ["", *(f"f{i}" for i in range(18)), "…"]
    long = np.array(["x" * 1000, "y"])
    assert shown(long)["rows"] == [["x" * 59 + "…"], ["y"]]
    assert shown(np.zeros(1, [("a" * 100, "f8", (10_000,))]))["rows"] == [["<float64 (10000,)>"]]
    assert shown(np.zeros(0, [("a", "i4")]))["rows"] == []


@pytest.mark.parametrize("order", ["C", "F"])
def test_strings_of_several_axes_come_with_their_index(order: Any) -> None:
    array = np.array([["a", "bb"], ["c", ""]], ">U2", order=order)
    rows = [["[0, 0]", "a"], ["[0, 1]", "bb"], ["[1, 0]", "c"], ["[1, 1]", ""]]
    assert shown(array)["rows"] == rows


def test_codes_that_are_not_characters_are_replaced() -> None:
    broken = np.array([0xD800, 0x41, 0x7FFFFFFF], "<u4").view("<U3")
    assert shown(broken)["rows"][0][0].strip("\ufffd") == "A"
    assert shown(broken.view([("in", [("a", "<U3")])]))["rows"][0][0]
    assert shown(np.array([b"\xffa"]))["rows"] == [["\\xffa"]]
    assert shown(np.array([b"\x01\xff"], "V2"))["rows"] == [["01ff"]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float64(1.5), "1.5"),
        (np.array("héllo"), "héllo"),
        (np.datetime64("2020-01-01"), "2020-01-01"),
        (np.array((1, 2.5), "i4, f8"), "(1, 2.5)"),
        (np.bool_(True), "True"),
        (np.complex64(1j), "1j"),
    ],
)
def test_one_value_is_a_text(value: Any, text: str) -> None:
    found = shown(value)
    assert (found["type"], found["text"], found["truncated"]) == ("text", text, False)


def test_a_long_text_is_cut() -> None:
    found = shown(np.array("x" * 100_000))
    assert (len(found["text"]), found["truncated"]) == (8000, True)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4, 3)])
def test_an_empty_array_has_no_preview(shape: Any) -> None:
    found = shown(np.zeros(shape, np.uint8))
    assert found["type"] == "none"
    assert (found["stats"]["total"], found["stats"]["min"]) == (0, None)
    assert str(shape) in found["text"]


# -- bounds ----------------------------------------------------------------------------------------

HUGE: list[tuple[tuple[int, ...], str]] = [
    ((1_250_000_000,), "f8"), ((1_250_000, 1000), "f8"), ((35_000, 35_000), "f8"), ((10, 125_000_000), "f8"),
    ((1000, 1250, 1000), ">f8"), ((60_000, 60_000, 3), "u1"), ((1000, 1000, 3000, 3), "u1"),
    ((10**8,), "S100"), ((10**5, 10**5), "?"), ((10,), "V1000000000"), ((10**9,), "M8[ns]"),
]  # fmt: skip


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("shape", "dtype"), HUGE)
def test_reads_of_ten_gigabytes_are_bounded(shape: Any, dtype: str, order: Any) -> None:
    with sparse(shape, dtype, order) as reader:
        preview(reader)  # imports and fills caches
        reader.reads.clear()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = preview(reader)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        assert os.fstat(reader.fd).st_blocks < 1000  # nothing was written either
    checked(found)
    assert len(reader.reads) < 5000
    assert sum(reader.reads) < 60_000_000
    assert grown < 20_000  # kB


@pytest.mark.parametrize(("shape", "dtype"), [*HUGE, ((5,), "f8"), ((), "f8"), ((3, 3), "U2")])
def test_a_segment_that_is_truncated_while_it_is_read(shape: Any, dtype: str) -> None:
    with sparse(shape, dtype) as reader:
        # Of a table only the first rows are read.
        os.truncate(reader.fd, reader.layout.offset + 1)  # type: ignore[union-attr]
        with pytest.raises(jshm.CorruptSegmentError, match="truncated"):
            preview(reader)


def test_runs_are_not_in_step_with_columns() -> None:
    """All 512 stretches begin at column 0, and the first columns differ from all others."""
    array = np.zeros((2048, 1024))
    array[:, :128] = 100
    assert 8 < shown(array)["stats"]["mean"] < 18


# -- objects ---------------------------------------------------------------------------------------


def of_object(**written: Any) -> dict[str, Any]:
    layout = describe_object(10, 0, [], [], Description("x", preview=written))
    return checked(object_preview(parse_object(layout.header.ljust(layout.end, b"\0"))))


def test_the_preview_that_a_publisher_wrote_is_shown() -> None:
    assert of_object(source="def f(): ...", truncated=False) == {
        "type": "source", "text": "def f(): ...", "truncated": False, "stats": None,
    }  # fmt: skip
    assert of_object(text="'a': 1", truncated=True)["truncated"]
    table = {"columns": ["a", "b"], "rows": [["1", "2"]], "total": 7}
    assert of_object(**table) == {"type": "table", **table, "stats": None}
    empty = {"columns": [], "rows": [], "total": 0}
    assert of_object(**empty) == {"type": "table", **empty, "stats": None}


@pytest.mark.parametrize(
    "written",
    [
        {"picture": "…"},
        {"source": 5},
        {"text": None, "truncated": 3},
        {"columns": ["a"], "rows": [["1"]]},
        {"columns": ["a"], "rows": [["1"]], "total": -1},
        {"columns": ["a"], "rows": [["1"]], "total": True},
        {"columns": ["a"], "rows": [["1"]], "total": 10**30},
        {"columns": ["a"], "rows": [["1"]], "total": float("nan")},
        {"columns": "a", "rows": ["1"], "total": 1},
        {"columns": ["a"], "rows": ["1"], "total": 1},
        {"columns": ["a", "b"], "rows": [["1"]], "total": 1},
        {"columns": ["a"], "rows": [[{"a": 1}]], "total": 1},
    ],
)
def test_an_unknown_preview_is_not_shown(written: dict[str, Any]) -> None:
    found = of_object(**written)
    assert (found["type"], found["stats"]) == ("none", None)
    assert "upgrade" in found["text"]


def test_an_object_without_a_written_preview_has_none() -> None:
    assert of_object()["type"] == "none"
    assert "Attach" in of_object()["text"]


def test_huge_previews_are_cut() -> None:
    found = of_object(source="\U0001f600" * 1_000_000)
    assert (len(found["text"]), found["truncated"]) == (8000, True)
    found = of_object(columns=["c" * 999] * 999, rows=[["x" * 999] * 1000] * 9, total=99)
    assert (len(found["columns"]), len(found["rows"]), found["total"]) == (20, 8, 99)
    assert found["rows"][0][0] == "x" * 60


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
keys = st.sampled_from(["source", "text", "truncated", "columns", "rows", "total", "more"])


@given(st.dictionaries(keys, anything))
@settings(max_examples=200, deadline=None)
def test_anything_may_be_written(written: dict[str, Any]) -> None:
    of_object(**written)


def test_through_the_store(store: LocalStore) -> None:
    def double(x: int) -> int:
        return 2 * x

    jshm.publish("f", double)
    jshm.publish("d", {"weights": np.zeros((3, 4), "f4")})
    for name, expected in (("f", "def double(x: int) -> int:"), ("d", "'weights': float32 (3, 4)")):
        with store.reader(name) as reader:
            found = checked(preview(reader))
        assert found["text"].startswith(expected)
