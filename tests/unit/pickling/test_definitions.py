"""The reader's own class is used if it is defined the same, and only then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jshm.pickling.definitions import CODE, VALUE, Definition, Part, definition_of

from .cases import CLASSES, THIS, Case, params
from .fresh import FreshError, Interpreter
from .interpreters import found

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Beside = Callable[[str, str], None]

CELL = '''\
import abc, collections, dataclasses, enum, functools, typing
EPS = 1e-8
def helper(x): return x + EPS
class Mode(enum.Enum):
    FAST = 1
    SLOW = "slow"
@dataclasses.dataclass
class Cfg:
    mode: Mode = Mode.FAST
    lr: float = 0.1
    layers: list = dataclasses.field(default_factory=list)
class Point(typing.NamedTuple):
    x: int
    y: int = 2
Pair = collections.namedtuple("Pair", "a b")
Made = dataclasses.make_dataclass("Made", ["a", ("b", float, 2.5)])
class Base(abc.ABC):
    @abc.abstractmethod
    def run(self): ...
class Model(Base):
    "A model."
    n = 3
    names = ["a"]
    calls = 0
    def __init__(self, w=1, layers=[64, 64]): self.w = w
    def __eq__(self, other): return type(other) is type(self) and other.w == self.w
    __hash__ = None
    def run(self, x=2):
        """Run it."""
        Model.calls += 1
        return helper(x) * self.w
    @property
    def doubled(self): return self.w * 2
    @classmethod
    def make(cls): return cls()
    @staticmethod
    def add(a, b): return a + b
    @functools.cached_property
    def cached(self): return self.w
    @functools.lru_cache
    def remembered(self): return self.w
    def inner(self):
        return [(lambda y: y + i) for i in range(3)]
class Slotted:
    __slots__ = ("a",)
    def __init__(self, a): self.a = a
class Outer:
    class Inner:
        def f(self): return 1
'''
INSTANCES = {
    "Mode.FAST": "obj is main.Mode.FAST and {main.Mode.FAST: 1}[obj] == 1",
    "Cfg(Mode.SLOW)": "obj == main.Cfg(main.Mode.SLOW) and isinstance(obj, main.Cfg)",
    "Point(1)": "type(obj) is main.Point",
    "Pair(1, 2)": "type(obj) is main.Pair",
    "Made(1)": "obj == main.Made(1)",
    "Model(5)": "obj == main.Model(5) and isinstance(obj, main.Base)",
    "Slotted(1)": "type(obj) is main.Slotted and obj.a == 1",
    "Outer.Inner()": "type(obj) is main.Outer.Inner",
    "[Model, Mode, Base]": "obj == [main.Model, main.Mode, main.Base]",
    "Model(5).run": "type(obj.__self__) is main.Model",
}


@pytest.mark.parametrize("expression", INSTANCES)
def test_the_same_cell_is_the_same_class(
    writer: Interpreter, reader: Interpreter, expression: str
) -> None:
    """Line numbers, comments, layout and docstrings do not count, and state does not."""
    writer.cell(CELL + "Model.calls = 7\nModel.names.append('b')\n")
    reader.cell(
        "# another line\n\n" + CELL.replace("A model", "The model").replace("Run", "Do run")
    )
    reader.cell("Model.names = []\n")
    reader.load(writer.dump(expression))
    assert reader.run(INSTANCES[expression]), expression
    if expression != "Made(1)":  # Python 3.11 says that it is of `types`
        reader.run("pickle.loads(pickle.dumps(obj))")
    assert reader.run("main.Model.calls, main.Model.names") == [0, []]


@pytest.mark.parametrize("case", params(CLASSES))
def test_no_class_with_a_name_is_made_where_its_cell_has_run(
    writer: Interpreter, reader: Interpreter, case: Case
) -> None:
    writer.cell(case.source)
    reader.cell("import warnings\nwarnings.simplefilter('error')\n")
    reader.cell(case.source)
    reader.load(writer.dump(case.expression))
    reader.run("from jshm.pickling import classes")
    made = reader.run(
        "[d.qualname for made in classes._made.values() for cls in made"
        " for d in classes._definitions.get(cls) if classes._WHICH not in d.parts]"
    )
    assert made == []


def test_without_source_too(writer: Interpreter, reader: Interpreter) -> None:
    writer.without_source(CELL + "Model.calls = 7\n")
    reader.without_source(CELL)
    for expression, check in INSTANCES.items():
        reader.load(writer.dump(expression))
        assert reader.run(check), expression


CHANGES = {
    "a method": ("return a + b", "return a - b", "Model(1)", "add"),
    "a property": ("self.w * 2", "self.w * 3", "Model(1)", "doubled"),
    "what is within a method": ("y + i", "y * i", "Model(1)", "inner"),
    "a default": ("x=2", "x=3", "Model(1)", "run"),
    "a mutable default": ("[64, 64]", "[32]", "Model(1)", "__init__(layers)"),
    "a constant": ("n = 3", "n = 4", "Model(1)", "n"),
    "a list": ('names = ["a"]', 'names = ["b"]', "Model(1)", "names"),
    "a function that it uses": ("x + EPS", "x - EPS", "Model(1)", "global helper"),
    "a base": ("class Base(abc.ABC):", "class Base(abc.ABC):\n    z = 1", "Model(1)", "Base.z"),
    "its bases": ("class Model(Base)", "class Model", "Model(1)", "its bases"),
    "a slot": ('("a",)', '("a", "b")', "Slotted(1)", "__slots__"),
    "a field's default": ("lr: float = 0.1", "lr: float = 0.2", "Cfg()", "field lr"),
    "a field's type": ("lr: float", "lr: int", "Cfg()", "annotation lr"),
    "a field more": ("lr: float = 0.1", "lr: float = 0.1\n    b: int = 1", "Cfg()", "field b"),
    "a dataclass's options": ("@dataclasses.dataclass\n", "@dataclasses.dataclass(order=True)\n",
                              "Cfg()", "its dataclass options"),
    "a member's value": ("FAST = 1", "FAST = 2", "Mode.SLOW", "member FAST"),
    "a member more": ("FAST = 1", "FAST = 1\n    NONE = 0", "Mode.SLOW", "member NONE"),
    "a named tuple's default": ("y: int = 2", "y: int = 3", "Point(1)", "field y"),
    "a decorator": ("@staticmethod\n    def add(a, b)", "def add(a, b)", "Model(1)", "add"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_another_definition_is_another_class_and_a_warning_says_in_what(
    writer: Interpreter, reader: Interpreter, change: str
) -> None:
    old, new, expression, part = CHANGES[change]
    assert CELL.count(old) == 1
    writer.cell(CELL)
    reader.cell(CELL.replace(old, new))
    reader.run("import warnings")
    pickled = writer.dump(expression)
    reader.run("main._caught = warnings.catch_warnings(record=True)")
    reader.run("main._said = main._caught.__enter__(); warnings.simplefilter('always')")
    try:
        for _ in range(2):
            reader.load(pickled)
        name = expression.partition("(")[0].partition(".")[0]
        assert reader.run(f"type(obj) is not main.{name} and type(obj).__name__ == {name!r}")
        said = reader.run("[(type(w.message).__name__, str(w.message)) for w in main._said]")
    finally:
        reader.run("main._caught.__exit__()")
    said = [text for kind, text in said if f"class {name} " in text and kind == "DefinitionWarning"]
    assert len(said) == 1, said
    assert part in said[0].partition("in: ")[2].partition(". ")[0].split(", ")


def test_methods_in_text_that_is_executed(writer: Interpreter, reader: Interpreter) -> None:
    """``python -c`` has the same filename as the text from which dataclasses generate methods."""
    text = (
        "import dataclasses\n@dataclasses.dataclass\nclass Cfg:\n    x: int = 1\n"
        "    def __repr__(self): return 'one'\n    more = lambda self: 1\n"
    )
    writer.cell(f"exec({text!r})\n")
    for here, is_same in (text, True), (text.replace("'one'", "'two'"), False):
        reader.reset()
        reader.cell(f"import warnings\nwarnings.simplefilter('ignore')\nexec({here!r})\n")
        reader.load(writer.dump("Cfg()"))
        assert reader.run("type(obj) is main.Cfg") is is_same
        assert reader.run("repr(obj), obj.more()") == ["one", 1]


def test_members_are_their_names(writer: Interpreter, reader: Interpreter) -> None:
    """A member's value may be a function or an object, which arrives as a copy."""
    cell = (
        "import enum, functools, operator\nclass Op(enum.Enum):\n    ADD = enum.member(lambda a, b: a + b)\n"
        "    SUB = functools.partial(operator.sub)\n    NOTHING = object()\n"
        "class Flag(enum.Flag):\n    R = 1\n    W = 2\n    RW = R | W\n"
    )
    writer.cell(cell)
    for here in (cell, ""):
        reader.reset()
        reader.cell(here)
        reader.load(writer.dump("[*Op, Flag.R, Flag.RW, Flag(0)]"))
        assert reader.run("obj[0].value(1, 2), [m.name for m in obj[:3]]") == [
            3, ["ADD", "SUB", "NOTHING"],
        ]  # fmt: skip
        reader.run("kind, flag = type(obj[0]), type(obj[3])")
        assert reader.run("obj[:3] == list(kind) and obj[3:] == [flag.R, flag.RW, flag(0)]")
        assert reader.run("kind is main.Op") if here else True


TYPES = """\
from typing import Generic, NamedTuple, Protocol, Required, TypedDict, TypeVar, runtime_checkable
T = TypeVar("T")
class Pair(NamedTuple, Generic[T]):
    a: T
class Some(TypedDict, total=False):
    a: int
class All(Some):
    b: Required[str]
@runtime_checkable
class Runs(Protocol):
    def run(self) -> int: ...
class Box(Generic[T]):
    def __class_getitem__(cls, of): return of
"""


@pytest.mark.parametrize("version", [(3, 12), (3, 13)], ids=lambda v: ".".join(map(str, v)))
def test_what_versions_of_typing_add_does_not_count(
    writer: Interpreter, version: tuple[int, int]
) -> None:
    if version == THIS or version not in found():
        pytest.skip("no such Python")
    with Interpreter(found()[version]) as other:
        for one, another in ((writer, other), (other, writer)):
            for here in one, another:
                here.reset()
                here.cell(TYPES)
            another.load(one.dump("[Pair, Some, All, Runs, Box]"))
            assert another.run("obj == [main.Pair, main.Some, main.All, main.Runs, main.Box]")


def test_another_value_of_a_global_constant_gives_a_warning(
    writer: Interpreter, reader: Interpreter
) -> None:
    """It is the same definition: as with pickle, methods use the reader's values."""
    writer.cell(CELL)
    reader.cell("import warnings\nwarnings.simplefilter('error')\n" + CELL + "EPS = 1e-6\n")
    pickled = writer.dump("Model(1)")
    with pytest.raises(
        FreshError, match=r"methods of Model use the values of this process, .*: EPS"
    ):
        reader.load(pickled)
    reader.load(pickled)  # it is told once
    assert reader.run("obj == main.Model(1)")
    assert reader.run("obj.run(0) == 1e-6")
    # A missing value would be an error, so the class that arrives has it.
    reader.cell("del EPS\nwarnings.simplefilter('ignore')\n")
    reader.load(pickled)
    assert reader.run("type(obj) is main.Model, obj.run(0) == 1e-8") == [False, True]


def test_differences_are_named_by_part() -> None:
    class A:
        def f(self) -> int:
            return 1

    one = definition_of(A)
    again = Definition.from_json(one.to_json())
    assert again.differences(one) == []
    other = one._replace(parts={**one.parts, "f": Part(CODE, "else"), "g": Part(VALUE, "1")})
    assert other.differences(one) == one.differences(other) == ["f", "g"]
    newer = one._replace(tag=one.tag + 1)
    assert newer.differences(one) == []  # by its source
    blind = newer._replace(parts={**one.parts, "f": Part(CODE, "else")})
    assert blind.differences(one) == ["f"]  # nobody can tell


def test_one_definition_makes_one_class(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell(CELL)
    reader.load(writer.dump("[Model(1), Mode.FAST]"))
    reader.run("main.model, main.fast = obj")
    reader.run("type(main.model).calls = 7; type(main.model).run = lambda self: 'patched'")
    with Interpreter() as restarted:
        restarted.cell(CELL)
        for one in (writer, restarted):
            reader.load(one.dump("[Model(1), Mode.FAST]"))
            assert reader.run("type(obj[0]) is type(main.model) and obj[1] is main.fast")
            assert reader.run("obj[0].calls, main.model.run()") == [7, "patched"]


def test_the_reader_s_class_is_used_once_its_cell_has_run(
    writer: Interpreter, reader: Interpreter
) -> None:
    writer.cell(CELL)
    pickled = writer.dump("Model(1)")
    reader.load(pickled)
    reader.cell(CELL)
    reader.load(pickled)
    assert reader.run("type(obj) is main.Model")


def test_patches_of_the_reader_stay(writer: Interpreter, reader: Interpreter) -> None:
    """Once the reader's class was found to be the same, it is used, also after a patch."""
    writer.cell(CELL)
    reader.cell("import warnings\nwarnings.simplefilter('error')\n" + CELL)
    pickled = writer.dump("[Model(1), Cfg()]")
    reader.load(pickled)
    reader.run("main.Model.inner = lambda self: 'patched'; main.Model.n = 4; main.Cfg.more = 1")
    reader.load(pickled)
    assert reader.run("type(obj[0]) is main.Model, type(obj[1]) is main.Cfg") == [True, True]
    assert reader.run("obj[0].inner(), obj[0].n") == ["patched", 4]
    for changed in (
        "def helper(x): return x - EPS\n",
        CELL.replace("n = 3", "n = 5"),
    ):  # what it uses; a new class
        reader.cell(changed)
        with pytest.raises(Exception, match="class Model that was shared differs"):
            reader.load(pickled)
        reader.load(pickled)
        assert reader.run("obj[0].inner(), obj[0].n") != ["patched", 4]


def test_a_patch_of_the_publisher_travels(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell(CELL)
    first = writer.dump("Model(1)")
    writer.cell("Model.run = lambda self: 'patched'\n")
    second = writer.dump("Model(1)")
    reader.load(first)
    reader.run("main.first = obj")
    reader.load(second)
    assert reader.run("obj.run(), type(main.first).run is type(obj).run") == ["patched", False]
    writer.load(first)
    assert writer.run("type(obj) is main.Model and obj.run() == 'patched'")


def test_two_threads_make_one_class(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell(
        "import sys\nclass Meta(type):\n    def __new__(kind, *of):\n"
        "        getattr(sys, 'meet', lambda: 0)()\n        return type.__new__(kind, *of)\n"
        "class A(metaclass=Meta):\n    def f(self): return 1\n"
    )
    pickled = writer.dump("A()")
    reader.run("import threading; sys.meet = threading.Barrier(2, timeout=30).wait")
    reader.run(f"import base64; data = base64.b64decode({pickled.sent[0]!r}); found = []")
    reader.run(
        "threads = [threading.Thread(target=lambda: found.append(pickling.loads(data)))"
        " for _ in range(2)]\nfor t in threads: t.start()\nfor t in threads: t.join()\ndel sys.meet"
    )
    assert reader.run("len(found), found[0].f()") == [2, 1]
    assert reader.run("type(found[0]) is type(found[1])")


def test_attributes_that_the_publisher_adds_arrive(
    writer: Interpreter, reader: Interpreter
) -> None:
    """In either order: additions to a class do not affect older instances."""
    writer.cell(CELL)
    first = writer.dump("Model(1)")
    writer.cell("def more(self): return [self.w, self.run.__name__]\nModel.more = more\n")
    second = writer.dump("Model(2)")
    with Interpreter() as another:
        for here, *pickles in (reader, first, second), (another, second, first):
            here.cell("found = []\n")
            for pickled in pickles:
                here.load(pickled)
                here.run("main.found.append(obj); type(obj).calls += 1")
            assert here.run("type(main.found[0]) is type(main.found[1])")
            assert here.run("sorted(m.more()[0] for m in main.found)") == [1, 2]
            assert here.run("type(obj).calls") == 2  # state is not set back


def test_a_class_with_another_docstring(writer: Interpreter, reader: Interpreter) -> None:
    """If the reader has no class of that name, a docstring makes another class."""
    writer.cell("class A:\n    'one'\n")
    first = writer.dump("A()")
    writer.cell("class A:\n    'two'\n")
    second = writer.dump("A()")
    reader.load(first)
    reader.run("main.first = obj")
    reader.load(second)
    assert reader.run("type(obj).__doc__, type(main.first).__doc__") == ["two", "one"]
    reader.cell("class A:\n    'three'\n")
    for pickled in (first, second):
        reader.load(pickled)
        assert reader.run("type(obj) is main.A")


def test_an_old_instance_of_a_cell_that_ran_again(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell(CELL + "old = Model(1)\n")
    writer.cell(CELL)
    reader.cell(CELL)
    reader.load(writer.dump("[old, Model(1)]"))
    assert reader.run("obj[0] == obj[1] == main.Model(1)")


def test_classes_that_no_name_leads_to_stay_apart(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell(
        "def factory(seen):\n    class Local:\n        def add(self): seen.append(1); return seen\n"
        "    return Local\n"
        "A, B = factory([]), factory([])\n"
        "same = [type('X', (), {'n': [i]}) for i in range(2)]\n"
    )
    reader.cell("class Local: pass\nclass X: pass\n")
    reader.load(writer.dump("[A(), B(), *same]"))
    assert reader.run("type(obj[0]) is not type(obj[1]), obj[2] is not obj[3]") == [True, True]
    assert reader.run("obj[0].add(), obj[0].add(), obj[1].add()") == [[1, 1], [1, 1], [1]]
    assert reader.run("obj[2].n, obj[3].n") == [[0], [1]]
    reader.run("main.kinds = [type(obj[0]), type(obj[1])]")
    reader.load(writer.dump("[A(), B()]"))
    assert reader.run("[type(o) for o in obj] == main.kinds")


def test_type_variables(writer: Interpreter, reader: Interpreter) -> None:
    cell = "import typing\nT = typing.TypeVar('T', bound=int)\nclass Box(typing.Generic[T]): pass\n"
    writer.cell(cell)
    reader.cell(cell)
    reader.load(writer.dump("[T, Box, Box[int]()]"))
    assert reader.run("obj[0] is main.T, obj[1] is main.Box") == [True, True]
    assert reader.run("isinstance(obj[2], main.Box)")


def test_a_cached_function_is_the_reader_s_own(writer: Interpreter, reader: Interpreter) -> None:
    cell = "import functools\n@functools.lru_cache\ndef load(n): return [n]\n"
    writer.cell(cell + "def use(n): return load(n)\n")
    reader.cell(cell + "mine = load(1)\n")
    reader.load(writer.dump("[load, use]"))
    assert reader.run("obj[0] is main.load, obj[1](1) is main.mine") == [True, True]
    reader.cell(cell.replace("[n]", "[n, n]"))
    reader.load(writer.dump("load"))
    assert reader.run("obj is main.load, obj(1), main.load(1)") == [False, [1], [1, 1]]


def test_constants_of_any_size(writer: Interpreter, reader: Interpreter) -> None:
    cell = (
        "big, text, many = 10 ** 5000, 'x' * 2_000_000, tuple(range(200_000))\n"
        "class A:\n    def f(self): return big, text, many\n"
    )
    writer.cell(cell)
    reader.cell(cell)
    reader.load(writer.dump("A()"))
    assert reader.run("type(obj) is main.A")
    reader.cell("big += 1\nimport warnings\nwarnings.simplefilter('ignore')\n")
    reader.run("from jshm.pickling import classes\nclasses._told.clear()")
    reader.load(writer.dump("A()"))
    assert reader.run("type(obj) is main.A, len(classes._told)") == [True, 1]


ATTRS = """\
import attrs
@attrs.frozen
class A:
    x: int = 3
    y: list = attrs.field(factory=list)
"""
SKLEARN = """\
from sklearn.base import BaseEstimator, TransformerMixin
class A(TransformerMixin, BaseEstimator):
    def __init__(self, k=2): self.k = k
    def fit(self, X, y=None): return self
    def transform(self, X): return X * self.k
"""
PANDAS = """\
import pandas as pd
class A(pd.DataFrame):
    @property
    def _constructor(self): return A
    def total(self): return self.sum()
"""
TORCH = """\
import torch
class A(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(2, 2)
    def forward(self, x): return self.a(x)
"""
LIBRARIES = {
    "attrs": (ATTRS, "A()", "x: int = 3", "x: int = 4"),
    "sklearn": (SKLEARN, "A()", "X * self.k", "X + self.k"),
    "pandas": (PANDAS, "A({'x': [1]})", "self.sum()", "self.mean()"),
    "torch": (TORCH, "A()", "self.a(x)", "self.a(x) + 1"),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_classes_over_libraries(writer: Interpreter, reader: Interpreter, library: str) -> None:
    pytest.importorskip(library)
    cell, expression, old, new = LIBRARIES[library]
    writer.cell(cell)
    reader.cell("import warnings\nwarnings.simplefilter('error')\n" + cell)
    reader.load(writer.dump(expression))
    assert reader.run("type(obj) is main.A")
    assert cell.count(old) == 1
    reader.cell(cell.replace(old, new))
    pickled = writer.dump(expression)
    with pytest.raises(FreshError, match="the class A that was shared differs"):
        reader.load(pickled)


# -- modules beside the notebook -------------------------------------------------------------------

UTILS = """\
import dataclasses, enum, functools, threading
_lock = threading.Lock()
log = open(__file__)
registered = []
class Mode(enum.Enum):
    FAST = 1
@dataclasses.dataclass
class Cfg:
    mode: Mode = Mode.FAST
class Locked:
    def get(self):
        with _lock: return 5
def plain(x): return x + 1
def register(f): registered.append(f); return f
@register
def callback(): return 1
@functools.lru_cache
def remembered(x): return object()
def guarded():
    with _lock: return 6
"""
SAME_HERE = [
    "utils.Cfg()", "utils.Mode.FAST", "utils.Locked()", "utils.plain", "utils.callback",
    "utils.remembered", "utils", "[utils, utils.guarded]", "vars(utils)",
]  # fmt: skip


@pytest.fixture
def together(tmp_path: Path) -> tuple[Interpreter, Interpreter, Path]:  # type: ignore[misc]
    """Two notebooks in one directory, with a module beside them."""
    (tmp_path / "utils.py").write_text(UTILS)
    with Interpreter(cwd=tmp_path) as one, Interpreter(cwd=tmp_path) as other:
        yield one, other, tmp_path  # type: ignore[misc]


@pytest.mark.parametrize("imports", ["import utils", "pass"])
def test_a_module_that_the_reader_can_import_is_imported(
    together: tuple[Interpreter, Interpreter, Path], imports: str
) -> None:
    writer, reader, _ = together
    writer.cell("import utils\n")
    reader.cell(imports + "\n")
    for expression in SAME_HERE:
        reader.load(writer.dump(expression))
        same = "obj is sys.modules['utils'].%s"
        check = {
            "utils.Cfg()": "obj == sys.modules['utils'].Cfg()",
            "utils.Locked()": "type(obj) is sys.modules['utils'].Locked and obj.get() == 5",
            "utils": "obj is sys.modules['utils']",
            "[utils, utils.guarded]": "obj[1] is obj[0].guarded is sys.modules['utils'].guarded",
            "vars(utils)": "obj is vars(sys.modules['utils'])",
        }.get(expression, same % expression.removeprefix("utils."))
        assert reader.run(check), expression
    assert reader.run("sys.modules['utils'].registered == [sys.modules['utils'].callback]")


def test_a_module_that_differs_here(
    together: tuple[Interpreter, Interpreter, Path],
) -> None:
    writer, reader, directory = together
    writer.cell("import utils\n")
    # Its class is the same, its function is not.
    (directory / "elsewhere").mkdir()
    (directory / "elsewhere" / "utils.py").write_text(UTILS.replace("x + 1", "x + 2"))
    with Interpreter(cwd=directory / "elsewhere") as other:
        other.cell("import utils, warnings\nwarnings.simplefilter('error')\n")
        other.load(writer.dump("utils.Cfg()"))
        assert other.run("obj == main.utils.Cfg()")
        pickled = writer.dump("utils.plain")
        with pytest.raises(Exception, match="the module utils that was shared differs"):
            other.load(pickled)
        other.load(pickled)  # it is said once
        assert other.run("obj(1), main.utils.plain(1)") == [2, 3]
    reader.load(pickled)
    assert reader.run("obj is sys.modules['utils'].plain")


def test_a_module_that_ends_the_process_when_it_is_imported(
    together: tuple[Interpreter, Interpreter, Path],
) -> None:
    """For example a script that needs arguments: it goes by value."""
    writer, reader, directory = together
    (directory / "train.py").write_text("import sys\nif 'wrong' in sys.argv: sys.exit(2)\n" + UTILS)
    writer.cell("import train\n")
    pickled = writer.dump("train.Cfg()")
    reader.run("sys.argv.append('wrong')")
    reader.load(pickled)
    assert reader.run("obj.mode.name") == "FAST"


def test_a_module_with_a_name_of_the_standard_library(
    together: tuple[Interpreter, Interpreter, Path],
) -> None:
    writer, reader, directory = together
    (directory / "statistics.py").write_text(UTILS)
    writer.cell("import sys, warnings\nsys.modules.pop('statistics', None)\nimport statistics\n")
    with Interpreter() as other:
        for here in (reader, other):
            here.cell("import statistics, warnings\nwarnings.simplefilter('ignore')\n")
            here.load(writer.dump("[statistics.Cfg(), statistics.plain]"))
            assert here.run("obj[0].mode.name, obj[1](1)") == ["FAST", 2]
        assert reader.run("type(obj[0]) is main.statistics.Cfg")


def test_a_patch_in_a_module_travels(
    together: tuple[Interpreter, Interpreter, Path],
) -> None:
    writer, reader, _ = together
    writer.cell("import utils\ndef plain(x): return 'patched'\n")
    writer.cell("utils.plain.__code__ = plain.__code__\n")
    reader.cell("import utils, warnings\nwarnings.simplefilter('ignore')\n")
    reader.load(writer.dump("utils.plain"))
    assert reader.run("obj(1), main.utils.plain(1)") == ["patched", 2]


@pytest.mark.parametrize(
    "expression", ["utils.Locked()", "utils.guarded", "lambda: utils.guarded()"]
)
def test_a_lock_in_a_module_that_the_reader_finds_only_by_its_path(
    writer: Interpreter, reader: Interpreter, tmp_path: Path, expression: str
) -> None:
    (tmp_path / "utils.py").write_text(UTILS)
    writer.cell(f"import sys\nsys.path.append({str(tmp_path)!r})\nimport utils\n")
    pickled = writer.dump(expression)
    reader.run("main.path = sys.path[:]")
    try:
        reader.load(pickled)
        assert reader.run("obj() if callable(obj) else obj.get()") in (5, 6)
        assert reader.run("sys.path == main.path")
    finally:
        reader.run("sys.modules.pop('utils', None)")
        writer.run("sys.modules.pop('utils', None)")
    (tmp_path / "utils.py").unlink()
    with pytest.raises(Exception, match="cannot be imported here") as raised:
        reader.load(pickled)
    assert "MissingModuleError" in raised.value.kinds  # type: ignore[attr-defined]


def test_a_module_with_a_lock_that_differs_here(
    together: tuple[Interpreter, Interpreter, Path],
) -> None:
    """The reader's own is used, and a warning says so."""
    writer, _, directory = together
    writer.cell("import utils\n")
    pickled = writer.dump("lambda: utils.plain(1)")
    (directory / "elsewhere").mkdir()
    (directory / "elsewhere" / "utils.py").write_text(UTILS.replace("x + 1", "x + 2"))
    with Interpreter(cwd=directory / "elsewhere") as other:
        other.cell("import warnings\nwarnings.simplefilter('error')\n")
        with pytest.raises(Exception, match="what was shared uses the module of this process"):
            other.load(pickled)
        other.load(pickled)  # it is said once
        assert other.run("obj(), sys.modules['utils'].plain(1)") == [3, 3]


def test_a_lock_of_the_notebook_is_refused(writer: Interpreter) -> None:
    writer.cell(
        "import threading\nlock = threading.Lock()\n"
        "class A:\n    def f(self):\n        with lock: pass\n"
    )
    with pytest.raises(Exception, match="global 'lock' → lock"):
        writer.dump("A()")
