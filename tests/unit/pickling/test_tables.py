"""Tables and sparse matrices of other libraries: large buffers go out-of-band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jshm.pickling import dumps, loads

from .test_arrays import send

N = 3000


def _frames() -> dict[str, Any]:
    """Return a maker of each kind of DataFrame, and how many bytes per row are out-of-band."""
    pd: Any = pytest.importorskip("pandas")
    index = np.arange(N)
    dates = {"start": "2020", "periods": N, "freq": "s"}
    return {
        "numbers": (lambda: {"i": index, "f": index / 2, "b": index % 2 == 0}, 17),
        "datetimes": (lambda: {"d": pd.date_range(**dates)}, 8),
        "datetimes with a time zone": (
            lambda: {"d": pd.date_range(**dates, tz="Europe/Berlin")},
            8,
        ),
        "timedeltas": (lambda: {"d": pd.to_timedelta(index, unit="s")}, 8),
        "periods": (lambda: {"d": pd.period_range("2020", periods=N, freq="h")}, 8),
        "intervals": (lambda: {"d": pd.interval_range(0, N)}, 16),
        "categorical": (lambda: {"d": pd.Categorical(np.array(list("abc"))[index % 3])}, 1),
        "ordered": (lambda: {"d": pd.Categorical(index % 3, [2, 1, 0], ordered=True)}, 1),
        "nullable integers": (lambda: {"d": pd.array(index, dtype="Int64")}, 9),
        "nullable with nothing": (lambda: {"d": pd.array([1, None] * (N // 2), dtype="Int16")}, 3),
        "nullable bool": (lambda: {"d": pd.array(index % 2 == 0, dtype="boolean")}, 2),
        "nullable floats": (lambda: {"d": pd.array(index, dtype="Float32")}, 5),
        "sparse": (lambda: {"d": pd.arrays.SparseArray(index % 2)}, 4),
        "objects": (lambda: {"d": pd.Series([(i,) for i in index], dtype=object)}, 0),
    }


KINDS = [
    "numbers", "datetimes", "datetimes with a time zone", "timedeltas", "periods", "intervals",
    "categorical", "ordered", "nullable integers", "nullable with nothing", "nullable bool",
    "nullable floats", "sparse", "objects",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_frames(kind: str) -> None:
    pd: Any = pytest.importorskip("pandas")
    frames = _frames()
    assert list(frames) == KINDS
    make, width = frames[kind]
    frame = pd.DataFrame(make())
    for sent in (frame, frame[::3]):
        found, inside, outside = send(sent)
        pd.testing.assert_frame_equal(sent, found)
        assert found.dtypes.tolist() == sent.dtypes.tolist()
        assert outside >= width * len(sent)
        assert inside < 2500 or kind == "objects"
    series = frame.iloc[:, 0]
    found, _, outside = send({"s": series})
    pd.testing.assert_series_equal(series, found["s"])
    assert outside >= min(width, 8) * N
    pd.testing.assert_frame_equal(frame, loads(dumps(frame)))
    pd.testing.assert_frame_equal(frame, loads(dumps(frame, 4)))


def test_frames_of_text() -> None:
    pd: Any = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    text = [f"text {i}" for i in range(N)]
    for dtype in ("string[pyarrow]", "string[python]", object, None):
        frame = pd.DataFrame({"t": pd.Series(text, dtype=dtype), "n": np.arange(N)})
        found, inside, outside = send(frame)
        pd.testing.assert_frame_equal(frame, found)
        assert outside >= 8 * N
        if dtype == "string[pyarrow]":
            assert inside < 2000
            assert outside > sum(map(len, text))


def test_a_multi_index() -> None:
    pd: Any = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": np.arange(N) // 100, "b": np.arange(N) % 100, "c": np.arange(N) / 2})
    frame = frame.set_index(["a", "b"])
    frame.attrs["unit"] = "m"
    found, inside, outside = send(frame)
    pd.testing.assert_frame_equal(frame, found)
    assert found.attrs == {"unit": "m"}
    assert outside > 8 * N
    assert inside < 3000
    assert found.loc[(3, 5), "c"] == frame.loc[(3, 5), "c"]


def test_frames_can_be_written_to() -> None:
    pd: Any = pytest.importorskip("pandas")
    found = send(pd.DataFrame({"a": np.arange(3.0), "d": pd.date_range("2020", periods=3)}))[0]
    found.loc[1, "a"] = 7.5
    found["b"] = 1
    assert found["a"].tolist() == [0, 7.5, 2]
    read_only = send(pd.DataFrame({"a": np.arange(3.0)}), kind=bytes)[0]
    assert read_only["a"].sum() == 3
    assert (read_only + 1)["a"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_sparse(form: str, kind: str) -> None:
    sparse: Any = pytest.importorskip("scipy.sparse")
    dense = np.zeros((40, 60))
    dense[::3, ::2] = np.arange(14 * 30).reshape(14, 30)
    sent = getattr(sparse, f"{form}_{kind}")(dense)
    found, _, outside = send(sent)
    assert type(found) is type(sent)
    assert found.dtype == sent.dtype
    assert np.array_equal(found.toarray(), dense)
    if form not in {"lil", "dok"}:  # whose values are Python objects
        assert outside >= sent.data.nbytes
    assert np.array_equal(loads(dumps(sent, 3)).toarray(), dense)


def test_arrow_tables() -> None:
    pa: Any = pytest.importorskip("pyarrow")
    table = pa.table(
        {
            "a": np.arange(N),
            "s": [f"text {i}" for i in range(N)],
            "l": [[i] * (i % 3) for i in range(N)],
            "n": pa.array([None, 1] * (N // 2)),
        }
    )
    for sent in (table, table.to_batches()[0], table["s"], table["a"].chunk(0)):
        found, inside, outside = send(sent)
        assert found.equals(sent)
        assert outside >= sent.nbytes - 100
        assert inside < 2500
    found = send(table.slice(10, 50))[0]
    assert found.equals(table.slice(10, 50))
    assert loads(dumps(table, 4)).equals(table)
