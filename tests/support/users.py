"""Real users and groups of this machine, for tests that run as root; and processes that become them."""

from __future__ import annotations

import contextlib
import grp
import itertools
import os
import pwd
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The modules are loaded first: the other user may not be able to read them.
_BECOME = """
import ctypes, glob, grp, hashlib, importlib, os, pickle, pkgutil, platformdirs, pwd, tempfile, warnings
import cloudpickle, numpy as np, numpy.lib.format, numpy.ma
import jshm
for package in ("", "pickling", "store"):
    for module in pkgutil.iter_modules([os.path.join(jshm.__path__[0], package)]):
        if not module.ispkg and module.name not in ("__main__", "cli", "widget"):
            importlib.import_module(".".join(filter(None, ("jshm", package, module.name))))
import encodings.ascii, encodings.idna, encodings.latin_1
pickle.loads(pickle.dumps(np.ma.masked_array([1], mask=[0])))
os.setgroups({groups!r})
os.setresgid({gid}, {gid}, {gid})
os.setresuid({uid}, {uid}, {uid})
assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0  # PR_SET_DUMPABLE: /proc/self is ours again
os.environ["HOME"] = "/"
os.umask({umask})
"""


@dataclass(frozen=True)
class User:
    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    def child(
        self,
        directory: Path,
        script: str,
        env: dict[str, str],
        *,
        umask: int = 0o077,
        before: str = "",
    ) -> Child:
        """Start a process of this user; `before` is run as root, in a store that is there already."""
        child = Child(directory, script, env=env)
        if before:
            child.run(before)
        child.run(_BECOME.format(groups=list(self.groups), gid=self.gid, uid=self.uid, umask=umask))
        return child


@dataclass(frozen=True)
class People:
    """Two members of a group, and one who is in none.

    Attributes
    ----------
    group : str
    gid : int
    """

    group: str
    gid: int
    ada: User
    bob: User
    eve: User


_made = itertools.count()


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def people() -> Iterator[People]:
    """Make them, and remove them afterwards."""
    if os.geteuid() != 0:
        pytest.skip("other users can only be made by root")
    group = f"jshmt{os.getpid()}x{next(_made)}"  # a process may make them twice
    names = [f"{group}{letter}" for letter in "abe"]
    made = []
    try:
        _do("groupadd", group)
        gid = grp.getgrnam(group).gr_gid
        users = []
        for name in names:
            _do("useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name)
            made.append(name)
            member = name != names[-1]
            if member:
                _do("usermod", "--append", "--groups", group, name)
            known = pwd.getpwnam(name)
            groups = (known.pw_gid, gid) if member else (known.pw_gid,)
            users.append(User(name, known.pw_uid, known.pw_gid, groups))
        yield People(group, gid, *users)
    finally:
        for name in made:
            _do("userdel", name)
        _do("groupdel", group)
