"""Classes made by compiled code, or by a metaclass that needs more than a name and bases."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from jshm import NotShareableError
from jshm.pickling import dumps, foreign

from .cases import THIS, Case
from .fresh import Interpreter, failing, travel
from .interpreters import found

DICTS = [
    Case(
        "typed dicts that inherit",
        """\
from typing import NotRequired, Required, TypedDict
class A(TypedDict):
    "of A"
    a: int
class B(A, total=False):
    b: str
class C(B):
    c: Required[int]
    d: NotRequired[int]
def f(x: C) -> list[B]: return x["a"]
""",
        "[A, B, C, f]",
        """\
import typing
A, B, C, f = obj
assert all(map(typing.is_typeddict, (A, B, C))) and C(a=1) == {"a": 1} and A.__doc__ == "of A"
assert C.__required_keys__ == {"a", "c"} and C.__optional_keys__ == {"b", "d"}
assert (A.__total__, B.__total__) == (True, False) and C.__bases__ == (dict,)
assert typing.get_type_hints(C) == {"a": int, "b": str, "c": int, "d": int}
assert f({"a": 42}) == 42 and typing.get_type_hints(f) == {"x": C, "return": list[B]}
class D(C): e: int
assert D.__required_keys__ == {"a", "c", "e"}
""",
    ),
    Case(
        "functional and local typed dicts",
        """\
from typing import TypedDict
T = TypedDict("T", {"a-b": int, "in": "str"}, total=False)
def make():
    class Inner(TypedDict):
        x: int
    class Outer(Inner):
        y: Inner
    return Outer
""",
        "[T, make()]",
        """\
import typing
T, Outer = obj
assert typing.get_type_hints(T) == {"a-b": int, "in": str} and T.__optional_keys__ == {"a-b", "in"}
assert Outer.__qualname__ == "make.<locals>.Outer" and Outer.__required_keys__ == {"x", "y"}
""",
    ),
    Case(
        "generic typed dicts",
        """\
from typing import Generic, TypedDict, TypeVar
T = TypeVar("T")
class G(TypedDict, Generic[T]):
    x: T
class H(G[int]):
    y: int
def f(g: G[int]) -> G[str]: return g
""",
        "[G, H, G[int], f, T]",
        """\
import typing
G, H, Gi, f, T = obj
assert G[int] == Gi == f.__annotations__["g"] and G.__parameters__ == (T,) and Gi(x=1) == {"x": 1}
assert typing.is_typeddict(H) and set(H.__annotations__) == {"x", "y"}
""",
    ),
    Case(
        "a generic named tuple",
        """\
from typing import Generic, NamedTuple, TypeVar
T = TypeVar("T")
class N(NamedTuple, Generic[T]):
    a: T
""",
        "[N, N(1), N[int]]",
        "N, n, Ni = obj\nassert n.a == 1 and type(n) is N and Ni(3).a == 3",
    ),
    Case(
        "a method that dispatches",
        """\
import functools
class A:
    @functools.singledispatchmethod
    def f(self, x): return "any"
    @f.register
    def _(self, x: int): return "int"
""",
        "A()",
        "assert (obj.f(1), obj.f('')) == ('int', 'any')",
    ),
]

KEPT = [
    "type({}.keys())", "type(iter([]))", "type(threading.Lock())", "type(sys.flags)", "sys.flags",
    "sys.version_info", "type(sys.float_info)", "type(re.compile('a'))", "type(type(np.dtype('f8')))",
    "type(np.dtype('f8'))", "type(np.dtype('M8[s]'))",
]  # fmt: skip


@pytest.mark.parametrize("case", DICTS, ids=lambda case: case.name)
def test_it_arrives(writer: Interpreter, reader: Interpreter, case: Case) -> None:
    travel(writer, reader, case.source, case.expression, case.check)


@pytest.mark.parametrize("case", DICTS, ids=lambda case: case.name)
@pytest.mark.parametrize("version", [(3, 12), (3, 13)], ids=lambda v: ".".join(map(str, v)))
def test_it_arrives_in_another_version(
    writer: Interpreter, case: Case, version: tuple[int, int]
) -> None:
    if version == THIS or version not in found():
        pytest.skip("no such Python")
    with Interpreter(found()[version]) as other:
        travel(writer, other, case.source, case.expression, case.check)
        other.reset()
        writer.reset()
        travel(other, writer, case.source, case.expression, case.check)


@pytest.mark.parametrize("expression", KEPT)
def test_a_class_without_an_importable_name_is_the_reader_s(
    writer: Interpreter, reader: Interpreter, expression: str
) -> None:
    imports = "import re, sys, threading\nimport numpy as np\n"
    check = f"{imports}assert obj is {expression}"
    travel(writer, reader, imports, expression, check)


@pytest.mark.parametrize("name", ["bfloat16", "int4", "float8_e4m3fn"])
def test_dtypes_of_other_libraries(writer: Interpreter, reader: Interpreter, name: str) -> None:
    pytest.importorskip("ml_dtypes")
    source = f"import ml_dtypes\nimport numpy as np\nD = type(np.dtype(ml_dtypes.{name}))\n"
    check = source + "assert obj[0] is D and obj[1] == list(D.__mro__)"
    travel(writer, reader, source, "[D, list(D.__mro__)]", check)


def test_a_class_that_no_reader_can_find_is_refused(writer: Interpreter) -> None:
    writer.cell("import functools\n")
    message = failing(writer.dump, "[type(functools.cmp_to_key(len))]").message
    assert message.startswith(
        "the list → [0] → type: cannot be shared: compiled code made the class"
    )
    assert "Take it from an instance where it is used, as type(x)" in message


# -- structs of msgspec ----------------------------------------------------------------------------

STRUCTS = [
    Case(
        "structs with options",
        """\
class Point(Struct, frozen=True, tag="p", tag_field="k", array_like=True, kw_only=True, order=True,
            weakref=True, omit_defaults=True, forbid_unknown_fields=True, dict=True, eq=True):
    x: int
    y: int = 3
    def total(self): return self.x + self.y
""",
        "[Point, Point(x=1)]",
        """\
import msgspec, weakref
Point, p = obj
assert type(p) is Point and p == Point(x=1) and p < Point(x=2) and p.total() == 4
assert msgspec.json.decode(msgspec.json.encode(p), type=Point) == p and weakref.ref(p)() is p
config = Point.__struct_config__
assert config.frozen and config.array_like and config.tag == "p" and config.dict
try: p.x = 3
except AttributeError: pass
else: raise AssertionError
""",
    ),
    Case(
        "structs without the garbage collector, with other names",
        """\
class Point(Struct, gc=False, rename="camel"):
    my_x: int
    other: int = msgspec.field(name="zz", default=4)
    many: list = []
""",
        "[Point, Point(1)]",
        """\
import msgspec
assert msgspec.json.encode(obj[1]) == b'{"myX":1,"zz":4,"many":[]}'
assert not obj[0].__struct_config__.gc and obj[0](2).many is not obj[0](3).many
""",
    ),
    Case(
        "structs that inherit, and refer to themselves",
        """\
class Base(Struct, tag=True, kw_only=True):
    x: int
    d: int = 3
class Node(Base):
    y: int
    next: "Node | None" = None
    many: list = msgspec.field(default_factory=lambda: [Other()])
    COUNT: ClassVar[int] = 7
    @classmethod
    def make(cls): return cls(4, x=1)
    def __post_init__(self): self.seen()
    def seen(self): pass
class Other(Base):
    x: int = 0
node = Node(1, x=2)
""",
        "[Base, Node, Other, node]",
        """\
import msgspec
Base, Node, Other, node = obj
assert isinstance(node, Base) and (node.x, node.y, node.d) == (2, 1, 3) and Node.COUNT == 7
assert type(node.many[0]) is Other and type(Node.make().many[0]) is Other
assert msgspec.json.decode(msgspec.json.encode(Node(1, x=2)), type=Node | Other).x == 2
class More(Base): z: int = 0
assert More(x=1).__struct_config__.tag == "More"
""",
    ),
    Case(
        "generic structs, constraints, and decoders",
        """\
T = TypeVar("T")
class Box(Struct, Generic[T]):
    x: T
class Positive(Struct):
    n: Annotated[int, msgspec.Meta(gt=0)]
    u: int | msgspec.UnsetType = msgspec.UNSET
decoder = msgspec.json.Decoder(Positive)
def decode(text): return decoder.decode(text)
""",
        "[Box, Box(1), Box[int], Positive(5), decode, msgspec.defstruct('P', [('x', int)])(3)]",
        """\
import msgspec
Box, box, ints, positive, decode, made = obj
assert box.x == 1 and msgspec.json.decode(b'{"x":3}', type=ints).x == 3
assert decode(b'{"n":3}').n == 3 and positive.u is msgspec.UNSET and made.x == 3
try: decode(b'{"n":0}')
except msgspec.ValidationError: pass
else: raise AssertionError
""",
    ),
    Case(
        "what msgspec keeps in the classes that it decoded",
        """\
import dataclasses, enum
class Mode(enum.Enum): FAST = "a"
@dataclasses.dataclass
class Data:
    mode: Mode = Mode.FAST
    many: list["Data"] = dataclasses.field(default_factory=list)
data = msgspec.json.decode(b'{"many":[{}]}', type=Data)
kept = ["__msgspec_cache__" in vars(kind) for kind in (Mode, Data)]
""",
        "[Mode, data, kept]",
        """\
import msgspec
Mode, data, kept = obj
assert data.mode is Mode.FAST and kept == [True, True]
assert msgspec.json.decode(b'{"many":[{}]}', type=type(data)) == data
""",
    ),
]


@pytest.mark.parametrize("case", STRUCTS, ids=lambda case: case.name)
def test_structs(writer: Interpreter, reader: Interpreter, case: Case) -> None:
    pytest.importorskip("msgspec")
    imports = """\
import msgspec
from msgspec import Struct
from typing import Annotated, ClassVar, Generic, TypeVar
"""
    travel(writer, reader, imports + case.source, case.expression, case.check)


def test_a_struct_that_arrived_goes_on(writer: Interpreter, reader: Interpreter) -> None:
    pytest.importorskip("msgspec")
    writer.cell(
        "import msgspec\nclass A(msgspec.Struct):\n"
        "    x: list = msgspec.field(default_factory=lambda: [1])\n"
    )
    reader.load(writer.dump("A"))
    assert reader.run("A = pickling.loads(pickling.dumps(obj)); A().x") == [1]


# -- other metaclasses -----------------------------------------------------------------------------


class Strict(type):
    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Any:
        if "needed" not in space:
            raise TypeError("needed is needed")
        return super().__new__(cls, name, bases, space)


def test_a_compiled_metaclass_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "is_compiled", lambda cls: cls is Strict)

    class A(metaclass=Strict):
        needed = 1

    with pytest.raises(NotShareableError, match=r"cannot make the class again \(needed is needed"):
        dumps(A())


def test_a_class_that_numba_compiled_is_refused(writer: Interpreter) -> None:
    pytest.importorskip("numba")
    writer.cell(
        "import numba\nfrom numba.experimental import jitclass\n@jitclass([('x', numba.int64)])\n"
        "class A:\n    def __init__(self): self.x = 3\n"
    )
    assert "decorate the class where it is used" in failing(writer.dump, "[A]").message.lower()


# -- whose class it is -----------------------------------------------------------------------------

STRUCTURE = """\
import ctypes
class P(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_int * 2)]
obj = P(1)
"""
STRUCT = """\
import msgspec
class P(msgspec.Struct):
    x: int
    y: list = []
    z: int = msgspec.field(default=3)
obj = P(1)
"""
TEXT = """\
from __future__ import annotations
import dataclasses
class Q: pass
@dataclasses.dataclass
class P:
    x: int
    q: Q = None
obj = P(1)
"""
DICT = """\
from typing import TypedDict
class A(TypedDict):
    x: int
class P(A):
    y: "A"
obj = P
"""


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        (STRUCTURE, "", ""),
        (STRUCTURE, '("x", ctypes.c_int)', '("x", ctypes.c_double)'),
        (STRUCTURE, "    _fields_", "    _pack_ = 1\n    _fields_"),
        (STRUCT, "", ""),
        (STRUCT, "default=3", "default=4"),
        (STRUCT, "Struct)", "Struct, frozen=True)"),
        (TEXT, "", ""),
        (TEXT, "q: Q", "q: P"),
        (DICT, "", ""),
        (DICT, "x: int", "x: str"),
    ],
)
def test_the_reader_s_own_class_is_used_if_it_is_defined_the_same(
    writer: Interpreter, reader: Interpreter, source: str, old: str, new: str
) -> None:
    """Also if the object comes from a process that does not define the class."""
    if source is STRUCT:
        pytest.importorskip("msgspec")
    writer.cell(source)
    pickled = writer.dump("obj")
    own = source.replace(old, new) if old else source
    with Interpreter(sys.executable, "-W", "ignore") as relay:
        relay.load(pickled)
        relay.run("main.obj = obj")
        again = relay.dump("obj")
    for arrived in (pickled, again):
        reader.reset()
        reader.run("import warnings; warnings.simplefilter('ignore')")
        reader.cell(own)
        reader.load(arrived)
        assert reader.run("main.P in (obj, type(obj))") is (source == own)


def test_a_structure_whose_base_has_a_hook(writer: Interpreter, reader: Interpreter) -> None:
    source = """\
import ctypes
class Base(ctypes.Structure):
    def __init_subclass__(cls, *, unit): cls.unit = unit
class P(Base, unit="m"):
    _fields_ = [("x", ctypes.c_int)]
"""
    travel(writer, reader, source, "P(3)", "assert obj.x == 3 and obj.unit == 'm'")
