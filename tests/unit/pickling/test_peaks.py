"""Arrays in an object are written directly, without a copy in private memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

import jshm

from ...support.processes import Beginnings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

# Private memory that may be added: a buffer of 16 MiB, and some for small objects.
SLACK = 24 << 20

PREPARE = """
import collections, dataclasses, functools, resource, sys, types, warnings
import numpy as np
import jshm
warnings.simplefilter("ignore")

@dataclasses.dataclass
class Record:
    x: object

class Model:
    def __init__(self, x):
        self.coef_ = x

class Named(np.ndarray):
    pass

def closure(x):
    def f():
        return x
    return f

def objects(*values):
    made = np.empty(len(values), object)
    made[:] = values
    return made

x = np.ones((4000, 2000))  # 64 MB
half = x[:, ::2]
pairs = np.zeros(5_000_000, [("a", "f8"), ("b", "i4")])
aligned = np.zeros(4_000_000, np.dtype([("a", "i1"), ("b", "f8")], align=True))
"""

MEASURE = """
jshm.publish("warm", {"a": np.ones((300, 300))[:, ::2], "b": [memoryview(b"abc")]})
if sys.argv[1] == "again":  # into a spare
    jshm.publish("v", {"k": value}); jshm.publish("v", {"k": value})
with open("/proc/self/status") as file:
    data = int(next(line for line in file if line.startswith("VmData")).split()[1]) << 10
# A limit on writable private memory; the kernel refuses more, and NumPy raises.
resource.setrlimit(resource.RLIMIT_DATA, (data + int(sys.argv[2]), resource.RLIM_INFINITY))
print(jshm.publish("v", {"k": value}).nbytes)
"""

KINDS = {
    "half": "half",
    "transposed": "x.T",
    "backwards": "x[::-1, ::-1]",
    "Fortran, strided": "np.asfortranarray(x)[::2]",
    "three axes": "x.reshape(200, 100, 400).transpose(1, 2, 0)",
    "broadcast": "np.broadcast_to(x[0], (4000, 2000))",
    "windows": "np.lib.stride_tricks.sliding_window_view(x.reshape(-1)[:5000], 2000).T",
    "a field": "pairs['a']",
    "some fields": "pairs[['b']]",
    "padded items": "aligned",
    "dates": "x.view('i8').view('M8[ns]')[:, ::2]",
    "other byte order": "x.view('>f8')[:, ::2]",
    "texts": "x.view('S8')[:, ::2]",
    "real parts": "x.view(complex).real",
    "masked": "np.ma.masked_array(x, mask=x > 5)[:, ::2]",
    "a subclass": "x.view(Named)[:, ::2]",
    "records": "pairs.view(np.recarray)[::2]",
    "a list": "[half, half]",
    "a dataclass": "Record(half)",
    "an estimator": "Model(half)",
    "a method": "types.MethodType(lambda self: self, Model(half))",
    "a closure": "closure(half)",
    "a partial": "functools.partial(len, half)",
    "a deque": "collections.deque([half])",
    "an array of objects": "objects(half, [half])",
    "views of one array": "(half, x[:, 1::2], x)",
    "a memoryview": "memoryview(half)",
    "a memoryview of other items": "memoryview(x.reshape(-1))[::-2]",
}
PANDAS = {
    "a table": "pd.DataFrame(half, copy=False)",
    "a table backwards": "pd.DataFrame(x[::-1], copy=False)",
    "rows of a table": "pd.DataFrame(x, copy=False).iloc[::2]",
    "columns": "pd.DataFrame({'a': x.reshape(-1)[::2], 'b': x.reshape(-1)[1::2]}, copy=False)",
    "a series": "pd.Series(x.reshape(-1)[::2], copy=False)",
    "an index": "pd.Index(x.reshape(-1)[::2], copy=False)",
}
SCIPY = {
    "a sparse matrix": "sparse.csr_matrix((x.reshape(-1)[::2], np.zeros(8_000_000, np.int32)[::2],"
    " np.array([0, 4_000_000])), shape=(1, 10), copy=False)",
}


# The tests that need a missing module are skipped.
LIBRARIES = """
import contextlib
with contextlib.suppress(ImportError):
    import pandas as pd
with contextlib.suppress(ImportError):
    from scipy import sparse
jshm.publish, jshm.dumps  # imported by now
"""


@pytest.fixture(scope="module")
def beginnings() -> Iterator[Beginnings]:
    with Beginnings(PREPARE + LIBRARIES) as begun:
        yield begun


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is of Linux")
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *((kind, "new") for kind in [*KINDS, *PANDAS, *SCIPY]),
        *(
            (kind, "again")
            for kind in ("half", "padded items", "masked", "a memoryview", "a table")
        ),
    ],
)
def test_no_private_copy_of_an_array_in_an_object(
    store: LocalStore, beginnings: Beginnings, tmp_path: Path, kind: str, how: str
) -> None:
    if kind in PANDAS:
        pytest.importorskip("pandas")
    if kind in SCIPY:
        pytest.importorskip("scipy")
    code = f"value = {({**KINDS, **PANDAS, **SCIPY})[kind]}\n{MEASURE}"
    done = beginnings.run(tmp_path, code, how, str(SLACK))
    assert done.stdout.strip().isdigit(), done.stdout + done.stderr
    assert int(done.stdout) > SLACK


HUGE = """
one = np.broadcast_to(np.float64(1), (10**12,))
rows = np.broadcast_to(np.arange(1000.0), (10**9, 1000))
padded = np.broadcast_to(np.zeros((), aligned.dtype), (10**11,))
values = [
    {"a": one}, [rows], [rows.T], Record(padded), np.ma.masked_array(one), [memoryview(one)],
    functools.partial(len, one), rows.view(Named), [np.broadcast_to(np.array(None, object), (10**11,))],
    closure(one), [np.lib.stride_tricks.sliding_window_view(np.ones(10**6), 5 * 10**5)],
]
jshm.publish("warm", [1])
with open("/proc/self/status") as file:
    data = int(next(line for line in file if line.startswith("VmData")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (data + int(sys.argv[1]), resource.RLIM_INFINITY))
ways = [
    lambda value: jshm.publish("v", value),
    jshm.dumps,
    lambda value: jshm.dumps(value, 5, lambda _: None),
]
for way in ways:
    for value in values:
        try:
            way(value)
        except jshm.NoSpaceError as error:
            assert "needs" in str(error)
        else:
            raise AssertionError(value)
print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is of Linux")
def test_a_view_that_is_larger_than_memory_is_refused_before_any_is_used(
    store: LocalStore, beginnings: Beginnings, tmp_path: Path
) -> None:
    done = beginnings.run(tmp_path, HUGE, str(SLACK))
    assert done.stdout.strip() == "refused", done.stderr
    assert jshm.segments() == []
