"""Real users with a common group, and processes that run as these users."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from ....conftest import PREFIX, SHM
from ....support.users import People, User, people

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ....support.processes import Child


@pytest.fixture(scope="session")
def lab() -> Iterator[People]:
    with people() as made:
        yield made


@pytest.fixture
def place(store_dir: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A directory like /dev/shm, in which all users may create directories."""
    root = tempfile.mkdtemp(prefix=PREFIX, dir=SHM)
    os.chmod(root, 0o1777)
    monkeypatch.setenv("JSHM_GROUP_DIR", root)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def start(lab: People, place: str, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Start a process of a user, in the group's store or (with an empty group) in a private one."""
    tmp_path.chmod(0o755)
    started: list[Child] = []

    def start(user: User, script: str = "train.py", group: str | None = None, **how: Any) -> Child:
        env = {"JSHM_GROUP": lab.group if group is None else group}
        env["JSHM_DIR"] = os.path.join(place, f"own-{user.name}")
        child = user.child(tmp_path, script, env, **how)
        started.append(child)
        child.run("import jshm, numpy as np")
        return child

    yield start
    for child in started:
        child.__exit__()


def root_of(place: str, lab: People, user: User) -> str:
    """Return the directory in which a user shares with the group."""
    return os.path.join(place, f"jshm-group-{lab.group}-{user.uid}")


def files(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield a directory and everything in it: paths and their status."""
    for directory, _, names in os.walk(root):
        for name in ["", *names]:
            path = os.path.join(directory, name)
            yield path, os.lstat(path)
