"""Magics and completion in the notebooks of two members."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from ....support.processes import Child
    from ....support.users import People

pytestmark = pytest.mark.xdist_group("users")  # they are created once

# Runs before the process changes its user, who may not be able to read the modules.
SHELL = """
import jshm, numpy as np
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
shell = InteractiveShell.instance()
def do(code):
    with capture_output() as seen:
        done = shell.run_cell(code)
    error = done.error_in_exec or done.error_before_exec
    shown = "".join(one.data["text/plain"] for one in seen.outputs)
    return str(error) if error else seen.stdout + shown
do("import numpy as np\\n%load_ext jshm")
do("w = np.zeros(3)\\n%shm_publish w\\n%shm_list\\n%shm_info w\\n%shm_attach w --follow\\n%shm_detach w\\n"
   "%shm_release w\\n%shm_attach nowhere")
from types import SimpleNamespace
from jshm.ipython.completion import match_names
"""


@pytest.fixture
def shells(start: Callable[..., Child], lab: People) -> tuple[Child, Child]:
    return start(lab.ada, "a.py", before=SHELL), start(lab.bob, "b.py", before=SHELL)


def test_names_of_other_members_in_magics(shells: tuple[Child, Child], lab: People) -> None:
    ada, bob = shells
    a, b = lab.ada.name, lab.bob.name

    def said(child: Child, code: str) -> str:
        return str(child.run(f"do({code!r})"))

    said(ada, "X = np.arange(6.0); Y = np.ones(2)\n%shm_publish X Y\n%shm_publish X --as exp/W")
    listed = said(bob, "%shm_list")
    assert listed.split("\n")[0].split()[:3] == ["Name", "Owner", "v"]
    assert listed.split("\n")[1].split()[:3] == ["X", a, "1"]
    assert said(bob, "%shm_attach X").startswith("X ← v1 from ")
    assert said(bob, "print(X.sum())") == "15.0\n"
    assert f"{b}:X v1" in said(bob, "X = np.zeros(3)\n%shm_publish X")
    assert f"use {b}:X or {a}:X" in said(bob, "%shm_attach X")
    assert said(bob, f"%shm_attach {a}:X --as theirs").startswith(f"theirs ← {a}:X v1")
    assert said(bob, f"%shm_attach '{a}:exp/*'").startswith(f"W ← {a}:exp/W v1")
    assert said(bob, f"%shm_info {a}:X").split("\n")[0].split() == ["Name", f"{a}:X", "v1"]
    assert f"only {a} can release it" in said(bob, f"%shm_release {a}:X --force")
    # A pattern only matches names that this user may release.
    assert said(bob, "%shm_release '*' --all --force") == f"{b}:X released · 24 B freed\n"
    gone = said(bob, f"%shm_detach {a}:X")
    assert gone.startswith(f"{a}:X detached · deleted theirs")


def test_a_followed_name_stays_with_its_member(shells: tuple[Child, Child], lab: People) -> None:
    """Another member who shares the same name is not followed instead."""
    ada, bob = shells
    a = lab.ada.name

    def said(child: Child, code: str) -> str:
        return str(child.run(f"do({code!r})"))

    said(ada, "X = np.arange(6.0)\n%shm_publish X")
    said(bob, "%shm_attach X --follow")
    assert "followed here" in said(bob, "%shm_list")
    said(ada, "X = np.ones(6)\n%shm_publish X")
    said(bob, "Z = np.zeros(1)\n%shm_publish Z --as X")
    assert said(bob, "print(X.sum())").endswith("6.0\n")
    said(ada, "%shm_release X")
    assert f"{a}:X was released" in said(bob, "print(X.sum())")
    assert said(bob, "print(X.sum())") == "6.0\n"


def test_tab_completes_the_names_of_all_members(shells: tuple[Child, Child], lab: People) -> None:
    ada, bob = shells
    a, b = lab.ada.name, lab.bob.name
    ada.run("do('X = np.zeros(2)\\n%shm_publish X\\n%shm_publish X --as only')")
    bob.run("do('X = np.zeros(2)\\n%shm_publish X')")

    def offered(text: str) -> list[str]:
        bob.run(
            f"context = SimpleNamespace(line_with_cursor={text!r}, cursor_position={len(text)})"
        )
        return list(bob.run("[c.text for c in match_names(context)['completions']]"))

    assert offered("%shm_attach ") == [f"{a}:X", f"{b}:X", "only"]
    assert offered("%shm_release ") == [f"{b}:X"]  # only names that this user may release
    assert offered(f"%shm_release {a}:") == []
    assert offered(f"%shm_attach {a}:") == [f"{a}:X", f"{a}:only"]
