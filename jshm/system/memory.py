"""How much memory there is, and is left: of the machine, or of the tightest cgroup around us.

Under a cgroup limit this is best effort: others in the group allocate too, and the kernel answers an
excess with SIGKILL.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_CGROUPS = "/sys/fs/cgroup"
# The share of the memory that should always be left: where it runs out, Linux kills processes.
SCARCE = 0.1


class Memory(NamedTuple):
    """Bytes of memory of the machine or of a cgroup: what can still be allocated, and all of it."""

    available: int
    total: int


def tightest() -> Memory:
    """Return where the least is available."""
    return min(_levels(), default=Memory(1 << 62, 1 << 62))


def available_memory() -> int:
    """Return the bytes that can be allocated."""
    return tightest().available


def total_memory() -> int:
    """Return the bytes of memory that there are: of the machine, or of the smallest cgroup around us."""
    return min((level.total for level in _levels()), default=1 << 62)


def is_short() -> bool:
    """Tell whether less is left than always should be."""
    memory = tightest()
    return memory.available < SCARCE * memory.total


def _levels() -> Iterator[Memory]:
    try:
        with open("/proc/meminfo") as file:
            found = dict(line.split(":") for line in file)
        yield Memory(*(_kibibytes(found[name]) for name in ("MemAvailable", "MemTotal")))
        with open("/proc/self/cgroup") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except (OSError, KeyError):
        return
    for _, controllers, path in groups:
        if not controllers:
            yield from _groups(_CGROUPS, path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            mount = f"{_CGROUPS}/memory"
            yield from _groups(mount, path, "memory.limit_in_bytes", "memory.usage_in_bytes")


def _kibibytes(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) << 10


def _groups(mount: str, path: str, limit_file: str, usage_file: str) -> Iterator[Memory]:
    """Yield each cgroup from `path` up to the mount; file cache counts as free."""
    while True:
        group = mount + path.rstrip("/")
        try:
            limit, usage = _number(group, limit_file), _number(group, usage_file)
            with open(f"{group}/memory.stat") as file:
                stats = dict(line.split() for line in file)
            # In version 1 the sum over the groups within has a name of its own.
            cache = int(stats.get("total_inactive_file", stats.get("inactive_file", 0)))
            yield Memory(limit - usage + cache, limit)
        except (OSError, ValueError):  # no such level here, or "max"
            pass
        if path in ("/", ""):
            return
        path = os.path.dirname(path)


def _number(group: str, name: str) -> int:
    with open(f"{group}/{name}") as file:
        return int(file.read())
