"""jshm inspects objects without running their code."""

from __future__ import annotations

import enum
import types
from typing import Any

import numpy as np
import pytest

from jshm.pickling import describe, static
from jshm.pickling.describe import preview
from jshm.pickling.static import parts_of
from jshm.variables import _describe_replaced

from ...support.touching import (
    BASES,
    CANNOT_BE_SHARED,
    RAISING,
    Key,
    Lazy,
    NoModule,
    recording,
    touched,
)


def look(obj: Any) -> None:
    """Call every function that describes a variable."""
    for one in (obj, type(obj), [obj], {"x": obj}, {"x": [obj]}):
        assert isinstance(describe.summary(one), str)
        describe.documentation(one)
        describe.place(one)
        describe.copied_columns(one)
        preview(one)
        _describe_replaced(one)
        list(parts_of(one))
    static.key(obj)


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_inspection_runs_no_code_of_the_object(base: Any) -> None:
    look(recording(base))
    assert touched == []


def test_the_record_records() -> None:
    obj = recording(dict)
    assert len(obj) == 1
    assert type(obj).__name__ == "Recording"
    assert touched == ["__len__", "class.__name__"]
    touched.clear()
    assert hasattr(obj, "__class__")
    assert not isinstance(obj, list)
    assert touched == ["__class__", "__class__"]


@pytest.mark.parametrize("name", RAISING)
def test_an_object_that_raises_is_inspected(name: str) -> None:
    look(RAISING[name])


@pytest.mark.parametrize("name", CANNOT_BE_SHARED)
def test_an_object_that_cannot_be_shared_is_inspected(name: str) -> None:
    look(CANNOT_BE_SHARED[name])


def test_names() -> None:
    assert static.full_name(Key) == f"{Key.__module__}.Key"
    assert static.full_name(NoModule) == "NoModule"
    assert static.full_name(dict) == "dict"
    assert static.root(np.float64) == "numpy"
    assert static.own_name(len) == static.own_name(np.sin).replace("sin", "len") == "len"
    assert static.own_name(Lazy()) == ""
    nameless = types.ModuleType("m")
    del nameless.__name__
    assert static.own_name(nameless) == ""
    assert describe.summary(nameless) == "module"
    assert describe.summary(types.ModuleType.__new__(types.ModuleType)) == "module"


class Color(enum.Enum):
    RED = 1

    def __repr__(self) -> str:
        raise RuntimeError("asked")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("a", "'a'"),
        (1, "1"),
        (("a", 1), "('a', 1)"),
        ((1,), "(1,)"),
        (np.int64(3), "3"),
        (Color.RED, "Color.RED"),
        (Key(), "<Key>"),
        ((Key(), 1), "(<Key>, 1)"),
        (((1, (2,)), "a"), "(<tuple>, 'a')"),
        (tuple(range(7)), "<tuple>"),
        (b"\xff", "b'\\xff'"),
        ("x" * 100, "'" + "x" * 58 + "…"),
    ],
)
def test_keys(key: object, words: str) -> None:
    assert static.key(key) == words


def test_attributes_and_slots() -> None:
    class Base:
        __slots__ = ("a", "unset")

    class Derived(Base):
        @property
        def b(self) -> Any:
            raise RuntimeError("asked")

    class Hidden:
        __dict__ = property(lambda _: 1 / 0)  # type: ignore[assignment]

    derived = Derived()
    derived.a, derived.c = 1, 2  # type: ignore[attr-defined]
    assert static.attributes(derived) == {"c": 2}
    assert dict(static.slots(derived)) == {"a": 1}
    assert static.attributes(Base()) is static.attributes(Hidden()) is None
    assert static.lookup(Derived, "a") is Base.__dict__["a"]
    assert static.lookup(Derived, "nothing") is None


def test_shapes_of_subclasses() -> None:
    class Sub(np.ndarray[Any, Any]):
        shape = dtype = property(lambda _: 1 / 0)  # type: ignore[assignment]

    assert describe.summary(np.zeros((2, 3)).view(Sub)) == "Sub (2, 3)"
    pd: Any = pytest.importorskip("pandas")

    class Frame(pd.DataFrame):  # type: ignore[misc]
        columns = dtypes = shape = property(lambda _: 1 / 0)

        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

    frame = object.__new__(Frame)
    object.__setattr__(frame, "_mgr", pd.DataFrame({"a": [1, 2], "b": [3, 4], "c": [5, 6]})._mgr)
    look(frame)
    assert describe.summary(frame) == "Frame (2, 3)"
    assert [part.partition("._")[0] for part, _ in parts_of(frame)] == [""] * len(vars(frame))
