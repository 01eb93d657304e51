"""Instances that `pickle` would write but could not load."""

from __future__ import annotations

import pytest

from .cases import Case
from .fresh import FreshError, Interpreter, failing, travel

CASES = [
    Case(
        "exceptions whose __init__ wants something else than args",
        """\
class A(Exception):
    def __init__(self, a, b): super().__init__(a); self.b = b
class B(ValueError):
    def __init__(self, *, code): super().__init__(f"code {code}"); self.code = code
class C(OSError):
    def __init__(self): super().__init__(2, "gone"); self.c = 3
class D(UnicodeDecodeError):
    def __init__(self, why): super().__init__("utf-8", b"a", 0, 1, why)
class E(KeyError):
    def __new__(cls, a, b): return super().__new__(cls, a)
    def __init__(self, a, b): self.b = b
b = B(code=3)
b.add_note("noted")
""",
        "[A(1, 2), b, C(), D('odd'), E(1, b=2)]",
        """\
a, b, c, d, e = obj
assert a.b == 2 and a.args == (1,) and str(b) == "code 3" and b.code == 3 and b.__notes__ == ["noted"]
assert (c.errno, c.strerror, c.c) == (2, "gone", 3) and isinstance(c, OSError) and d.reason == "odd"
assert e.b == 2 and e.args == (1,)
""",
    ),
    Case(
        "exceptions that load by themselves run their __init__",
        "class A(Exception):\n    def __init__(self, a=1): super().__init__(a); self.made = 'here'\n",
        "[A(2), ValueError(3)]",
        "assert obj[0].args == (2,) and obj[0].made == 'here' and obj[1].args == (3,)",
    ),
    Case(
        "objects whose __new__ wants arguments",
        """\
class A:
    def __new__(cls, x):
        made = super().__new__(cls)
        made.x = x
        return made
class Pair(tuple):
    def __new__(cls, x, y): return super().__new__(cls, (x, y))
class Length(int):
    def __new__(cls, value, unit):
        made = super().__new__(cls, value)
        made.unit = unit
        return made
class Slots:
    __slots__ = ("x",)
    def __new__(cls, *, x):
        made = super().__new__(cls)
        made.x = x
        return made
class Asked(A):
    def __getnewargs__(self): return (self.x,)
""",
        "[A(1), Pair(1, 2), Length(3, 'm'), Slots(x=4), Asked(5)]",
        """\
a, pair, length, slots, asked = obj
assert a.x == 1 and pair == (1, 2) and (length, length.unit) == (3, "m") and slots.x == 4
assert asked.x == 5 and type(pair).__name__ == "Pair"
""",
    ),
    Case(
        "values whose class is made of something else",
        """\
import collections, datetime, decimal
from typing import NamedTuple
class Lists(collections.defaultdict):
    def __init__(self, *a): super().__init__(list, *a)
class Base(NamedTuple):
    a: int
    b: int
class Parsed(Base):
    def __new__(cls, text): return super().__new__(cls, *map(int, text.split(",")))
class Double(float):
    def __new__(cls, value): return super().__new__(cls, value * 2)
class Day(datetime.date):
    def __new__(cls, text):
        made = super().__new__(cls, *map(int, text.split("-")))
        made.text = text
        return made
class Money(decimal.Decimal):
    def __new__(cls, value, unit):
        made = super().__new__(cls, value)
        made.unit = unit
        return made
class Many(frozenset):
    def __new__(cls, *values): return super().__new__(cls, values)
class Single:
    _one = None
    def __new__(cls):
        cls._one = cls._one or super().__new__(cls)
        return cls._one
lists = Lists()
lists["a"].append(1)
""",
        "[lists, Parsed('1,2'), Double(2.0), Day('2020-01-02'), Money('1.5', 'm'), Many(1, 2), Single()]",
        """\
lists, parsed, double, day, money, many, single = obj
assert lists["a"] == [1] and lists["b"] == [] and parsed == (1, 2) and parsed.b == 2 and double == 4.0
assert day.year == 2020 and day.text == "2020-01-02" and str(money) == "1.5" and money.unit == "m"
assert many == {1, 2} and type(single)() is single
""",
    ),
    Case(
        "objects whose __getattr__ needs their state",
        """\
class Proxy:
    def __init__(self, inner): self._inner = inner
    def __getattr__(self, name): return getattr(self._inner, name)
class Slotted:
    __slots__ = ("_inner", "__dict__")
    def __init__(self, inner): self._inner = inner
    def __getattr__(self, name): return getattr(self._inner, name)
class Table(dict):
    def __getattr__(self, name): return self[name]
    def __setattr__(self, name, value): self[name] = value
class Stateful:
    def __getattr__(self, name): raise AttributeError(name)
    def __setstate__(self, state): self.__dict__.update(state)
stateful = Stateful()
stateful.x = 1
""",
        "[Proxy([1]), Slotted([2]), Table(a=3), stateful]",
        """\
proxy, slotted, table, stateful = obj
assert proxy._inner == [1] and proxy.count(1) == 1 and slotted._inner == [2] and table.a == 3
assert stateful.x == 1
""",
    ),
    Case(
        "compiled formats and codecs",
        "import codecs, struct\nheader = struct.Struct('<iH')\ndef f(): return header.pack(1, 2)\n",
        "[f, header, header.pack, codecs.lookup('utf-8')]",
        """\
f, header, pack, codec = obj
assert f() == pack(1, 2) == bytes([1, 0, 0, 0, 2, 0]) and header.size == 6
assert codec.name == "utf-8" and codec.decode(b"a") == ("a", 1)
""",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_arrives(writer: Interpreter, reader: Interpreter, case: Case) -> None:
    travel(writer, reader, case.source, case.expression, case.check)


LIBRARIES = [
    Case(
        "pydantic",
        """\
from __future__ import annotations
import pydantic
class Inner(pydantic.BaseModel):
    a: int
class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    inner: Inner
    next: Model | None = None
    _private: int = pydantic.PrivateAttr(3)
    @pydantic.field_validator("inner")
    @classmethod
    def check(cls, inner): return inner
@pydantic.validate_call
def f(x: int): return x
""",
        "[Model, Model(inner={'a': '1'}), f, pydantic.TypeAdapter(list[int])]",
        """\
Model, model, f, adapter = obj
assert type(model) is Model and model.inner.a == 1 and model._private == 3
assert Model(inner={"a": 3}, next=model).next.inner.a == 1 and f("3") == 3
assert adapter.validate_python(["1"]) == [1]
""",
    ),
    Case(
        "attrs",
        """\
from __future__ import annotations
import attrs, functools
class Mine: pass
@attrs.define
class A:
    x: int = attrs.field(converter=int)
    mine: Mine | None = None
    def f(self): return self.x
    @functools.cached_property
    def square(self): return self.x ** 2
@attrs.frozen
class B(A):
    y: list = attrs.field(factory=list)
    def f(self): return super().f() + 1
""",
        "[A, B, B('2')]",
        """\
import attrs
A, B, b = obj
assert type(b) is B and b == B(2) and b.f() == 3 and b.square == 4 and not hasattr(b, "__dict__")
attrs.resolve_types(A)
assert attrs.fields(A).mine.type.__args__[0].__name__ == "Mine" and attrs.evolve(b, x=5).x == 5
""",
    ),
    Case(
        "traitlets",
        """\
import traitlets
class Model(traitlets.HasTraits):
    x = traitlets.Int(3)
    seen = traitlets.List(traitlets.Int())
    @traitlets.observe("x")
    def _note(self, change): self.seen = [*self.seen, change["new"]]
model = Model(x=5)
""",
        "[Model, model]",
        """\
Model, model = obj
model.x = 6
assert (model.x, model.seen) == (6, [5, 6]) and Model().x == 3 and type(model) is Model
""",
    ),
]


@pytest.mark.parametrize("case", LIBRARIES, ids=lambda case: case.name)
def test_libraries_that_make_classes(writer: Interpreter, reader: Interpreter, case: Case) -> None:
    pytest.importorskip(case.name)
    travel(writer, reader, case.source, case.expression, case.check)


def test_an_instance_that_cannot_be_made_is_refused(writer: Interpreter) -> None:
    writer.cell("import contextvars\nv = contextvars.ContextVar('v')\ndef f(): return v.get()\n")
    message = failing(writer.dump, "f").message
    assert message.startswith("f → global 'v' → _contextvars.ContextVar: cannot be shared")


def test_arguments_that_a_class_does_not_take_are_refused(writer: Interpreter) -> None:
    """`pickle` would write it, and the reader would get a TypeError."""
    writer.cell(
        "import collections\n"
        "class A(collections.Counter):\n    def __init__(self, a, b): super().__init__(a)\n"
        "class B(collections.Counter):\n    def __init__(self, a=(), b=1): super().__init__(a)\n"
        "class C:\n    def __init__(self, x): self.x = x\n    def __reduce__(self): return C, ()\n"
    )
    for expression in ("A('aab', 1)", "[C(1)]"):
        with pytest.raises(FreshError, match="which its __init__ or __new__ does not take"):
            writer.dump(expression)
    writer.dump("B('aab')")
