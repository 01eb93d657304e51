"""Modules that a function imports when it is called, and compiled modules that are not installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest

from jshm.pickling import modules

from .fresh import Interpreter, failing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Beside = Callable[[str, str], None]


@pytest.fixture
def package(beside: Beside) -> None:
    """A package beside the notebook, whose modules import one another when they are called."""
    beside("parcel/__init__.py", "")
    beside("parcel/late.py", "def g(): return 42\n")
    beside(
        "parcel/mod.py",
        """\
def f():
    from . import late
    from .late import g
    return late.g() + g()
def h():
    import parcel.late as late
    return late.g()
class A:
    def m(self):
        def inner():
            from .late import g
            return g()
        return inner()
""",
    )
    beside("helper.py", "def k(): return 7\n")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("parcel.mod.f", 84),
        ("parcel.mod.h", 42),
        ("parcel.mod.A().m", 42),
        ("lazy", 7),
        ("nested", 7),
        ("standard", "a/b"),
    ],
)
def test_a_module_is_imported_from_its_place(
    writer: Interpreter, expression: str, answer: object, tmp_path: Path
) -> None:
    writer.cell(
        """\
import parcel.mod
def lazy():
    import helper
    return helper.k()
def nested():
    return [f() for f in [lambda: __import__("helper").k(), lazy]][1]
def standard():
    import posixpath
    from os import path
    return posixpath.join("a", "b")
"""
    )
    pickled = writer.dump(expression)
    with Interpreter() as reader:
        reader.load(pickled)
        assert reader.run("[n for n in sys.modules if n.startswith(('parcel', 'helper'))]") == []
        assert reader.run("obj()") == answer
        assert str(tmp_path) not in reader.run("sys.path")


@pytest.mark.usefixtures("package")
def test_modules_of_the_reader_are_not_hidden(writer: Interpreter, tmp_path: Path) -> None:
    writer.cell("def lazy():\n    import helper\n    return helper.k()\n")
    pickled = writer.dump("lazy")
    other = tmp_path / "other"
    other.mkdir()
    (other / "helper.py").write_text("def k(): return 7\n")
    load = "import warnings\nwith warnings.catch_warnings(record=True) as caught:\n    "
    with Interpreter(pythonpath=(str(other),)) as reader:
        reader.run("import warnings; warnings.simplefilter('error')")
        reader.load(pickled)
        assert reader.run("obj(), sys.modules['helper'].__file__") == [7, str(other / "helper.py")]
    # Of another size: byte code is valid for a time in seconds and a size.
    (other / "helper.py").write_text("def k():\n    return 8\n")
    with Interpreter(pythonpath=(str(other),)) as reader:
        data = pickled.data.hex()
        reader.run(f"data = bytes.fromhex({data!r})")
        reader.run(f"{load}warnings.simplefilter('always'); obj = pickling.loads(data)")
        assert reader.run("obj()") == 8
        (message,) = reader.run("[str(w.message) for w in caught]")
        assert f"imports helper when it is called: {tmp_path / 'helper.py'}" in message
        assert str(other / "helper.py") in message


@pytest.mark.usefixtures("package")
def test_a_module_that_is_gone_is_named(writer: Interpreter, tmp_path: Path) -> None:
    writer.cell("def lazy():\n    import helper\n    return helper.k()\n")
    pickled = writer.dump("lazy")
    (tmp_path / "helper.py").unlink()
    with Interpreter() as reader:
        reader.load(pickled)
        error = failing(reader.run, "obj()")
        assert error.kinds[0] == "ModuleNotFoundError"
        assert f"No module named 'helper': it was in {tmp_path}" in error.message


# -- compiled modules ------------------------------------------------------------------------------

SOURCE = """\
#include <Python.h>
#include <structmember.h>
typedef struct { PyObject_HEAD double total; } Acc;
static PyMemberDef members[] = {{"total", T_DOUBLE, offsetof(Acc, total), 0, ""}, {0}};
static int init(Acc *self, PyObject *args, PyObject *kw) {
    self->total = 0; return PyArg_ParseTuple(args, "|d", &self->total) ? 0 : -1;
}
static PyObject *reduce(Acc *self, PyObject *_) {
    return Py_BuildValue("O(d)", Py_TYPE(self), self->total);
}
static PyMethodDef methods[] = {{"__reduce__", (PyCFunction)reduce, METH_NOARGS, ""}, {0}};
static PyTypeObject AccType = {
    PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "NAME.Acc", .tp_basicsize = sizeof(Acc),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, .tp_new = PyType_GenericNew,
    .tp_init = (initproc)init, .tp_members = members, .tp_methods = methods,
};
static PyObject *twice(PyObject *_, PyObject *x) { return PyNumber_Add(x, x); }
static PyMethodDef functions[] = {{"twice", twice, METH_O, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", "", -1, functions};
PyMODINIT_FUNC PyInit_LAST(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && PyModule_AddType(made, &AccType) < 0) return NULL;
    return made;
}
"""


def build(directory: Path, name: str) -> Path:
    """Compile a module in place, as Cython does beside a notebook."""
    last = name.rpartition(".")[2]
    compiler = shutil.which("gcc")
    include = sysconfig.get_paths()["include"]
    if compiler is None:
        pytest.skip("no compiler")
    source = directory / f"{last}.c"
    source.write_text(SOURCE.replace("NAME", name).replace("LAST", last))
    place = directory / f"{last}{sysconfig.get_config_var('EXT_SUFFIX')}"
    command = [compiler, "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no headers of Python")
    return place


COMPILED = """\
def use(x): return quick.twice(x)
def lazy(x):
    import quick as q
    return q.twice(x)
class Mine(quick.Acc):
    def more(self): return self.total + 1
"""


@pytest.mark.parametrize(
    ("expression", "check"),
    [
        ("quick.Acc(3.0)", "obj.total == 3.0"),
        ("quick.twice", "obj(2) == 4"),
        ("use", "obj(2) == 4"),
        ("lazy", "obj(2) == 4"),
        ("[quick, quick.Acc]", "obj[0].Acc is obj[1]"),
        ("Mine(2.0).more", "obj.__self__.__class__.__name__ == 'Mine' and obj.__func__"),
    ],
)
@pytest.mark.usefixtures("beside")
def test_a_compiled_module_beside(
    writer: Interpreter, tmp_path: Path, expression: str, check: str
) -> None:
    build(tmp_path, "quick")
    writer.run("import importlib; importlib.invalidate_caches()")
    writer.cell("import quick\n" + COMPILED)
    pickled = writer.dump(expression)
    with Interpreter() as reader:
        reader.load(pickled)
        assert reader.run(f"bool({check})")
        assert str(tmp_path) not in reader.run("sys.path")


def test_a_compiled_module_of_a_package(
    writer: Interpreter, beside: Beside, tmp_path: Path
) -> None:
    beside("cargo/__init__.py", "from . import quick\ndef use(x): return quick.twice(x)\n")
    build(tmp_path / "cargo", "cargo.quick")
    writer.cell("import cargo\n")
    pickled = writer.dump("[cargo.use, cargo.quick.Acc(1.5)]")
    with Interpreter() as reader:
        reader.load(pickled)
        assert reader.run("obj[0](2), obj[1].total") == [4, 1.5]


@pytest.mark.usefixtures("beside")
def test_a_compiled_module_that_is_gone(writer: Interpreter, tmp_path: Path) -> None:
    place = build(tmp_path, "quick")
    writer.run("import importlib; importlib.invalidate_caches()")
    writer.cell("import quick\n")
    pickled = writer.dump("quick.Acc(3.0)")
    place.unlink()
    with Interpreter() as reader:
        error = failing(reader.load, pickled)
    assert error.kinds[0] == "MissingModuleError"
    assert f"it was {place}" in error.message
    assert "Add its directory to sys.path, or install it" in error.message


def test_a_compiled_module_never_goes_by_value() -> None:
    name = next(n for n, m in sys.modules.items() if n.startswith("numpy.") and _is_compiled(m))
    modules.pickle_by_value(name)
    try:
        assert not modules.is_by_value(name)
    finally:
        modules._chosen.clear()
        modules._judged.clear()


def _is_compiled(module: object) -> bool:
    return str(getattr(module, "__file__", "")).endswith(".so")
