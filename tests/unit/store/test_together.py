"""Values published in one step that share state: attached together they share it, alone each is whole.

Shared state is changed through one value and seen through another, in another process. Files are counted,
and trailers are read without the store.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import itertools
import logging
import os
import pathlib
import random
import uuid
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm import variables as namespace
from jshm.pickling import Pickler, sharing
from jshm.pickling.writer import Output
from jshm.segment.object_layout import read_object_layout
from jshm.segment.trailer import read_trailer
from jshm.variables import bind

from ...support.processes import Child, in_store, reading
from .local.test_objects import HELPERS, lose_registry
from .local.test_recover import delete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jshm.store.local.store import LocalStore

PROGRAM = """
UNSET = object()
count = 0
TABLE = {"a": 1}
LIMIT = 3

class A:
    def __init__(self, v=UNSET):
        self.v = v

class Counting:
    def count(self):
        global count
        count += 1

def is_unset(x):
    return x.v is UNSET

def inc():
    global count
    count += 1

def get():
    return count

def look(key):
    return TABLE.get(key)

def put(key, value):
    TABLE[key] = value

def helper(x, *, k=1):
    return x + k

def first(x):
    return helper(x) + LIMIT

def second(x):
    return helper(x) - LIMIT

def closures():
    n = 0
    def up():
        nonlocal n
        n += 1
    def now():
        return n
    return up, now

up, now = closures()
"""


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(PROGRAM, names)
    return names


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with reading(tmp_path_factory.mktemp("reader"), HELPERS) as child:
        yield child


@pytest.fixture
def reader(store: LocalStore, process: Child) -> Iterator[Child]:
    with in_store(process, store.directory.root) as child:
        yield child


def publish(**values: Any) -> dict[str, list[str]]:
    """Publish in one step; return by name the others with which it shares state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jshm.SharedStateWarning)
        infos = jshm.publish(values)
    return {i.name: list(i.details.together) if i.details else [] for i in infos}


def paths(store: LocalStore) -> list[str]:
    place = store.directory.segments
    return [os.path.join(place, name) for name in sorted(os.listdir(place))]


def are_together(a: Any, b: Any) -> bool:
    """Return whether a publish would join two values."""
    written = []
    for value in (a, b):
        pickler = Pickler(Output(), 5, lambda _: None)
        pickler.dump(value)
        written.append(sharing.Written(value, pickler))
    return len(sharing.together(written)) == 1


# -- one world -------------------------------------------------------------------------------------


def test_values_attached_together_share_state(reader: Child, program: dict[str, Any]) -> None:
    """A sentinel, and a global that one of two functions sets."""
    given = publish(
        a=program["A"](), is_unset=program["is_unset"], inc=program["inc"], get=program["get"]
    )
    assert given == {"a": ["is_unset"], "is_unset": ["a"], "inc": ["get"], "get": ["inc"]}
    reader.run("a, is_unset, inc, get = jshm.attach(['a', 'is_unset', 'inc', 'get'])")
    assert reader.run("[is_unset(a), inc(), get()]") == [True, None, 1]
    # In any order, and with a name twice.
    reader.run("get, inc, get2 = jshm.attach(['get', 'inc', 'get']); inc(); inc()")
    assert reader.run("[get(), get2 is get]") == [2, True]


def test_values_attached_alone_are_whole(reader: Child, program: dict[str, Any]) -> None:
    publish(inc=program["inc"], get=program["get"], up=program["up"], now=program["now"])
    reader.run("inc, get = jshm.attach('inc'), jshm.attach('get'); inc(); inc()")
    assert reader.run("get()") == 0
    reader.run("up, now, again = jshm.attach('up'), jshm.attach('now'), jshm.attach('now'); up()")
    assert reader.run("[now(), again is now]") == [0, False]
    assert reader.run("(lambda up, now: [up(), up(), now()])(*jshm.attach(('up', 'now')))")[2] == 2


def test_shared_objects_lists_and_arrays_keep_their_identity(reader: Child) -> None:
    rows, array, x = [1], np.arange(5.0), {"lr": 0.1}
    given = publish(a={"rows": rows, "w": array}, b=[rows, array], c=x, d=x, e=[x, "other"])
    assert given["a"] == ["b"]
    assert given["c"] == ["d", "e"]
    reader.run("a, b, c, d, e = jshm.attach(['a', 'b', 'c', 'd', 'e'])")
    assert reader.run("[a['rows'] is b[0], a['w'] is b[1], c is d, e[0] is c]") == [True] * 4
    # Private memory is shared by both, too; the next attach has other memory.
    reader.run("a, b = jshm.attach(['a', 'b'], 'c'); a['w'][0] = 7")
    assert reader.run("[b[1][0], jshm.attach('b', 'c')[1][0]]") == [7, 0]
    reader.run("del a, b, c, d, e")


def test_two_of_three_values_share_state(reader: Child) -> None:
    x: list[int] = []
    assert publish(a=[x], b=[[1]], c=(x, 1)) == {"a": ["c"], "b": [], "c": ["a"]}
    assert reader.run("[v is w[0] for v, w in [jshm.attach(['c', 'a'])]]") == [False]
    reader.run("b, c, a = jshm.attach(['b', 'c', 'a']); a[0].append(1)")
    assert reader.run("[c[0], b]") == [[1], [[1]]]


def test_methods_of_a_class_and_a_function(reader: Child, program: dict[str, Any]) -> None:
    assert publish(a=program["Counting"](), get=program["get"]) == {"a": ["get"], "get": ["a"]}
    reader.run("a, get = jshm.attach(['a', 'get']); a.count()")
    assert reader.run("get()") == 1


def test_an_optimizer_goes_on_training_its_model(reader: Child) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    assert publish(net=net, opt=optimizer) == {"net": ["opt"], "opt": ["net"]}
    reader.run(
        "net, opt = jshm.attach(['net', 'opt'], 'c')\n"
        "import torch\n"
        "before = net.weight.detach().clone()\n"
        "net(torch.ones(1, 2)).sum().backward(); opt.step()"
    )
    assert reader.run("bool((net.weight != before).all())")


# -- what is state, and what is not ----------------------------------------------------------------


class Plain:
    pass


@dataclasses.dataclass(frozen=True)
class Frozen:
    lr: float = 0.1
    layers: tuple[int, ...] = (1, 2)


class Mode(enum.Enum):
    FAST = 1


class Singleton:
    def __reduce__(self) -> str:
        return "SINGLETON"


SINGLETON = Singleton()


def with_attribute() -> None:
    pass


with_attribute.calls = 0  # type: ignore[attr-defined]


def read_only() -> np.ndarray:
    array = np.arange(3)
    array.flags.writeable = False
    return array


STATE: dict[str, Callable[[], Any]] = {
    "an object": object,
    "an instance": Plain,
    "a list": list,
    "a dict": dict,
    "a set": set,
    "a bytearray": bytearray,
    "a deque": collections.deque,
    "an ordered dict": collections.OrderedDict,
    "a counter": itertools.count,
    "an array": lambda: np.arange(3),
    "a structured array": lambda: np.zeros(3, "f4,i2"),
    "an array of objects": lambda: np.array([1, None], object),
    "a generator of random numbers": np.random.default_rng,
    "Python's": lambda: random.Random(1),
    "an exception": lambda: ValueError("x"),
}
VALUES: dict[str, Callable[[], Any]] = {
    "a text": lambda: "text " * 9,
    "bytes": lambda: b"bytes" * 9,
    "a tuple": lambda: (1, 2, "x"),
    "a frozenset": lambda: frozenset({1}),
    "a frozen dataclass": Frozen,
    "a member": lambda: Mode.FAST,
    "a class": lambda: Plain,
    "what has a name": lambda: SINGLETON,
    "a date": lambda: dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "a time zone": lambda: dt.timezone(dt.timedelta(hours=1)),
    "a decimal": lambda: decimal.Decimal("1.5"),
    "a path": lambda: pathlib.Path("/x/y"),
    "a UUID": lambda: uuid.UUID(int=1),
    "a logger": lambda: logging.getLogger("x"),
    "a read-only array": read_only,
    "a module": lambda: np,
    "a ufunc": lambda: np.add,
    "a dtype": lambda: np.dtype("f4,i2"),
    "a number of NumPy's": lambda: np.float64(3),
    "a partial": lambda: functools.partial(read_only),
    "code": lambda: read_only.__code__,
}


@pytest.mark.parametrize("kind", STATE)
def test_mutable_objects_are_state(kind: str) -> None:
    x = STATE[kind]()
    assert are_together({"x": x}, [x])
    assert not are_together({"x": STATE[kind]()}, [STATE[kind]()])


@pytest.mark.parametrize("kind", VALUES)
def test_immutable_values_are_not_state(kind: str) -> None:
    x = VALUES[kind]()
    assert not are_together({"x": x}, [x])


class Odd(np.ndarray[Any, Any]):
    """An array whose attributes shadow those of NumPy."""

    flags = dtype = size = property(lambda _: 1 / 0)  # type: ignore[assignment]


class Asked(type):
    """A metaclass whose classes raise when a comparison reads their attributes."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__eq__", "__setattr__", "iloc"):
            raise ZeroDivisionError(name)
        return type.__getattribute__(cls, name)


class OfAsked(metaclass=Asked): ...


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("make", [lambda: np.zeros(3).view(Odd), OfAsked])
def test_a_comparison_runs_no_code_of_the_values(make: Callable[[], Any]) -> None:
    x, row = make(), np.zeros(3)
    assert publish(a=x, b=[x], c=row, d={"row": row}) == {"a": ["b"], "b": ["a"], "c": [], "d": []}


def test_functions_that_share_globals_share_state(program: dict[str, Any]) -> None:
    named = program.__getitem__
    pairs = [("inc", "get"), ("look", "put"), ("up", "now")]
    assert all(are_together(named(a), named(b)) for a, b in pairs)
    assert are_together(named("helper"), named("helper"))
    for a, b in [("first", "second"), ("first", "helper"), ("first", "inc"), ("inc", "put")]:
        assert not are_together(named(a), named(b))
    assert not are_together({"f": with_attribute}, [with_attribute])  # imported
    assert are_together({"f": named("up")}, [named("up")])
    named("helper").calls = []
    try:
        assert are_together(named("first"), named("second"))
    finally:
        del named("helper").calls


def test_instances_of_one_class_share_only_the_class() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    source = """
import dataclasses
total = 0
class Base:
    seen = []
    def __init__(self):
        super().__init__()
class Sub(Base):
    def __init__(self):
        super().__init__()
        self.x = 1
    def add(self, x: int, *, k: int = 1):
        global total
        total += x
@dataclasses.dataclass
class Data:
    x: int = 1
    y: list = dataclasses.field(default_factory=list)
"""
    exec(source, names)
    for cls in (names["Sub"], names["Data"]):
        assert not are_together(cls(), cls())
        one = cls()
        assert are_together([one], {"one": one})


def test_tables_with_one_index_or_one_column() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(
        {"n": [1, 2], "text": ["x", "y"], "when": pd.to_datetime(["2020", "2021"])},
        index=["a", "b"],
    )
    for other in (
        table[["n"]],
        table["n"],
        table.copy(deep=False),
        pd.DataFrame({"z": [1.0, 2.0]}, index=table.index),
        table.astype({"text": "category"}),
    ):
        assert not are_together(table, other)
    assert not are_together([table.index], {"index": table.index})
    assert are_together([table], {"table": table})


def test_models_share_parameters(reader: Child) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    pipeline = pytest.importorskip("sklearn.pipeline")
    scaler = pytest.importorskip("sklearn.preprocessing").StandardScaler()
    assert not are_together(linear.LinearRegression(), linear.LinearRegression())
    pipe = pipeline.make_pipeline(scaler, linear.LinearRegression())
    assert publish(pipe=pipe, scaler=scaler) == {"pipe": ["scaler"], "scaler": ["pipe"]}
    assert reader.run("[p[0] is s for p, s in [jshm.attach(['pipe', 'scaler'])]]") == [True]


# -- said ------------------------------------------------------------------------------------------


def test_the_warning_comes_once(store: LocalStore) -> None:
    x = [1]
    with pytest.warns(jshm.SharedStateWarning) as said:
        jshm.publish({"net": x, "opt": [x], "other": [2]})
    (one,) = said
    assert str(one.message) == (
        "net and opt share state: attach them together to keep that. "
        'For example: jshm.attach(["net", "opt"])'
    )
    assert one.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jshm.publish({"a": [1], "b": [2]})
        jshm.publish("net", x)
    assert jshm.info("opt").details.together == ()  # `net` is another object now


def test_lists_and_details_describe_each_part(store: LocalStore) -> None:
    x = {"w": np.zeros(1 << 16)}
    publish(first=x, second=[x, "a", "b"])
    infos = {info.name: info for info in jshm.segments()}
    assert {name: info.summary for name, info in infos.items()} == {
        "first": "dict of 1",
        "second": "list of 3",
    }
    assert len({info.segment for info in infos.values()}) == len(paths(store)) == 1
    assert len({info.value_id for info in infos.values()}) == 2
    assert store.complete("s", -1) == [("second", "list of 3")]
    assert jshm.info("first").details.together == ("second",)
    with store.reader("second") as reader:
        assert reader.layout.description.summary == "list of 3"
    apart = [one.apart for one in store.attach(["second"])]
    assert apart == [("first",)]
    assert [one.apart for one in store.attach(["second", "first"])] == [(), ()]


# -- one by one ------------------------------------------------------------------------------------


def test_releasing_one_keeps_the_other(store: LocalStore, reader: Child) -> None:
    x = [np.arange(1000.0)]
    publish(a=x, b={"x": x})
    (released,) = jshm.release("a")
    assert released.freed == 0
    assert reader.run("float(jshm.attach('b')['x'][0].sum())") == 499500
    assert jshm.info("b").details.together == ()
    assert jshm.release("b")[0].freed > 8000
    assert paths(store) == []


def test_republishing_one_keeps_the_other(store: LocalStore, reader: Child) -> None:
    x = [1]
    publish(a=x, b=[x])
    reader.run("a = jshm.attach('a')")
    jshm.publish("a", [2])
    assert reader.run("[jshm.attach(['a', 'b']), a]") == [[[2], [[1]]], [1]]
    publish(a=x, b=[x])
    assert [i.version for i in jshm.segments()] == [3, 2]
    assert reader.run("[a is b[0] for a, b in [jshm.attach(['a', 'b'])]]") == [True]
    assert len(paths(store)) == 1


def test_an_older_version_of_a_part(reader: Child) -> None:
    x = [np.zeros(100)]
    publish(a=x, b=[x])
    reader.run("held = jshm.attach(['a', 'b'])")
    publish(a=[3], b=[4])
    reader.run("a, b = jshm.attach(['a', 'b'], version=1)")
    assert reader.run("[a is b[0], jshm.attach(['a', 'b'])]") == [True, [[3], [4]]]
    reader.run("del a, b, held")


def test_detaching_one_keeps_the_other(store: LocalStore) -> None:
    x = [np.arange(1000.0)]
    publish(a=x, b=[x, x])
    space: dict[str, Any] = {}
    for attached in store.attach(["a", "b"]):
        bind(space, attached.name, attached.value, attached.segments)
    del attached
    segments = namespace.segments_named(space, "b", store)
    done = namespace.detach_segments(space, segments, store, ["b"])
    assert done.variables == ("b",)
    assert list(space) == ["a"]
    assert done.culprits
    done = namespace.detach_segments(
        space, namespace.segments_named(space, "a", store), store, ["a"]
    )
    assert (done.variables, done.culprits) == (("a",), [])


# -- after a loss ----------------------------------------------------------------------------------


def test_the_registry_is_rebuilt_from_the_trailers(store: LocalStore, reader: Child) -> None:
    x = [np.arange(100.0)]
    publish(a=x, b=[x])
    before = [(i.name, i.version, i.summary, i.value_id) for i in jshm.segments()]
    lose_registry(store)
    assert [(i.name, i.version, i.summary, i.value_id) for i in jshm.segments()] == before
    assert jshm.check() == []
    assert reader.run("[a is b[0] for a, b in [jshm.attach(['a', 'b'])]]") == [True]
    # The trailer is what is left.
    jshm.release("a")
    lose_registry(store)
    assert [i.name for i in jshm.segments()] == ["b"]
    assert reader.run("float(jshm.attach('b')[0][0].sum())") == 4950


def test_parts_come_back_after_the_directory_was_deleted(store: LocalStore) -> None:
    x = [np.arange(100.0)]
    publish(a=x, b=[x])
    held = jshm.attach(["a", "b"])
    delete(store.directory.root)
    with pytest.warns(jshm.DirectoryLostWarning, match="Restored from what is attached here: a, b"):
        a, b = jshm.attach(["a", "b"])
    assert a is b[0]
    assert a[0].sum() == 4950
    assert jshm.check() == []
    del held, a, b


@pytest.mark.parametrize("part", [-1, 0, 3, 1 << 40])
def test_a_missing_part(store: LocalStore, part: int) -> None:
    x = [np.arange(100.0)]
    publish(a=x, b=[x])
    with store.registry.transact() as tx:
        tx.execute("UPDATE versions SET part = ? WHERE name = 'a'", (part,))
    for look in (jshm.attach, jshm.info):
        with pytest.raises((jshm.CorruptSegmentError, jshm.CorruptRegistryError), match="damaged"):
            look("a")
    assert jshm.check() != []
    jshm.check(fix=True)
    a, b = jshm.attach(["a", "b"])
    assert a is b[0]


def test_a_part_of_a_single_value(store: LocalStore) -> None:
    jshm.publish("a", {"x": 1})
    with store.registry.transact() as tx:
        tx.execute("UPDATE versions SET part = 1 WHERE name = 'a'")
    with pytest.raises(jshm.CorruptSegmentError, match="damaged"):
        jshm.attach("a")
    jshm.check(fix=True)
    assert jshm.attach("a") == {"x": 1}


# -- arrays beside objects -------------------------------------------------------------------------


def test_an_array_and_its_container_are_written_once(store: LocalStore, reader: Child) -> None:
    X = np.arange(1 << 17, dtype=float)
    m = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    given = publish(d={"X": X, "tail": X[::-2], "m": m.T}, X=X, m=m, e=[X])
    assert given == {"d": [], "X": [], "m": [], "e": []}
    assert sum(map(os.path.getsize, paths(store))) < 1.1 * X.nbytes
    assert jshm.info("d").details.references == {"X v1": X.nbytes, "m v1": m.nbytes}
    reader.run("d, X, m, e = jshm.attach(['d', 'X', 'm', 'e'])")
    assert reader.run("[d['X'] is X, e[0] is X, where(d['X'])[:1] == where(X)[:1]]") == [True] * 3
    assert reader.run("[d['tail'].tolist() == X[::-2].tolist(), (d['m'] == m.T).all().item()]") == [
        True,
        True,
    ]
    reader.run("X, d = jshm.attach(['X', 'd'], 'c'); X[-1] = 7")
    assert reader.run("float(d['tail'][0])") == 7
    reader.run("del d, X, m, e")
    jshm.release("X")
    assert reader.run("float(jshm.attach('d')['X'][5])") == 5
    jshm.release(["d", "m", "e"])
    assert paths(store) == []


def test_a_strided_array_and_its_container(reader: Child) -> None:
    whole = np.arange(60.0).reshape(5, 12)
    x = whole[:, ::3]
    publish(x=x, d={"x": x, "part": x[1:]})
    assert reader.run("[a.tolist() for a in jshm.attach('d').values()]") == [
        x.tolist(),
        x[1:].tolist(),
    ]
    assert reader.run("[x is d['x'] for x, d in [jshm.attach(['x', 'd'])]]") == [True]


def test_one_array_under_two_names(store: LocalStore, reader: Child) -> None:
    X = np.arange(1 << 17, dtype=float)
    publish(a=X, b=X)
    assert len(paths(store)) == 1
    assert reader.run("[a is b for a, b in [jshm.attach(['a', 'b'])]]") == [True]
    jshm.release("a")
    assert reader.run("float(jshm.attach('b')[3])") == 3
    publish(a=X, b=X, f={"X": X})
    publish(a=X, b=X, f={"X": X})
    assert jshm.check() == []
    assert len(paths(store)) == 2


def test_an_allocated_array_and_its_container(store: LocalStore, reader: Child) -> None:
    X = jshm.full(1 << 17, 2.0)
    publish(X=X, d={"X": X})
    assert len(paths(store)) == 2
    assert not X.flags.writeable
    assert reader.run("[x is d['X'] for x, d in [jshm.attach(['X', 'd'])]]") == [True]
    del X


def test_trailers_name_the_part(store: LocalStore) -> None:
    x = [1]
    publish(a=x, b=[x], c=[2])
    said = {}
    for path in paths(store):
        with open(path, "rb") as file:
            layout = read_object_layout(file.fileno())
            for record in read_trailer(file.fileno(), layout.trailer_offset):
                said[record["name"]] = record.get("part")
    assert said == {"a": 1, "b": 2, "c": None}
