"""Objects that only annotations name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .cases import THIS, Case
from .fresh import Interpreter, failing
from .interpreters import found

if TYPE_CHECKING:
    from collections.abc import Callable

FUTURE = "from __future__ import annotations\n"
CASES = [
    Case(
        "text annotations of a function",
        FUTURE
        + """\
import collections, decimal
from fractions import Fraction
class Mine: pass
def f(x: Mine, y: collections.OrderedDict, *z: Fraction) -> list[Mine]: return x
""",
        "f",
        """\
import collections, fractions, typing
hints = typing.get_type_hints(obj)
assert obj.__annotations__["x"] == "Mine" and hints["x"].__name__ == "Mine"
assert hints["y"] is collections.OrderedDict and hints["z"] is fractions.Fraction
assert hints["return"] == list[hints["x"]] and "decimal" not in obj.__globals__
""",
    ),
    Case(
        "quoted annotations",
        """\
import typing
class Mine: pass
class Other: pass
def f(x: "Mine | None", y: list["Other"], z: typing.Optional["Mine"] = None): pass
""",
        "f",
        """\
import typing
hints = typing.get_type_hints(obj)
assert hints["x"].__args__[0].__name__ == "Mine" and hints["y"].__args__[0].__name__ == "Other"
assert hints["z"].__args__[0].__name__ == "Mine"
""",
    ),
    Case(
        "functions within functions, and methods",
        FUTURE
        + """\
class Mine: pass
class A:
    x: Mine
    def m(self, y: Mine) -> A: return y
def f(n=(1,)):
    def g(x: Mine, k=(2, "b")) -> Mine: return x
    return g
""",
        "[f, A]",
        """\
import typing
f, A = obj
mine = typing.get_type_hints(A.m)["y"]
assert mine.__name__ == "Mine" and typing.get_type_hints(A.m)["return"] is A
assert typing.get_type_hints(f())["x"] is mine and typing.get_type_hints(A)["x"] is mine
""",
    ),
    Case(
        "what cannot be written, or is not there, stays text",
        FUTURE
        + """\
import threading
lock = threading.Lock()
class Locked: shared = threading.Lock()
class Mine: pass
def f(x: Locked, y: lock, z: Missing, w: Mine, v: print("never")) -> int: return 1
class A:
    x: Locked
    y: Missing
    z: Mine
""",
        "[f, A, A()]",
        """\
f, A, a = obj
assert f(1, 2, 3, 4, 5) == 1
assert f.__annotations__ == {
    "x": "Locked", "y": "lock", "z": "Missing", "w": "Mine", "v": "print('never')", "return": "int"
}
assert A.__annotations__["x"] == "Locked" and A.__annotations__["y"] == "Missing"
assert "Mine" in f.__globals__ and "lock" not in f.__globals__
""",
    ),
    Case(
        "text within an annotation",
        """\
import dataclasses, typing
T = typing.TypeVar("T")
class Box(typing.Generic[T]): pass
class Mine: pass
@dataclasses.dataclass
class Data:
    many: list["Data"]
    next: typing.Optional["Data"]
    found: dict[str, "tuple[Mine, ...]"] | None
    call: typing.Callable[["Data"], "Mine"]
    noted: typing.Annotated["Mine", "Mine"]
    kind: typing.Literal["Mine"]
    box: Box["Mine"]
    missing: list["Missing"]
""",
        "[Data, Mine, Box]",
        """\
import typing
Data, Mine, Box = obj
found = Data.__annotations__
assert found.pop("missing").__args__ == ("Missing",)
assert found == {
    "many": list[Data], "next": typing.Optional[Data],
    "found": dict[str, tuple[Mine, ...]] | None, "call": typing.Callable[[Data], Mine],
    "noted": typing.Annotated[Mine, "Mine"], "kind": typing.Literal["Mine"], "box": Box[Mine],
} or isinstance(found["many"].__args__[0], str)  # where it is written
""",
    ),
    Case(
        "dataclasses, named tuples and typed dicts",
        FUTURE
        + """\
import dataclasses
from typing import ClassVar, Literal, NamedTuple, TypedDict
class Mine: pass
@dataclasses.dataclass
class Data:
    mine: Mine
    next: Data | None = None
    many: "list['Mine']" = dataclasses.field(default_factory=list)
    kind: Literal["Mine"] = "Mine"
    count: ClassVar[int] = 3
class Pair(NamedTuple):
    mine: Mine
class Dict(TypedDict):
    mine: Mine
""",
        "[Data, Data(Mine()), Pair, Dict]",
        """\
import dataclasses, typing
Data, data, Pair, Dict = obj
mine = type(data.mine)
assert typing.get_type_hints(Data) == {
    "mine": mine, "next": typing.Optional[Data], "many": list[mine],
    "kind": typing.Literal["Mine"], "count": typing.ClassVar[int],
}
assert [f.name for f in dataclasses.fields(Data)] == ["mine", "next", "many", "kind"]
assert typing.get_type_hints(Pair) == typing.get_type_hints(Dict) == {"mine": mine}
assert dataclasses.replace(data, next=data).next is data
""",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_types_are_known_where_they_arrive(
    writer: Interpreter, reader: Interpreter, case: Case
) -> None:
    writer.cell(case.source)
    # Here `typing` looks in the module, which is __main__ only for the writer.
    reader.load(writer.dump(case.expression))
    reader.run(case.check)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("version", [(3, 12), (3, 13)], ids=lambda v: ".".join(map(str, v)))
def test_the_types_are_known_in_another_version(
    writer: Interpreter, case: Case, version: tuple[int, int]
) -> None:
    if version == THIS or version not in found():
        pytest.skip("no such Python")
    with Interpreter(found()[version]) as other:
        for one, another in ((writer, other), (other, writer)):
            one.cell(case.source)
            pickled = one.dump(case.expression)
            one.reset()
            another.load(pickled)
            another.run(case.check)
            another.reset()


def test_a_module_that_only_an_annotation_names_is_not_needed(
    writer: Interpreter, reader: Interpreter, beside: Callable[[str, str], None]
) -> None:
    writer.run("import jshm")
    writer.cell(FUTURE + "import wave\nfrom sched import scheduler\n")
    writer.cell(FUTURE + "def f(x: wave.Error, y: scheduler): return 1\n")
    pickled = writer.dump("f")
    reader.run("for name in ('wave', 'sched'): sys.modules[name] = None")  # not to be imported
    try:
        reader.load(pickled)
        assert reader.run("obj(1, 2)") == 1
    finally:
        reader.run("for name in ('wave', 'sched'): del sys.modules[name]")


def test_an_annotation_that_is_an_object_is_written_or_refused(writer: Interpreter) -> None:
    writer.cell("import threading\nclass A: lock = threading.Lock()\ndef f(x: A): pass\n")
    assert failing(writer.dump, "f").message.startswith("f → annotation 'x' → .lock → lock")


def test_the_callback_gets_each_buffer_once(writer: Interpreter, reader: Interpreter) -> None:
    """An object that an annotation names is first written to nowhere, to see whether it can be written."""
    writer.cell(
        FUTURE
        + """\
import numpy as np
table = np.arange(3.0)
class Mine:
    def total(self): return table.sum()
def f(x: Mine) -> float: return x.total() + table[1]
"""
    )
    pickled = writer.dump("f")
    assert len(pickled.buffers) == 1
    reader.load(pickled)
    assert reader.run("obj(obj.__globals__['Mine']())") == 4.0
