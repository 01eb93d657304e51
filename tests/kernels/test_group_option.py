"""The option ``--group`` in live kernels and on the command line."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from ..conftest import PREFIX, SHM

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = grp.getgrgid(os.getegid()).gr_name


@pytest.fixture
def place(store_dir: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    root = tempfile.mkdtemp(prefix=PREFIX, dir=SHM)
    monkeypatch.setenv("JSHM_GROUP_DIR", root)
    yield root
    shutil.rmtree(root)


def test_notebooks_use_their_own_store_and_a_group_s(open_notebook, place):
    a, b = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    a.do("X = np.arange(6.0)")
    line = a.do(f"%shm_publish X --group {GROUP}")
    assert line.startswith("X v1 · float64 (6,) · 48 B")
    assert f"→ %shm_attach X --group {GROUP}\n" in line
    assert "nothing is shared under 'X'" in b.fail("%shm_attach X").evalue
    assert b.do(f"%shm_attach X --group {GROUP} --as Y").startswith("Y ← X v1 from a.ipynb, ")
    assert b.value("Y.sum()") == 15.0
    listed = str(b(f"%shm_list --group {GROUP}").results)
    assert "1 name ·" in listed
    assert "Owner" in listed
    assert pwd.getpwuid(os.geteuid()).pw_name in listed
    assert "Nothing is shared" in str(b("%shm_list").results)
    assert "b.ipynb" in str(a(f"%shm_info X --group {GROUP}").results)
    assert b.complete(f"%shm_info --group {GROUP} ") == [("X", "float64\xa0(6,)")]
    assert "X" not in dict(b.complete("%shm_info "))
    # What is let go is told to the group's store after the cell.
    assert b.do("%shm_detach Y").startswith("Y detached · deleted Y · ")
    assert b.do(f"%shm_list --group {GROUP}") == ""
    assert "not in use" in str(b(f"%shm_list --group {GROUP}").results)
    done = a.do(f"%shm_release X --group {GROUP}")
    assert done == "X released · 48 B freed\n"
    assert "only your own names" in a.fail(f"%shm_browser --group {GROUP}").evalue
    assert "there is no group 'nowhere'" in a.fail("%shm_list --group nowhere").evalue


def test_a_kernel_that_works_in_a_group_s_store(open_notebook, place):
    a = open_notebook("a.ipynb")
    a.do(f"%env JSHM_GROUP={GROUP}")
    a.do("def f():\n    return 3\n%shm_publish f")
    root = f"{place}/jshm-group-{GROUP}-{os.geteuid()}"
    assert os.listdir(f"{root}/segments")
    a.do("del f\n%shm_attach f")  # one's own
    assert a.value("f()") == 3
    command = [sys.executable, "-m", "jshm", "--group", GROUP]
    shown = subprocess.run([*command, "list"], capture_output=True, text=True, check=True).stdout
    assert "function f()" in shown
    subprocess.run([*command, "release", "f", "--force"], capture_output=True, check=True)
    assert os.listdir(f"{root}/segments") == []
