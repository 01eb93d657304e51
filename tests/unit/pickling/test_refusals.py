"""Objects that cannot be written are refused, with the path to the culprit and a remedy."""

from __future__ import annotations

import _thread
import contextlib
import gc
import io
import pickle
import socket
import sqlite3
import subprocess
import sys
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jshm import JshmError, NotShareableError, SegmentNotFoundError
from jshm.pickling import Pickler, dumps, loads

from ...support.touching import CANNOT_BE_SHARED, RAISING, Key, Mapping
from .fresh import failing, travel

if TYPE_CHECKING:
    from pathlib import Path

    from .fresh import Interpreter

LOCK = threading.Lock()


def refused(obj: object) -> str:
    """Return the message of a refusal."""
    with pytest.raises(NotShareableError) as caught:
        dumps(obj)
    error = caught.value
    assert isinstance(error, TypeError)
    assert isinstance(error, pickle.PicklingError)
    assert isinstance(error, JshmError)
    return str(error)


class Holder:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def method(self) -> None: ...


class Slotted:
    __slots__ = ("inner", "other")

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class Reduces:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


# -- the path --------------------------------------------------------------------------------------


def test_closure_dict_file(writer: Interpreter, tmp_path: Path) -> None:
    path = str(tmp_path / "log.txt")
    writer.cell(
        f"""\
def make():
    cfg = {{"lr": 0.1, "log": open({path!r}, "w")}}
    def train(x): return cfg["lr"] * x
    return train
train = make()
"""
    )
    error = failing(writer.dump, "train")
    assert error.message.startswith("train → closure 'cfg' → ['log'] → open file")
    assert error.message.startswith(f"train → closure 'cfg' → ['log'] → open file {path!r}: cannot")
    assert "open it where it is used" in error.message
    assert {"NotShareableError", "TypeError", "PicklingError"} <= set(error.kinds)
    error = failing(writer.dump, "{'models': [1, train]}")
    assert error.message.startswith(
        "the dict → ['models'] → [1] → closure 'cfg' → ['log'] → open file"
    )
    writer.cell("train.__closure__[0].cell_contents['log'].close()\n")


FUNCTIONS = [
    ("def f(): return db\ndb = sqlite3.connect(':memory:')\n", "db.close()",
     "f → global 'db' → live database connection"),
    ("def f(x, gen=(i for i in [])): return gen\n", "", "f → default 'gen' → running generator"),
    ("def f(*, lock=threading.Lock()): return lock\n", "", "f → default 'lock' → lock"),
    ("def f(a, b=1, c=threading.RLock()): return c\n", "", "f → default 'c' → lock"),
    ("def f(): return g()\ndef g(): return h\nh = {'a': (1, [threading.Lock()])}\n", "",
     "f → global 'g' → global 'h' → ['a'] → [1] → [0] → lock"),
    ("def f(): pass\nf.state = {'x': threading.Event()}\n", "", "f → .state → ['x'] → lock"),
    ("def f(x: threading.Lock()): pass\n", "", "f → annotation 'x' → lock"),
    ("class f:\n    shared = threading.Lock()\n", "", "f → .shared → lock"),
    ("class f:\n    def m(self, x=threading.Lock()): pass\n", "", "f → .m → default 'x' → lock"),
    ("class A:\n    def __init__(self): self.t = threading.Thread()\n    def f(self): pass\nf = A().f\n", "",
     "A.f → .__self__ → .t → thread"),
    ("import contextlib\nf = lambda: stack\nstack = {1: open('/dev/null')}\n", "stack[1].close()",
     "<lambda> → global 'stack' → [1] → open file '/dev/null'"),
    ("class A: pass\na = A()\na.f = f = (lambda x: lambda: x)(a)\na.lock = threading.Lock()\n", "",
     "<lambda> → closure 'x' → .lock → lock"),
    ("def f(): return data\ndata = [sys.stdin]\nsys.stdin = sys.__stdin__\n", "",
     "f → global 'data' → [0] → open file '<stdin>'"),
    ("async def co(): pass\nc = co()\nf = lambda: c\n", "c.close()",
     "<lambda> → global 'c' → running generator"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "clean", "path"), FUNCTIONS)
def test_in_functions(writer: Interpreter, source: str, clean: str, path: str) -> None:
    writer.cell("import sqlite3, sys, threading\n" + source)
    error = failing(writer.dump, "f")
    writer.cell(clean)
    assert error.message.startswith(path)
    assert error.kinds[0] == "NotShareableError"
    assert len(error.message) > len(path) + 30


def test_in_objects() -> None:
    found = {
        "Holder → .a → ['x'] → lock": Holder(a={"x": LOCK}),
        "Slotted → .inner → lock": Slotted(LOCK),
        "list → [0] → [1] → lock": [(1, LOCK)],
        "dict → key → [1] → lock": {(1, LOCK): 2},
        "tuple → [0] → element → lock": ({LOCK},),
        "partial → [0] → lock": partial(print, LOCK),
        "ndarray → [1] → lock": np.array([1, LOCK], object),
        "dict → ['a'] → [3] → ['b'] → lock": {"a": np.array([[1, 2], [3, {"b": LOCK}]], object)},
        "list → [0] → thread": [threading.Thread()],
        "list → [0] → lock": [threading.Condition()],
        "tuple → [0] → running generator": ((i for i in ()),),
        "list → [1] → weak reference": [1, weakref.ref(Holder)],
        "list → [0] → stack frame": [sys._getframe()],
        "ValueError → lock": ValueError(LOCK),
        "dict → ['" + "x" * 58 + "…] → lock": {"x" * 200: LOCK},
    }
    for path, obj in found.items():
        assert refused(obj).startswith(f"the {path}: cannot be shared"), path
    method = refused(Holder(lock=LOCK).method)
    assert method.startswith("Holder.method → .__self__ → .lock → lock: cannot be shared")
    assert "make it where it is used" in method


def test_with_resources() -> None:
    with (
        socket.socket() as s,
        contextlib.closing(sqlite3.connect(":memory:")) as db,
        open("/dev/null", "rb") as raw,
        open("/dev/null") as text,
    ):
        assert refused([1, {"s": s}]).startswith(
            "the list → [1] → ['s'] → socket: cannot be shared"
        )
        assert refused(Holder(db=db)).startswith("the Holder → .db → live database connection: ")
        assert refused([raw]).startswith("the list → [0] → open file '/dev/null': cannot be shared")
        assert refused([text]).startswith(
            "the list → [0] → open file '/dev/null': cannot be shared"
        )


def test_the_first_of_several_is_named() -> None:
    text = refused({"fine": [1, 2], "first": {"a": LOCK}, "second": LOCK, "third": sys._getframe()})
    assert text.startswith("the dict → ['first'] → ['a'] → lock")
    shared = [LOCK]
    assert refused([[1], shared, shared]).startswith("the list → [1] → [0] → lock")


def test_a_cycle_on_the_way() -> None:
    a: list[Any] = [1]
    a += [{"me": a}, Holder(a=a, lock=LOCK)]
    assert refused(a).startswith("the list → [2] → .lock → lock")


def test_in_a_table() -> None:
    pd: Any = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2], "b": np.array([1, LOCK], object)})
    assert refused(frame).startswith("the DataFrame → ['b'] → [1] → lock: cannot be shared")
    assert refused([{"df": frame}]).startswith("the list → [0] → ['df'] → ['b'] → [1] → lock")
    frame = pd.DataFrame(np.array([[1, 2], [3, LOCK]], object), columns=["x", "x"])
    assert " → ['x'] → [" in refused(frame)
    assert " → lock: cannot be shared" in refused(pd.Series([1, LOCK], dtype=object))


def test_the_name_that_it_is_published_under() -> None:
    pickler = Pickler(io.BytesIO())
    pickler.name = "model"
    with pytest.raises(NotShareableError, match=r"^model → \['a'\] → lock: cannot be shared"):
        pickler.dump({"a": LOCK})


# -- errors of the user's own code ---------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("not this one"),
        RuntimeError("not this one"),
        AttributeError("not this one"),
        OSError(2, "not this one"),
        ZeroDivisionError("not this one"),
        TypeError("not this one"),
        pickle.PicklingError("not this one"),
        type("Own", (Exception,), {})("not this one"),
        type("Two", (Exception,), {"__init__": lambda self, a, b: None})("not this one", 2),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_reduce(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        dumps([1, {"r": Reduces(error)}])
    assert isinstance(caught.value, NotShareableError)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, pickle.PicklingError)
    text = str(caught.value)
    assert text.startswith(f"the list → [1] → ['r'] → {__name__}.Reduces: cannot be shared: ")
    assert "not this one" in text
    assert "__reduce__" in text
    assert caught.value.__cause__ is error or isinstance(caught.value.__cause__, type(error))


class ArgumentsError(TypeError):
    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)


class TextError(Exception):
    def __str__(self) -> str:
        return "its own text"


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        UnicodeDecodeError("utf-8", b"a", 0, 1, "not this one"),
        SyntaxError("not this one"),
        ExceptionGroup("not this one", [ValueError(1)]),
        ArgumentsError("not", "this one"),
        TextError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_another_kind(error: Exception) -> None:
    with pytest.raises(NotShareableError) as caught:
        dumps([1, Reduces(error)])
    assert str(caught.value).startswith(f"the list → [1] → {__name__}.Reduces: cannot be shared")


@pytest.mark.parametrize(
    "error", [MemoryError("full"), KeyboardInterrupt(), SegmentNotFoundError("gone")]
)
def test_errors_that_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        dumps([Reduces(error)])
    assert caught.value is error


def test_recursion() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    text = refused(deep)
    assert text.startswith("the list is nested too deeply")
    assert "recursion" in text
    assert "sys.setrecursionlimit" not in text  # it would let the stack overflow
    assert "refer to each other by their index" in text
    chain: Any = None
    for _ in range(100_000):
        chain = Holder(next=chain)
    assert refused(chain).startswith("the Holder is nested too deeply")
    while chain is not None:  # freed one by one
        chain = chain.next
    assert loads(dumps([1])) == [1]


DEEP = """\
import sys, threading
from jshm import JshmError, dumps, loads
class Node:
    def __init__(self, next): self.next = next
def nest(kind, depth):
    made = None
    for _ in range(depth):
        made = {"list": lambda x: [x], "dict": lambda x: {"x": x}, "tuple": lambda x: (x,),
                "object": Node, "closure": lambda x: lambda: x}[kind](made)
    return made
def refused(kind):
    try: dumps(nest(kind, 100_000))
    except JshmError as error: assert "nested too deeply" in str(error), error
    else: raise AssertionError(kind)
def run(*kinds):
    for kind in kinds: refused(kind)
"""


def in_a_new_process(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEEP + program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "lives\n"), done.stderr[-2000:]


def test_a_raised_recursion_limit_does_not_end_the_process() -> None:
    in_a_new_process("""\
sys.setrecursionlimit(10**6)
run("list", "dict", "tuple", "object", "closure")
assert sys.getrecursionlimit() == 10**6
assert loads(dumps(nest("list", 400))) is not None
print("lives")
""")


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 14), reason="C code has a limit that nobody can lower"
)
@pytest.mark.parametrize("size", [128 << 10, 256 << 10, 1 << 20, 16 << 20])
def test_a_thread_with_a_small_stack(size: int) -> None:
    in_a_new_process(f"""\
sys.setrecursionlimit(10**6)
threading.stack_size({size})
ended = []
thread = threading.Thread(target=lambda: (run("list", "object"), ended.append(sys.getrecursionlimit())))
thread.start()
thread.join()
assert ended == [10**6]
print("lives")
""")


def test_threads_that_are_refused_at_once() -> None:
    in_a_new_process("""\
sys.setrecursionlimit(10**6)
deep, ended = nest("list", 100_000), []
def run():
    for _ in range(3):
        try: dumps(deep)
        except JshmError: ended.append(1)
threads = [threading.Thread(target=run) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(ended) == 12 and sys.getrecursionlimit() == 10**6
print("lives")
""")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the limit does not count calls in C")
def test_a_limit_stays_low_until_the_last_thread_is_done() -> None:
    from jshm.pickling import depth

    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        first, seen = depth.begin(), []
        assert sys.getrecursionlimit() == first < 10**6
        begun, done = threading.Event(), threading.Event()

        def write() -> None:
            limit = depth.begin()
            begun.set()
            done.wait()
            depth.end(limit)
            seen.append(limit)

        thread = threading.Thread(target=write)
        thread.start()
        begun.wait()
        depth.end(first)
        assert sys.getrecursionlimit() < 10**6
        done.set()
        thread.join()
        assert seen[0] > 0
        assert sys.getrecursionlimit() == 10**6
    finally:
        sys.setrecursionlimit(usual)


def test_a_deep_object_that_can_be_written_can_be_loaded_everywhere() -> None:
    in_a_new_process("""\
sys.setrecursionlimit(10**6)
low, high = 100, 100_000
while high - low > 100:
    middle = (low + high) // 2
    try: data, low = dumps(nest("object", middle)), middle
    except JshmError: high = middle
depth = []
def load():
    made, count = loads(data), 0
    while made is not None: made, count = made.next, count + 1
    depth.append(count)
threading.stack_size(128 << 10)
thread = threading.Thread(target=load)
thread.start()
thread.join()
assert depth == [low] and low >= 400, (depth, low)
print("lives")
""")


def test_a_limit_that_the_object_sets_itself_stays() -> None:
    in_a_new_process("""\
class Sets:
    def __reduce__(self): sys.setrecursionlimit(5000); return str, ()
sys.setrecursionlimit(10**6)
dumps(Sets())
assert sys.getrecursionlimit() == 5000
print("lives")
""")


def test_an_object_that_calls_itself_for_ever_is_named() -> None:
    class Endless:
        def __reduce__(self) -> Any:
            return self.__reduce__()

    text = refused({"a": [Endless()]})
    assert text.startswith("the dict → ['a'] → [0] → ")
    assert "Endless: cannot be shared: its own code calls itself (deep recursion)" in text


def test_a_long_path_is_shown_by_its_ends() -> None:
    deep: Any = LOCK
    for i in range(100):
        deep = {i: deep}
    text = refused(deep)
    assert text.startswith("the dict → [99] → [98] → ")
    assert " → … → [7] → " in text
    assert "→ [0] → lock: cannot be shared" in text
    assert "[50]" not in text


# -- objects that claim another class ------------------------------------------------------------


def test_a_mock_of_something_else_is_named() -> None:
    from unittest import mock

    text = refused({"a": [mock.MagicMock(spec=dict)]})
    assert text.startswith("the dict → ['a'] → [0] → unittest.mock.MagicMock: cannot be shared")
    assert "its __class__ is dict" in text
    assert "→ lock" not in refused([mock.MagicMock(spec=LOCK)])


def test_an_object_that_raises_when_it_is_inspected() -> None:
    class RaisingError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    text = refused({Key(): [RAISING["lazy"], Mapping(a=LOCK)]})
    assert text.startswith("the dict → [<Key>] → [1] → ['a'] → lock: cannot be shared")
    assert "Reduces: cannot be shared: RaisingError" in refused([Reduces(RaisingError())])
    # `pickle` cannot handle an unhashable class; it is named nevertheless.
    assert refused([CANNOT_BE_SHARED["unhashable"]]).startswith("the list → [0] → ")


def test_modules_without_a_name_are_named() -> None:
    import types

    nameless, odd = types.ModuleType("m"), types.ModuleType("m")
    del nameless.__name__
    odd.__name__ = 5  # type: ignore[assignment]
    assert refused([nameless]).startswith("the list → [0] → module: cannot be shared")
    assert "must be text" in refused([odd])


# -- objects not to blame -----------------------------------------------------------------------------


def annotated(frame: Any) -> None: ...


def test_classes_of_tables_are_not_blamed() -> None:
    pd: Any = pytest.importorskip("pandas")
    assert refused([pd.DataFrame, LOCK]).startswith("the list → [1] → lock")
    assert refused({"f": lambda frame=pd.DataFrame: frame, "l": LOCK}).startswith(
        "the dict → ['l'] → lock"
    )


class Lazy:
    """Pickle uses its class; using the object itself would be an error."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return {}[name]


class NoTable:
    def to_numpy(self) -> None: ...

    @property
    def columns(self) -> Any:
        raise RuntimeError("asked")


@pytest.mark.parametrize("innocent", [Lazy(), NoTable()])
def test_objects_with_attributes_of_their_own_are_not_blamed(innocent: object) -> None:
    assert loads(dumps([innocent]))
    assert refused([innocent, LOCK]).startswith("the list → [1] → lock")


def test_buffers_are_not_blamed() -> None:
    """Only pickle handles a PickleBuffer, which has no __reduce__."""
    for innocent in (memoryview(b"x"), memoryview(bytearray(b"x")), np.zeros(3)[::2]):
        assert refused([innocent, LOCK]).startswith("the list → [1] → lock")
    pd: Any = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    text = pd.Series(["a"], dtype="string[pyarrow]")
    assert refused({"text": text, "l": LOCK}).startswith("the dict → ['l'] → lock")


class Tagged(np.ndarray):  # type: ignore[type-arg]
    pass


def test_an_attribute_of_an_array() -> None:
    array = np.zeros(3).view(Tagged)
    array.lock = LOCK  # type: ignore[attr-defined]
    assert refused({"a": array}).startswith("the dict → ['a'] → .lock → lock")


@pytest.mark.parametrize("name", ["vars(math)", "globals()", "builtins", "math.__spec__"])
def test_beside_a_namespace(writer: Interpreter, name: str) -> None:
    writer.cell("import builtins, math, threading\n")
    error = failing(writer.dump, f"[{name}, threading.Lock()]")
    assert error.kinds[0] == "NotShareableError"
    assert error.message.startswith("the list → [1] → lock")


def test_a_refused_object_is_freed() -> None:
    large = Holder(a=np.zeros(1000))
    alive = weakref.ref(large)
    gc.collect()
    gc.disable()
    try:
        try:
            dumps([large, LOCK])
        except NotShareableError as error:
            assert "lock" in str(error)  # noqa: PT017 - pytest.raises keeps frames
        del large
        assert alive() is None
    finally:
        gc.enable()


def test_memoryviews_that_were_refused_do_no_harm() -> None:
    program = (
        "import gc, threading\nfrom jshm.pickling import dumps\n"
        "for _ in range(20):\n"
        "    try: dumps([memoryview(b'x'), threading.Lock()])\n"
        "    except TypeError: pass\n"
        "    gc.collect()\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"alive\n", b"")


# -- what is allowed -------------------------------------------------------------------------------


def test_standard_output_is_that_of_the_reader(writer: Interpreter, reader: Interpreter) -> None:
    travel(
        writer,
        reader,
        "import sys\ndef f(x, file=sys.stderr): return out, file\nout = sys.stdout\n",
        "[f, sys.stdout]",
        "assert obj[1] is sys.stdout and obj[0](1) == (sys.stdout, sys.stderr)",
    )


def test_files_in_memory() -> None:
    text, raw = io.StringIO("abc"), io.BytesIO(b"abc")
    text.read(1)
    raw.read(2)
    found = loads(dumps([text, raw]))
    assert (found[0].read(), found[1].read()) == ("bc", b"c")


def test_a_closed_file_is_refused() -> None:
    with open("/dev/null") as file:
        pass
    assert "closed file" in refused([file])


# -- afterwards ------------------------------------------------------------------------------------


class File(io.BytesIO):
    writes = 0

    def write(self, data: Any) -> int:
        self.writes += 1
        return super().write(data)


@pytest.mark.parametrize("size", [1, 100_000])
def test_nothing_is_written(size: int) -> None:
    with File() as file:
        with pytest.raises(NotShareableError):
            Pickler(file).dump([b"x" * size, list(range(size)), LOCK])
        assert file.writes == 0
        with pytest.raises(ZeroDivisionError):
            Pickler(file).dump([b"x" * size, Reduces(ZeroDivisionError())])
        assert file.getvalue() == b""


def test_usable_after_a_failure() -> None:
    with io.BytesIO() as file:
        pickler = Pickler(file)
        for _ in range(3):
            with pytest.raises(NotShareableError):
                pickler.dump({"a": [LOCK]})
        pickler.dump({"b": [1, "text"]})
        pickler.dump(np.arange(3))
        file.seek(0)
        unpickler = pickle.Unpickler(file)
        assert unpickler.load() == {"b": [1, "text"]}
        assert unpickler.load().tolist() == [0, 1, 2]


def test_usable_after_a_failure_for_the_same_objects() -> None:
    shared = [1, 2]

    def function() -> list[int]:
        return shared

    for obj in (shared, function):
        with io.BytesIO() as file:
            pickler = Pickler(file)
            with pytest.raises(NotShareableError):
                pickler.dump([obj, LOCK])
            pickler.dump([obj])
            (found,) = pickle.loads(file.getvalue())
        assert (found if obj is shared else found()) == [1, 2]


def test_several_dumps_share() -> None:
    class A:
        pass

    def f() -> type[A]:
        return A

    with io.BytesIO() as file:
        pickler = Pickler(file)
        objects = [[A, f], [f, A()], {"a": A, "f": f}]
        for obj in objects:
            pickler.dump(obj)
        file.seek(0)
        unpickler = pickle.Unpickler(file)
        first, second, third = (unpickler.load() for _ in objects)
    assert first[0] is first[1]() is type(second[1]) is third["a"]
    assert first[1] is second[0] is third["f"]


def test_a_subclass_of_the_pickler() -> None:
    """Its subclass may have another constructor; the search for the culprit makes one more."""

    class Own(Pickler):
        def __init__(self, file: Any, *, required: int) -> None:
            super().__init__(file)
            self.required = required

    with pytest.raises(NotShareableError, match=r"cannot (be shared|pickle)"):
        Own(io.BytesIO(), required=1).dump([1, LOCK])


def test_locks_of_all_kinds() -> None:
    for lock in (
        _thread.allocate_lock(),
        threading.RLock(),
        threading.Event(),
        threading.Condition(),
    ):
        assert refused(Holder(x=lock)).startswith("the Holder → .x → lock: cannot be shared")
