"""SIGKILL at any instruction of any operation loses nothing, tears nothing and leaks nothing.

These are samples; ``python -m tests.torture --only kills`` kills at every point.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import jshm

from . import runner, strace
from .fuse import CALLS, HARMLESS

ROOT = Path(jshm.__file__).parent
FACES = {"cli.py", "demo", "ipython", "server", "widget.py"}
MODULES = [
    path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in FACES
]
EVERY = {"boundaries": 23, "calls": 101}
# All but the ways around the methods in which the fuse is: of SQLite's connections, and of files.
AROUND = {"backup", "commit", "cursor", "executemany", "executescript", "write_bytes", "write_text"}


def kill(how: str, family: str) -> None:
    found = runner.kill(how, family, "--every", str(EVERY[how]))
    assert {name: one.wrong for name, one in found.items() if one.wrong} == {}
    tried = {scenario.name: scenario for scenario in runner.FAMILIES[family]}
    if how == "boundaries":
        few = {
            name: one.killed
            for name, one in found.items()
            if one.killed < tried[name].boundaries // EVERY[how]
        }
        assert not few, "the fuse does not see what the operation does"
    if missing := tried.keys() - found.keys():
        pytest.skip(f"not tried, for want of the right to mount: {', '.join(sorted(missing))}")


@pytest.mark.parametrize("family", runner.FAMILIES)
def test_killed_on_the_way(family: str) -> None:
    """Before every call by which jshm reaches the system or SQLite, and in the middle of writes."""
    kill("boundaries", family)


@pytest.mark.skipif(not strace.can_trace(), reason="strace is not installed, or may not trace")
@pytest.mark.parametrize("family", runner.FAMILIES)
def test_killed_at_system_calls(family: str) -> None:
    """SQLite's included."""
    kill("calls", family)


def test_killed_at_random_times() -> None:
    """Where nothing can be counted: in SQLite's shared memory, between two instructions."""
    found = runner.kill("times", "", "--count", "30")
    assert {name: one.wrong for name, one in found.items() if one.wrong} == {}
    assert sum(one.killed for one in found.values()) == 30


def test_the_fuse_knows_every_call() -> None:
    """At a system call that it does not know nobody would ever be killed."""
    unknown = []
    for path in MODULES:
        where = path.relative_to(ROOT)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in {
                "os",
                "fcntl",
                "mmap",
                "sqlite3",
            }:
                unknown.append(f"{where}:{node.lineno}: from {node.module} import …")
            if isinstance(node, ast.Call) and not _is_known(node, path.name):
                unknown.append(f"{where}:{node.lineno}: {ast.unparse(node)}")
    assert unknown == []


def _is_known(call: ast.Call, file: str) -> bool:
    name = ast.unparse(call.func)
    module, _, function = name.rpartition(".")
    return not (
        (module == "os" and function not in CALLS | HARMLESS)
        or (module == "fcntl" and function not in {"flock", "fcntl"})
        or (module == "shutil" and function != "rmtree")  # which calls `os` in its turn
        or (module == "mmap" and function != "mmap")
        or (name == "Mapping" and file != "file.py")
        or (name == "open" and _writes(call))
        # `copying.write_bytes` is called like pathlib's, and goes through the segment's `write`.
        or (module not in {"", "copying"} and function in AROUND)
    )


def _writes(call: ast.Call) -> bool:
    """Return whether ``open`` is called to write: such a file would need its own fuse."""
    modes = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "mode")]
    return any(
        not isinstance(mode, ast.Constant) or set(mode.value) & set("wax+") for mode in modes
    )
