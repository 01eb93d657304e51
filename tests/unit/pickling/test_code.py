"""Code that is compiled again from a block of source is the code that the whole cell gave."""

from __future__ import annotations

import ast
import linecache
import sys
import types
import warnings
from typing import TYPE_CHECKING, NamedTuple

import pytest

from jshm.pickling import dumps, frozen, loads
from jshm.pickling.code import TAG, Address, rebuild
from jshm.pickling.code import arguments as arguments_of
from jshm.pickling.source import LAMBDA, forget_trees

from .cases import THIS
from .fresh import Interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator


class Source(NamedTuple):
    name: str
    text: str
    like: bool = False
    """Whether the instructions may differ and do the same: the compiler calls ``module.f()`` in
    another way if it sees the import, and CO_NESTED has no effect."""
    since: tuple[int, int] = (3, 11)


SOURCES = [
    Source("a function", "def f(x):\n    return x + 1\n"),
    Source("a lambda", "f = lambda x: x + 1\n"),
    Source("several targets", "f = g = h = lambda: 1\n"),
    Source(
        "arguments of all kinds", "def f(a, /, b, c=1, *d, e, g=2, **h): return a, b, c, d, e, g, h\n"
    ),
    Source("lambdas on a line", "fs = [lambda x: x, lambda x: x + 1, lambda *y: y]\n"),
    Source("the same lambda twice", "fs = [lambda x: x, lambda x: x]\n"),
    Source("constant lambdas on a line", "a, b = lambda: 1, lambda: 2\n"),
    Source("lambda in a default", "f = lambda x, y=lambda z: z * 2: y(x)\n"),
    Source("lambdas in defaults", "f = lambda a=(lambda b=(lambda c: c): b): a\n"),
    Source("constant lambda in a default", "f = lambda x=lambda: 1: x\n"),
    Source("lambda in an expression of a lambda", "f = lambda x: [x, lambda y: x + y, 1]\n"),
    Source("lambda returns a lambda", "f = lambda x: lambda y: x + y\n"),
    Source("lambda in parentheses", "f = lambda x: (lambda y: (lambda z: x + y + z))\n"),
    Source("lambda that is called", "f = lambda x: (lambda y: y + 1)(x)\n"),
    Source("lambda over lines", "f = lambda x: (\n    x,\n    lambda y: x + y,\n)\n"),
    Source("lambdas in a condition", "f = (lambda x: x) if (lambda y: y)(1) else (lambda z: -z)\n"),
    Source("generator lambdas", "f, g = (lambda: (yield 1)), lambda x: (yield from x)\n"),
    Source("lambdas in an f-string", 'f = lambda x: f"{(lambda y: y)(x)!r:>{(lambda z: z)(x)}}"\n'),
    Source("not ASCII", "s = 'é👋'; f = lambda: s + 'ü'; g = lambda ä: 'é' + ä\n"),
    Source("statements on a line", "a = 1; f = lambda: a; g = lambda: f() + a\n"),
    Source("lambda after a statement over lines", "a = (1,\n2); f = lambda: a\n"),
    Source(
        "lambda after a lambda over lines", "a = (1,\n2); f = lambda: (\n3, a); g = lambda: a\n",
    ),
    Source("lambdas in defaults and annotations of a function", """\
def f(x: (lambda a: a), y=lambda b: b, *, z=lambda c: c) -> (lambda d: d): return x, y, z
"""),
    Source("lambdas in decorators", """\
def d(*fs): return lambda g: g
@d(lambda x: x, lambda y: y)
@(lambda f: f)
def f(z): return z
@d(lambda x: x + 1)
class A:
    @d(lambda y: y)
    def m(self): pass
"""),
    Source("lambda in a decorator's line, in a class", """\
class A:
    @(lambda f: f)
    def m(self): return lambda: self
    @property
    # comment
    @(lambda f: f)

    def n(self): return self.m
"""),
    Source("closures", """\
def outer(a, b):
    c = a + b
    def inner(d):
        nonlocal a
        a += d
        def innermost(): return a, b, c, d
        return innermost
    return inner, lambda: (a, c)
"""),
    Source("recursion", """\
def outer():
    def even(n): return n == 0 or odd(n - 1)
    def odd(n): return n != 0 and even(n - 1)
    return even
"""),
    Source("a variable that is never set", "def f():\n    x: int\n    def g(): return x\n    return g\n"),
    Source("a variable that is deleted", "def f():\n    x = 1\n    del x\n    return lambda: x\n"),
    Source("an argument of its own name", "def f(x):\n    def x(): return x\n    return x\n"),
    Source("super, private names", """\
class A:
    def m(self): return super().m()
    def __private(self, __x=1):
        __y = __x
        def inner():
            nonlocal __y
            __y += 1
            return self.__z, __y, __class__
        return inner
    @property
    def p(self): return self.__p
    @p.setter
    def p(self, value): self.__p = value
    @classmethod
    def c(cls): return lambda: [super().c, [super().c for _ in cls.__private]]
    @staticmethod
    def s(): return __class__
"""),
    Source("classes of private names", """\
class _A:
    class __B:
        def __m(self): self.__x = lambda: self.__y
class __C:
    def m(self): return self.__x
class __:
    def m(self): return self.__x
"""),
    Source("classes in functions in classes", """\
class A:
    def m(self, x):
        class B(A):
            y = x
            def n(self): return super().n(), __class__, x, self.__q
            class C:
                def o(self): return x, __class__, super().o()
        def after(): return B, self, __class__
        return after
"""),
    Source("lambdas of a class", "class A: f = lambda self: self.x; g = lambda self: self.y\n"),
    Source(
        "lambdas of a class's comprehension",
        "class A:\n    f = [lambda: i for i in range(3)]\n",
    ),
    Source("comprehensions", """\
def f(xs, k):
    return (
        [lambda: (x, k) for x in xs], {x: (lambda: x) for x in xs}, {k for _ in xs},
        list((lambda: x) for x in xs), [[x for _ in xs if k] for x in xs],
    )
"""),
    Source(
        "lambdas of a comprehension of a cell",
        "fs = [lambda x: x + i for i in range(3)]\n",
    ),
    Source(
        "lambdas of a comprehension of a cell, with defaults",
        "fs = [lambda x, i=i: x + i for i in range(3)]\n",
        like=True,
    ),
    Source("generators and async", """\
def f(x):
    yield x
    yield from f(x - 1)
async def g(x):
    async for i in x: yield i
async def h(x):
    async with x as y, y as z: await z
    return [i async for i in x], lambda: x, [await i for i in x]
"""),
    Source("statements of all kinds", """\
def f(x):
    global k
    import os as _os, sys
    from os import path
    assert x, "message"
    try: x += 1
    except (ValueError, TypeError) as e: raise KeyError from e
    else: x = 2
    finally: del x
    with open(path) as a, open(_os) as b: a.x, b[0], *c = a
    while (y := x):
        if y: break
        else: continue
    for i in sys.path: pass
    def g(): return _os, path, lambda: (y, i)
    return x @ y ** -1, x if y else {**x}, f"{x=!r:>{y}}", ..., 1 < x < 2, x[1:2, ::3]
"""),
    Source("except*", """\
def f(x):
    try: x()
    except* ValueError as group: r = group
    except* (KeyError, TypeError):
        r = lambda: x
    return r
"""),
    Source("match", """\
def f(x):
    match x:
        case {"a": [1, *rest], **others}:
            return lambda: (rest, others)
        case str() | int(real=1) as s: return s
        case [a, (b, c)] if a > b:
            def g(): return a, b, c
            return g
        case _: return None
"""),
    Source("lambda in the line of a case", """\
def f(x):
    match x:
        case 1: return lambda: x
"""),
    Source("lambda after else", "if x: f = lambda a: a\nelse: g = lambda b: b\n"),
    Source("lambda after elif", "if x: pass\nelif y: f = lambda a: a\n"),
    Source("lambda of an elif", "if x: pass\nelif (lambda a: a)(x):\n    y = 1\n"),
    Source("lambda after try", "try: f = lambda a: a\nexcept ValueError: pass\n"),
    Source("lambda after except", "try: x = 1\nexcept ValueError: f = lambda a: a\n"),
    Source("lambda after for else", "for i in x: f = lambda a: a\nelse: g = lambda b: b\n"),
    Source("functions in blocks", """\
if x:
    def f(): return 1
    try:
        g = lambda a: a
    except ValueError:
        def h(): return [lambda b: b]
    else:
        for i in range(3):
            with x as y:
                @f
                async def k(): return i
            while z:
                l = lambda c: c
"""),
    Source("lambdas in heads of blocks", """\
for i in (lambda a: a)(x): f = lambda b: i + b
while (lambda a: a)(0): g = lambda b: b
with open((lambda a: a)("x")) as q: h = lambda b: (q, b)
"""),
    Source("future annotations", """\
from __future__ import annotations
def f(x: int) -> str:
    y: Missing = 3
    def g(z: Missing) -> Missing: return z
    class A:
        a: Missing
        def m(self, b: Missing) -> Missing: return lambda c: b
    return g
"""),
    Source("annotations within", """\
def f():
    def g(x: int, *y: str, z: "A" = 1) -> list[int]: return x
    a: int = 1
    return g
"""),
    Source("docstrings and comments", '''\
def f():
    """Doc.

    More."""
    # comment
    return 1
    # after it
# not of it

def g():
    "doc"
class A:
    "doc"
    def m(self):
        """of m"""
'''),
    Source("text that is not indented", """\
def f():
    s = '''
def g(): pass
'''
    return s + "'''"
def g(): return [
1,
], {
}
class A:
    def m(self): return '''
x
''', lambda: self
"""),
    Source("brackets in a text, then text that is not indented", """\
def f():
    return g(")",
1, 2)
"""),
    Source("a head over lines", "def f(\n    a,\n    b=(\n        1\n    ),\n):\n    return lambda: a\n"),
    Source(
        "a head over lines, with the body in the last", "def f(\n    a,\n): return lambda: a\n",
    ),
    Source("a line that goes on", "def f(): return 1 + \\\n2\nf = lambda x: \\\n    x\n"),
    Source("tabs", "def f():\n\treturn 1\nif 1:\n\tdef g():\n\t\treturn lambda a: a\n"),
    Source("many consts", f"def f(): return {[*range(300)]}, 'a', 1.5, 2j, b'x', None, ..., -0.0\n"),
    Source("no line at the end", "def f(): return 1\ng = lambda: 2"),
    Source("a conditional definition of one name", """\
if a:
    def f(): return 1
else:
    def f(): return 2
def f(): return 3
"""),
    Source("global functions of a function", "def f():\n    global g\n    def g(): return 1\n",
           like=True),
    Source("global closures of a function", "def f(x):\n    global g\n    def g(): return x\n"),
    Source("calls of imported modules", "import os\ndef f(): return os.getcwd()\n",
           like=True),
    Source("calls of imported names", "from os import path\nclass A:\n    def f(self): return path.sep()\n",
           like=True),
    Source("generic function", "def f[T, *Ts, **P](x: T) -> list[T]: return lambda: (T, Ts, P, x)\n",
           since=(3, 12)),
    Source("generic class", "class A[T]:\n    def m(self): return T\n", since=(3, 12)),
    Source("method of a generic class", "class A[T]:\n    def m(self, x: T) -> T: return x\n",
           like=True, since=(3, 12)),
    Source("type alias in a function", "def f():\n    type X = int\n    return lambda y: (y, X)\n",
           since=(3, 12)),
]  # fmt: skip


def functions(code: types.CodeType, names: set[str]) -> Iterator[types.CodeType]:
    """Yield the code of functions, but not that of classes, comprehensions and type parameters."""
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            if inner.co_flags & 1 and inner.co_name in names:  # CO_OPTIMIZED
                yield inner
            yield from functions(inner, names)


def codes_of(text: str, filename: str) -> list[types.CodeType]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text)
        whole = compile(text, filename, "exec", dont_inherit=True)
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {LAMBDA} | {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    return list(functions(whole, names))


ALIKE = [
    "co_qualname", "co_name", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_argcount",
    "co_posonlyargcount", "co_kwonlyargcount", "co_firstlineno",
]  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            source,
            id=source.name,
            marks=pytest.mark.skipif(source.since > THIS, reason="newer syntax"),
        )
        for source in SOURCES
    ],
)
def test_rebuilt_is_the_same(source: Source) -> None:
    codes = codes_of(source.text, f"/tmp/ipykernel_0/{source.name}.py")
    assert codes
    for code in codes:
        tag, _, _, address, block = arguments_of(code, "")
        assert tag == TAG
        assert block[2] in source.text
        rebuilt = rebuild(Address(*address), block)
        assert rebuilt.co_filename == block[0]
        for name in ALIKE:
            assert getattr(rebuilt, name) == getattr(code, name), name
        if not source.like:
            assert rebuilt == code, code
            assert list(rebuilt.co_positions()) == list(code.co_positions())
    forget_trees()


@pytest.mark.parametrize("source", SOURCES[:4])
def test_a_reader_of_another_tag_compiles_again(source: Source) -> None:
    for code in codes_of(source.text, f"/tmp/ipykernel_0/tag {source.name}.py"):
        arguments = arguments_of(code, "")
        assert arguments[0] == TAG
        assert frozen.code(*arguments) == code  # unmarshalled
        assert frozen.code(0, b"not marshalled", *arguments[2:]) == code


def test_a_lambda_is_not_another() -> None:
    codes = codes_of("f = lambda: lambda: 1\n", "/tmp/ipykernel_0/not another.py")
    for code, expected in zip(codes, ["function", "int"], strict=True):
        arguments = arguments_of(code, "")
        made = types.FunctionType(frozen.code(0, b"", *arguments[2:]), {})
        assert type(made()).__name__ == expected


def test_no_warnings_of_the_cell_again() -> None:
    text = 'def g(): return "\\d" is "x"\ndef outer():\n    def f(): return "\\d"\n    return f\n'
    for code in codes_of(text, "/tmp/ipykernel_0/warnings.py"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            arguments = arguments_of(code, "")
            assert len(arguments) == 5
            assert frozen.code(0, b"", *arguments[2:]) == code
    forget_trees()


def test_code_objects_that_are_not_functions() -> None:
    """They travel between processes of one version."""
    text = "x = [i for i in range(3)]\nclass A: y = 1\n"
    filename = "/tmp/ipykernel_0/no function.py"
    codes_of(text, filename)
    code = compile(text, filename, "exec")
    found = loads(dumps([code, *(c for c in code.co_consts if isinstance(c, types.CodeType))]))
    names: dict[str, object] = {}
    exec(found[0], names)
    assert names["x"] == [0, 1, 2]
    assert found[0] == code


WITHOUT_COLUMNS = {
    "on a line": ("f, g = (lambda: 1), lambda: 2\n", "g", 2),
    "in one another": ("f = lambda: (lambda: 3)\n", "f()", 3),
    "alone": ("f = lambda: 4\n", "f", 4),
    "a closure": ("def outer(x):\n    return lambda: x\nf = outer(5)\n", "f", 5),
    "after else": ("x = 0\nif x: f = lambda: 1\nelse: f = lambda: 2\n", "f", 2),
    "after except": ("try: import no_such_module\nexcept ImportError: f = lambda: 2\n", "f", 2),
    "of a comprehension": ("f = [lambda: i for i in range(2)][0]\n", "f", 1),
}


@pytest.fixture(scope="module")
def no_columns() -> Iterator[Interpreter]:
    """Some lambdas in Python 3.12 have none, and no code has with this option."""
    with Interpreter(sys.executable, "-X", "no_debug_ranges") as interpreter:
        yield interpreter


@pytest.mark.parametrize(
    ("source", "expression", "value"),
    [pytest.param(*case, id=name) for name, case in WITHOUT_COLUMNS.items()],
)
def test_code_without_columns_travels(
    no_columns: Interpreter, reader: Interpreter, source: str, expression: str, value: int
) -> None:
    no_columns.reset()
    no_columns.cell(source)
    reader.load(no_columns.dump(expression))
    assert reader.run("obj()") == value
