"""Functions, classes and what refers to them, from one notebook to another."""

from __future__ import annotations

import pytest

from .cases import CLASSES, FUNCTIONS, Case, params
from .fresh import Interpreter, travel

# What only has a meaning within one version of Python, or needs none.
OBJECTS = [
    Case(
        "code objects and raw cells",
        """\
import types
def outer():
    x = [1]
    def f(): return x
    return f
f = outer()
module_code = compile("y = 1 + 1", "<nowhere>", "exec")
""",
        "[f, f.__code__, f.__closure__[0], types.CellType(), types.CellType(5), outer.__code__,"
        " module_code]",
        """\
import types
f, code, cell, empty, five, outer, module = obj
assert f.__code__ is code and f.__closure__[0] is cell and cell.cell_contents == [1]
assert five.cell_contents == 5 and type(empty) is types.CellType
try: empty.cell_contents
except ValueError: pass
else: raise AssertionError
assert types.FunctionType(outer, {})()() == [1]
namespace = {}
exec(module, namespace)
assert namespace["y"] == 2
""",
    ),
    Case(
        "a cell that contains itself",
        "import types\ncell = types.CellType()\ncell.cell_contents = [cell]\n",
        "cell",
        "assert obj.cell_contents[0] is obj",
    ),
    Case(
        "identity",
        "class A: pass\na = A()\nl = []\ndef f(): return l\ng = lambda: f\n",
        "[a, a, {'a': a}, l, l, f, f, g, A]",
        """\
a, a2, d, l, l2, f, f2, g, A = obj
assert a is a2 is d["a"] and l is l2 is f() and f is f2 is g() and type(a) is A
""",
    ),
    Case(
        "cycles",
        """\
class A:
    def __init__(self): self.me = self
l = []; l.append(l)
d = {}; d["d"] = d
t = ([],); t[0].append(t)
a = A()
def f(): return holder
holder = [f]
def g(): pass
g.me = {"g": g}
A.instance = a
""",
        "[l, d, t, a, f, g]",
        """\
l, d, t, a, f, g = obj
assert l[0] is l and d["d"] is d and t[0][0] is t and a.me is a and f()[0] is f
assert g.me["g"] is g and type(a).instance is a
""",
    ),
    Case(
        "modules by reference",
        """\
import json, math
import os.path
import xml.etree.ElementTree
def f(): return xml.etree.ElementTree.fromstring("<a/>").tag, os.path.join("a", "b"), math.pi
def g(): return json.decoder.JSONDecoder
""",
        "[f, json, math, json.decoder, g]",
        """\
import json, math
f, j, m, decoder, g = obj
assert f() == ("a", "a/b", math.pi) and j is json and m is math and decoder is json.decoder
assert g() is json.JSONDecoder
""",
    ),
    Case(
        "builtins and the standard library",
        """\
import collections, datetime, decimal, itertools, logging, operator, pathlib, re, uuid, types
log = logging.getLogger("a.b")
odd = collections.OrderedDict(a=1)
""",
        """[
len, "a".upper, [3].append, None, type(None), Ellipsis, NotImplemented, {1}.union, dict.fromkeys,
int.__add__, str.join, operator.itemgetter(1), collections.defaultdict(lambda: 5),
collections.deque([1], 5), datetime.datetime(2020, 1, 1), decimal.Decimal("1.10"),
pathlib.PurePosixPath("a"), re.compile("a+"), uuid.UUID(int=1), range(3), slice(1, 2),
{"a": 1}.keys(), odd.values(), types.MappingProxyType({"b": 2}), log, logging.getLogger(),
types.SimpleNamespace(x=1), complex(1, 2), b"x", bytearray(b"y"), frozenset([1]), 1 << 100,
]""",
        """\
import datetime, logging, pathlib, types
assert obj[0] is len and obj[1]() == "A" and obj[3] is None and obj[4] is type(None)
assert obj[5] is ... and obj[6] is NotImplemented and obj[7]([2]) == {1, 2}
assert obj[9] is int.__add__ and obj[10] is str.join and obj[11]("ab") == "b" and obj[12]["x"] == 5
assert obj[13].maxlen == 5 and obj[14] == datetime.datetime(2020, 1, 1) and str(obj[15]) == "1.10"
assert obj[16] == pathlib.PurePosixPath("a") and obj[17].match("aa") and list(obj[19]) == [0, 1, 2]
assert list(obj[21]) == ["a"] and list(obj[22]) == [1] and obj[23] == {"b": 2}
assert obj[24] is logging.getLogger("a.b") and obj[25] is logging.getLogger()
assert obj[26] == types.SimpleNamespace(x=1) and obj[27:] == [
    1 + 2j, b"x", bytearray(b"y"), frozenset([1]), 1 << 100
]
""",
    ),
    Case(
        "weak sets, whose elements are alive",
        "import weakref\nclass A: pass\na = A()\ns = weakref.WeakSet([a])\n",
        "[a, s]",
        "a, s = obj\nassert list(s) == [a]",
    ),
    Case(
        "reducers of the user's own",
        """\
import copyreg
def make(x): return A(x + 1)
class A:
    def __init__(self, x): self.x = x
    def __reduce__(self): return make, (self.x,)
class B:
    def __getstate__(self): return {"y": 2}
    def __setstate__(self, state): self.z = state
class C:
    def __init__(self, x): self.x = x
copyreg.pickle(C, lambda c: (C, (c.x * 2,)))
class S:
    __slots__ = ("s",)
    def __getnewargs__(self): return ("new",)
    def __new__(cls, s=None):
        self = super().__new__(cls)
        self.s = s
        return self
""",
        "[A(1), B(), C(3), S()]",
        # Sides differ: each tells whether it is the one where it arrived.
        "x = (obj[0].x, getattr(obj[1], 'z', None), obj[2].x, obj[3].s)\n"
        "assert x in ((1, None, 3, None), (2, {'y': 2}, 6, None)), x",
    ),
]


@pytest.mark.parametrize("case", params(FUNCTIONS + CLASSES + OBJECTS))
def test_what_arrives_is_what_was_written(
    writer: Interpreter, reader: Interpreter, case: Case
) -> None:
    travel(writer, reader, case.source, case.expression, case.check)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(
    "case",
    params(
        [
            case
            for case in FUNCTIONS + CLASSES + OBJECTS
            if case.name in {"defaults, annotations, attributes", "three closures share a variable",
                             "super and private names", "Enum", "generics", "cycles", "decorated",
                             "code objects and raw cells", "modules by reference"}
        ]
    ),
)  # fmt: skip
def test_older_protocols(
    writer: Interpreter, reader: Interpreter, case: Case, protocol: int
) -> None:
    pickled = travel(writer, reader, case.source, case.expression, case.check, protocol=protocol)
    assert pickled.data[:2] == bytes([0x80, protocol])


def test_arrives_again_from_where_it_arrived(writer: Interpreter, reader: Interpreter) -> None:
    """Whoever got something can give it on, and knows its source."""
    travel(
        writer,
        reader,
        "class A:\n    def m(self): return k\nk = 3\ndef f(n): return A().m() + n\n",
        "f",
        "assert obj(1) == 4",
    )
    reader.run("main.again = obj")
    with Interpreter() as third:
        third.load(reader.dump("again"))
        answer = third.run("import inspect; [obj(1), inspect.getsource(obj)]")
    assert answer == [4, "def f(n): return A().m() + n\n"]


def test_one_class_arrives_once(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell("class A: pass\na, b = A(), A()\n")
    reader.load(writer.dump("a"))
    reader.run("main.first = obj")
    reader.load(writer.dump("b"))
    assert reader.run("type(obj) is type(main.first)")


def test_a_class_is_not_set_back_where_it_was_defined(
    writer: Interpreter, reader: Interpreter
) -> None:
    writer.cell("class A:\n    n = 1\n    def m(self): return self.n\na = A()\n")
    pickled = writer.dump("a")
    writer.cell("A.n = 2\n")
    writer.load(pickled)
    assert writer.run("obj.m(), type(obj) is main.A, main.A.n") == [2, True, 2]
    reader.load(pickled)
    assert reader.run("obj.m()") == 1


def test_only_what_is_referenced_travels(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell(
        """\
used, unused = "the-used-one", "the-secret"
import sqlite3
lock = __import__("threading").Lock()
def helper(): return used
def f(): return helper()
class A:
    def m(self): return helper()
"""
    )
    for expression in ("f", "[f]", "A", "A().m"):
        pickled = writer.dump(expression)
        assert b"the-used-one" in pickled.data
        assert b"the-secret" not in pickled.data
        assert b"sqlite3" not in pickled.data
    reader.load(writer.dump("f"))
    assert reader.run("sorted(n for n in obj.__globals__ if n != '__builtins__')") == [
        "__name__", "__package__", "helper", "used",
    ]  # fmt: skip


def test_the_other_notebook_stays_as_it_is(writer: Interpreter, reader: Interpreter) -> None:
    reader.cell("k = 'mine'\ndef g(): return 'mine'\n")
    travel(
        writer,
        reader,
        "k = 1\ndef g(): return k\ndef f():\n    global k\n    k += 1\n    return g()\n",
        "f",
        "assert obj() == 2",
    )
    assert reader.run("main.k, main.g()") == ["mine", "mine"]


SAME = """\
def f(n): return ["text" + str(n), ("tuple", 1.5, "text"), len("text")]
class A:
    x: int = 1
    def m(self): return f(self.x)
def outer():
    n = 0
    def get(): return n, "text"
    return get
"""


@pytest.mark.parametrize("expression", ["f", "A", "[lambda: 1, A().m]", "outer()"])
def test_the_same_bytes_each_time(writer: Interpreter, expression: str) -> None:
    writer.cell(SAME)
    first = writer.dump(expression)
    writer.run("[main.f(i) for i in range(100)]")
    assert writer.dump(expression).data == first.data


def test_the_same_bytes_everywhere(writer: Interpreter, reader: Interpreter) -> None:
    """Whoever else refers to what a function is made of."""
    for notebook in (writer, reader):
        notebook.cell(SAME)
    reader.run(
        """\
code = main.f.__code__
main.kept = [*code.co_consts, *code.co_names, *code.co_varnames, code.co_code, code.co_name]
main.kept += [*code.co_consts[2], code.co_linetable, code.co_filename] * 2
"""
    )
    for expression in ("f", "[f, outer()]"):
        assert writer.dump(expression).data == reader.dump(expression).data


def test_many_at_once(writer: Interpreter, reader: Interpreter) -> None:
    """A graph of hundreds of functions, classes and objects; its memo is large."""
    source = "".join(
        f"def f{i}(n): return n if n <= 0 else f{i // 2}(n - 1) + {i}\n"
        f"class A{i}:\n    def m(self): return f{i}(2), A{i // 2}\n"
        for i in range(200)
    )
    travel(
        writer,
        reader,
        source,
        "{n: v for n, v in globals().items() if n[1:].isdigit()}",
        """\
assert len(obj) == 400
for i in range(200):
    assert obj[f"A{i}"]().m() == (i + i // 2, obj[f"A{i // 2}"])
""",
    )
