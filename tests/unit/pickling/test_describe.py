"""Descriptions for lists, which need no unpickling."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pytest

from jshm.pickling import describe


class Documented:
    """First line.

    Second.
    """

    def __init__(self, x: int = 1) -> None: ...


def documented(a: Any, b: int = 2, *c: Any) -> None:
    """
    Indented first line.

    More.
    """  # fmt: skip


class Shaped:
    def __init__(self, shape: Any) -> None:
        self.shape = shape


class Raising:
    @property
    def shape(self) -> Any:
        raise RuntimeError("asked")

    def __len__(self) -> int:
        raise RuntimeError("asked")

    def __repr__(self) -> str:
        raise RuntimeError("asked")


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (json, "module json"),
        (Documented, "class Documented(x=1)"),
        (lambda x, lr=0.1: x, "function <lambda>(x, lr=0.1)"),
        (Documented().__init__, "function __init__(x=1)"),
        (
            lambda a, /, b=2, *c, d, e=None, **f: 0,
            "function <lambda>(a, /, b=2, *c, d, e=None, **f)",
        ),
        (lambda *, d: 0, "function <lambda>(*, d)"),
        (math.hypot, "function hypot"),
        (functools.partial(math.hypot, 1), "partial of hypot"),
        (functools.partial(functools.partial(print), 1), "partial of print"),
        (np.zeros((2, 3), "f4"), "float32 (2, 3)"),
        (np.ma.zeros((2, 3)), "masked float64 (2, 3)"),
        ({"a": 1}, "dict of 1"),
        (list(range(12345)), "list of 12,345"),
        ((), "tuple of 0"),
        ({1, 2}, "set of 2"),
        (frozenset(), "frozenset of 0"),
        ("abc", "str of 3"),
        (b"abcd", "bytes of 4"),
        (5, "int"),
        (None, "NoneType"),
        (Shaped((10, np.int64(3))), "Shaped (10, 3)"),
        (Shaped(()), "Shaped"),
        (Shaped("no tuple"), "Shaped"),
        (Shaped((1, "x")), "Shaped"),
        (Raising(), "Raising"),
        (np.float32(1), "float32"),
    ],
)
def test_summary(obj: object, expected: str) -> None:
    assert describe.summary(obj) == expected


def test_a_summary_is_short() -> None:
    def f(x: str = "y" * 1000, *, y: Any = np.zeros(1000), z: Any = Raising()) -> None: ...  # noqa: B008

    text = describe.summary(f)
    assert text.startswith("function f(x=…, *, y=<")
    assert len(text) < 80
    assert describe.summary(type("A" * 500, (), {})) == "class " + "A" * 194 + "…"


def test_no_code_of_a_default_value_runs() -> None:
    class Asked:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    def f(a: Any = Asked(), b: Any = len, c: Any = np.sin, d: Any = Asked) -> None: ...  # noqa: B008

    assert describe.summary(f) == "function f(a=<Asked>, b=len, c=sin, d=Asked)"


def test_documentation() -> None:
    assert describe.documentation(Documented) == "First line."
    assert describe.documentation(documented) == "Indented first line."
    assert describe.documentation(json) == json.__doc__.splitlines()[0]
    for obj in (Documented(), 5, "text", {"a": 1}, lambda: 1, Shaped):
        assert describe.documentation(obj) == ""
    long = type("A", (), {"__doc__": "x" * 1000})
    assert describe.documentation(long) == "x" * 200
    assert describe.documentation(type("A", (), {"__doc__": 5})) == ""


def test_place() -> None:
    assert describe.place(documented) == "test_describe.py"
    assert describe.place(Documented) == "test_describe.py"
    assert describe.place(Documented().__init__) == "test_describe.py"
    assert describe.place(5) == ""


def test_copied_columns() -> None:
    pd: Any = pytest.importorskip("pandas")
    objects = pd.Series([(1,), (2,)], dtype=object, name="o")
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "o": objects,
            7: objects,
            "t": pd.date_range("2020", periods=2, tz="UTC"),
            "c": pd.Categorical(["a", "b"]),
            "s": pd.Series(["a", "b"], dtype="string[python]"),
        }
    )
    assert describe.copied_columns(frame) == ["o", "7", "s"]
    assert describe.copied_columns(frame[["n", "t", "c"]]) == []
    assert describe.copied_columns(objects) == ["o"]
    assert describe.copied_columns(objects.rename(None)) == ["values"]
    assert describe.copied_columns(frame["n"]) == []
    assert describe.copied_columns({"n": objects}) == []
    assert describe.copied_columns(np.array([1], object)) == []
    pytest.importorskip("pyarrow")
    assert describe.copied_columns(pd.Series(["a"], dtype="string[pyarrow]")) == []
    assert describe.summary(frame) == "DataFrame (2, 6)"
