"""The reader shows the source of a function or none, but never that of another one."""

from __future__ import annotations

import ast
import base64
import inspect
import json
import linecache
import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from jshm.pickling import dumps, loads, source

from .cases import THIS, Version
from .fresh import ROOT, Interpreter, Pickled, failing
from .interpreters import VERSIONS, found

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Beside = Callable[[str, str], None]

CELL = '''\
import functools
def decorate(f):
    @functools.wraps(f)
    def wrapper(*args): return f(*args)
    return wrapper
k = 1
@decorate
# why
@decorate
def decorated(x):
    """Doc."""
    return x + k  # tail

class A:
    def m(self):
        "doc"
        return [
            1 / 0
        ]

    @property
    def p(self): return lambda: self
    async def co(self):
        await x

def outer(n):
    if n:
        def inner():
            # comment
            return n
        return inner

def plain(a, b=[
    1,
]):

    text = """
def no(): pass
"""
    return a, b
    # after

# of nobody
f, g = lambda x: x / 0, lambda y: y + 1
h = lambda z: (
    z,
    1)
'''
TEXTS = {
    "decorate": "def decorate(f):\n    @functools.wraps(f)\n    def wrapper(*args): return f(*args)\n"
    "    return wrapper\n",
    "decorated": '@decorate\n# why\n@decorate\ndef decorated(x):\n    """Doc."""\n'
    "    return x + k  # tail\n",
    "decorated.__wrapped__.__wrapped__": '@decorate\n# why\n@decorate\ndef decorated(x):\n    """Doc."""\n'
    "    return x + k  # tail\n",
    "A.m": '    def m(self):\n        "doc"\n        return [\n            1 / 0\n        ]\n',
    "A().m": '    def m(self):\n        "doc"\n        return [\n            1 / 0\n        ]\n',
    "A.p.fget": "    @property\n    def p(self): return lambda: self\n",
    "A().p": "    def p(self): return lambda: self\n",
    "A.co": "    async def co(self):\n        await x\n",
    "outer(1)": "        def inner():\n            # comment\n            return n\n",
    "plain": 'def plain(a, b=[\n    1,\n]):\n\n    text = """\ndef no(): pass\n"""\n    return a, b\n',
    "f": "f, g = lambda x: x / 0, lambda y: y + 1\n",
    "g": "f, g = lambda x: x / 0, lambda y: y + 1\n",
    "h": "h = lambda z: (\n    z,\n    1)\n",
}


@pytest.mark.parametrize("expression", TEXTS)
def test_getsource_of_a_cell(writer: Interpreter, reader: Interpreter, expression: str) -> None:
    writer.cell(CELL)
    reader.load(writer.dump(expression))
    code = "import inspect; inspect.getsource(obj).removesuffix('    # after\\n')"
    assert writer.run(code) == TEXTS[expression]
    assert reader.run(code) == TEXTS[expression]
    line = "inspect.unwrap(obj).__code__.co_firstlineno"
    assert reader.run(line) == writer.run(line)


def test_getsource_of_a_file(writer: Interpreter, reader: Interpreter, beside: Beside) -> None:
    beside("cell_in_a_file.py", CELL)
    writer.cell("from cell_in_a_file import *\nimport inspect\n")
    for expression, text in TEXTS.items():
        reader.load(writer.dump(expression))
        code = "import inspect; inspect.getsource(obj).removesuffix('    # after\\n')"
        assert (expression, reader.run(code)) == (expression, text)
        filename = reader.run("inspect.unwrap(getattr(obj, '__func__', obj)).__code__.co_filename")
        if expression != "decorated":  # the wrapper's is that of functools.wraps's caller
            assert filename.startswith("<ipython-cell_in_a_file.py ")


@pytest.mark.parametrize(
    "text",
    [
        "import os\ndef f(): return os.getcwd()\n",
        "import numpy as np\ndef f(x):\n    return np.zeros(x).sum()\n",
        "from os import path\ndef f(): return path.abspath('.')\n",
        "import os; f = lambda x, y=lambda: 1: os.fspath(x)\n",
    ],
)
def test_a_function_of_a_file_that_calls_modules(
    writer: Interpreter, reader: Interpreter, beside: Beside, text: str
) -> None:
    name = f"calls_modules_{len(text)}"
    beside(f"{name}.py", text)
    writer.cell(f"from {name} import f\n")
    reader.load(writer.dump("f"))
    assert reader.run("obj.__code__.co_filename").startswith(f"<ipython-{name}.py ")
    assert reader.run("import inspect; inspect.getsource(obj)") == (
        text[text.find("def ") :] if "def " in text else text
    )


def test_tracebacks_show_the_line(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell(CELL)
    for expression, line, shown in (
        ("A().m", 18, "1 / 0"),
        ("functools.partial(f, 1)", 44, "f, g = lambda x: x / 0, lambda y: y + 1"),
        ("functools.partial(decorated, 'a')", 12, "return x + k  # tail"),
    ):
        assert shown in CELL.splitlines()[line - 1]
        reader.load(writer.dump(expression))
        text = str(failing(reader.run, "obj()"))
        assert f", line {line}, in " in text
        assert f"\n    {shown}\n" in text
        assert 'File "/tmp/ipykernel' not in text


def test_one_filename_for_each_text(writer: Interpreter, reader: Interpreter) -> None:
    found = {}
    texts = {
        "a": "def f(x):\n    return x\n",
        "b": "def f(x):\n    return x + 1\n",
        "c": "\n\ndef f(x):\n    return x\n",
        "d": "x = 1\n\ndef f(x):\n    return x\n",
        "e": "def g(x):\n    return x\n",
    }
    for name, text in texts.items():
        writer.cell(text)
        reader.load(writer.dump("g" if name == "e" else "f"))
        found[name] = reader.run("obj.__code__.co_filename")
    # The same name and line with another text; the same text in another line.
    assert len({found[name] for name in "abce"}) == 4
    first = "obj.__code__.co_firstlineno"
    assert reader.run("import inspect; inspect.getsource(obj)") == texts["e"]
    assert reader.run(first) == 1
    for name in "ab":
        writer.cell(texts[name])
        reader.load(writer.dump("f"))
        assert reader.run("obj.__code__.co_filename") == found[name]
        assert reader.run("import inspect; inspect.getsource(obj)") == texts[name]


def test_only_the_function_s_text_travels(writer: Interpreter) -> None:
    writer.cell(
        "password = 'hush'  # hush\ndef f(): return 1\nclass A:\n    x = 'hush'\n    def m(self): pass\n"
    )
    assert b"hush" not in writer.dump("f").data
    assert b"hush" not in writer.dump("A.m").data
    assert b"def f(): return 1\n" in writer.dump("f").data


def test_lambdas_on_a_line_are_told_apart(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell("fs = [lambda x: x + 1, lambda x: x * 2, lambda x, y=lambda z: z: y(x)]\n")
    reader.load(writer.dump("fs"))
    assert reader.run("[f(5) for f in obj]") == [6, 10, 5]
    assert reader.run(
        "len({f.__code__ for f in obj}), len({f.__code__.co_filename for f in obj})"
    ) == [3, 1]


def test_a_function_without_source_arrives(writer: Interpreter, reader: Interpreter) -> None:
    writer.without_source("def f():\n    return 1 / 0\ng = eval('lambda: 3')\n")
    reader.load(writer.dump("[f, g]"))
    assert reader.run("obj[1]()") == 3
    error = failing(reader.run, "import inspect; inspect.getsource(obj[0])")
    assert "OSError" in error.kinds
    assert "ZeroDivisionError" in failing(reader.run, "obj[0]()").kinds


# -- files that are edited -------------------------------------------------------------------------

SOURCE_OR_NONE = """\
import inspect
try: text = inspect.getsource(obj)
except OSError: text = None
text
"""
BEFORE = "def a():\n    return 1\n\ndef f():\n    return 2\n"
EDITS = {
    "moved": "x = 1\n\n" + BEFORE,
    "swapped": "def f():\n    return 3\n\ndef a():\n    return 4\n",
    "changed": BEFORE.replace("2", "5"),
    "of another name": BEFORE.replace("def f", "def h"),
    "renamed argument": BEFORE.replace("def f()", "def f(x)"),
    "cut": "def a():\n    return 1\n",
    "no Python": BEFORE + "def (\n",
    "empty": "",
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_file_is_not_the_source(writer: Interpreter, beside: Beside, edit: str) -> None:
    """Its source travels, or none."""
    name = f"edited_{edit.replace(' ', '_')}"
    beside(f"{name}.py", BEFORE)
    writer.cell(f"import {name}\n")
    beside(f"{name}.py", EDITS[edit] + "\n")
    pickled = writer.dump(f"{name}.f")
    if edit != "no Python":  # which leaves the function as it is
        assert b"return" not in pickled.data


@pytest.mark.parametrize("edit", [edit for edit in EDITS if edit != "no Python"])
def test_an_edited_file_is_not_shown(
    writer: Interpreter, reader: Interpreter, beside: Beside, edit: str
) -> None:
    name = f"shown_{edit.replace(' ', '_')}"
    beside(f"{name}.py", BEFORE.replace("2", "1 / 0"))
    writer.cell(f"import {name}\n")
    beside(f"{name}.py", EDITS[edit] + "# more\n# and more\n" * 3)
    reader.load(writer.dump(f"{name}.f"))
    error = failing(reader.run, "obj()")
    assert "ZeroDivisionError" in error.kinds
    last = last_frame_of(str(error))
    assert "1 / 0" in last or "\n" not in last.strip()
    assert reader.run(SOURCE_OR_NONE) in (None, "def f():\n    return 1 / 0\n")


def last_frame_of(text: str) -> str:
    """Return the last frame of a traceback's text."""
    return text.rpartition("  File ")[2].rpartition("ZeroDivisionError")[0]


def test_an_edit_after_it_was_written_changes_nothing(
    writer: Interpreter, reader: Interpreter, beside: Beside
) -> None:
    beside("edited_later.py", BEFORE)
    writer.cell("import edited_later\n")
    pickled = writer.dump("edited_later.f")
    beside("edited_later.py", EDITS["swapped"])
    for sent in (pickled, writer.dump("edited_later.f")):
        reader.load(sent)
        source = reader.run("import inspect; inspect.getsource(obj)")
        assert (source, reader.run("obj()")) == ("def f():\n    return 2\n", 2)


def test_a_module_that_was_reloaded(
    writer: Interpreter, reader: Interpreter, beside: Beside
) -> None:
    beside("reloaded.py", BEFORE)
    writer.cell("import reloaded, importlib\nold = reloaded.f\n")
    writer.dump("old")
    beside("reloaded.py", EDITS["swapped"] + "# longer\n")
    writer.cell("importlib.reload(reloaded)\n")
    reader.load(writer.dump("reloaded.f"))
    source = reader.run("import inspect; inspect.getsource(obj)")
    assert (source, reader.run("obj()")) == ("def f():\n    return 3\n", 3)
    reader.load(writer.dump("old"))
    assert reader.run("obj()") == 2


def test_a_file_that_is_gone(
    writer: Interpreter, reader: Interpreter, beside: Beside, tmp_path: Path
) -> None:
    beside("gone.py", BEFORE)
    writer.cell("import gone\n")
    os.unlink(tmp_path / "gone.py")
    reader.load(writer.dump("gone.f"))
    assert reader.run("obj()") == 2
    assert "OSError" in failing(reader.run, "import inspect; inspect.getsource(obj)").kinds


@pytest.mark.parametrize("character", ["\x0c", "\x1c", "\x85", "\u2028"])
def test_lines_are_those_of_python(
    writer: Interpreter, reader: Interpreter, beside: Beside, character: str
) -> None:
    name = f"lines_{ord(character)}"
    text = f"def f():\n    text = 'a{character}b'\n    return 1 / 0\n"
    beside(f"{name}.py", text)
    writer.cell(f"import {name}\n")
    reader.load(writer.dump(f"{name}.f"))
    assert reader.run("import inspect; inspect.getsource(obj)") == text
    assert "return 1 / 0" in str(failing(reader.run, "obj()"))


# -- where a function was defined ----------------------------------------------------------------------------


def test_a_registered_source_stays() -> None:
    """Tools clear `linecache`; IPython and pdb check its entries."""
    name = "/tmp/ipykernel_0/stays.py"
    text = "def stays(): return 1\n"
    linecache.cache[name] = (len(text), None, [text], name)
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), names)
    found = loads(dumps(names["stays"]))
    linecache.checkcache()
    assert inspect.getsource(found) == text
    assert source.block_of(found.__code__) == (found.__code__.co_filename, 1, text)


def test_a_registered_source_survives_clearcache() -> None:
    name = "/tmp/ipykernel_0/survives.py"
    text = "def survives(): return 1\n"
    linecache.cache[name] = (len(text), None, [text], name)
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), names)
    found = loads(dumps(names["survives"]))
    linecache.clearcache()
    assert inspect.getsource(loads(dumps(found))) == text


_IN_IPYTHON = """\
import inspect, json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(history_length=0)
shell.history_manager.enabled = False
shell.run_cell("x = 1", store_history=True)
shell.run_cell("def train(a): return a + x\\nsquare = lambda a: a * a\\n"
               "def shell(): return get_ipython()\\nclass M:\\n    def m(self): return 1\\n",
               store_history=True)
shell.run_cell("%config\\ndef after_magic(): return 5\\n", store_history=True)
from jshm.pickling import Pickler, describe, dumps, loads, source
import io
def dumps_in(notebook, obj):
    file = io.BytesIO()
    Pickler(file, notebook=notebook).dump(obj)
    return file.getvalue()
names = shell.user_ns
found = {}
for here in ("", "demo.ipynb"):
    for name in ("train", "square"):
        copy = loads(dumps_in(here, names[name]))
        code = copy.__code__
        found[f"{name} {here}"] = [code.co_filename, source.place(code), describe.place(copy)]
found["place"] = [describe.place(names["train"]), describe.place(names["M"])]
found["shell"] = [loads(dumps(names["shell"]))() is shell, loads(dumps(shell)) is shell,
                  loads(dumps(names)) is names, loads(dumps(names["get_ipython"]))() is shell]
found["source"] = inspect.getsource(loads(dumps(names["after_magic"])))
found["value"] = loads(dumps(names["train"]))(1)
json.dump(found, sys.stderr)
"""


def test_in_ipython(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(_IN_IPYTHON)
    done = subprocess.run(
        [sys.executable, program],
        env={**os.environ, "IPYTHONDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stderr)
    assert found["place"] == ["In[2]", "In[2]"]
    for name in ("train", "square"):
        filename, *places = found[f"{name} "]
        assert filename.startswith("<ipython-In[2] ")
        assert places == ["In[2]", "In[2]"]
        filename, *places = found[f"{name} demo.ipynb"]
        assert filename.startswith("<ipython-In[2] of demo.ipynb ")
        assert places == ["In[2] of demo.ipynb"] * 2
    assert found["shell"] == [True] * 4
    assert found["source"] == "def after_magic(): return 5\n"
    assert found["value"] == 2


def test_python_c_is_not_the_source_of_strings() -> None:
    program = (
        "f = eval('lambda x: x + 1')\n"
        "from jshm.pickling import source\n"
        "assert source.block_of(f.__code__) is None, source.block_of(f.__code__)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )


# -- text that Python does not keep ----------------------------------------------------------------

_TIMED = [
    "import sys; sys.path[:0] = []",
    "%%time\n# first\ndef f(x):\n    # why\n    return x + 1\n\ndef twin(x):\n    return x\n1 + 1",
    "%%time\ndef f(x):\n    # another\n    return x + 2",
    "%time h = lambda x: x + 10",
    "%%prun -q\ndef p(x):\n    return x - 1",
    "%%capture\n%time t = lambda x: x * 3",
    "%%time\n%%capture\ndef nested(x):\n    return -x",
    "%%time\n!true\nclass K:\n    def m(self):\n        return 4",
    'exec("def e(x):\\n    return 5 * x\\n")',
    "%%time\n@(lambda g: g)\ndef d(x, y=lambda: 1):\n    return x",
    # Similar text from which it was not compiled.
    "made = 'def gone(x):\\n    return 2\\n'\nexec(compile(made.replace('2', '1'), '<q>', 'exec'))",
    "twins = [f, twin]\n%time twin2 = lambda x: x  # one\n%time twin3 = lambda x: [x]  # two",
]
_TEXTS = {
    "f": "def f(x):\n    # another\n    return x + 2",
    "twin": "def twin(x):\n    return x\n",
    "h": "h = lambda x: x + 10",
    "p": "def p(x):\n    return x - 1\n",
    "t": "t = lambda x: x * 3",
    "nested": "def nested(x):\n    return -x",
    "K.m": "    def m(self):\n        return 4",
    "e": "def e(x):\n    return 5 * x\n",
    "d": "@(lambda g: g)\ndef d(x, y=lambda: 1):\n    return x",
    "twin2": "twin2 = lambda x: x  # one",
    "twin3": "twin3 = lambda x: [x]  # two",
}
_SHELL = """\
import base64, json, os, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.history_manager.enabled = False
for cell in json.loads(sys.argv[1]):
    shell.run_cell(cell, store_history=True).raise_error()
from jshm.pickling import Pickler, describe
import io
def written(name):
    file = io.BytesIO()
    Pickler(file, notebook="demo.ipynb").dump(eval(name, shell.user_ns))
    return base64.b64encode(file.getvalue()).decode()
found = {name: written(name) for name in json.loads(sys.argv[2])}
json.dump([found, describe.place(shell.user_ns["h"]), describe.place(shell.user_ns["gone"])], sys.stderr)
"""


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The pickles of a notebook with such cells, and the places of its functions."""
    directory = tmp_path_factory.mktemp("timed")
    names = [*(name.removesuffix(".m") for name in _TEXTS), "gone"]
    done = subprocess.run(
        [sys.executable, "-c", _SHELL, json.dumps(_TIMED), json.dumps(names)],
        env={**os.environ, "IPYTHONDIR": str(directory), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[Any] = json.loads(done.stderr.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", _TEXTS)
def test_getsource_of_a_timed_cell(timed: list[Any], reader: Interpreter, name: str) -> None:
    reader.load(Pickled(timed[0][name.removesuffix(".m")], []))
    obj = f"obj{name.removeprefix(name.removesuffix('.m'))}"
    text = reader.run(f"import inspect; inspect.getsource({obj})")
    assert text.rstrip("\n") == _TEXTS[name].rstrip("\n")
    filename = reader.run(f"{obj}.__code__.co_filename")
    assert re.match(r"<ipython-In\[\d+\] of demo.ipynb [0-9a-f]{8}>$", filename)


def test_where_a_timed_cell_is(timed: list[Any]) -> None:
    assert timed[1] == "In[4]"
    assert timed[2] == "q"


def test_text_that_compiles_to_something_else_is_never_shown(
    timed: list[Any], reader: Interpreter
) -> None:
    reader.load(Pickled(timed[0]["gone"], []))
    assert reader.run("obj(3)") == 1
    message = failing(reader.run, "import inspect; inspect.getsource(obj)").message
    assert "could not get source code" in message or "source code not available" in message


@pytest.mark.parametrize("version", [v for v in VERSIONS if v != THIS])
def test_another_version_reads_a_timed_cell(timed: list[Any], version: Version) -> None:
    if version not in found():
        pytest.skip(f"no Python {version[0]}.{version[1]} with what jshm needs")
    with Interpreter(found()[version]) as other:
        for name, value in {"f": 5, "h": 13, "nested": -3, "twin2": 3}.items():
            other.load(Pickled(timed[0][name], []))
            assert other.run("obj(3)") == value, name


def test_only_cells_that_may_run_text_are_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many functions have no source: each dataclass has some."""

    class Shell:
        class history_manager:  # noqa: N801
            input_hist_parsed = ("", *["def f(): pass\n" * 50] * 1000, "exec(text)")

    parsed = []
    monkeypatch.setattr(source.ast, "parse", lambda text: parsed.append(text) or ast.Module([], []))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=Shell))
    names: dict[str, Any] = {}
    exec(compile("def f(): pass", "<nowhere>", "exec"), names)
    assert source.block_of(names["f"].__code__) is None
    source.forget_trees()
    assert parsed == []


def test_python_c_has_source() -> None:
    program = (
        "import base64\nfrom jshm.pickling import dumps\n"
        "def f(x):\n    return x + 1  # said so\n"
        "print(base64.b64encode(dumps(f)).decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-Bc", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    obj = loads(base64.b64decode(done.stdout))
    assert inspect.getsource(obj) == "def f(x):\n    return x + 1  # said so\n"


def test_numba_caches_what_arrived(
    writer: Interpreter, reader: Interpreter, tmp_path: Path
) -> None:
    pytest.importorskip("numba")
    writer.cell(
        "import numba\ndef f(x):\n    return x + 1\n@numba.njit\ndef jitted(x):\n    return x\n"
    )
    reader.run(f"import os; os.environ['IPYTHONDIR'] = {str(tmp_path)!r}")
    reader.load(writer.dump("f"))
    check = "import numba; g = numba.njit(cache=True)(obj); [g(1), dict(g.stats.cache_{}) != {{}}]"
    assert reader.run(check.format("misses")) == [2, True]
    assert reader.run(check.format("hits")) == [2, True]
    reader.load(writer.dump("jitted"))
    assert reader.run(
        "import inspect; obj.enable_caching(); [obj(1), inspect.getsource(obj.py_func)]"
    ) == [
        1,
        "@numba.njit\ndef jitted(x):\n    return x\n",
    ]


def test_arrays_of_a_function_that_numba_compiled_go_out_of_band(writer: Interpreter) -> None:
    pytest.importorskip("numba")
    writer.cell(
        "import numba, numpy as np\nW = np.arange(100_000.0)\n@numba.njit\ndef total(): return W.sum()\n"
    )
    pickled = writer.dump("total")
    assert [len(buffer) for buffer in pickled.buffers] == [800_000]
    assert len(pickled.data) < 10_000
