"""A store that lacks optional abilities: each face says so in one line, and the rest works."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm import cli

if TYPE_CHECKING:
    from jshm.store.base import Store

NOTEBOOK = """
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from jshm.store import default_store

HistoryManager.enabled = False
type(default_store()).abilities = frozenset()
shell = InteractiveShell.instance()
for cell in (
    "%load_ext jshm",
    "X = [1]",
    "%shm_push X --to b.ipynb",
    "%shm_accept",
    "%shm_publish X --writable",
    "%%shm_once Y\\nY = 1",
    "import jshm; print('Y' in globals(), jshm.segments())",
    "%shm_publish X --keep",
    "%shm_attach X --as Y --follow",
    "_ = jshm.publish('X', [2], keep=True)",
    "print(Y)",
):
    shell.run_cell(cell)
"""
ERRORS = """\
UsageError: %shm_push is not possible: this store has no offers between notebooks
UsageError: %shm_accept is not possible: this store has no offers between notebooks
UsageError: %shm_publish --writable is not possible: this store has no writable data
UsageError: %%shm_once is not possible: this store has no locks
"""


def test_magics_say_what_the_store_lacks(store: Store) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, check=True
    )
    assert done.stderr == ERRORS
    nothing, *others, last = done.stdout.splitlines()
    assert nothing == "False []"
    assert [line[:5] for line in others] == ["X v1 ", "Y ← X", "Y → X"]
    assert last == "[2]"


def test_commands_and_functions_say_what_the_store_lacks(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(type(store), "abilities", frozenset())
    with pytest.raises(
        jshm.UnsupportedError, match="writable=True is not possible: this store has no"
    ):
        jshm.publish("X", np.ones(3), writable=True)
    jshm.publish("X", np.ones(3))
    assert cli.main(["list"]) == 0
    assert cli.main(["path", "X"]) == 1
    assert "jshm path is not possible: this store has no files" in capsys.readouterr().err
