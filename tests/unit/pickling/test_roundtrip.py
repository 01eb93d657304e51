"""Functions, classes and what refers to them, from one notebook to another."""

from __future__ import annotations

import pytest

from .cases import CLASSES, FUNCTIONS, Case, params
from .fresh import Interpreter, travel

# Cases for one version of Python only.
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
        "methods of whatever can be called",
        """\
import functools, operator, types
def f(a, b, c=0): return a, b, c
class Call:
    def __init__(self, x): self.x = x
    def __call__(self, *rest): return self.x, rest
    def method(self, y): return self.x, y
self = Call(1)
""",
        """[
types.MethodType(functools.partial(f, 1), 2), types.MethodType(Call(3), self),
types.MethodType(self.method, 4), types.MethodType(len, [1, 2]), types.MethodType(int, "5"),
types.MethodType(operator.itemgetter(1), [6, 7]), types.MethodType(self, self), self.method, self,
]""",
        """\
partial, call, method, length, number, item, twice, own, me = obj
assert partial() == (1, 2, 0) and partial(5) == (1, 2, 5) and partial.__self__ == 2
assert call("x") == (3, (me, "x")) and call.__self__ is me
assert method() == (1, 4) and length() == 2 and number() == 5 and item() == 7
assert twice.__self__ is twice.__func__ is own.__self__ is me and own(2) == (1, 2)
""",
    ),
    Case(
        "partials that contain themselves",
        """\
import functools
def f(*args, **kwargs): return args, kwargs
class Sub(functools.partial): pass
p = functools.partial(f); p.__setstate__((f, (p, 1), {}, {"tag": [p]}))
q = functools.partial(f); q.__setstate__((f, (), {"me": q}, {}))
s = Sub(f, 1, x=2); s.me = s
n = functools.partial(functools.partial(f, 1), 2)
""",
        "[p, q, s, n]",
        """\
p, q, s, n = obj
assert p.args == (p, 1) and p.tag == [p] and q.keywords == {"me": q} and s.me is s
assert type(s).__name__ == "Sub" and s(3) == ((1, 3), {"x": 2}) and n() == ((1, 2), {})
""",
    ),
    Case(
        "files that are memory",
        """\
import io
class Bytes(io.BytesIO):
    def __init__(self, data, tag): super().__init__(data); self.tag = tag
class Text(io.StringIO): pass
def at(file, position): file.seek(position); return file
text = io.StringIO(); text.write("abc")
""",
        """[
at(io.BytesIO(b"12345"), 3), {"text": text}, at(Bytes(b"xyz", [1]), 1), at(Text("words"), 2),
io.StringIO("a\\r\\nb", newline=""),
]""",
        """\
binary, nested, sub, words, lines = obj
assert binary.getvalue() == b"12345" and binary.tell() == 3
assert nested["text"].getvalue() == "abc" and nested["text"].tell() == 3
assert type(sub).__name__ == "Bytes" and sub.tag == [1] and sub.tell() == 1 and sub.read() == b"yz"
sub.seek(1)
assert type(words).__name__ == "Text" and words.getvalue() == "words" and words.tell() == 2
assert lines.getvalue() == "a\\r\\nb" and lines.tell() == 0
""",
    ),
    Case(
        "views of dicts",
        """\
import collections
class Sub(dict): pass
d, o = {"a": 1, "b": [2]}, collections.OrderedDict(x=1, y=2)
""",
        """[
d.keys(), d.values(), d.items(), o.keys(), o.values(), o.items(), Sub(a=1).items(), iter(o.items()),
]""",
        """\
assert type(obj[0]) is type({}.keys()) and list(obj[0]) == ["a", "b"]
assert type(obj[1]) is type({}.values()) and list(obj[1]) == [1, [2]]
assert type(obj[2]) is type({}.items()) and list(obj[2]) == [("a", 1), ("b", [2])]
assert [list(view) for view in obj[3:6]] == [["x", "y"], [1, 2], [("x", 1), ("y", 2)]]
assert list(obj[6]) == [("a", 1)]
""",
    ),
    Case(
        "methods of builtin types",
        "class A(list): pass\na = A([1])\n",
        """[
a.append, a, str.upper, "a".upper, int.__add__, (5).__add__, dict.fromkeys, {}.fromkeys,
object.__new__, object.__init__, a.__len__, type.__call__,
]""",
        """\
append, a, upper, up, add, add5, keys, keys2, new, init, length, call = obj
assert append.__self__ is a and length() == len(a) == 1
assert upper is str.upper and up() == "A" and add is int.__add__ and add5(1) == 6
assert keys("a") == keys2("a") == {"a": None} and new is object.__new__
assert init is object.__init__ and call is type.__call__
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
        # The check differs between writer and reader.
        "x = (obj[0].x, getattr(obj[1], 'z', None), obj[2].x, obj[3].s)\n"
        "assert x in ((1, None, 3, None), (2, {'y': 2}, 6, None)), x",
    ),
]


@pytest.mark.parametrize("case", params(FUNCTIONS + CLASSES + OBJECTS))
def test_objects_arrive_as_they_were(writer: Interpreter, reader: Interpreter, case: Case) -> None:
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
    """A reader can send an object on, and knows its source."""
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
    """Whatever else refers to the parts of a function."""
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
