"""Functions, classes, tables and models that one live kernel publishes and another one uses.

Two kernels serve all tests. The publishing one has modules beside it and a package on its PYTHONPATH, the
other is somewhere else. After each test both forget what they had, and no segment may be left.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest

from ..conftest import SHM
from .notebook import TIMEOUT, Notebook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("objects")  # else each worker would start the two

UTILS = '''"""What our notebooks have in common."""

LIMIT = 10


def clip(x):
    """Keep it within the limit."""
    return x if x < LIMIT else LIMIT


def divide(x, y):
    quotient = x / y
    return quotient


class Clipper:
    def __init__(self, x):
        self.x = x

    def run(self):
        return clip(self.x)
'''
NUMERIC = """import numpy as np


def norm(x):
    return float(np.sqrt(x))
"""
MAPPED = """
def mapped():
    with open("/proc/self/maps") as file:
        return len({line.split()[-1] for line in file if "/segments/" in line})
"""
FORGET = """
for name in set(globals()) - KEPT:
    del globals()[name]
import gc, sys
for name in ("last_traceback", "last_value", "last_type", "last_exc"):
    vars(sys).pop(name, None)
for handler in (get_ipython().InteractiveTB, get_ipython().SyntaxTB):
    vars(handler).update(tb=None, etype=None, evalue=None, value=None)
get_ipython().displayhook.flush()
gc.collect()
"""
SHARES = " · its arrays are read-only, nothing copied"


class Desk:
    """Two notebooks, each in a directory of its own, and the store that they share by."""

    def __init__(self, home: Path) -> None:
        # Without the PREFIX that conftest looks for: after `-x` it looks before this is closed.
        self.store = tempfile.mkdtemp(prefix="jt-", dir=SHM)
        self.sockets = tempfile.mkdtemp(prefix="jt-")
        self.here, self.there, self.packages = home / "here", home / "there", home / "packages"
        for directory in (self.here, self.there, self.packages):
            directory.mkdir()
        (self.here / "utils.py").write_text(UTILS)
        (self.here / "numeric.py").write_text(NUMERIC)
        (self.here / "everywhere.py").write_text("def twice(x):\n    return 2 * x\n")
        package = "__version__ = '1.2'\ndef inc(x):\n    return x + 1\n"
        (self.packages / "ourpackage.py").write_text(package)
        self.opened: list[Notebook] = []

    def open(self, path: str) -> Notebook:
        notebook = Notebook(f"/home/someone/{path}", self.sockets, self.store)
        self.opened.append(notebook)
        self.prepare(notebook)
        return notebook

    def prepare(self, notebook: Notebook) -> None:
        """Run what a notebook begins with."""
        directory = self.here if notebook.path.endswith("train.ipynb") else self.there
        notebook.do(f"%load_ext jshm\n%cd -q {directory}\nimport inspect, jshm, numpy as np")
        notebook.do("jshm.publish('first', np.ones(1)); jshm.release('first')")
        notebook.do(f"{MAPPED}\nKEPT = {{*globals(), 'KEPT'}}")

    def clear(self) -> None:
        """Let all notebooks forget, release all, and see that nothing is left."""
        for notebook in self.opened:
            notebook.do(FORGET)
        mapped = [notebook.value("mapped()") for notebook in self.opened]
        notebook.do("jshm.release(sorted({info.name for info in jshm.segments()}), force=True)")
        left = os.listdir(f"{self.store}/segments")
        problems = notebook.value("[str(found) for found in [*jshm.segments(), *jshm.check()]]")
        assert (mapped, left, problems) == ([0] * len(mapped), [], [])

    def close(self) -> None:
        for notebook in self.opened:
            notebook.close()
        for directory in (self.store, self.sockets):
            shutil.rmtree(directory)


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(desk.packages), prepend=os.pathsep)
            desk.open("train.ipynb")
        desk.open("eda.ipynb")
        yield desk
    finally:
        desk.close()


@pytest.fixture(autouse=True)
def desk(shared_desk: Desk) -> Iterator[Desk]:
    yield shared_desk
    shared_desk.clear()


@pytest.fixture
def a(desk: Desk) -> Notebook:
    return desk.opened[0]


@pytest.fixture
def b(desk: Desk) -> Notebook:
    return desk.opened[1]


def plain(text: str) -> str:
    """Return text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def settled(text: str) -> str:
    """Return text without what depends on the tests before, and on how long they took."""
    return re.sub(r"\bv\d+\b", "vN", re.sub(r"just now|[\d.]+ (s|min) ago", "AGO", text))


def page(notebook: Notebook, code: str) -> str:
    """Return what a cell shows in the pager, as ``f??`` does."""
    reply = notebook.client.execute_interactive(
        code, timeout=TIMEOUT, output_hook=lambda message: None
    )
    return plain(reply["content"]["payload"][0]["data"]["text/plain"])


def next_cell(notebook: Notebook) -> int:
    """Return the number of the next cell."""
    return notebook.value("len(In)")


def info(notebook: Notebook, line: str) -> dict[str, str]:
    """Return what ``%shm_info`` shows, row by row."""
    (shown,) = notebook(f"%shm_info {line}").results
    return dict(re.split(r"\s{2,}", row, maxsplit=1) for row in shown["text/plain"].splitlines())


def rows(notebook: Notebook) -> dict[str, str]:
    """Return what ``%shm_list`` shows: name → its row, without the name."""
    (shown,) = notebook("%shm_list").results
    lines = shown["text/plain"].splitlines()[1:-1]
    return dict(re.split(r"\s+", line, maxsplit=1) for line in lines)


# -- functions -------------------------------------------------------------------------------------

TRAIN = '''
RATE = 0.5

def halve(x):
    """Halve."""
    return x * RATE

def train(n=3, *, flip=False):
    """Train on the first n rows.

    More words.
    """
    rows = halve(X[:n])
    if flip:
        rows = -rows
    return float(rows.sum())
'''


def test_a_function_comes_with_what_it_uses_and_refers_to_shared_arrays(a, b):
    a.do("X = np.ones((20_000, 50))\n%shm_publish X --writable")
    cell = next_cell(a)
    a.do(TRAIN)
    assert re.fullmatch(
        r"train vN · function train\(n=3, \*, flip=False\) · 1\.\d kB · refers to X vN \(8\.0 MB\) "
        r"→ %shm_attach train\n",
        settled(a.do("%shm_publish train")),
    )
    said = settled(b.do("%shm_attach train"))
    assert said == f"train ← vN from train.ipynb, AGO{SHARES}\n"
    assert b.value("(train(), train(2, flip=True))") == [75.0, -50.0]
    assert b.value("[name in globals() for name in ('X', 'halve', 'RATE')]") == [False] * 3
    a.do("X[0] = 3")
    assert b.value("train()") == 125.0, "another page than the publisher's"
    assert b.value("np.shares_memory(train.__globals__['X'], jshm.attach('X'))") is True
    known = info(b, "train")
    assert known["Type"] == "function train(n=3, *, flip=False)"
    assert known["Doc"] == "Train on the first n rows."
    assert known["Defined in"] == f"In[{cell}]"
    assert known["Python"] == b.value("'%d.%d' % __import__('sys').version_info[:2]")
    assert settled(known["Refers to"]) == "X vN (8.0 MB)"
    assert re.fullmatch(r"1\.\d kB, by each attach", known["Copied"])
    assert "Shared" not in known
    assert known["Held here by"] == "train"
    listed = rows(b)
    assert re.match(r"1  function train\(n=3, \*, flip=False\) +1\.\d kB  train", listed["train"])
    assert "this notebook, train.ipynb" in listed["X"], "who uses train does not hold its array"


def test_a_library_and_its_structures(a, b):
    a.do(
        """
import ctypes
libm = ctypes.CDLL("libm.so.6")
libm.hypot.argtypes = [ctypes.c_double] * 2
libm.hypot.restype = ctypes.c_double
class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]
def length(point: "Point") -> "float": return libm.hypot(point.x, point.y)
point = Point(3, 4)
pointer = ctypes.pointer(point)
%shm_publish length point
"""
    )
    b.do("%shm_attach length point")
    assert b.value("length(point)") == 5.0
    assert b.value("__import__('typing').get_type_hints(length)['point'] is type(point)") is True
    with pytest.raises(AssertionError, match=r"pointer → .*LP_Point: cannot be shared"):
        a.do("%shm_publish pointer")
    assert "pointer" not in rows(a)


def test_the_source_is_shown_as_if_it_were_here(a, b):
    cell = next_cell(a)
    a.do(
        """
def ratio(x, y):
    # Said by the one who wrote it.
    quotient = x / y

    return quotient

def report(x, y=1):
    \"\"\"Say it.\"\"\"
    return f"{ratio(x, y):.1f}"
%shm_publish report
"""
    )
    b.do("%shm_attach report")
    place = rf"<ipython-In\[{cell}\] of train.ipynb [0-9a-f]{{8}}>"
    source = 'def report(x, y=1):\n    """Say it."""\n    return f"{ratio(x, y):.1f}"\n'
    assert b.value("inspect.getsource(report)") == source
    helper = b.value("inspect.getsource(report.__globals__['ratio'])")
    assert helper.startswith(
        "def ratio(x, y):\n    # Said by the one who wrote it.\n    quotient = "
    )
    shown = page(b, "report??")
    assert source.strip() in shown
    assert re.search(f"File: .*{place}\n", shown)
    assert "Signature: report(x, y=1)\nDocstring: Say it.\n" in page(b, "report?")
    trace = plain(b.fail("report(1, 0)").traceback)
    assert re.search(rf"File {place}:9, in report.*\n(.*\n)*?-+> 9 +return f", trace), trace
    assert re.search(rf"File {place}:3, in ratio.*\n(.*\n)*?-+> 3 +quotient = x / y", trace), trace
    assert b.do("print(report(1))") == "1.0\n"


def test_functions_of_every_kind(a, b):
    a.do(
        '''
import functools

def factorial(n): return 1 if n < 2 else n * factorial(n - 1)

def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)

def counter(start):
    count = start
    def up():
        nonlocal count
        count += 1
        return count
    def now():
        return count
    return up, now
pair = list(counter(20))

def loud(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args).upper()
    return wrapper

@loud
def greet(who):
    """Say hello."""
    return f"hello {who}"

square = lambda x: x ** 2

def squares(n):
    yield from map(square, range(n))

async def later(x):
    import asyncio
    await asyncio.sleep(0)
    return x

third = functools.partial(max, 3)
%shm_publish factorial even pair greet square squares later third
'''
    )
    b.do("%shm_attach '*'")
    assert b.value("(factorial(5), even(10), even(7))") == [120, True, False]
    assert b.value("[pair[0](), pair[0](), pair[1]()]") == [21, 22, 22]
    assert a.value("pair[1]()") == 20
    assert b.value("(greet('you'), greet.__name__)") == ["HELLO YOU", "greet"]
    assert b.value("inspect.getsource(greet)").startswith("@loud\ndef greet(who):\n")
    assert b.value("inspect.getsource(square)") == "square = lambda x: x ** 2\n"
    assert b.value("(square(7), list(squares(4)), third(2))") == [49, [0, 1, 4, 9], 3]
    assert b.do("print(await later(5))") == "5\n"
    assert info(b, "greet")["Doc"] == "Say hello."
    assert rows(b)["pair"].startswith("1  list of 2 ")


def test_a_function_may_use_what_every_notebook_has(a, b):
    a.do(
        """
def talk(x):
    print("printed", x)
    display({"shown": x})
    return get_ipython().user_ns["mine"]

def count(word):
    %timeit -n1 -r1 -q pass
    said = !echo {word} there
    return said[0]

shell = get_ipython()
def count_cells(): return shell.execution_count
%shm_publish talk count count_cells
"""
    )
    b.do("%shm_attach talk count count_cells\nmine = 'of eda'")
    outcome = b("talk(3)")
    assert outcome.stdout == "printed 3\n"
    shown = [result["text/plain"] for result in outcome.results]
    assert shown == ["{'shown': 3}", "'of eda'"]
    assert b.value("count('hello')") == "hello there"
    assert b.value("count_cells.__globals__['shell'] is get_ipython()") is True
    assert "getoutput('echo {word} there')" in page(b, "count??")


def test_a_kernel_restart_takes_nothing_away(desk, a, b):
    a.do("X = np.ones(100_000)\n%shm_publish X --move")
    cell = next_cell(a)
    a.do("def total(scale):\n    return float(X.sum() * scale)\n%shm_publish total")
    version = a.value("jshm.info('total').version")
    first = a.pid
    a.restart()
    assert a.pid != first
    desk.prepare(a)
    assert a.do("%shm_attach total").startswith("total ← v")
    assert a.value("total(2)") == 200_000.0
    trace = plain(a.fail("total({})").traceback)
    assert f"<ipython-In[{cell}] of train.ipynb" in trace
    assert re.search(r"-+> 2 +return float\(X\.sum\(\) \* scale\)", trace)
    a.do("def total(scale):\n    return scale\n%shm_publish total")
    assert a.value("jshm.info('total').version") == version + 1
    b.do("%shm_attach total")
    assert b.value("total(3)") == 3


# -- classes ---------------------------------------------------------------------------------------

CLASSES = '''
import dataclasses, enum

class Base:
    def __init__(self, k):
        self.k = k
    def name(self):
        return f"base {self.k}"

class Model(Base):
    """A model of it."""
    made = 0
    def __init__(self, k):
        super().__init__(k)
        type(self).made += 1
        self.weights = np.full(100_000, float(k))
    def __secret(self):
        return "secret"
    @property
    def total(self):
        return float(self.weights.sum())
    @classmethod
    def seven(cls):
        return cls(7)
    @staticmethod
    def two():
        return 2
    def name(self):
        return f"model {super().name()} {self.__secret()}"

@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 2

class Color(enum.Enum):
    RED = 1
    GREEN = 2

model, point, red = Model(3), Point(1), Color.RED
'''


def test_classes_and_their_instances(a, b):
    a.do(CLASSES)
    said = settled(a.do("%shm_publish Model model Point point Color red"))
    assert re.match(r"Model vN · class Model\(k\) · \d\.\d kB → %shm_attach Model\n", said)
    assert re.search(
        r"\nmodel vN · Model · 80\d\.\d kB · 800\.0 kB shared → %shm_attach model", said
    )
    said = b.do("%shm_attach Model model Point point Color red")
    assert [line.endswith(SHARES) for line in said.splitlines()] == [False, True, *[False] * 4]
    assert b.value("(isinstance(model, Model), type(model) is Model)") == [True, True]
    assert b.value("(model.name(), model.total)") == ["model base 3 secret", 300_000.0]
    assert b.value("(Model.seven().name(), Model.two())") == ["model base 7 secret", 2]
    assert b.value("Model.made") == 2
    assert a.value("Model.made") == 1, "the publisher's own class was changed"
    assert b.value("(point == Point(1), point.y, repr(point))") == [True, 2, "Point(x=1, y=2)"]
    assert b.fail("point.x = 5").ename == "FrozenInstanceError"
    assert b.value("(red is Color.RED, Color(2).name)") == [True, "GREEN"]
    assert b.fail("model.weights[0] = 1").ename == "ValueError"
    assert 'return f"model {super().name()}' in b.value("inspect.getsource(Model.name)")
    assert info(b, "Model")["Doc"] == "A model of it."
    assert re.fullmatch(r"In\[\d+\]", info(b, "Model")["Defined in"])
    assert info(b, "model")["Shared"] == "1 buffer (800.0 kB)"
    trace = plain(b.fail("Model('x')").traceback)
    assert "of train.ipynb" in trace
    assert re.search(r"-+> \d+ +self\.weights = np\.full", trace)


def test_one_version_of_a_class_is_one_class_and_the_next_another(a, b):
    a.do(CLASSES + "%shm_publish Model model --as zoo/")
    first = a.value("jshm.info('zoo/Model').version")
    b.do("%shm_attach zoo/Model zoo/model\nOld = Model")
    b.do(f"%shm_attach zoo/Model zoo/model --version {first}")
    assert b.value("(Model is Old, type(model) is Old)") == [True, True]
    a.do("%shm_publish model --as zoo/model")
    assert b.value("isinstance(jshm.attach('zoo/model'), Old)") is True, "not defined again"
    said = a.do(
        CLASSES.replace("model {super()", "better {super()") + "%shm_publish Model --as zoo/"
    )
    assert said.startswith(f"zoo/Model v{first + 1} · class Model(k) · ")
    b.do("old = model\n%shm_attach zoo/Model")
    assert b.value("(Model is Old, isinstance(old, Old), isinstance(old, Model))") == [
        False, True, False,
    ]  # fmt: skip
    assert b.value("(old.name(), Old.seven().name(), old.total)") == [
        "model base 3 secret", "model base 7 secret", 300_000.0,
    ]  # fmt: skip
    assert b.value("Model(2).name()") == "better base 2 secret"


# -- modules ---------------------------------------------------------------------------------------


def test_a_module_beside_the_notebook_travels_along(a, b):
    a.do(
        """
import utils
from utils import Clipper, clip
def through_module(x): return utils.clip(x) + 1
def through_name(x): return clip(x) + 2
def wrong(): return utils.divide(1, 0)
clipper = Clipper(40)
%shm_publish utils through_module through_name clip Clipper clipper wrong
"""
    )
    assert b.fail("import utils").ename == "ModuleNotFoundError"
    b.do("%shm_attach '*'")
    assert b.value("(through_module(30), through_name(3), clip(50))") == [11, 5, 10]
    assert b.value("(clipper.run(), isinstance(clipper, Clipper), Clipper(2).run())") == [
        10,
        True,
        2,
    ]
    assert b.value("(utils.LIMIT, utils.clip(4), utils.Clipper is Clipper)") == [10, 4, True]
    assert b.value("(clip.__module__, 'utils' in __import__('sys').modules)") == ["utils", False]
    assert b.value("inspect.getsource(clip)").startswith('def clip(x):\n    """Keep it within')
    assert info(b, "clip")["Defined in"] == "utils.py"
    assert info(b, "utils")["Doc"] == "What our notebooks have in common."
    assert rows(b)["utils"].startswith("1  module utils ")
    trace = plain(b.fail("wrong()").traceback)
    assert re.search(r"File <ipython-utils\.py [0-9a-f]{8}>:12, in divide", trace), trace
    assert re.search(r"-+> 12 +quotient = x / y", trace)


def test_a_module_s_function_that_uses_another_module_keeps_its_source(a, b):
    """Below ``import numpy`` Python compiles ``np.sqrt`` otherwise than alone."""
    a.do("from numeric import norm\n%shm_publish norm")
    b.do("%shm_attach norm")
    assert b.value("norm(4)") == 2.0
    trace = plain(b.fail("norm('x')").traceback)
    assert re.search(r"File <ipython-numeric\.py [0-9a-f]{8}>:5, in norm", trace)
    assert re.search(r"-+> 5 +return float\(np\.sqrt\(x\)\)", trace)


def test_by_reference_if_the_user_asks_for_it(desk, a, b):
    a.do("import everywhere\njshm.pickle_by_reference(everywhere)")
    a.do("def four(): return everywhere.twice(2)\n%shm_publish four")
    slip = b.fail("%shm_attach four")
    assert slip.ename == "UsageError"
    assert slip.evalue.startswith("four needs everywhere, which this Python cannot import (")
    b.do(f"import sys; sys.path.append({str(desk.here)!r})")
    try:
        b.do("%shm_attach four")
        assert b.value("four()") == 4
        assert b.value("four.__globals__['everywhere'].__file__") == f"{desk.here}/everywhere.py"
    finally:
        b.do("sys.path.pop()")
    a.do("jshm.pickle_by_value(everywhere)\n%shm_publish four")
    b.do("sys.modules.pop('everywhere')\n%shm_attach four")
    assert b.value("(four(), 'everywhere' in sys.modules)") == [4, False]


def test_a_package_that_is_missing_is_named_before_anything_runs(a, b):
    a.do(
        """
import ourpackage
print("ran")
def two(): return ourpackage.inc(1)
%shm_publish two
"""
    )
    assert info(b, "two")["Needs"] == "ourpackage 1.2"
    b.do("two = 'mine'")
    slip = b.fail("%shm_attach two")
    assert slip.ename == "UsageError"
    assert re.fullmatch(
        r"two needs ourpackage 1\.2, which this Python cannot import \(\S+\): install it there, or "
        r"let the publisher share it by value \(jshm\.pickle_by_value\)",
        slip.evalue,
    )
    assert "Traceback" not in slip.stderr
    assert b.value("two") == "mine"
    assert b.fail("jshm.attach('two')").ename == "MissingModuleError"
    b.do("try: jshm.attach('two')\nexcept ModuleNotFoundError as error: missing = error.name")
    assert b.value("missing") == "ourpackage"
    a.do("jshm.pickle_by_value('ourpackage')\n%shm_publish two")
    b.do("%shm_attach two")
    assert b.value("two()") == 2


# -- containers, arrays of objects -----------------------------------------------------------------

PARAMETERS = """
params = {"w": np.zeros((300, 300)), "b": [np.ones(1000)], "rate": 0.1}
%shm_publish params
"""


def test_arrays_in_a_dict_are_shared_and_the_rest_is_each_one_s_own(a, b):
    said = settled(a.do(PARAMETERS))
    assert re.fullmatch(
        r"params vN · dict of 3 · 728\.\d kB · 728\.0 kB shared → %shm_attach params\n", said
    )
    said = settled(b.do("%shm_attach params"))
    assert said == f"params ← vN from train.ipynb, AGO{SHARES}\n"
    assert b.value("(params['w'].sum(), params['b'][0].sum(), params['rate'])") == [0, 1000, 0.1]
    assert b.value("[jshm.is_shared(x) for x in (params['w'], params['b'][0])]") == [True, True]
    assert "read-only" in b.fail("params['w'][0, 0] = 1").evalue
    b.do("params['rate'] = 0.2")
    assert b.value("jshm.attach('params')['rate']") == 0.1
    assert info(b, "params")["Shared"] == "2 buffers (720.0 kB, 8.0 kB)"
    slip = b.fail("%shm_attach params --mode r+")
    assert "params vN is a read-only snapshot" in settled(slip.evalue)
    assert (
        "only plain arrays can be shared writable"
        in a.fail("%shm_publish params --writable").evalue
    )


def test_copy_on_write_reaches_the_arrays_in_a_dict(a, b):
    a.do(PARAMETERS)
    said = b.do("%shm_attach params\n%shm_attach params --as mine --mode c").splitlines()[1]
    assert said.startswith("mine ← params v")
    assert said.endswith(" · its arrays are copy-on-write: your changes stay yours, nothing copied")
    b.do("mine['w'][0, 0] = 7; mine['b'][0][:] = 2")
    values = "[(float(d['w'].sum()), float(d['b'][0].sum())) for d in (mine, params)]"
    assert b.value(values) == [[7.0, 2000.0], [0.0, 1000.0]]
    assert b.value("float(jshm.attach('params', 'c')['w'].sum())") == 0.0
    said = b.do("%shm_detach params")
    assert "deleted params · " in said
    assert "still mapped here by: mine" in said
    assert b.value("('params' in globals(), float(mine['w'][0, 0]))") == [False, 7.0]
    assert "deleted mine" in b.do("%shm_detach mine")
    assert b.value("mapped()") == 0


def test_an_array_of_objects(a, b):
    a.do(
        """
objects = np.empty((2, 2), object)
objects[:] = [[1, "two"], [{"three": 3}, np.arange(50_000)]]
%shm_publish objects
"""
    )
    assert info(b, "objects")["Type"] == "object (2, 2)"
    assert info(b, "objects")["Shared"] == "1 buffer (400.0 kB)"
    b.do("%shm_attach objects")
    assert b.value("(str(objects.dtype), objects.shape)") == ["object", [2, 2]]
    assert b.value("objects.ravel()[:3].tolist()") == [1, "two", {"three": 3}]
    assert b.value("(int(objects[1, 1].sum()), jshm.is_shared(objects[1, 1]))") == [
        1249975000,
        True,
    ]
    assert b.fail("objects[1, 1][0] = 1").ename == "ValueError"


# -- letting go ------------------------------------------------------------------------------------


def test_detach_deletes_a_function_and_unmaps_what_it_used(a, b):
    a.do("X = np.ones(100_000)\n%shm_publish X --move\ndef total(): return float(X.sum())")
    a.do("%shm_publish total")
    b.do("%shm_attach total\nsame = total")
    b("total()")
    assert b.value("mapped()") == 1
    assert b.do("%shm_detach total").startswith("total detached · deleted total, same")
    assert b.value("('total' in globals(), 'same' in globals(), mapped())") == [False, False, 0]
    assert "is not mapped here" in b.fail("%shm_detach total").evalue


def test_detach_deletes_a_dict_and_names_other_holders_of_its_arrays(a, b):
    a.do(PARAMETERS)
    b.do("%shm_attach params\nw = params['w']; w")
    said = b.do("%shm_detach params")
    assert said.startswith("params · deleted params · ")
    assert said.endswith(" still mapped here by: w\n")
    b.do("del w")
    assert b.value("mapped()") == 0


def test_a_function_keeps_the_array_that_it_needs(desk, a, b):
    a.do("X = np.ones(100_000)\n%shm_publish X --move\ndef total(): return float(X.sum())")
    a.do("%shm_publish total")
    a.do("%shm_release X\n%shm_detach X")
    assert list(rows(b)) == ["total"]
    assert "nothing is shared under 'X'" in b.fail("%shm_attach X").evalue
    b.do("%shm_attach total")
    assert b.value("total()") == 100_000.0
    assert re.fullmatch(r"float64 \(100000,\) .*\(800\.0 kB\)", info(b, "total")["Refers to"])
    assert len(os.listdir(f"{desk.store}/segments")) == 2
    assert a.do("%shm_release total").startswith("total released")
    assert b.value("total()") == 100_000.0, "a live view was taken away"
    b.do("%shm_detach total\n%shm_list")
    assert os.listdir(f"{desk.store}/segments") == []


# -- refusals --------------------------------------------------------------------------------------


def test_a_refusal_names_the_path_to_the_part(a):
    a.do(
        """
import os, sqlite3, threading
def outer():
    cfg = {"log": open(os.devnull), "n": 1}
    def train():
        return cfg
    return train
train, fine = outer(), np.ones(3)

lock = threading.Lock()
def locked():
    with lock:
        return 1

class Job:
    def __init__(self):
        self.rows = [sqlite3.connect(":memory:")]
job = Job()

lazy = [1, {"a": (n for n in "x")}]
def default(items=lazy): return items
thread = threading.Thread()
"""
    )
    for line, said in {
        "train": "train → closure 'cfg' → ['log'] → open file '/dev/null': cannot be shared (an open "
        "file); open it where it is used, by its name",
        "locked": "locked → global 'lock' → lock: cannot be shared (cannot pickle '_thread.lock' "
        "object); make it where it is used",
        "job": "job → .rows → [0] → live database connection: cannot be shared (cannot pickle "
        "'sqlite3.Connection' object); connect where it is used",
        "lazy": "lazy → [1] → ['a'] → running generator: cannot be shared (cannot pickle 'generator' "
        "object); share a list of what it yields, or the function that makes it",
        "default": "default → default 'items' → [1] → ['a'] → running generator: cannot be shared ",
        "thread": "thread → thread: cannot be shared ",
        "fine train --as all/": "all/train → closure 'cfg' → ['log'] → open file ",
    }.items():
        slip = a.fail(f"%shm_publish {line}")
        assert slip.ename == "UsageError", line
        assert slip.evalue.startswith(said), (line, slip.evalue)
        assert "\n" not in slip.evalue, line
        assert "Traceback" not in slip.stderr + slip.stdout, line
    assert a.value("len(jshm.segments())") == 0, "not all or none"
    assert a.fail("jshm.publish('train', train)").ename == "NotShareableError"
    a.do("train.__closure__[0].cell_contents['log'].close()")


# -- what else the magics do -----------------------------------------------------------------------


def test_globs_and_completion(a, b):
    a.do("def fit(x): return x\nfold = np.ones(3); form = {'a': 1}\nclass Fine: pass")
    assert "no variable with an array or a table matches" in a.fail("%shm_publish 'f[io]t'").evalue
    assert settled(a.do("%shm_publish 'f*' --as glob/")) == (
        "glob/fold vN · float64 (3,) · 24 B → %shm_attach glob/fold\n"
    )
    assert a.complete("%shm_publish fi") == [("fit", "function\u00a0fit(x)")]
    assert ("Fine", "class\u00a0Fine") in a.complete("%shm_publish ")
    a.do("%shm_publish fit form Fine --as lib/")
    named = [("lib/fit", "function\u00a0fit(x)"), ("lib/form", "dict\u00a0of\u00a01")]
    assert b.complete("%shm_attach lib/f") == named
    assert b.complete("jshm.attach('lib/fo") == named[1:]
    b.do("fit = 3")
    slip = b.fail("%shm_attach 'lib/*'")
    assert "lib/fit would overwrite your variable fit" in slip.evalue
    assert b.value("'form' in globals()") is False
    assert "replaced your int" in b.do("%shm_attach lib/fit")
    b.do("%shm_attach 'lib/*'")
    assert b.value("(fit(4), form, Fine.__name__)") == [4, {"a": 1}, "Fine"]
    assert [text for text, _ in b.complete("%shm_detach f")] == ["fit", "form"]
    assert b.do("%shm_detach lib/fit form Fine").count("detached · deleted") == 3
    assert b.value("[name in globals() for name in ('fit', 'form', 'Fine')]") == [False] * 3
    assert a.do("%shm_release 'lib/*'").count("released") == 3


def test_once_takes_a_dict(a, b):
    cell = """%%shm_once fitted
calls = globals().get("calls", 0) + 1
fitted = {"w": np.arange(1000.0), "name": "first"}
"""
    assert re.match(r"fitted published · 8\.\d kB · the cell took ", a.do(cell))
    assert a.value("(jshm.is_shared(fitted['w']), fitted['w'].flags.writeable)") == [True, False]
    assert "attached in" in b.do(cell)
    assert b.value("('calls' in globals(), fitted['w'].sum(), fitted['name'])") == [
        False, 499500.0, "first",
    ]  # fmt: skip
    assert "attached in" in b.do(cell.replace("fitted", "fitted --mode c", 1))
    b.do("fitted['w'][0] = 5")
    assert a.value("fitted['w'][0]") == 0.0
    refused = a.fail("%%shm_once handle\nimport os\nhandle = {'log': open(os.devnull)}")
    assert refused.ename == "UsageError"
    assert "handle → ['log'] → open file '/dev/null'" in refused.evalue
    a.do("handle['log'].close()")


# -- what was wrong once ----------------------------------------------------------------------------


def test_the_first_thing_that_a_kernel_publishes_names_it_too(open_notebook):
    fresh = open_notebook("fresh.ipynb")
    fresh.do("def f(x): return x.nothing\n%shm_publish f\n%shm_attach f")
    assert " of fresh.ipynb " in plain(fresh.fail("f(1)").traceback)


def test_detach_lets_go_of_what_a_failed_function_used(a, b):
    a.do("X = np.ones(100_000)\n%shm_publish X --move\ndef item(n): return X[n]\n%shm_publish item")
    b.do("%shm_attach item")
    b.fail("item('no')")
    b.do("%shm_detach item")
    assert b.value("mapped()") == 0


def test_detach_names_other_holders_of_a_function_s_arrays(a, b):
    a.do("X = np.ones(100_000)\n%shm_publish X --move\ndef item(n): return X[n]\n%shm_publish item")
    b.do("%shm_attach item\nothers = [item]")
    assert "still mapped here by: others[0]" in b.do("%shm_detach item")


@pytest.mark.parametrize("value", ["(np.ones(1000), 'x')", "'text'", "frozenset({1})", "utils"])
def test_detach_deletes_whatever_was_attached(a, b, value):
    a.do(f"import utils\nthing = {value}\n%shm_publish thing")
    b.do("%shm_attach thing")
    b("%shm_detach thing")
    assert b.value("('thing' in globals(), mapped())") == [False, 0]


def test_detach_takes_all_that_is_named(a, b):
    a.do(PARAMETERS)
    b.do("%shm_attach params\n%shm_attach params --as mine --mode c\nmine['w'][0, 0] = 7")
    b.do("%shm_detach params mine")
    assert b.value("('mine' in globals(), mapped())") == [False, 0]


def test_detach_deletes_an_array_of_objects(a, b):
    a.do("cells = np.array([np.ones(1000), None], dtype=object)\n%shm_publish cells")
    b.do("%shm_attach cells\n%shm_detach cells")
    assert b.value("('cells' in globals(), mapped())") == [False, 0]


def test_open_is_a_builtin_of_everybody(a, b):
    a.do("def head(path):\n    with open(path) as file:\n        return file.readline()")
    a.do("%shm_publish head")
    b.do("%shm_attach head")
    assert b.value("head('/proc/version')[:5]") == "Linux"
    assert b.value("jshm.info('head').nbytes") < 2000


def test_detach_takes_a_glob_for_functions(a, b):
    a.do("def f(): return 1\n%shm_publish f --as group/")
    b.do("%shm_attach group/f")
    assert b("%shm_detach 'group/*'").stdout == "group/f detached · deleted f\n"


@pytest.mark.parametrize("name", ["Point", "Plain", "Color"])
def test_a_class_without_own_methods_has_no_foreign_place(a, b, name):
    """Nothing tells where it was defined; the methods of a dataclass are made from text."""
    cell = next_cell(a)
    a.do(f"{CLASSES}class Plain: x = 1\n%shm_publish {name}")
    assert info(b, name).get("Defined in", f"In[{cell}]") == f"In[{cell}]"


# -- tables: the last, because kernels that have loaded pandas are slower ---------------------------

TABLE = """
import pandas as pd
df = pd.DataFrame({"n": np.arange(100_000), "x": np.linspace(0, 1, 100_000)})
df["city"] = pd.Series(["Oslo", "Rome"] * 50_000, dtype=object)
"""


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas")


def test_a_table_says_what_of_it_is_copied(pandas, a, b):
    a.do(f"{TABLE}\nnumbers = df[['n', 'x']]")
    said = settled(a.do("%shm_publish df numbers")).splitlines()
    assert re.fullmatch(
        r"df vN · DataFrame \(100000, 3\) · 1\.8 MB · 1\.6 MB shared, 20\d\.\d kB copied "
        r"\(object columns: city\) → %shm_attach df",
        said[0],
    )
    assert said[1] == (
        "numbers vN · DataFrame (100000, 2) · 1.6 MB · 1.6 MB shared → %shm_attach numbers"
    )
    b.do("%shm_attach df numbers")
    assert b.value("(df.shape, df.city[1], df.dtypes.astype(str).tolist())") == [
        [100_000, 3], "Rome", ["int64", "float64", "object"],
    ]  # fmt: skip
    assert b.value("[jshm.is_shared(df[c].to_numpy()) for c in df]") == [True, True, False]
    b.do("df.loc[0, 'x'] = 5; other = jshm.attach('df')")  # pandas copies what changes
    assert b.value("[float(t.x[0]) for t in (df, other)]") == [5.0, 0.0]
    assert b.value("[np.shares_memory(df[c], other[c]) for c in ['n', 'x']]") == [True, False]
    b.do("del other")
    assert b.fail("df.n.values[0] = 1").stdout == ""  # read-only is pandas' own rule, in any mode
    known = info(b, "df")
    assert f"pandas {pandas.__version__}" in known["Needs"].split(", ")
    assert known["Shared"] == "2 buffers (800.0 kB, 800.0 kB)"  # and not the columns' names
    assert re.fullmatch(r"20\d\.\d kB, by each attach \(object columns: city\)", known["Copied"])
    listed = rows(b)
    assert re.match(
        r"1  DataFrame \(100000, 3\) +1\.8 MB  train\.ipynb  this notebook", listed["df"]
    )
    b.do("%shm_attach df --as mine --mode c\nmine.loc[0, 'x'] = 6")
    assert b.value("(mine.x[0], df.x[0], jshm.attach('df').x[0])") == [6.0, 5.0, 0.0]


def test_a_table_is_moved_attached_and_let_go(pandas, a, b):
    a.do(f"{TABLE}\nsame = df")
    said = a.do("%shm_publish df --move").splitlines()
    assert said[1:] == ["df, same are the shared copy now"]
    assert a.value("(df is same, jshm.is_shared(df.x.to_numpy()), mapped())") == [True, True, 1]
    a.do("def mean(): return float(df.x.mean())")
    assert re.search(r" · refers to df v\d \(1\.8 MB\) → ", a.do("%shm_publish mean"))
    assert a.value("jshm.info('mean').nbytes") < 400_000
    b.do("%shm_attach df mean")
    assert b.value("round(mean(), 6)") == 0.5
    b.do("row = df.x.to_numpy()[:3]; again = mean.__globals__['df'].x.to_numpy()")
    assert b.value("np.shares_memory(row, again)") is True
    b.do("del again")
    assert re.match(
        r"mean · deleted mean · .* still mapped here by: df, row\n", b.do("%shm_detach mean")
    )
    assert b.do("%shm_detach df") == "df · deleted df · 1.8 MB still mapped here by: row\n"
    b.do("del row")
    assert b.value("('df' in globals(), mapped())") == [False, 0]


def test_once_takes_a_table(pandas, a, b):
    cell = f"%%shm_once df{TABLE}"
    assert re.match(r"df published · 1\.8 MB · the cell took ", a.do(cell))
    assert a.value("jshm.is_shared(df.x.to_numpy())") is True
    assert "attached in" in b.do(cell)
    assert b.value("(pd.__name__, df.n.sum().item())") == ["pandas", 4_999_950_000]
    assert b.do("%shm_detach df") == "df detached · deleted df · 1.8 MB unmapped here\n"


ADVICE = " --mode c (copy-on-write: your changes stay yours)"


@pytest.mark.parametrize(
    ("cell", "advice"),
    [
        ("X[0] = 1", "X is attached read-only: %shm_attach exp/X --as X"),
        ("X += 1", "X is attached read-only: %shm_attach exp/X --as X"),
        ("X.sort()", "X is attached read-only: %shm_attach exp/X --as X"),
        ("memoryview(X)[0] = 1", "X is attached read-only: %shm_attach exp/X --as X"),
        ("np.add(1, 1, out=X)", "X is attached read-only: %shm_attach exp/X --as X"),
        ("f(X)", "X is attached read-only: %shm_attach exp/X --as X"),
        ("g()", "X is attached read-only: %shm_attach exp/X --as X"),
        ("y = 1\nX[0] = y", "X is attached read-only: %shm_attach exp/X --as X"),
        ("model['w'][0] = 1", "model is attached read-only: %shm_attach model"),
        ("view[0] = 1", "view is a part of exp/X, which is attached read-only: %shm_attach exp/X"),
        (
            "held['x'][0] = 1",
            "held is a part of exp/X, which is attached read-only: %shm_attach exp/X",
        ),
        ("mine[0] = 1; mine.flags.writeable = False\nmine[0] = 2", ""),
        ("own[0] = X.sum()", ""),
        ("own[0] = 1", ""),
        ("X.sum(); own[0] = 1", ""),
        ("raise ValueError('read-only')", ""),
        ("X[0, 0]", ""),
        ("writable[0] = 1", ""),
    ],
)
def test_a_write_to_read_only_memory_names_the_remedy(a, b, cell, advice):
    a.do("X = np.arange(1e4); model = {'w': X * 2}")
    a.do("%shm_publish X --as exp/\n%shm_publish model")
    b.do("%shm_attach exp/X\n%shm_attach model\n%shm_attach exp/X --as mine --mode c")
    b.do("view = X[:10]; held = {'x': X}; own = np.zeros(3); own.flags.writeable = False")
    b.do("writable = np.zeros(3)\ndef f(a): a[0] = 1\ndef g(): X[0] = 1")
    outcome = b(cell)
    assert outcome.ok == (cell == "writable[0] = 1")
    assert outcome.stdout == (f"{advice}{ADVICE}\n" if advice else "")
    b.do("%shm_detach X")  # and what the traceback keeps


def test_an_earlier_attached_value_is_not_the_user_s(a, b):
    a.do(
        "from collections import namedtuple\nPair = namedtuple('Pair', 'a b')\npair = Pair(1, 'text')"
    )
    a.do("%shm_publish pair")
    assert "replaced" not in b.do("%shm_attach pair\n%shm_attach pair\n%shm_attach 'pai*'")
    assert "would overwrite" in b.fail("pair = (1, 2)\n%shm_attach 'pai*'").evalue
    assert "replaced your tuple" in b.do("%shm_attach pair")


def test_the_advice_on_read_only_memory_keeps_nothing(a, b):
    """The advice keeps nothing of the traceback that it looked at."""
    a.do("X = np.arange(1e4)\n%shm_publish X")
    b.do("%shm_attach X")
    assert "--mode c" in b("X[0] = 1").stdout
    assert "unmapped here" in b.do("%shm_detach X")
