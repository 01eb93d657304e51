"""The namespace of a module arrives as that of the reader's module, wherever it occurs."""

from __future__ import annotations

import io
import json
import math
import pickle
import sys
import types
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jshm.pickling import Pickler, dumps, loads

from .fresh import travel

if TYPE_CHECKING:
    from collections.abc import Callable

    from .fresh import Interpreter


@pytest.mark.parametrize("module", [math, json, json.decoder, sys, np, np.linalg, pickle])
def test_a_namespace_is_itself(module: types.ModuleType) -> None:
    assert loads(dumps(module.__dict__)) is module.__dict__
    assert loads(dumps([module.__dict__, module]))[0] is module.__dict__
    assert len(dumps(module.__dict__)) < 300


def test_in_another_process(writer: Interpreter, reader: Interpreter) -> None:
    pickled = travel(
        writer,
        reader,
        """\
import json, math, sys
secret = "the-secret"
class A:
    def __init__(self): self.space = globals()
a = A()
def f(): return space["pi"]
space = vars(math)
""",
        "[vars(math), {'x': [vars(json), (vars(sys),)]}, globals(), a, f, {1: globals()}]",
        """\
import json, math, sys
m, nested, main_space, a, f, again = obj
assert m is vars(math) and nested["x"][0] is vars(json) and nested["x"][1][0] is vars(sys)
assert main_space is vars(main) is a.space is again[1]
assert f() == math.pi and f.__globals__["space"] is m
""",
    )
    assert b"the-secret" not in pickled.data


def test_globals_first_and_alone(writer: Interpreter, reader: Interpreter) -> None:
    reader.cell("mine = 1\n")
    travel(writer, reader, "x = 1\n", "globals()", "assert obj is vars(main)")
    assert reader.run("main.mine, hasattr(main, 'x')") == [1, False]


@pytest.mark.parametrize("place", ["first", "middle", "last", "everywhere"])
@pytest.mark.parametrize("count", [1, 255, 300, 70_000])
def test_the_indices_of_the_memo_are_right(place: str, count: int) -> None:
    """Indices after a namespace have one byte, two, or four."""
    shared = [["shared", i] for i in range(count)]
    large = [*shared, *shared]
    first, last = vars(math), vars(json)
    obj = {
        "first": [first, last, large],
        "middle": [large, first, large, last, large],
        "last": [large, large, first, {"last": last}],
        "everywhere": [first, large, first, last, large, last, first],
    }[place]
    for protocol in (2, 5) if count < 1000 else (5,):
        found = loads(dumps(obj, protocol))
        seen = [item for item in found if isinstance(item, list)]
        assert seen[0] == large
        assert all(item is seen[0] for item in seen)
        assert seen[0][0] is seen[0][count]
        assert [item is vars(math) for item in found] == [item is vars(math) for item in obj]
        assert [item is vars(json) for item in found] == [item is vars(json) for item in obj]


def test_many_modules() -> None:
    modules = [
        m for n, m in sorted(sys.modules.items()) if n.partition(".")[0] in {"json", "numpy"}
    ]
    assert len(modules) > 50
    spaces = [vars(module) for module in modules]
    found = loads(dumps({"a": spaces, "b": spaces[::-1]}))
    assert all(a is b for a, b in zip(found["a"], spaces, strict=True))
    assert all(a is b for a, b in zip(found["b"], spaces[::-1], strict=True))


def test_a_copy_is_a_copy() -> None:
    """Only the namespace itself becomes a reference."""
    copy = {"pi": math.pi, "e": math.e}
    found = loads(dumps([copy, vars(math)]))
    assert found[0] == copy
    assert found[1] is vars(math)
    space = types.ModuleType("no_module_of_this_name").__dict__
    space["x"] = [1]
    found = loads(dumps(space))
    assert found is not space
    assert found["x"] == [1]


def test_a_spec_and_builtins_are_themselves() -> None:
    import builtins

    found = loads(dumps([math.__spec__, builtins, [1], vars(builtins)]))
    assert found[0] is math.__spec__
    assert found[1] is builtins
    assert found[2:] == [[1], vars(builtins)]
    assert found[3] is vars(builtins)


def test_several_dumps_with_one_pickler() -> None:
    with io.BytesIO() as file:
        pickler = Pickler(file)
        shared = ["shared"]
        objects = [[shared], [vars(math), shared], [shared, vars(json), vars(math)], vars(json)]
        for obj in objects:
            pickler.dump(obj)
        file.seek(0)
        unpickler = pickle.Unpickler(file)
        found = [unpickler.load() for _ in objects]
    assert found[0][0] is found[1][1] is found[2][0]
    assert found[0][0] == shared
    assert found[1][0] is found[2][2] is vars(math)
    assert found[2][1] is found[3] is vars(json)


@pytest.mark.parametrize(
    "between", [lambda: vars(math), lambda: __import__("builtins"), lambda: math.__spec__]
)
def test_buffers_are_written_once(between: Callable[[], object]) -> None:
    buffers: list[pickle.PickleBuffer] = []
    obj = [np.array([1.0, 2.0]), between(), np.array([3.0, 4.0])]
    data = dumps(obj, buffer_callback=buffers.append)
    found = loads(data, buffers=buffers)
    assert found[0].tolist() == [1.0, 2.0]
    assert found[2].tolist() == [3.0, 4.0]
    assert len(buffers) == 2
