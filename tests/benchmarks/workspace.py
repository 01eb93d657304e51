"""A private place in memory for everything a run makes; nothing of it is left."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import numpy as np

import jshm
from jshm.store import _store_in, default_store
from jshm.store.local.space import capacity
from jshm.system.directories import OpenDirectory
from jshm.system.memory import available_memory
from jshm.text import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

SHM = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
_BATCH = 200


def prefix(pid: int) -> str:
    """Return how the names of a run's directories begin; short, for the paths of sockets are."""
    return f"bench-{pid}-"


@contextlib.contextmanager
def private_store() -> Iterator[str]:
    """Make a directory whose subdirectory ``store`` is JSHM_DIR; remove all of it afterwards."""
    place = tempfile.mkdtemp(prefix=prefix(os.getpid()), dir=SHM)
    before = {name: os.environ.get(name) for name in ("JSHM_DIR", "JSHM_OVERFLOW_DIR")}
    os.environ.update(JSHM_DIR=os.path.join(place, "store"), JSHM_OVERFLOW_DIR="")
    try:
        yield place
    finally:
        default_store().close()
        # Else a later cell asks it for news, and makes it again.
        _store_in.cache_clear()
        gc.collect()
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(place, ignore_errors=True)


def size_label(nbytes: int) -> str:
    """Return a size as people write it: whole GiB as such."""
    whole, rest = divmod(nbytes, 1 << 30)
    return size_text(nbytes) if rest else f"{whole} GiB"


def room() -> int:
    """Return the bytes that can be used now."""
    free = os.statvfs(SHM)
    return min(available_memory(), capacity(OpenDirectory(SHM)), free.f_bavail * free.f_frsize)


def fill(names: int) -> None:
    """Publish small arrays until the store has this many names."""
    there = len(default_store().names())
    array = np.arange(4.0)
    for first in range(there, names, _BATCH):
        last = min(first + _BATCH, names)
        jshm.publish({f"filler/{number}": array for number in range(first, last)})
