"""How much fits: what is free in the store's directory, and what the machine's memory still bears."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import NoSpaceError
from ..text import size_text
from .directory import IN_MEMORY, filesystem

if TYPE_CHECKING:
    from .directory import Directory

# Never filled: room for the registry's log.
RESERVE = 1 << 20
# Below this a publish does not read what the machine has left: it costs more than the copy.
_SMALL = 1 << 20


def choose(directory: Directory, nbytes: int) -> bool:
    """Return whether a segment of `nbytes` must overflow to disk.

    Raises
    ------
    NoSpaceError
        It fits nowhere; says how much is free where.
    """
    free = _free(directory.segments)
    if nbytes <= free and nbytes < _SMALL:
        return False
    memory = available_memory() if directory.in_memory else free
    if nbytes <= min(free, memory):
        return False
    reason = f"{size_text(max(free, 0))} free in {directory.root}"
    if memory < free:
        reason = f"{size_text(max(memory, 0))} of memory available"
    if not directory.overflow:
        raise NoSpaceError(
            f"needs {size_text(nbytes)}, {reason} (overflow to disk is switched off)"
        )
    directory.open_overflow()
    disk, where = _free(directory.overflow), "on disk in"
    if filesystem(directory.overflow) in IN_MEMORY and (memory := available_memory()) < disk:
        disk, where = memory, "of memory for"
    if nbytes > disk:
        raise NoSpaceError(
            f"needs {size_text(nbytes)}, {reason}, {size_text(max(disk, 0))} {where} "
            f"{directory.overflow}"
        )
    return True


def free(root: str) -> int:
    """Return the bytes that could still be shared in memory, in a store's directory."""
    left = _free(root)
    return max(0, min(left, available_memory()) if filesystem(root) in IN_MEMORY else left)


def _free(path: str) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize - RESERVE


def capacity(path: str) -> int:
    """Return the size in bytes of the file system that a path is on."""
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


def available_memory() -> int:
    """Return the bytes that can be allocated: of the machine, or of the tightest cgroup around us.

    Under a cgroup limit this is best effort: others in the group allocate too, and the kernel answers
    an excess with SIGKILL.
    """
    free = [1 << 62]
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    free.append(int(line.split()[1]) << 10)
        with open("/proc/self/cgroup") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return min(free)
    for _, controllers, path in groups:
        if not controllers:
            free += _group_free("/sys/fs/cgroup", path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            mount = "/sys/fs/cgroup/memory"
            free += _group_free(mount, path, "memory.limit_in_bytes", "memory.usage_in_bytes")
    return min(free)


def _group_free(mount: str, path: str, limit_file: str, usage_file: str) -> list[int]:
    """Return what each cgroup from `path` up to the mount has left; file cache counts as free."""
    free = []
    while True:
        group = mount + path.rstrip("/")
        try:
            limit, usage = _number(group, limit_file), _number(group, usage_file)
            with open(f"{group}/memory.stat") as file:
                stats = dict(line.split() for line in file)
            free.append(limit - usage + int(stats.get("inactive_file", 0)))
        except (OSError, ValueError):  # no such level here, or "max"
            pass
        if path in ("/", ""):
            return free
        path = os.path.dirname(path)


def _number(group: str, name: str) -> int:
    with open(f"{group}/{name}") as file:
        return int(file.read())
