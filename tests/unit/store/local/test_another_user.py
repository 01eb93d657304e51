"""A process that changes its user (`os.setuid`) loses its store, and ends without an error."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import jshm
from jshm.store import default_store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")

NOBODY = 65534
# Imports everything now, because the new user may not be able to read the files.
BEGIN = """
import os, sys, time, multiprocessing, numpy as np
import jshm, jshm.api, jshm.pickling, jshm.store, jshm.store.handle
X = np.arange(100_000.0)
jshm.publish("X", X); jshm.publish("X", X); jshm.publish("kept", X, keep=True)
x = jshm.attach("X"); handle = jshm.SharedNumpyArray.as_shared(x); store = jshm.store.default_store()
"""
PROGRAMS = {
    "setuid": "os.setuid(65534)",
    "with its groups": "os.setgroups([]); os.setgid(65534); os.setuid(65534)",
    "for a while": "os.seteuid(65534); os.seteuid(0)",
    "only effective": "os.seteuid(65534)",
    "a child": "if not os.fork(): os.setuid(65534)\nelse: os.wait()",
    "a child that goes on": "if not os.fork(): os.setuid(65534); del x; sys.exit()\nelse: os.wait()",
    "a worker": "p = multiprocessing.get_context('fork').Process(target=os.setuid, args=(65534,))\n"
    "p.start(); p.join(); assert p.exitcode == 0",
    "lets go": "os.setuid(65534); handle.detach(); del x, X; store.flush(); store.close()",
    "has it attached": "os.setuid(65534); assert x[-1] == 99_999",
}


def run(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "privileged.py"
    script.write_text(BEGIN + code)
    return subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=100
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_changes_its_user_ends_silently(
    store_dir: str, tmp_path: Path, program: str
) -> None:
    done = run(PROGRAMS[program], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # The first user has the kept name, and nothing else.
    jshm.gc()
    assert default_store().names() == ["kept"]
    assert jshm.check() == []


OPERATIONS = """
os.setuid(65534)
OPERATIONS = {
    "list": jshm.segments, "info": lambda: jshm.info("X"), "attach": lambda: jshm.attach("X"),
    "publish": lambda: jshm.publish("Y", np.zeros(3)), "release": lambda: jshm.release("X"),
    "gc": jshm.gc, "check": jshm.check, "empty": lambda: jshm.empty(3), "lock": lambda: jshm.lock("X"),
    "of the store": store.names, "attach from the store": lambda: store.attach(["X"]),
    "publish in the store": lambda: store.publish({"Y": X}), "name": lambda: handle.name,
    "release the handle": handle.release, "in use": handle.is_in_use,
}
for what, operation in OPERATIONS.items():
    try:
        operation()
        print(what, "was done")
    except jshm.UnsafeDirectoryError as error:
        assert "belongs to user 0" in str(error) or "was opened by user 0" in str(error), error
        assert "65534" in str(error)
"""


def test_the_former_user_s_store_is_refused(store_dir: str, tmp_path: Path) -> None:
    done = run(OPERATIONS, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    jshm.gc()
    assert default_store().names() == ["kept"]


def test_the_new_user_has_another_store(
    store_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chmod(store_dir, 0o1777)
    monkeypatch.delenv("JSHM_DIR")
    code = f"""
import os, numpy as np, jshm, jshm.api, jshm.store.local.directory as directory
directory._shared_memory = lambda: {store_dir!r}
jshm.publish("X", np.zeros(3))
os.setuid({NOBODY})
assert jshm.segments() == []
jshm.publish("Y", np.ones(3))
assert jshm.attach("Y").tolist() == [1, 1, 1]
assert sorted(os.listdir({store_dir!r})) == ["jshm-0", "jshm-{NOBODY}"]
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    os.chmod(store_dir, 0o700)
    assert (done.returncode, done.stderr) == (0, "")
