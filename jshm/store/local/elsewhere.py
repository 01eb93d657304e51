"""Whether another process of this host has the same store as this one."""

from __future__ import annotations

import os

from .directory import default_root


def elsewhere(pid: int) -> str:
    """Return why a process on this host has another store than we; '' if it has the same."""
    try:
        status = os.stat(f"/proc/{pid}")
        if status.st_uid != os.geteuid():
            return "belongs to another user"
        theirs = os.stat(f"/proc/{pid}/root/dev/shm")
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = dict(v.partition(b"=")[::2] for v in file.read().split(b"\0"))
    except OSError:  # it has ended, or there is no /proc
        return ""
    ours = os.stat("/dev/shm")  # noqa: S108
    chosen = default_root(os.fsdecode(variables.get(b"JSHM_DIR", b"")))
    if os.path.realpath(chosen) != os.path.realpath(default_root()):
        return "has another JSHM_DIR"
    if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
        return "runs in another container"
    return ""
