"""ctypes between two processes: libraries, types and data arrive; addresses are refused."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from .cases import THIS, Case
from .fresh import Interpreter, failing, travel
from .interpreters import found

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it names Linux's libraries")
MATH = "libm.so.6"
IMPORT = f"import ctypes\nfrom ctypes import *\nMATH = {MATH!r}\n"

LIBRARIES = [
    Case(
        "a function that uses a library",
        """\
libm = CDLL(MATH)
libm.hypot.argtypes = [c_double, c_double]
libm.hypot.restype = c_double
def f(x, y): return libm.hypot(x, y)
""",
        "f",
        "assert obj(3, 4) == 5.0",
    ),
    Case(
        "a library and a function of it",
        "libm = CDLL(MATH)\nlibm.hypot.restype = c_double\nlibm.note = 'mine'\n",
        "[libm.hypot, libm]",
        """\
import ctypes
function, library = obj
assert function is library.hypot and function.restype is ctypes.c_double
assert type(library) is ctypes.CDLL and library.note == "mine"
assert library.floor.argtypes is None
""",
    ),
    Case(
        "a function that no library keeps",
        "f = CDLL(MATH)['hypot']\nf.restype = c_double\nf.argtypes = (c_double, c_double)\n",
        "f",
        "assert obj(3, 4) == 5.0",
    ),
    Case(
        "a library in a closure, and in an instance",
        """\
class Lib:
    def __init__(self):
        self.lib = CDLL(MATH)
        self.lib.pow.argtypes = [c_double] * 2
        self.lib.pow.restype = c_double
    def pow(self, a, b): return self.lib.pow(a, b)
def make(lib): return lambda a: lib.pow(a, 2.0)
lib = Lib()
""",
        "[lib, make(lib)]",
        "assert obj[0].pow(2, 3) == 8.0 and obj[1](3) == 9.0",
    ),
    Case(
        "errcheck, errno, and a subclass",
        """\
class Checked(CDLL):
    def cosine(self, x): return self.cos(x)
libm = Checked(MATH, use_errno=True)
def check(result, function, arguments): return result + 100
libm.cos.restype = c_double
libm.cos.argtypes = [c_double]
libm.cos.errcheck = check
libc = CDLL(None, use_errno=True)
def failing():
    libc.close(-5)
    return get_errno()
""",
        "[libm, failing]",
        "assert obj[0].cosine(0) == 101.0 and obj[1]() == 9",
    ),
    Case(
        "the interpreter's own functions",
        "f = pythonapi.Py_GetVersion\nf.restype = c_char_p\n",
        "[f, pythonapi, cdll]",
        """\
import ctypes, sys
assert obj[0]().decode() == sys.version and obj[1] is ctypes.pythonapi and obj[2] is ctypes.cdll
""",
    ),
    Case(
        "callbacks",
        """\
Compare = CFUNCTYPE(c_int, POINTER(c_int), POINTER(c_int))
libc = CDLL(None)
def compare(a, b): return a[0] - b[0]
def ordered(numbers):
    array = (c_int * len(numbers))(*numbers)
    libc.qsort(array, len(numbers), sizeof(c_int), Compare(compare))
    return list(array)
def moved():
    buffer = create_string_buffer(5)
    memmove(buffer, b"abc", 3)
    return buffer.value
""",
        "[ordered, moved]",
        "assert obj[0]([3, 1, 2]) == [1, 2, 3] and obj[1]() == b'abc'",
    ),
    Case(
        "what numpy.ctypeslib makes",
        """\
import numpy as np
Doubles = np.ctypeslib.ndpointer(np.float64, ndim=1, flags="C_CONTIGUOUS")
libc = CDLL(None)
libc.memset.argtypes = [Doubles, c_int, c_size_t]
def clear(array):
    libc.memset(array, 0, array.nbytes)
    return array
array = np.ctypeslib.as_ctypes(np.arange(3.0))
""",
        "[clear, Doubles, array]",
        """\
import numpy as np
assert obj[0](np.ones(2)).tolist() == [0, 0] and list(obj[2]) == [0, 1, 2]
assert obj[1] is np.ctypeslib.ndpointer(np.float64, ndim=1, flags="C_CONTIGUOUS")
""",
    ),
]

TYPES = [
    Case(
        "types that ctypes keeps",
        "Type = CFUNCTYPE(c_int, c_int, use_errno=True)\n",
        "[c_double * 3, POINTER(c_int), POINTER(POINTER(c_char)), CFUNCTYPE(c_int, c_int), Type,"
        " PYFUNCTYPE(c_int), type(Structure), py_object]",
        """\
import ctypes
from ctypes import *
assert obj[0] is c_double * 3 and obj[1] is POINTER(c_int) and obj[2] is POINTER(POINTER(c_char))
assert obj[3] is CFUNCTYPE(c_int, c_int) and obj[4]._flags_ & ctypes._FUNCFLAG_USE_ERRNO
assert obj[5]._flags_ & ctypes._FUNCFLAG_PYTHONAPI and obj[6] is type(Structure)
assert obj[7] is py_object
""",
    ),
    Case(
        "arrays and simple values",
        """\
class Four(Array):
    _type_, _length_ = c_int, 4
    def total(self): return sum(self)
class Handle(c_int):
    def next(self): return self.value + 1
grid = ((c_int * 2) * 3)()
grid[1][1] = 7
""",
        "[(c_double * 3)(1, 2, 3), grid, Four(1, 2, 3, 4), Handle(3), c_char_p(b'abc'), c_void_p(),"
        " POINTER(c_int)(), create_string_buffer(b'ab', 5), c_wchar('é'), py_object([1])]",
        """\
from ctypes import *
a, grid, four, handle, text, nothing, null, buffer, char, boxed = obj
assert type(a) is c_double * 3 and list(a) == [1, 2, 3] and grid[1][1] == 7
assert four.total() == 10 and handle.next() == 4 and text.value == b"abc" and nothing.value is None
assert not null and (buffer.value, len(buffer)) == (b"ab", 5) and char.value == "é"
assert boxed.value == [1]
""",
    ),
    Case(
        "structures and unions",
        """\
class Point(Structure):
    _pack_ = 1
    _fields_ = [("tag", c_char), ("x", c_double), ("low", c_uint, 3), ("high", c_uint, 5)]
    count = 5
    @property
    def double(self): return self.x * 2
    @classmethod
    def make(cls): return cls(b"m", 7.0)
class Named(Point):
    _fields_ = [("points", Point * 2)]
    def first(self): return super().double
class Bits(Union):
    _fields_ = [("i", c_int), ("f", c_float)]
class Record(Structure):
    _anonymous_ = ("bits",)
    _fields_ = [("bits", Bits), ("k", c_int)]
class Swapped(BigEndianStructure):
    _fields_ = [("x", c_int)]
named = Named(b"a", 2.5, 5, 17)
named.points[1].x = 3.0
record = Record(k=4)
record.f = 1.0
""",
        "[Point, named, record, Swapped(1), Point.make]",
        """\
import ctypes
Point, named, record, swapped, make = obj
assert isinstance(named, Point) and (named.tag, named.x, named.low, named.high) == (b"a", 2.5, 5, 17)
assert named.first() == 5.0 and named.points[1].x == 3.0 and ctypes.sizeof(Point) in (10, 13)
assert make().x == 7.0 and type(make()) is Point and Point.count == 5
assert (record.i, record.k) == (1065353216, 4) and bytes(swapped) == bytes([0, 0, 0, 1])
""",
    ),
    Case(
        "structures that refer to one another",
        """\
class Node(Structure): pass
Callback = CFUNCTYPE(c_int, POINTER(Node))
class Pair(Structure):
    _fields_ = [("node", POINTER(Node)), ("k", c_int)]
Node._fields_ = [("pairs", Pair * 2), ("next", POINTER(Node)), ("f", Callback), ("z", c_int)]
class Open(Structure): pass
""",
        "[Pair, Callback, Node, POINTER(Open), Open]",
        """\
import ctypes
Pair, Callback, Node, pointer, Open = obj
assert ctypes.sizeof(Pair) == 16 and ctypes.sizeof(Node) == 56
assert Pair(ctypes.pointer(Node(z=3)), 1).node.contents.z == 3
assert Node(f=Callback(lambda node: node.contents.z + 1), z=4).f(Node(z=5)) == 6
assert pointer is ctypes.POINTER(Open) and not hasattr(Open, "_fields_")
""",
    ),
]


@pytest.mark.parametrize("case", [*LIBRARIES, *TYPES], ids=lambda case: case.name)
def test_it_arrives(writer: Interpreter, reader: Interpreter, case: Case) -> None:
    travel(writer, reader, IMPORT + case.source, case.expression, case.check)


@pytest.mark.parametrize("case", [*LIBRARIES, *TYPES], ids=lambda case: case.name)
@pytest.mark.parametrize("version", [(3, 12), (3, 13)], ids=lambda v: ".".join(map(str, v)))
def test_it_arrives_in_another_version(
    writer: Interpreter, case: Case, version: tuple[int, int]
) -> None:
    if version == THIS or version not in found():
        pytest.skip("no such Python")
    with Interpreter(found()[version]) as other:
        travel(writer, other, IMPORT + case.source, case.expression, case.check)
        other.reset()
        writer.reset()
        travel(other, writer, IMPORT + case.source, case.expression, case.check)


def test_no_library_of_the_reader_is_touched(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell(IMPORT + "f = pythonapi.Py_GetVersion\nf.restype = c_char_p\n")
    reader.run("import ctypes\nbefore = ctypes.pythonapi.Py_GetVersion.restype")
    reader.load(writer.dump("f"))
    assert reader.run("ctypes.pythonapi.Py_GetVersion.restype is before")


REFUSED = [
    ("pointer(c_int(3))", "the LP_c_int → __main__.LP_c_int: ", "p.contents"),
    ("byref(c_int(3))", "the CArgObject → CArgObject: ", "an address"),
    ("c_void_p(12345)", "the c_void_p → ctypes.c_void_p: ", "an address"),
    ("Text(b'abc')", "the Text → __main__.Text: ", "an address"),
    ("[CFUNCTYPE(c_int)(lambda: 1)]", "the list → [0] → ctypes.CFUNCTYPE.<locals>.CFunctionType: ",
     "share the Python function and the type"),
    ("CFUNCTYPE(c_double, c_double)(('cos', CDLL(MATH)))",
     "the CFunctionType → ctypes.CFUNCTYPE.<locals>.CFunctionType: ", "use its function by name"),
    ("CDLL(None, handle=CDLL(MATH)._handle)", "the CDLL → ctypes.CDLL: ", "by its full path"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "path", "way_out"), REFUSED)
def test_addresses_are_refused(
    writer: Interpreter, expression: str, path: str, way_out: str
) -> None:
    writer.cell(IMPORT + "class Text(Structure): _fields_ = [('text', c_char_p)]\n")
    error = failing(writer.dump, expression)
    assert error.kinds[0] == "NotShareableError"
    assert error.message.startswith(path)
    assert way_out in error.message


def test_a_library_of_the_user(writer: Interpreter, reader: Interpreter, tmp_path: Path) -> None:
    """It is found from any directory, and refused if its file is not the loaded one."""
    writer.cell(IMPORT + f"import os, shutil\nos.chdir({str(tmp_path)!r})\n")
    writer.cell("CDLL(MATH)\n")
    source = next(
        line.split()[-1] for line in writer.run("open('/proc/self/maps').read()").splitlines()
        if line.endswith(MATH)
    )  # fmt: skip
    shutil.copy(source, tmp_path / "libown.so")
    writer.cell("own = CDLL('./libown.so')\n")
    pickled = writer.dump("own")
    reader.load(pickled)
    assert reader.run("obj._name") == str(tmp_path / "libown.so")
    writer.cell("os.chdir('/')\n")
    assert "another directory" in failing(writer.dump, "own").message
    writer.cell(f"os.chdir({str(tmp_path)!r})\nos.remove('libown.so')\n")
    assert "another file" in failing(writer.dump, "own").message
    writer.cell("os.chdir('/')\n")
    with Interpreter() as fresh:
        error = failing(fresh.load, pickled)
        assert error.kinds[0] == "NotShareableError"
        assert str(tmp_path / "libown.so") in error.message
