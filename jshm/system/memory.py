"""Memory of the machine or of the tightest cgroup around this process, and sizes that users set.

Under a cgroup limit the numbers are best effort: other processes in the group allocate too, and the
kernel answers an excess with SIGKILL.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ..errors import InvalidSettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CGROUPS = "/sys/fs/cgroup"
# The share of the memory that should stay free: when memory runs out, Linux kills processes.
SCARCE = 0.1
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|(?:([kmgt])(i?))?b?)", re.IGNORECASE)


class Memory(NamedTuple):
    """Bytes of the memory of the machine or of a cgroup: those that can be allocated, and all."""

    available: int
    total: int


def tightest() -> Memory:
    """Return the memory of the level (machine or cgroup) that has the least available."""
    return min(_levels(), default=Memory(1 << 62, 1 << 62))


def available_memory() -> int:
    """Return the bytes that can be allocated."""
    return tightest().available


def total_memory() -> int:
    """Return the bytes of memory of the machine, or of the smallest cgroup around this process."""
    return min((level.total for level in _levels()), default=1 << 62)


def is_short() -> bool:
    """Return whether less memory is available than should stay free."""
    memory = tightest()
    return memory.available < SCARCE * memory.total


def size_setting(variable: str, default: str = "") -> int | None:
    """Return the bytes that an environment variable sets; None if neither it nor `default` sets any.

    The value is a number with an optional unit (``8G``, ``2Gi``), or a share of the memory (``50%``).

    Raises
    ------
    InvalidSettingError
    """
    text = os.environ.get(variable, "").strip() or default
    return _parse_size(variable, text) if text else None


@lru_cache(maxsize=16)
def _parse_size(variable: str, text: str) -> int:
    found = _SIZE.fullmatch(text)
    number = float(found[1]) if found else -1.0
    if found is None or (text.endswith("%") and number > 100):  # noqa: PLR2004
        raise InvalidSettingError(
            f"{variable} is {text!r}: give bytes, like 8G, 500M, 2Gi or 1000000, or a share of the "
            "memory, like 50%"
        )
    if text.endswith("%"):
        return int(total_memory() * number / 100)
    power = " kmgt".index((found[2] or " ").lower())
    return int(number * (1024 if found[3] else 1000) ** power)


def _levels() -> Iterator[Memory]:
    try:
        with open("/proc/meminfo") as file:
            found = dict(line.split(":") for line in file)
        kibibytes = (int(found[name].split()[0]) for name in ("MemAvailable", "MemTotal"))
        yield Memory(*(n << 10 for n in kibibytes))
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


def _groups(mount: str, path: str, limit_file: str, usage_file: str) -> Iterator[Memory]:
    """Yield the memory of each cgroup from `path` up to the mount; file cache counts as free."""
    while True:
        group = mount + path.rstrip("/")
        try:
            limit, usage = _number(group, limit_file), _number(group, usage_file)
            with open(f"{group}/memory.stat") as file:
                stats = dict(line.split() for line in file)
            # In version 1 the sum over the inner groups has another name.
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
