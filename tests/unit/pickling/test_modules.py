"""Modules that other notebooks can import go by reference, all others by value."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jshm import MissingModuleError
from jshm.pickling import Pickler, dumps, loads, modules, pickle_by_reference, pickle_by_value

from .fresh import ROOT, Interpreter, failing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Beside = Callable[[str, str], None]

UTILS = '''\
"""Docs."""
import enum
import numpy as np
from typing import Generic, TypeVar
T = TypeVar("T")
counter = 0
seen = []
LARGE = np.arange(1000.0)
unused = "unused" + "-secret"
def f(x):
    "of f"
    seen.append(x)
    return x + 1
def bump():
    global counter
    counter += 1
    return counter
class Box(Generic[T]):
    def __init__(self, x: T): self.x = x
    def get(self) -> T: return f(self.x)
class Sub(Box[int]):
    def get(self): return super().get() + 1
class Color(enum.Enum):
    RED = 1
class Error(Exception): pass
'''


@pytest.fixture
def _utils(writer: Interpreter, beside: Beside) -> Iterator[None]:
    beside("utils.py", UTILS)
    writer.cell("import utils\nfrom utils import bump\n")
    return


def send(writer: Interpreter, reader: Interpreter, expression: str) -> None:
    reader.load(writer.dump(expression))
    assert reader.run("[name for name in sys.modules if name.startswith('utils')]") == []


# -- beside the notebook ---------------------------------------------------------------------------


@pytest.mark.usefixtures("_utils")
@pytest.mark.parametrize(
    ("expression", "check", "answer"),
    [
        ("utils.f", "obj(1), obj.__doc__, obj.__module__", [2, "of f", "utils"]),
        ("[utils.f, utils.seen]", "obj[0](3), obj[1]", [4, [3]]),
        ("utils.Box(3)", "obj.get()", 4),
        ("utils.Sub", "obj(3).get(), obj.__base__.__name__, obj.__module__", [5, "Box", "utils"]),
        (
            "[utils.T, utils.Box]",
            "obj[0] is obj[1].__parameters__[0], obj[0].__name__",
            [True, "T"],
        ),
        ("[utils.Color.RED, utils.Color]", "obj[1](1) is obj[0]", True),
        ("utils.Error('x')", "obj.args, type(obj).__name__", [["x"], "Error"]),
        ("lambda: utils.f(1)", "obj()", 2),
        ("utils", "obj.f(1), obj.seen, obj.LARGE.sum(), obj.__doc__", [2, [1], 499500.0, "Docs."]),
        ("utils", "obj.__name__, obj.bump.__globals__ is vars(obj)", ["utils", True]),
        ("utils", "obj.bump(), obj.counter, obj.bump(), obj.counter", [1, 1, 2, 2]),
        ("lambda: (utils.bump(), utils.counter)", "obj(), obj()", [[1, 1], [2, 2]]),
        ("[utils, utils.bump]", "obj[1](), obj[0].counter, obj[0].bump is obj[1]", [1, 1, True]),
        ("lambda: (utils.counter, bump(), utils.counter)", "obj(), obj()", [[0, 1, 1], [1, 2, 2]]),
        ("[utils, utils.Box]", "obj[1](5).get(), obj[0].seen", [6, [5]]),
        ("vars(utils)", "obj['bump'](), obj['counter']", [1, 1]),
        (
            "[vars(utils), bump, utils]",
            "obj[1](), obj[0]['counter'], vars(obj[2]) is obj[0]",
            [1, 1, True],
        ),
    ],
)
def test_a_module_beside_travels(
    writer: Interpreter, reader: Interpreter, expression: str, check: str, answer: object
) -> None:
    send(writer, reader, expression)
    assert reader.run(check) == answer


@pytest.mark.usefixtures("_utils")
@pytest.mark.parametrize(
    ("expression", "check", "answer"),
    [
        ("[utils.bump, utils]", "obj[0](), obj[1].counter", [1, 1]),
        ("lambda: (bump(), utils.counter)", "obj(), obj()", [[1, 1], [2, 2]]),
        ("[utils.bump, utils]", "obj[0].__globals__ is vars(obj[1])", True),
    ],
)
def test_a_function_that_comes_before_its_module(
    writer: Interpreter, reader: Interpreter, expression: str, check: str, answer: object
) -> None:
    send(writer, reader, expression)
    assert reader.run(check) == answer


@pytest.mark.usefixtures("_utils")
def test_only_what_a_function_refers_to_travels_of_its_module(writer: Interpreter) -> None:
    assert b"unused-secret" not in writer.dump("[utils.f, utils.Box]").data
    assert sum(map(len, writer.dump("utils.f").buffers)) == 0
    assert b"unused-secret" in writer.dump("utils").data
    assert sum(map(len, writer.dump("utils").buffers)) == 8000


@pytest.mark.usefixtures("_utils")
def test_a_module_that_arrived_travels_on(writer: Interpreter, reader: Interpreter) -> None:
    """The reader has no module of that name, or another one."""
    send(writer, reader, "[utils, utils.Sub]")
    reader.run("main.again = obj")
    reader.run("import types; sys.modules['utils'] = types.ModuleType('utils')")
    pickled = reader.dump("again[1]")
    reader.run("del sys.modules['utils']")
    whole = reader.dump("again")
    with Interpreter() as third:
        third.load(pickled)
        assert third.run("obj(1).get()") == 3
        third.load(whole)
        assert third.run("obj[0].bump(), obj[0].counter, obj[1](1).get()") == [1, 1, 3]


@pytest.mark.usefixtures("_utils")
def test_a_module_that_arrived_is_not_another_of_its_name(
    writer: Interpreter, reader: Interpreter
) -> None:
    send(writer, reader, "utils")
    reader.run("main.again = obj")
    reader.run("import types; sys.modules['utils'] = types.ModuleType('utils')")
    try:
        reader.load(reader.dump("again"))
        assert reader.run("obj.f(1)") == 2
    finally:
        reader.run("del sys.modules['utils']")


def test_a_package_beside(writer: Interpreter, reader: Interpreter, beside: Beside) -> None:
    beside(
        "utils_pkg/__init__.py",
        "from . import sub\nfrom .sub import g\ndef top(): return sub.g() + 1\n",
    )
    beside(
        "utils_pkg/sub.py",
        "state = {}\ndef g(): return 5\nclass A:\n    def m(self): return state\n",
    )
    beside("utils_pkg/other.py", "def o(): return 7\n")
    writer.cell("import utils_pkg.other\ndef f(): return utils_pkg.other.o(), utils_pkg.sub.g()\n")
    for expression, check, answer in (
        ("utils_pkg.top", "obj()", 6),
        ("utils_pkg.sub.A()", "obj.m()", {}),
        ("f", "obj()", [7, 5]),
        ("utils_pkg", "obj.top(), obj.sub.g is obj.g", [6, True]),
    ):
        send(writer, reader, expression)
        assert reader.run(check) == answer


def test_a_namespace_package_beside(
    writer: Interpreter, reader: Interpreter, beside: Beside
) -> None:
    beside("utils_ns/inner.py", "def f(): return 8\n")
    writer.cell("import utils_ns.inner\n")
    send(writer, reader, "utils_ns.inner.f")
    assert reader.run("obj()") == 8
    send(writer, reader, "lambda: utils_ns.inner.f()")
    assert reader.run("obj()") == 8


def test_a_module_that_was_made_at_run_time(writer: Interpreter, reader: Interpreter) -> None:
    writer.cell(
        "import sys, types\nmade = types.ModuleType('utils_made')\n"
        "exec('n = 1\\ndef f(): return n', vars(made))\n"
    )
    send(writer, reader, "[made, made.f]")
    assert reader.run("obj[0].f(), obj[0].f is obj[1], obj[0].__name__") == [1, True, "utils_made"]


def test_beside_a_script(reader: Interpreter, tmp_path: Path) -> None:
    """Python itself adds its directory to `sys.path`."""
    (tmp_path / "utils_of_script.py").write_text(UTILS)
    (tmp_path / "script.py").write_text(
        "import base64, utils_of_script as u, jshm\n"
        "def own(): return u.f(1), u.Sub(1).get()\n"
        "print(base64.b64encode(jshm.dumps([own, u.f])).decode())\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    reader.run(f"import base64; obj = pickling.loads(base64.b64decode({done.stdout.strip()!r}))")
    assert reader.run("obj[0](), obj[1](2), 'utils_of_script' in sys.modules") == [[2, 3], 3, False]


def test_in_the_directory_that_it_runs_in(reader: Interpreter, tmp_path: Path) -> None:
    """As in a notebook, '' is on the path. A relative PYTHONPATH is another directory in each process."""
    (tmp_path / "utils_of_cwd.py").write_text(UTILS)
    (tmp_path / "relative").mkdir()
    (tmp_path / "relative" / "utils_relative.py").write_text(UTILS)
    with Interpreter(pythonpath=("relative",), cwd=tmp_path) as notebook:
        notebook.run("sys.path.insert(0, '')")
        notebook.cell("import utils_of_cwd, utils_relative\n")
        for name in ("utils_of_cwd", "utils_relative"):
            reader.load(notebook.dump(f"{name}.Sub(1)"))
            assert reader.run("obj.get()") == 3


# -- installed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "obj",
    [
        np.linalg.norm,
        np.random.Generator,
        json.dumps,
        json.JSONDecoder,
        json,
        np.linalg,
        pytest.raises,
    ],
)
def test_installed_modules_go_by_reference(obj: object) -> None:
    assert loads(dumps(obj)) is obj
    assert len(dumps(obj)) < 120


def test_needs() -> None:
    with io.BytesIO() as file:
        pickler = Pickler(file)
        pickler.dump([np.random.Generator, json.JSONEncoder(), json.dumps, {"p": pytest.raises}])
        assert {"json", "json.encoder"} <= pickler.needs
        assert {name.partition(".")[0] for name in pickler.needs} == {"json", "numpy", "_pytest"}


def test_needs_of_compiled_objects() -> None:
    special = pytest.importorskip("scipy.special")
    with io.BytesIO() as file:
        pickler = Pickler(file)
        pickler.dump([special.gamma])
        assert b"scipy" in file.getvalue()
        assert {name.partition(".")[0] for name in pickler.needs} == {"scipy"}


def _project(tmp_path: Path) -> Path:
    """Return a directory where a project is installed in editable mode, as pip does."""
    project, site = tmp_path / "project", tmp_path / "site"
    for directory in (project / "src" / "utils_editable", project / "notebooks", site):
        directory.mkdir(parents=True)
    (project / "src" / "utils_editable" / "__init__.py").write_text(UTILS)
    (project / "notebooks" / "utils_of_notebook.py").write_text(UTILS)
    information = site / "utils_editable-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: utils-editable\nVersion: 1.0\n"
    )
    (information / "direct_url.json").write_text(
        json.dumps({"url": project.as_uri(), "dir_info": {"editable": True}})
    )
    return site


def test_installed_in_editable_mode(tmp_path: Path) -> None:
    """Modules beside a project's notebooks are on the path of these notebooks only."""
    site, project = _project(tmp_path), tmp_path / "project"
    with Interpreter(pythonpath=(str(site),)) as notebook:
        notebook.run(f"sys.path += {[str(project / 'src'), str(project / 'notebooks')]}")
        notebook.cell("import utils_editable, utils_of_notebook\n")
        assert b"return x + 1" not in notebook.dump("utils_editable.f").data
        assert b"return x + 1" in notebook.dump("utils_of_notebook.f").data


# -- the user's choice -------------------------------------------------------------------------------


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Interpreter]:
    """A process whose choices end with it; one package is in its PYTHONPATH, another beside it."""
    for place in ("installed", "beside"):
        package = tmp_path / place / f"utils_{place}"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(UTILS)
        (package / "sub.py").write_text(UTILS)
    with Interpreter(pythonpath=(str(tmp_path / "installed"),)) as interpreter:
        interpreter.run(f"sys.path.append({str(tmp_path / 'beside')!r})")
        interpreter.cell("import jshm, utils_installed as i, utils_installed.sub\n")
        interpreter.cell("import utils_beside as b, utils_beside.sub\n")
        yield interpreter


def test_the_user_decides(notebook: Interpreter, reader: Interpreter, tmp_path: Path) -> None:
    objects = "[{0}.f, {0}.sub.f, {0}.sub.Sub, {0}.T, {0}]".format
    check = "obj[0](1), obj[1](2), obj[2](3).get(), obj[4].f(4)"

    def by_value(name: str) -> bool:
        whole = b"return x + 1" in notebook.dump(objects(name)).data
        parts = [
            b"return x + 1" in notebook.dump(f"{name}.{part}").data
            for part in ("f", "sub.f", "Sub", "sub.Sub")
        ]
        assert set(parts) == {whole}
        return whole

    assert (by_value("i"), by_value("b")) == (False, True)
    assert len(notebook.dump(objects("i")).data) < 350
    assert "ModuleNotFoundError" in failing(reader.load, notebook.dump("i.f")).kinds
    reader.load(notebook.dump(objects("b")))
    assert reader.run(check) == [2, 3, 5, 5]

    # The other way round: a module, or its name.
    notebook.cell("jshm.pickle_by_value(i); jshm.pickle_by_reference('utils_beside')\n")
    assert (by_value("i"), by_value("b")) == (True, False)
    reader.load(notebook.dump(objects("i")))
    assert reader.run(check) == [2, 3, 5, 5]
    pickled = notebook.dump(objects("b"))
    assert "ModuleNotFoundError" in failing(reader.load, pickled).kinds
    with Interpreter(pythonpath=(str(tmp_path / "beside"),)) as other:
        other.load(pickled)
        assert other.run("import utils_beside as b; obj == [b.f, b.sub.f, b.sub.Sub, b.T, b]")

    # A module below it may have its own choice.
    notebook.cell("jshm.pickle_by_reference('utils_installed.sub')\n")
    assert b"return x + 1" in notebook.dump("i.f").data
    assert b"return x + 1" not in notebook.dump("i.sub.f").data
    notebook.cell("jshm.pickle_by_value('utils_beside.sub')\n")
    assert b"return x + 1" not in notebook.dump("b.f").data
    assert b"return x + 1" in notebook.dump("b.sub.f").data

    # A name that only begins with it is another module.
    notebook.cell("jshm.pickle_by_reference(b); jshm.pickle_by_reference(b.sub)\n")
    notebook.cell("jshm.pickle_by_value('utils_be'); jshm.pickle_by_value('utils_beside.su')\n")
    assert not by_value("b")

    # One that is not imported yet.
    (tmp_path / "beside" / "utils_later.py").write_text(UTILS)
    notebook.cell("jshm.pickle_by_reference('utils_later')\nimport utils_later\n")
    assert b"return x + 1" not in notebook.dump("utils_later.f").data


def test_invalid_choices() -> None:
    with pytest.raises(TypeError, match="a module or its name is needed, not a int"):
        pickle_by_value(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a function"):
        pickle_by_reference(dumps)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="__main__ is a different module in every notebook"):
        pickle_by_reference("__main__")


# -- what a reader needs ---------------------------------------------------------------------------


def test_require() -> None:
    modules.require({"json": "", "numpy": "1", "os.path": "", "xml.etree.ElementTree": ""}, "f")
    with pytest.raises(MissingModuleError) as caught:
        modules.require({"numpy": "", "no_such_package": "1.2"}, "train")
    text = str(caught.value)
    assert text.startswith("train needs no_such_package 1.2, which this Python cannot import")
    assert sys.executable in text
    assert "install it there" in text
    assert "jshm.pickle_by_value" in text
    assert caught.value.name == "no_such_package"
    assert isinstance(caught.value, ModuleNotFoundError)
    with pytest.raises(
        MissingModuleError, match=r"needs one_missing, two_missing\.x 3, which"
    ) as caught:
        modules.require({"one_missing": "", "two_missing.x": "3"}, "train")
    assert "install them there" in str(caught.value)


def test_require_finds_a_blocked_module_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blocked_module", None)
    with pytest.raises(MissingModuleError, match="blocked_module"):
        modules.require({"blocked_module": ""}, "x")


def test_versions() -> None:
    found = modules.versions({"pytest.x", "pytest", "json", "numpy.linalg", "no_such_package.sub"})
    assert found == {"no_such_package": "", "pytest": pytest.__version__}


def test_a_module_that_was_made_at_run_time_and_can_be_imported_here(
    writer: Interpreter, reader: Interpreter
) -> None:
    """It is in no file, so no reader can import it, although it is in `sys.modules`."""
    writer.cell(
        """\
import sys, types
made = sys.modules["made"] = types.ModuleType("made")
exec("n = 3\\ndef f(): return n\\nclass A: x = 4", vars(made))
"""
    )
    try:
        reader.load(writer.dump("[made.f, made.A(), made]"))
    finally:
        writer.run("del sys.modules['made']")
    assert reader.run("obj[0](), obj[1].x, obj[2].n, 'made' in sys.modules") == [3, 4, 3, False]
