"""Previews that a publisher writes, so that an object can be shown without unpickling it."""

from __future__ import annotations

import collections
import datetime as dt
import functools
import json
import linecache
import textwrap
import types
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import jshm
from jshm.pickling.describe import preview
from jshm.segment.object_layout import read_object_layout

LIMIT = 10_000


class AskedError(Exception):
    """The user's own code was run."""


def asked(*_: Any, **__: Any) -> Any:
    raise AskedError


class Hostile:
    """Every method of it raises."""

    def __init__(self) -> None:
        self.weights = np.zeros((3, 4), "f4")
        self.config = {"lr": 0.1}

    shape = name = property(asked)
    __repr__ = __str__ = __eq__ = __hash__ = __len__ = __iter__ = __format__ = __bool__ = asked
    __getattr__ = __dir__ = __contains__ = __getitem__ = __array__ = asked


class Meta(type):
    __repr__ = __len__ = __iter__ = asked


class MetaHostile(metaclass=Meta):
    __dict__ = property(asked)  # type: ignore[assignment]


class HostileDict(dict[Any, Any]):
    __iter__ = __len__ = __repr__ = items = keys = values = __getitem__ = asked


class HostileList(list[Any]):
    __iter__ = __len__ = __repr__ = __getitem__ = asked


class HostileZone(dt.tzinfo):
    utcoffset = tzname = dst = asked


@dataclass
class Point:
    x: int = 1
    y: float = 2.0


def of(obj: Any) -> dict[str, Any]:
    """The preview, of a bounded size and nothing but JSON."""
    found = preview(obj)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(json.dumps(found, ensure_ascii=False).encode()) < LIMIT
    return found


def text(obj: Any) -> str:
    found = of(obj)
    assert set(found) == {"text", "truncated"}
    return str(found["text"])


def cell(source: str, name: str) -> Any:
    """The objects that a cell defines, as in a notebook, after they were written."""
    source = textwrap.dedent(source)
    filename = f"<cell {hash(source)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, filename, "exec"), space)
    jshm.dumps(space[name])
    return space[name]


# -- source ----------------------------------------------------------------------------------------

CLASS = """\
    import functools

    class Base: ...

    @functools.total_ordering
    class Model(
        Base,
    ):
        '''Doc.'''

        rate = 0.1

        def __init__(self, a=1):
            self.a = a

        def __lt__(self, other):
            return True

    x = 1
"""


def test_source_of_a_function() -> None:
    source = "def double(x):\n    return 2 * x\n"
    double = cell(source + "\nother = 1\n", "double")
    expected = {"source": source.rstrip(), "truncated": False}
    assert of(double) == expected
    assert of(functools.partial(functools.partial(double), 1)) == expected


def test_source_of_a_class() -> None:
    lines = textwrap.dedent(CLASS).splitlines()
    model = cell(CLASS, "Model")
    expected = {"source": "\n".join(lines[4:18]).rstrip(), "truncated": False}
    assert of(model) == expected
    assert of(model().__init__) == {
        "source": "def __init__(self, a=1):\n    self.a = a",
        "truncated": False,
    }


def test_source_where_only_the_methods_are_known() -> None:
    model = cell(CLASS, "Model")
    linecache.cache.pop(model.__init__.__code__.co_filename)
    found = of(model)["source"]
    assert found.startswith("class Model:\n    def __init__(self, a=1):\n")
    assert "def __lt__" in found


def test_an_object_by_reference_shows_no_source() -> None:
    jshm.dumps(json.dumps)
    assert of(json.dumps) == {}
    assert of(len) == {}


def test_a_class_without_methods() -> None:
    assert text(Point) == "x: 1\ny: 2.0"
    assert of(MetaHostile) == {}


def test_a_long_source_is_cut() -> None:
    long = cell("def long():\n" + "    'é' * 20\n" * 5000, "long")
    found = of(long)
    assert found["truncated"]
    assert found["source"].startswith("def long():\n    'é'")


# -- text ------------------------------------------------------------------------------------------


def test_a_dict() -> None:
    assert text(
        {
            "weights": np.zeros((1000, 50), "f4"),
            "lr": 0.1,
            "layers": [64, 32],
            "inner": {"a": 1, "deep": {"b": 2}},
            3: "x" * 100,
            (1, 2): Hostile(),
            "f": text,
            "big": 2**5000,
            "nan": float("nan"),
        }
    ).splitlines() == [
        "'weights': float32 (1000, 50)",
        "'lr': 0.1",
        "'layers': [64, 32]",
        "'inner': dict of 2",
        "    'a': 1",
        "    'deep': dict of 1",
        "3: '" + "x" * 58 + "…",
        "(1, 2): Hostile",
        "'f': function text(obj)",
        "'big': int of 5,001 bits",
        "'nan': nan",
    ]


# By number: pytest would ask an object for its name.
TEXTS: list[tuple[Any, str]] = [
    ([1, "a", None], "1\n'a'\nNone"),
    ((Point(),), "Point"),
    ({5}, "5"),
    (frozenset({"a"}), "'a'"),
    (collections.deque([1]), "1"),
    (collections.Counter("aab"), "'a': 2\n'b': 1"),
    (collections.OrderedDict(a=[1, [2]]), "'a': list of 2\n    1\n    [2]"),
    (types.SimpleNamespace(a=1, b="x"), "a: 1\nb: 'x'"),
    (Point(), "x: 1\ny: 2.0"),
    (Hostile(), "weights: float32 (3, 4)\nconfig: dict of 1\n    'lr': 0.1"),
    ([Hostile()], "Hostile"),
    (HostileDict(a=Hostile()), "'a': Hostile"),
    (HostileList([Hostile()]), "Hostile"),
    ({"d": HostileDict(a=1)}, "'d': HostileDict\n    'a': 1"),
    (np.array([1, None], object), "1\nNone"),
    ("some text\nof two lines", "some text\nof two lines"),
    ("half \ud800", "half ?"),
    ({"half \ud800": "\ud800"}, r"'half \ud800': '\ud800'"),
    (b"abc", "b'abc'"),
    (5, "5"),
    (None, "None"),
    (np.float32(1.5), "1.5"),
    (np.datetime64("2020-01-01"), "2020-01-01"),
    (dt.date(2020, 1, 1), "2020-01-01"),
    (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "2020-01-01 00:00:00+00:00"),
    ([dt.datetime(2020, 1, 1, tzinfo=HostileZone())], "datetime"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_texts(number: int) -> None:
    obj, expected = TEXTS[number]
    assert of(obj) == {"text": expected, "truncated": False}


def test_nothing_to_show() -> None:
    for obj in ({}, [], (), set(), object(), MetaHostile(), np.zeros(3), types.SimpleNamespace()):
        assert of(obj) == {}


def test_attributes_that_are_not_a_plain_dict() -> None:
    obj = Point()
    obj.__dict__ = HostileDict(x=1)
    assert of(obj) == {}


def test_a_module_shows_its_names() -> None:
    module = types.ModuleType("mine")
    module.a = 1  # type: ignore[attr-defined]
    module.__getattr__ = asked  # type: ignore[method-assign]
    assert text(module) == "a: 1"


@pytest.mark.parametrize(
    "obj",
    [
        {f"key {i}": i for i in range(10_000)},
        list(range(10_000)),
        [[[1]] * 1000] * 1000,
        {"é" * 1000 + str(i): "é" * 1000 for i in range(1000)},
        types.SimpleNamespace(**{f"attribute{i}": {"a": "\U0001f600" * 100} for i in range(100)}),
        "\U0001f600" * 1_000_000,
        b"\0" * 1_000_000,
        [[0] * 7] * 30,
    ],
    ids=lambda obj: type(obj).__name__,
)
def test_long_values_are_cut(obj: Any) -> None:
    found = of(obj)
    assert found["truncated"]
    assert found["text"].count("\n") < 50


def test_a_list_that_contains_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert text(loop) == "list of 1\n    list of 1"


# -- tables ----------------------------------------------------------------------------------------


@pytest.fixture
def pd() -> Any:
    return pytest.importorskip("pandas")


def test_a_data_frame(pd: Any) -> None:
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "x": np.array([0.5, np.nan]),
            "o": pd.Series([Hostile(), "a" * 100], dtype=object),
            "t": pd.to_datetime(["2020-01-01", None]),
            "c": pd.Categorical(["a", "b"]),
            ("tu", "ple"): [True, False],
        }
    )
    assert of(frame) == {
        "columns": ["n", "x", "o", "t", "c", "tu, ple"],
        "rows": [
            ["1", "0.5", "<Hostile>", "2020-01-01 00:00:00", "a", "True"],
            ["2", "nan", "a" * 29 + "…", "NaT", "b", "False"],
        ],
        "total": 2,
    }
    assert of(frame[:0])["rows"] == []
    assert of(pd.DataFrame()) == {"columns": [], "rows": [], "total": 0}


def test_only_the_first_rows_and_columns(pd: Any) -> None:
    found = of(pd.DataFrame(np.zeros((1000, 100))))
    assert found["columns"] == [*map(str, range(11)), "…"]
    assert (len(found["rows"]), found["total"]) == (5, 1000)
    assert {len(row) for row in found["rows"]} == {12}
    assert of(pd.DataFrame(np.zeros((3, 12))))["columns"] == [*map(str, range(12))]
    indexed = of(pd.DataFrame(np.zeros((3, 12)), index=["a", "b", "c"]))
    assert indexed["columns"] == ["", *map(str, range(10)), "…"]


def test_a_series_and_its_index(pd: Any) -> None:
    days = pd.date_range("2020-01-01", periods=9, name="day")
    found = of(pd.Series(range(9), index=days, name="n"))
    assert found["columns"] == ["day", "n"]
    assert found["rows"][1] == ["2020-01-02 00:00:00", "1"]
    assert found["total"] == 9
    levels = pd.MultiIndex.from_tuples([("a", 1)], names=["p", "q"])
    assert of(pd.Series([5], index=levels)) == {
        "columns": ["p, q", ""],
        "rows": [["a, 1", "5"]],
        "total": 1,
    }
    assert of(pd.Series([Hostile()], dtype=object))["rows"] == [["<Hostile>"]]


def test_columns_that_may_take_long_are_not_made(pd: Any) -> None:
    pa: Any = pytest.importorskip("pyarrow")
    lists = pd.Series([[1] * 10], dtype=pd.ArrowDtype(pa.list_(pa.int64())))
    assert of(lists) == {}
    assert of(pd.Series(["a"], dtype=pd.ArrowDtype(pa.string())))["rows"] == [["a"]]


def test_a_table_that_is_broken_has_no_preview(pd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pd.DataFrame, "iloc", property(asked))
    assert of(pd.DataFrame({"a": [1]})) == {}


# -- published -------------------------------------------------------------------------------------


class Model:
    def __init__(self) -> None:
        self.weights = np.zeros((3, 4))

    def __repr__(self) -> str:
        raise AskedError


def test_an_object_whose_repr_raises_is_published(store: Any) -> None:
    jshm.publish("model", Model())
    jshm.publish("models", {"a": [Model()]})
    with open(store.location("model"), "rb") as file:
        described = read_object_layout(file.fileno()).description
    assert described.preview == {"text": "weights: float64 (3, 4)", "truncated": False}
