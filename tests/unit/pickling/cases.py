"""Cells, and checks of the objects that they define.

Each case is run through two processes of one version of Python, and of two versions where both are
there. The check is run on both sides, with `obj`: what was written, or what arrived.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import pytest

Version = tuple[int, int]
THIS: Version = sys.version_info[:2]


class Case(NamedTuple):
    name: str
    source: str
    expression: str
    check: str
    since: Version = (3, 11)


def params(cases: list[Case], writer: Version = THIS, reader: Version = THIS) -> list[Any]:
    """Return parameters for pytest, with a mark on each case whose syntax a version does not know."""
    found = []
    for case in cases:
        if min(writer, reader) < case.since:
            marks = [pytest.mark.skip(reason=f"its syntax is of Python {case.since}")]
        else:
            marks = []
        found.append(pytest.param(case, id=case.name, marks=marks))
    return found


FUNCTIONS = [
    Case("lambda", "f = lambda x, y=2: x + y\n", "f", "assert obj(1) == 3"),
    Case(
        "defaults, annotations, attributes",
        """\
def f(a, /, b=2, *c, d: int = 3, e, **g) -> str:
    "doc"
    return a, b, c, d, e, g
f.attribute = [1]
f.me = f
""",
        "f",
        """\
assert obj(1, e=4) == (1, 2, (), 3, 4, {})
assert obj(1, 0, 5, e=4, d=0, h=6) == (1, 0, (5,), 0, 4, {"h": 6})
assert (obj.__defaults__, obj.__kwdefaults__) == ((2,), {"d": 3})
assert obj.__annotations__ == {"d": int, "return": str}
assert (obj.__doc__, obj.__name__, obj.__qualname__, obj.__module__) == ("doc", "f", "f", "__main__")
assert obj.attribute == [1]
assert obj.me is obj
""",
    ),
    Case(
        "lambdas on one line",
        "f = [lambda x: x, lambda x: x + 1, lambda x, y=lambda a: a * 3: x + y(1), lambda x: -x]\n",
        "f",
        "assert [g(1) for g in obj] == [1, 2, 4, -1]",
    ),
    Case(
        "constant lambdas on one line",
        "f = [lambda: 1, lambda: 2]\n",
        "f",
        "assert [g() for g in obj] == [1, 2]",
    ),
    Case(
        "lambda in a lambda's default",
        "f = lambda x, g=lambda y: (lambda z: y + z)(1): g(x)\n",
        "f",
        "assert obj(2) == 3",
    ),
    Case(
        "lambda that returns a lambda",
        "f = lambda x: lambda y: x + y\n",
        "[f, f(1)]",
        "assert obj[0](1)(2) == 3 and obj[1](5) == 6",
    ),
    Case(
        "lambda within a lambda's expression",
        "f = lambda x: (x, (lambda y: x + y)(1), [lambda z: z * x])\n",
        "f",
        "assert obj(2)[:2] == (2, 3) and obj(2)[2][0](4) == 8",
    ),
    Case(
        "lambda after else",
        "x = 0\nif x: f = lambda a: a\nelse: f = lambda a: -a\n",
        "f",
        "assert obj(1) == -1",
    ),
    Case(
        "lambda after except",
        "try: import no_module_of_this_name\nexcept ImportError: f = lambda a: -a\n",
        "f",
        "assert obj(1) == -1",
    ),
    Case(
        "several statements on a line",
        "a = 1; f = lambda: a; g = lambda x: f() + x\n",
        "g",
        "assert obj(1) == 2",
    ),
    Case(
        "recursion through globals",
        """\
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
""",
        "[even, odd]",
        "assert obj[0](10) and not obj[1](10)\nassert obj[0].__globals__['odd'] is obj[1]",
    ),
    Case(
        "recursion through closures",
        """\
def outer():
    def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
    return factorial
""",
        "outer()",
        "assert obj(5) == 120\nassert obj.__closure__[0].cell_contents is obj",
    ),
    Case(
        "mutual recursion in closures",
        """\
def outer():
    def a(n): return "a" if n == 0 else b(n - 1)
    def b(n): return "b" if n == 0 else c(n - 1)
    c = lambda n: "c" if n == 0 else a(n - 1)
    return a, b, c
""",
        "outer()",
        """\
a, b, c = obj
assert [f(5) for f in obj] == ["c", "a", "b"]
assert a.__closure__[0].cell_contents is b
assert b.__closure__[0].cell_contents is c
assert c.__closure__[0].cell_contents is a
""",
    ),
    Case(
        "closure of thirty that know one another",
        """\
def outer():
    functions = []
    def make(i):
        def f(n): return i if n == 0 else functions[(i + 1) % 30](n - 1)
        return f
    functions += [make(i) for i in range(30)]
    return functions[0]
""",
        "outer()",
        "assert obj(65) == 5",
    ),
    Case(
        "two closures share a variable",
        """\
def outer():
    n = 0
    def increment():
        nonlocal n
        n += 1
    def get(): return n
    return increment, get
""",
        "outer()",
        "obj[0](); obj[0]()\nassert obj[1]() == 2",
    ),
    Case(
        "three closures share a variable",
        """\
def outer():
    n = 0
    def increment():
        nonlocal n
        n += 1
    def double():
        nonlocal n
        n *= 2
    return {"f": [increment, (double, lambda: n)]}
""",
        "outer()",
        """\
increment, (double, get) = obj["f"]
increment(); double(); increment(); double()
assert get() == 6
assert increment.__closure__[0] is double.__closure__[0] is get.__closure__[0]
""",
    ),
    Case(
        "globals are shared by functions",
        "n = 0\ndef bump():\n    global n\n    n += 1\ndef get(): return n\n",
        "[bump, get]",
        "obj[0]()\nassert obj[1]() == 1\nassert obj[0].__globals__ is obj[1].__globals__",
    ),
    Case(
        "empty cell",
        """\
def outer(fill):
    def f(): return later
    if fill: later = 1
    return f
""",
        "[outer(False), outer(True)]",
        """\
assert obj[1]() == 1
try: obj[0]()
except NameError as error: assert "later" in str(error)
else: raise AssertionError
""",
    ),
    Case(
        "comprehensions in a closure",
        """\
def outer(k):
    def f(xs):
        return (
            [x + k for x in xs if any(k for _ in xs)], {x: k for x in xs}, {x * k for x in xs},
            list(x * k for x in xs), [(lambda: x * k)() for x in xs], [[k for _ in xs] for _ in xs],
        )
    return f
""",
        "outer(2)",
        "assert obj([1]) == ([3], {1: 2}, {2}, [2], [2], [[2]])",
    ),
    Case(
        "lambdas of a comprehension of a cell",
        "fs = [lambda x: x + i for i in range(3)]\n",
        "fs",
        "assert [f(1) for f in obj] == [3, 3, 3]",
    ),
    Case(
        "decorated",
        """\
import functools
def plus(n):
    def decorate(f):
        @functools.wraps(f)
        def wrapper(*args): return f(*args) + n
        return wrapper
    return decorate
@plus(1)
# between
@plus(
    2
)
def f(x):
    "doc"
    return x
""",
        "f",
        """\
assert obj(0) == 3
assert obj.__wrapped__(0) == 2
assert obj.__wrapped__.__wrapped__(0) == 0
assert (obj.__name__, obj.__doc__) == ("f", "doc")
""",
    ),
    Case(
        "lru_cache",
        """\
import functools
@functools.lru_cache(maxsize=7)
def f(n): return n if n < 2 else f(n - 1) + f(n - 2)
""",
        "f",
        "assert obj(10) == 55\nassert obj.cache_parameters()['maxsize'] == 7",
    ),
    Case(
        "attributes of a cached function",
        "import functools\n@functools.cache\ndef f(x): return f.table[x]\nf.table = {1: 2}\n",
        "f",
        "assert obj(1) == 2",
    ),
    Case(
        "a global is decorated with cache",
        "import functools\n@functools.cache\ndef f(n): return n\ndef g(n): return f(n)\n",
        "g",
        "assert obj(10) == 10",
    ),
    Case(
        "singledispatch",
        """\
import functools
@functools.singledispatch
def f(x): return "any"
@f.register
def _(x: int): return "int"
""",
        "f",
        "assert (obj(1), obj('')) == ('int', 'any')",
    ),
    Case(
        "context manager",
        """\
import contextlib
@contextlib.contextmanager
def f(x): yield x + 1
""",
        "f",
        "with obj(1) as x: assert x == 2",
    ),
    Case(
        "partial",
        "import functools\nf = functools.partial(lambda a, b, c: (a, b, c), 1, c=3)\n",
        "[f, functools.partial(f, 2)]",
        "assert obj[0](2) == (1, 2, 3) == obj[1]()",
    ),
    Case(
        "generators",
        """\
def f(n):
    for i in range(n): yield i
    yield from (j * 10 for j in range(n))
g = lambda: (yield 1)
""",
        "[f, g]",
        "assert list(obj[0](2)) == [0, 1, 0, 10] and list(obj[1]()) == [1]",
    ),
    Case(
        "async",
        """\
import contextlib
async def numbers():
    yield 1
    yield 2
@contextlib.asynccontextmanager
async def manager(): yield 3
async def f(x):
    async def inner(): return x
    async with manager() as m:
        return await inner(), [i async for i in numbers()], m, [await inner() for _ in "a"]
""",
        "f",
        "import asyncio\nassert asyncio.run(obj(0)) == (0, [1, 2], 3, [0])",
    ),
    Case(
        "match",
        """\
def f(x):
    match x:
        case {"a": [1, *rest]}: return rest
        case str() as s: return s
        case [a, b] if a > b: return lambda: a
        case _: return None
""",
        "f",
        "assert (obj({'a': [1, 2]}), obj('x'), obj([2, 1])(), obj(1)) == ([2], 'x', 2, None)",
    ),
    Case(
        "new syntax of 3.11",
        """\
def f(x):
    try:
        raise ValueError(x)
    except* ValueError as group:
        caught = group.exceptions[0].args[0]
    if (y := caught) > 2:
        return f"{y!r:>{y}}" + f'{caught}'
""",
        "f",
        "assert obj(3) == '  33'",
    ),
    Case(
        "from __future__ import annotations",
        """\
from __future__ import annotations
def f(x: Missing) -> Missing:
    def g(y: Missing): return y
    return g
class A:
    x: Missing
    def m(self, y: Missing): return y
""",
        "[f, A]",
        """\
f, A = obj
assert f.__annotations__ == {"x": "Missing", "return": "Missing"}
assert f(1)(2) == 2 and f(1).__annotations__ == {"y": "Missing"}
assert A().m(1) == 1 and A.__annotations__ == {"x": "Missing"}
""",
    ),
    Case(
        "text that is not indented",
        """\
def f():
    text = '''
def g(): pass
'''
    return text + "'''"
class A:
    def m(self): return '''
x
'''
""",
        "[f, A]",
        "assert obj[0]() == \"\\ndef g(): pass\\n'''\" and obj[1]().m() == '\\nx\\n'",
    ),
    Case(
        "not ASCII",
        "größe = 'é'; f = lambda: größe + 'ü'; g = lambda ä: ä\ndef ñ(é): return é\n",
        "[f, g, ñ]",
        "assert obj[0]() == 'éü' and obj[1](1) == 1 == obj[2](1) and obj[2].__name__ == 'ñ'",
    ),
    Case(
        "class bodies in a function look up globals",
        """\
K, ONLY, INNER = 5, 6, 7
class Base: pass
def make(n):
    class A(Base):
        k = ONLY
        both = [K + n for _ in range(1)]
        def m(self): return n, self.k, K
        class B:
            inner = INNER
    return A
""",
        "make",
        "A = obj(2)\nassert A().m() == (2, 6, 5) and A.both == [7] and A.__base__.__name__ == 'Base'\n"
        "assert A.B.inner == 7",
    ),
    Case(
        "annotation scopes in a function look up globals",
        """\
X = int
def make():
    class A:
        def m[T: X](self, x: list[X]): return x
    return A
""",
        "make",
        """\
A = obj()
assert A().m(1) == 1 and A.m.__annotations__ == {"x": list[int]}
assert A.m.__type_params__[0].__bound__ is int
""",
        since=(3, 12),
    ),
    Case(
        "type parameters of a function",
        "def f[T](x: T) -> list[T]: return [x, T]\n",
        "f",
        "assert obj(1)[0] == 1 and obj(1)[1].__name__ == 'T' and obj.__type_params__ == (obj(1)[1],)",
        since=(3, 12),
    ),
    Case(
        "type parameters of a class",
        """\
class A[T]:
    def m(self, x: T) -> T: return x
    def t(self): return T
""",
        "A",
        "assert obj[int]().m(1) == 1 and obj().t() is obj.__type_params__[0]",
        since=(3, 12),
    ),
    Case(
        "NewType",
        "import typing\nUser = typing.NewType('User', int)\ndef f(x: User) -> User: return User(x)\n",
        "f",
        "assert obj(1) == 1",
    ),
    Case(
        "ParamSpec",
        """\
from typing import Callable, ParamSpec, TypeVar
P, R = ParamSpec("P"), TypeVar("R")
def decorate(f: Callable[P, R]) -> Callable[P, R]:
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R: return f(*args, **kwargs)
    return wrapper
@decorate
def f(x): return x
""",
        "f",
        "assert obj(1) == 1",
    ),
    Case(
        "type alias",
        "type X = int\ndef f(x: X): return x\n",
        "f",
        "assert obj(1) == 1",
        since=(3, 12),
    ),
]

CLASSES = [
    Case(
        "methods of all kinds",
        """\
class A:
    shared = []
    def __init__(self, x=1): self.x = x
    def m(self): return self.x
    @classmethod
    def make(cls, x): return cls(x)
    @staticmethod
    def s(x): return -x
    @property
    def p(self):
        "doc"
        return self.x * 2
    @p.setter
    def p(self, value): self.x = value
    @p.deleter
    def p(self): self.x = None
    def __eq__(self, other): return self.x == other.x
    __hash__ = None
    alias = m
""",
        "A",
        """\
a = obj.make(5)
assert type(a) is obj and (a.m(), a.alias(), obj.s(1), a.p) == (5, 5, -1, 10)
a.p = 7
assert a.x == 7 and obj.p.__doc__ == "doc" and obj.__hash__ is None and a == obj(7)
del a.p
assert a.x is None and obj.alias is obj.m and obj.__module__ == "__main__"
""",
    ),
    Case(
        "instances and bound methods",
        """\
class A:
    def m(self): return self
    @classmethod
    def c(cls): return cls
    @staticmethod
    def s(): return 3
a = A()
""",
        "[a, A, a.m, A.c, A.s, a.s, {'m': a.m}]",
        """\
a, A, m, c, s, s2, d = obj
assert type(a) is A and m() is a and m.__func__ is A.m and c() is A and c.__self__ is A
assert s is s2 is A.s and s() == 3 and d["m"]() is a
""",
    ),
    Case(
        "super and private names",
        """\
class A:
    def __init__(self): self.__x = 3
    def __get(self, __n=1): return self.__x * __n
    def get(self): return self.__get()
    def closures(self):
        __y = 2
        def inner():
            nonlocal __y
            __y += 1
            return self.__x, __y, __class__, super(A, self).__init__
        return inner
class B(A):
    def get(self): return super().get() + 1
    @classmethod
    def make(cls): return super().__new__(cls)
    @property
    def p(self): return super().get() + 2
    def many(self): return [f() for f in (super().get, lambda: super(B, self).get())]
""",
        "[A, B]",
        """\
A, B = obj
b = B()
assert (b.get(), b.p, b.many()) == (4, 5, [3, 3]) and type(B.make()) is B and B.__base__ is A
assert A().closures()()[:3] == (3, 3, A) and b._A__x == 3
""",
    ),
    Case(
        "class closures",
        """\
def outer(x):
    class A:
        y = x
        z = [x for _ in range(2)]
        def m(self): return x
        class Inner:
            def n(self): return x, __class__
    class B(A):
        def m(self): return super().m() + 1
    return A, B
""",
        "[outer, *outer(3)]",
        """\
outer, A, B = obj
assert A.z == [3, 3] and B().m() == 4 and A.Inner().n() == (3, A.Inner)
C, D = outer(5)
assert C.y == 5 and D().m() == 6
""",
    ),
    Case(
        "nested classes",
        """\
class A:
    class B:
        class C:
            def m(self): return A.B.C
""",
        "[A, A.B.C]",
        "assert obj[0].B.C is obj[1] is obj[1]().m() and obj[1].m.__qualname__ == 'A.B.C.m'",
    ),
    Case(
        "qualified name of a nested class",
        "class A:\n    class B: pass\n",
        "A.B",
        "assert obj.__qualname__ == 'A.B'",
    ),
    Case(
        "slots hold",
        "class A:\n    __slots__ = ('a', 'b')\na = A()\na.a = 5\n",
        "[A, a]",
        "A, a = obj\nassert type(a) is A and a.a == 5 and not hasattr(a, 'b')\na.b = 6",
    ),
    Case(
        "slots are slots",
        "class A:\n    __slots__ = ('a', 'b')\n",
        "A",
        "assert not hasattr(obj(), '__dict__') and type(obj.a).__name__ == 'member_descriptor'",
    ),
    Case(
        "private slots",
        """\
class A:
    __slots__ = ("__x",)
    def __init__(self): self.__x = 1
    def m(self): return self.__x
""",
        "A()",
        "assert obj.m() == 1",
    ),
    Case(
        "ABC",
        """\
import abc
class A(abc.ABC):
    @abc.abstractmethod
    def m(self): return 1
    @property
    @abc.abstractmethod
    def p(self): ...
class B(A):
    def m(self): return super().m() + 1
    p = 3
@A.register
class V: pass
""",
        "[A, B, V]",
        """\
A, B, V = obj
assert B().m() == 2 and isinstance(B(), A) and isinstance(V(), A) and not isinstance(1, A)
assert A.__abstractmethods__ == {"m", "p"}
try: A()
except TypeError: pass
else: raise AssertionError
""",
    ),
    Case(
        "collections.abc, and subclasses of builtins",
        """\
import collections.abc
class M(collections.abc.Mapping):
    def __getitem__(self, key): return key * 2
    def __iter__(self): return iter("a")
    def __len__(self): return 1
class L(list): pass
class D(dict):
    def __missing__(self, key): return key
class E(ValueError):
    def __init__(self, a, b=0):
        super().__init__(a)
        self.b = b
l = L([1])
l.x = 5
e = E(1)
e.b = 7
""",
        "[M(), l, D(a=1), e]",
        """\
m, l, d, e = obj
assert dict(m) == {"a": "aa"} and l == [1] and l.x == 5 and d["q"] == "q" and d["a"] == 1
assert e.args == (1,) and e.b == 7 and isinstance(e, ValueError)
""",
    ),
    Case(
        "Enum",
        """\
import enum
class Color(enum.Enum):
    RED = 1
    GREEN = "g"
    @property
    def nice(self): return self.name.title()
    @classmethod
    def first(cls): return cls.RED
    @classmethod
    def _missing_(cls, value): return cls.GREEN
class Auto(enum.StrEnum):
    @staticmethod
    def _generate_next_value_(name, *_): return name.lower() * 2
    A = enum.auto()
class Number(enum.IntEnum):
    ONE = 1
""",
        "[Color.RED, Color, Auto.A, Number.ONE]",
        """\
red, Color, a, one = obj
assert Color(1) is red is Color["RED"] is Color.RED is Color.first() and red.nice == "Red"
assert list(Color) == [red, Color.GREEN] and Color("nothing") is Color.GREEN and len(Color) == 2
assert a == "aa" and isinstance(a, str) and one + 1 == 2
""",
    ),
    Case(
        "Enum with aliases",
        "import enum\nclass Color(enum.Enum):\n    RED = 1\n    CRIMSON = 1\n",
        "Color",
        "assert obj['CRIMSON'] is obj.RED is obj.CRIMSON and list(obj.__members__) == ['RED', 'CRIMSON']",
    ),
    Case(
        "Enum whose members have attributes",
        """\
import enum
class Planet(enum.Enum):
    EARTH = (1.0, 2.0)
    def __init__(self, mass, radius): self.mass, self.radius = mass, radius
""",
        "Planet.EARTH",
        "assert obj.mass == 1.0",
    ),
    Case(
        "Flag",
        """\
import enum
class P(enum.Flag):
    R = enum.auto()
    W = enum.auto()
    X = enum.auto()
class Q(enum.IntFlag):
    A = 1
    B = 2
""",
        "[P, P.R | P.X, Q.A | Q.B]",
        """\
P, rx, q = obj
assert P.R | P.X == rx and P.W not in rx and P.X in rx and ~P.R == P.W | P.X and P(5) is rx
assert [p.name for p in rx] == ["R", "X"] and q == 3 and type(q).A in q
""",
    ),
    Case(
        "Flag with names of combinations",
        """\
import enum
class P(enum.Flag):
    R = enum.auto()
    W = enum.auto()
    RW = R | W
class Q(enum.IntFlag):
    NONE = 0
    A = 1
""",
        "[P, Q]",
        """\
P, Q = obj
assert P.R | P.W is P.RW is P["RW"] and list(P) == [P.R, P.W] and P.RW.name == "RW"
assert Q(0) is Q.NONE is Q["NONE"] and list(Q.__members__) == ["NONE", "A"]
""",
    ),
    Case(
        "Enum with __new__",
        """\
import enum
class A(bytes, enum.Enum):
    def __new__(cls, value, label):
        self = bytes.__new__(cls, [value])
        self._value_, self.label = value, label
        return self
    X = (1, "x")
    Y = (2, "y")
""",
        "[A.X, A]",
        """\
x, A = obj
assert x is A.X is A(1) and bytes(x) == b"\\1" and (x.value, x.label) == (1, "x") and A(2).label == "y"
""",
    ),
    Case(
        "Enum of dates",
        """\
import datetime, enum
class Day(datetime.date, enum.Enum):
    FIRST = 2020, 1, 1
    LAST = 2021, 2, 3
""",
        "Day",
        """\
import datetime
assert obj.FIRST.year == 2020 and obj(datetime.date(2021, 2, 3)) is obj.LAST
assert isinstance(obj.LAST, datetime.date) and obj.LAST.value == datetime.date(2021, 2, 3)
""",
    ),
    Case(
        "Enum of functions",
        """\
import enum, functools
class Op(enum.Enum):
    ADD = enum.member(lambda a, b: a + b)
    TWICE = functools.partial(lambda n, x: n * x, 2)
    KIND = enum.member(int)
    @enum.member
    def SUB(a, b): return a - b
    def __call__(self, *values): return self.value(*values)
    @property
    def low(self): return self.name.lower()
""",
        "Op",
        """\
assert obj.ADD(1, 2) == 3 and obj.SUB(3, 1) == 2 and obj.KIND.value is int and obj.ADD.low == "add"
assert [member.name for member in obj] in (["ADD", "KIND", "SUB"], ["ADD", "TWICE", "KIND", "SUB"])
""",
    ),
    Case(
        "Enum with __init__, __new__ of a base, numbers, texts",
        """\
import enum
class Planet(enum.Enum):
    EARTH = (5.9, 6.3)
    def __init__(self, mass, radius): self.mass, self.radius = mass, radius
class Counted(enum.Enum):
    def __new__(cls, *values):
        self = object.__new__(cls)
        self._value_ = len(cls.__members__) + 1
        return self
    def __init__(self, label): self.label = label
    X = "a"
    Y = "b"
class Number(enum.IntEnum):
    def __new__(cls, value, label=""):
        self = int.__new__(cls, value)
        self._value_, self.label = value, label
        return self
    P = 1, "p"
    Q = 2
class Text(str, enum.Enum):
    def __new__(cls, value, doc):
        self = str.__new__(cls, value)
        self._value_, self.doc = value, doc
        return self
    A = "a", "first"
    ALIAS = "a", "second"
class Ten(enum.Enum):
    def __new__(cls, value):
        self = object.__new__(cls)
        self._value_ = value * 10
        return self
class OfTen(Ten):
    A = 1
    B = 2
    @classmethod
    def _missing_(cls, value): return cls.A
""",
        "[Planet, Counted, Number, Text, OfTen]",
        """\
Planet, Counted, Number, Text, OfTen = obj
assert Planet.EARTH.mass == 5.9 and Planet((5.9, 6.3)) is Planet.EARTH
assert Counted.X.value == 1 and Counted(2) is Counted.Y and Counted.Y.label == "b"
assert Number.P == 1 and Number.P.label == "p" and Number(2) is Number.Q and Number.Q + 1 == 3
assert Text.A.doc == "first" and Text.ALIAS is Text.A and Text("a") is Text.A and Text.A == "a"
assert OfTen.A.value == 10 and OfTen(20) is OfTen.B and OfTen("?") is OfTen.A
""",
    ),
    Case(
        "Enum of named tuples and of dataclasses",
        """\
import dataclasses, enum, typing
class Point(typing.NamedTuple):
    x: int
    y: int
class Corner(Point, enum.Enum):
    ZERO = 0, 0
    ONE = 1, 1
@dataclasses.dataclass
class Unit:
    sign: str
    factor: int = 1
class Units(Unit, enum.Enum):
    METRE = "m"
    FOOT = "ft", 3
""",
        "[Corner, Units]",
        """\
Corner, Units = obj
assert Corner.ONE.x == 1 and Corner((0, 0)) is Corner.ZERO and isinstance(Corner.ONE, tuple)
assert Units.FOOT.factor == 3 and Units.METRE.sign == "m"
""",
    ),
    Case(
        "dataclass",
        """\
import dataclasses, typing
@dataclasses.dataclass(order=True)
class A:
    x: int = dataclasses.field(compare=False, metadata={"unit": "m"})
    shared: typing.ClassVar[int] = 5
    extra: dataclasses.InitVar[int] = 1
    y: list = dataclasses.field(default_factory=list, repr=False)
    def __post_init__(self, extra): self.z = extra
    def double(self): return self.x * 2
""",
        "[A, A(1)]",
        """\
import dataclasses, inspect
A, a = obj
assert type(a) is A and a.double() == 2 and repr(a) == "A(x=1)" and a == A(2) and a <= A(2)
assert A(1, 7).z == 7 and A(1).y is not A(1).y and A.shared == 5
assert [f.name for f in dataclasses.fields(A)] == ["x", "y"]
assert dataclasses.fields(A)[0].metadata["unit"] == "m" and dataclasses.asdict(a) == {"x": 1, "y": []}
assert dataclasses.replace(a, x=3, extra=2).x == 3 and list(inspect.signature(A).parameters) == [
    "x", "extra", "y"
]
""",
    ),
    Case(
        "dataclass, frozen, with slots",
        """\
import dataclasses
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class A:
    x: int
    y: int = 2
    def name(self): return super().__repr__()
""",
        "A(x=1)",
        """\
import dataclasses
assert (obj.x, obj.y) == (1, 2) and obj == type(obj)(x=1) and hash(obj) == hash(type(obj)(x=1))
try: obj.x = 3
except dataclasses.FrozenInstanceError: pass
else: raise AssertionError
""",
    ),
    Case(
        "dataclasses that inherit",
        """\
import dataclasses
@dataclasses.dataclass
class A:
    x: int
    y: list = dataclasses.field(default_factory=list)
@dataclasses.dataclass(eq=False, unsafe_hash=True)
class B(A):
    _: dataclasses.KW_ONLY
    z: int = 3
    def __repr__(self): return "mine"
class C(B):
    def __init__(self, x): super().__init__(x, z=7)
@dataclasses.dataclass
class D(A):
    x: str = "new"
    y: tuple = ()
""",
        "[A, B, C, D]",
        """\
import dataclasses, inspect
A, B, C, D = obj
assert A(1) == A(1) and A(1).y is not A(1).y and repr(A(1)) == "A(x=1, y=[])"
b = B(1, [2], z=4)
assert (b.x, b.y, b.z, repr(b), b == B(1, [2], z=5)) == (1, [2], 4, "mine", True)
assert hash(B(1, (), z=4)) == hash(B(1, (), z=4)) and A.__hash__ is None
assert C(5).z == 7 and C(5).x == 5 and [f.name for f in dataclasses.fields(C)] == ["x", "y", "z"]
assert D() == D("new", ()) and D().x == "new" and dataclasses.replace(D(), x="o").x == "o"
assert str(inspect.signature(B)) == str(inspect.signature(type(b))) and B.__match_args__ == ("x", "y")
match b:
    case B(x, y): assert (x, y) == (1, [2])
""",
    ),
    Case(
        "dataclass whose annotations are text",
        """\
from __future__ import annotations
import dataclasses, typing
@dataclasses.dataclass
class A:
    shared: typing.ClassVar[int] = 5
    x: int = 1
    extra: dataclasses.InitVar[int] = 2
""",
        "A",
        """\
import dataclasses
assert [f.name for f in dataclasses.fields(obj)] == ["x"]
assert obj(7).x == 7 and obj.shared == 5 and repr(obj(7, 8)) == "A(x=7)"
""",
    ),
    Case(
        "dataclasses with slots that inherit",
        """\
import dataclasses
@dataclasses.dataclass(slots=True, weakref_slot=True, order=True)
class A:
    x: int
    y: float = dataclasses.field(default=2.0, kw_only=True)
@dataclasses.dataclass(slots=True)
class B(A):
    z: list = dataclasses.field(default_factory=list)
    def total(self): return self.x + len(self.z)
""",
        "[A(1), B(1, [1, 2])]",
        """\
import dataclasses, weakref
a, b = obj
assert a < type(a)(2) and b.total() == 3 and weakref.ref(a)() is a and not hasattr(b, "__dict__")
assert dataclasses.replace(b, x=5).total() == 7 and isinstance(b, type(a)) and b.y == 2.0
""",
    ),
    Case(
        "a dataclass is inherited from where it arrives",
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\n    y: int = 0\n",
        "A",
        """\
import dataclasses
assert dataclasses.fields(obj)[0].default is dataclasses.MISSING
@dataclasses.dataclass
class B(obj):
    z: int = 3
try: B()
except TypeError: pass
else: raise AssertionError("x has a default now")
assert B(1).z == 3
""",
    ),
    Case(
        "named tuples",
        """\
from collections import namedtuple
from typing import NamedTuple
P = namedtuple("P", "x y", defaults=[5])
class Q(NamedTuple):
    a: int
    b: str = "b"
    def m(self): return self.a
""",
        "[P(1), Q(3), P, Q]",
        """\
p, q, P, Q = obj
assert type(p) is P and p == (1, 5) and p.y == 5 and p._replace(x=2) == P(2) and p._fields == ("x", "y")
assert type(q) is Q and q.m() == 3 and q._asdict() == {"a": 3, "b": "b"} and Q(1).b == "b"
""",
    ),
    Case(
        "a class of a named tuple",
        """\
from collections import namedtuple
class P(namedtuple("P", "x y")):
    __slots__ = ()
    def __new__(cls, x, y=2): return super().__new__(cls, x, y)
    @property
    def sum(self): return self.x + self.y
""",
        "[P, P(1)]",
        "P, p = obj\nassert type(p) is P and p.sum == 3 and P(3) == (3, 2) and p._replace(x=5).sum == 7",
    ),
    Case(
        "inheritance",
        """\
class Base:
    def m(self): return ["Base"]
class Left(Base):
    def m(self): return ["Left", *super().m()]
class Right(Base):
    def m(self): return ["Right", *super().m()]
class Bottom(Left, Right):
    def m(self): return ["Bottom", *super().m()]
class Last(Bottom, dict):
    pass
""",
        "[Last(a=1), Base, Left]",
        """\
last, Base, Left = obj
assert last.m() == ["Bottom", "Left", "Right", "Base"] and last == {"a": 1}
assert [c.__name__ for c in type(last).__mro__] == [
    "Last", "Bottom", "Left", "Right", "Base", "dict", "object"
]
assert isinstance(last, Base) and issubclass(type(last), Left) and Left.__base__ is Base
""",
    ),
    Case(
        "a slot under another name",
        "class A:\n    __slots__ = ('a',)\nclass B(A):\n    __slots__ = ()\n    also = A.a\n",
        "B",
        "b = obj()\nb.a = 5\nassert b.also == 5",
    ),
    Case(
        "generics",
        """\
from typing import Generic, TypeVar
T = TypeVar("T", bound=int)
class Box(Generic[T]):
    def __init__(self, x: T): self.x = x
    def get(self) -> T: return self.x
class IntBox(Box[int]): pass
""",
        "[Box(1), IntBox(2), Box[int], T, Box]",
        """\
box, int_box, alias, T, Box = obj
assert box.get() == 1 and int_box.get() == 2 and alias(5).get() == 5 and alias.__origin__ is Box
assert Box.__parameters__ == (T,) and T.__bound__ is int and Box.get.__annotations__["return"] is T
assert isinstance(int_box, Box)
""",
    ),
    Case(
        "Protocol",
        """\
from typing import Protocol, runtime_checkable
@runtime_checkable
class Has(Protocol):
    x: int
    def m(self) -> int: return 1
class Impl:
    x = 1
    def m(self): return 2
class Sub(Has):
    x = 1
""",
        "[Has, Impl, Sub]",
        """\
Has, Impl, Sub = obj
assert isinstance(Impl(), Has) and not isinstance(3, Has) and Sub().m() == 1
try: Has()
except TypeError: pass
else: raise AssertionError
""",
    ),
    Case(
        "other typing",
        """\
import typing
class T(typing.TypedDict, total=False):
    a: int
""",
        "[T, list[int], int | None, typing.Optional[str], typing.Literal['a'], typing.Callable[[int], T]]",
        """\
import typing
T = obj[0]
assert T(a=1) == {"a": 1} and T.__annotations__ == {"a": int} and T.__total__ is False
assert obj[1:5] == [list[int], int | None, typing.Optional[str], typing.Literal["a"]]
assert obj[5] == typing.Callable[[int], T]
""",
    ),
    Case(
        "metaclass",
        """\
class Meta(type):
    def __new__(meta, name, bases, namespace, **options):
        return super().__new__(meta, name, bases, namespace)
    def __call__(cls, *args): return super().__call__(*args), cls.loud
    @property
    def loud(cls): return cls.__name__.upper()
class A(metaclass=Meta): pass
class B(A): pass
""",
        "[A, B, Meta]",
        """\
A, B, Meta = obj
assert type(A) is type(B) is Meta and A()[1] == "A" and type(B()[0]) is B and B.loud == "B"
""",
    ),
    Case(
        "__set_name__ and descriptors",
        """\
class Field:
    def __set_name__(self, owner, name): self.name = name
    def __get__(self, instance, owner): return self if instance is None else self.name
class A:
    x = Field()
""",
        "A()",
        "assert obj.x == 'x' and type(obj).x.name == 'x'",
    ),
    Case(
        "__init_subclass__ has run already",
        """\
class A:
    known = []
    def __init_subclass__(cls, **options): A.known.append(cls.__name__)
class B(A): pass
""",
        "[A, B]",
        "assert obj[0].known == ['B']",
    ),
    Case(
        "__init_subclass__ wants an option",
        "class A:\n    def __init_subclass__(cls, tag): cls.tag = tag\nclass B(A, tag='t'): pass\n",
        "B",
        "assert obj.tag == 't'",
    ),
    Case(
        "hooks of bases and metaclasses that want more than there is",
        """\
import abc, dataclasses, typing
class Base:
    def __init_subclass__(cls, *, tag, **options):
        super().__init_subclass__(**options)
        cls.tag = tag
class A(Base, tag=1):
    def f(self): return self.tag, __class__
class Abstract(abc.ABC):
    def __init_subclass__(cls, *, tag): cls.tag = tag
    @abc.abstractmethod
    def g(self): ...
class Between(Abstract, tag=2): pass
class B(Between, tag=3):
    def g(self): return super().g
class OfDict(dict):
    def __init_subclass__(cls, *, tag): cls.tag = tag
class C(OfDict, tag=4): pass
class OfError(Exception):
    def __init_subclass__(cls, *, tag): cls.tag = tag
class D(OfError, tag=5): pass
class Named:
    def __init_subclass__(cls): cls.upper = cls.name.upper()
class E(Named):
    name = "e"
class Meta(type):
    def __new__(meta, name, bases, body, *, tag):
        cls = super().__new__(meta, name, bases, body)
        cls.tag = tag
        return cls
    def __init__(cls, name, bases, body, *, tag): super().__init__(name, bases, body)
class F(metaclass=Meta, tag=6): pass
T = typing.TypeVar("T")
class G(Base, typing.Generic[T], tag=7): pass
class H(G[int], tag=8):
    __slots__ = ("x",)
@dataclasses.dataclass
class I(Base, tag=9):
    n: int = 1
""",
        "[A, B, C, D, E, F, H, I]",
        """\
A, B, C, D, E, F, H, I = obj
assert A().f() == (1, A) and [kind.__name__ for kind in A.__mro__] == ["A", "Base", "object"]
assert B.tag == 3 and callable(B().g()) and isinstance(B(), B.__mro__[2]) and len(B.__mro__) == 5
assert C(a=1) == {"a": 1} and C.__mro__[2] is dict and C.tag == 4
assert D("x").args == ("x",) and isinstance(D(), Exception) and D.tag == 5
assert E.upper == "E" and F.tag == 6 and type(F).__name__ == "Meta" and F.__bases__ == (object,)
assert H.tag == 8 and H.__base__.__name__ == "G" and H.__orig_bases__[0].__args__ == (int,)
assert I(3) == I(3) and I.tag == 9
""",
    ),
    Case(
        "cached_property",
        """\
import functools
class A:
    @functools.cached_property
    def x(self): return [1]
""",
        "A()",
        "assert obj.x is obj.x == [1]",
    ),
    Case(
        "cached method",
        "import functools\nclass A:\n    @functools.lru_cache\n    def m(self, x): return x + 1\n",
        "A()",
        "assert obj.m(1) == 2",
    ),
    Case(
        "partialmethod and total_ordering",
        """\
import functools
@functools.total_ordering
class A:
    def __init__(self, x): self.x = x
    def __lt__(self, other): return self.x < other.x
    def __eq__(self, other): return self.x == other.x
    def add(self, a, b): return a + b
    inc = functools.partialmethod(add, 1)
""",
        "A",
        "assert obj(2) >= obj(1) and obj(1).inc(2) == 3",
    ),
    Case(
        "lambdas and comprehensions in a class",
        """\
class A:
    x = [lambda i=i: i for i in range(3)]
    y = [i + 1 for i in range(2)]
    f = lambda self: self.y
    def m(self): return [self.y for _ in range(1)], {k: self for k in "a"}
""",
        "A",
        "a = obj()\nassert a.x[2]() == 2 and a.f() == [1, 2] and a.m() == ([[1, 2]], {'a': a})",
    ),
    Case(
        "a cell's exception",
        """\
class E(Exception):
    def __init__(self, a, b): super().__init__(a, b)
    def __str__(self): return "mine"
try:
    try: raise KeyError(1)
    except KeyError as inner: raise E(1, 2) from inner
except E as error: e = error
""",
        "e",
        "assert str(obj) == 'mine' and obj.args == (1, 2) and isinstance(obj, Exception)",
    ),
]
