"""Another version of Python reads a pickle: it compiles the source in it.

Interpreters are looked for on PATH and among pyenv's, and those that JSHM_TEST_PYTHONS names (paths,
as in PATH) come first. Each needs the numpy and cloudpickle that jshm asks for; it gets this jshm by
PYTHONPATH.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from .cases import CLASSES, FUNCTIONS, Case, Version, params
from .fresh import Interpreter, failing, travel
from .interpreters import GIVEN, found, pairs
from .test_definitions import CELL, INSTANCES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CASES = [
    *FUNCTIONS,
    *CLASSES,
    Case(
        "a constant lambda that is alone",
        "f = lambda: 'only'\n",
        "f",
        "assert obj() == 'only'",
    ),
    Case(
        "lambdas in an argument, a list and a default",
        """\
def apply(*functions, last=lambda x: x * 100): return [f(2) for f in functions] + [last(2)]
results = lambda: apply(lambda x: x, lambda x: x + 1, *[lambda x: x * 10])
""",
        "results",
        "assert obj() == [2, 3, 20, 200]",
    ),
    Case(
        "methods within a function within a method",
        """\
class A:
    def __init__(self): self.__v = 1
    def m(self):
        class B(A):
            def n(self):
                def inner(): return super(B, self).get(), self._A__v
                return inner()
            def get(self): return -1
        return B
    def get(self): return self.__v
""",
        "A",
        "assert obj().m()().n() == (1, 1)",
    ),
    Case(
        "a function that was made global in another",
        "def outer():\n    global f\n    def f(x): return x + 1\nouter()\n",
        "f",
        "assert obj(1) == 2",
    ),
    Case(
        "a closure that was made global in another",
        "def outer(k):\n    global f\n    def f(x): return x + k\nouter(1)\n",
        "f",
        "assert obj(1) == 2",
    ),
    Case(
        "a lambda of a comprehension of a class",
        "class A:\n    f = [lambda: i for i in range(2)]\n",
        "A",
        "assert obj.f[0]() == 1",
    ),
    Case(
        "a partial of a module's function",
        "import functools, operator\nf = functools.partial(operator.add, 1)\n",
        "[f, functools.reduce]",
        "import functools\nassert obj[0](2) == 3 and obj[1] is functools.reduce",
    ),
    Case(
        "escapes that Python warns of",
        'def f(): return lambda: "\\d" + "\\\\"\n',
        "f",
        "assert obj()() == chr(92) + 'd' + chr(92)",
    ),
    Case(
        "one that a module's namespace is in",
        "import math\ndef f(): return space['pi']\nspace = vars(math)\n",
        "[f, space]",
        "import math\nassert obj[0]() == math.pi and obj[1] is vars(math)",
    ),
]


def _name(version: Version) -> str:
    return ".".join(map(str, version))


def _all() -> list[Any]:
    """Return a parameter for each case and pair of versions, and a skipped one for each missing pair."""
    here = found()
    parameters = []
    for writer, reader in pairs():
        missing = [_name(v) for v in (writer, reader) if v not in here]
        if missing:
            reason = (
                f"no Python {' and no '.join(missing)} with what jshm needs: name one in {GIVEN}"
            )
            parameters.append(
                pytest.param(
                    (writer, reader),
                    None,
                    id=f"{_name(writer)}→{_name(reader)}",
                    marks=pytest.mark.skip(reason=reason),
                )
            )
            continue
        parameters += [
            pytest.param(
                (writer, reader),
                *case.values,
                id=f"{_name(writer)}→{_name(reader)} {case.id}",
                marks=case.marks,
            )
            for case in params(CASES, writer, reader)
        ]
    return parameters


@pytest.fixture(scope="session")
def notebook_of() -> Iterator[Callable[[Version], Interpreter]]:
    """A blank notebook of a version."""
    started: dict[Version, Interpreter] = {}
    with ExitStack() as stack:

        def start(version: Version) -> Interpreter:
            if version not in found():
                pytest.skip(f"no Python {_name(version)} with what jshm needs: name one in {GIVEN}")
            if version not in started:
                started[version] = stack.enter_context(Interpreter(found()[version]))
            started[version].reset()
            return started[version]

        yield start


@pytest.mark.parametrize(("pair", "case"), _all())
def test_another_version_reads_it(
    notebook_of: Callable[[Version], Interpreter], pair: tuple[Version, Version], case: Case
) -> None:
    writer, reader = map(notebook_of, pair)
    travel(writer, reader, case.source, case.expression, case.check)


@pytest.mark.parametrize("pair", pairs(), ids=lambda p: "→".join(map(_name, p)))
def test_the_same_cell_is_the_same_class_in_another_version(
    notebook_of: Callable[[Version], Interpreter], pair: tuple[Version, Version]
) -> None:
    writer, reader = map(notebook_of, pair)
    writer.cell(CELL)
    reader.cell("import warnings\nwarnings.simplefilter('error')\n" + CELL)
    for expression, check in INSTANCES.items():
        reader.load(writer.dump(expression))
        assert reader.run(check), expression


@pytest.mark.parametrize("pair", pairs(), ids=lambda p: "→".join(map(_name, p)))
def test_without_source_the_message_names_both_versions(
    notebook_of: Callable[[Version], Interpreter], pair: tuple[Version, Version]
) -> None:
    writer, reader = map(notebook_of, pair)
    writer.without_source("def f(): return 1\nclass A:\n    def m(self): return lambda: 2\n")
    for expression, name in (("f", "f"), ("[A]", "A.m"), ("A().m()", "A.m.<locals>.<lambda>")):
        error = failing(reader.load, writer.dump(expression))
        assert error.kinds[0] == "NotShareableError"
        assert f"the function {name} was compiled by Python {_name(pair[0])}" in error.message
        assert f"this Python {_name(pair[1])} cannot" in error.message
        assert "define it in a cell or a file and publish it again" in error.message
    # Objects without code arrive nevertheless.
    reader.load(writer.dump("[1, {'a': (2.5, 'text')}]"))
    assert reader.run("obj") == [1, {"a": [2.5, "text"]}]


@pytest.mark.parametrize("pair", pairs(), ids=lambda p: "→".join(map(_name, p)))
def test_the_source_arrives_in_another_version(
    notebook_of: Callable[[Version], Interpreter], pair: tuple[Version, Version]
) -> None:
    writer, reader = map(notebook_of, pair)
    text = "def f(x):\n    # why\n    return [1 / y for y in x]\n"
    writer.cell("k = 0\n\n" + text)
    reader.load(writer.dump("f"))
    assert reader.run("import inspect; inspect.getsource(obj)") == text
    error = failing(reader.run, "obj([0])")
    assert "return [1 / y for y in x]" in str(error)
    line = "obj.__code__.co_firstlineno"
    assert writer.run(line) == reader.run(line) == 3


@pytest.mark.parametrize("pair", pairs(), ids=lambda p: "→".join(map(_name, p)))
def test_it_goes_on_to_a_third(
    notebook_of: Callable[[Version], Interpreter], pair: tuple[Version, Version]
) -> None:
    """Code that another version compiled keeps its source, also on the way back."""
    writer, reader = map(notebook_of, pair)
    writer.cell(
        "k = 2\ndef outer(n):\n    def f(x): return x * n + k\n    return f\ng = outer(3)\n"
    )
    reader.load(writer.dump("g"))
    reader.run("main.again = obj")
    again = reader.dump("again")
    writer.reset()
    writer.load(again)
    assert writer.run("obj(4)") == 14


@pytest.mark.parametrize("pair", pairs(), ids=lambda p: "→".join(map(_name, p)))
def test_syntax_of_a_newer_version_is_named(
    notebook_of: Callable[[Version], Interpreter], pair: tuple[Version, Version]
) -> None:
    old, new = pair[1], pair[0]
    if not old < (3, 12) <= new:
        pytest.skip("both know the syntax")
    writer, reader = notebook_of(new), notebook_of(old)
    writer.cell("def f(x):\n    type Y = int\n    return x\n")
    error = failing(reader.load, writer.dump("f"))
    assert error.kinds[0] == "NotShareableError"
    assert f"compiled by Python {_name(new)}, and this Python {_name(old)} cannot" in error.message
    assert "it does not know the syntax" in error.message
