"""Which memory of this process is shared and which is its own.

What tools call RSS counts a shared page in every process that has touched it, so an attach looks like a
copy there. `Private_Clean` and `Private_Dirty` of ``/proc/self/smaps_rollup`` mislead as well: they count
a shared page as private as long as only one process maps it.
"""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .segment import Mapping

# Bytes of a mapping above which its pages are not counted: 13 ms per GiB.
_MOST = 32 << 30
# Entries of the page map that are read at once.
_BLOCK = 1 << 20
_PRESENT_OR_SWAPPED = np.uint64(62)
_SHARED = np.uint64(61)


class Pages(NamedTuple):
    """Bytes of memory: of pages that others may have too, and of this process's own."""

    shared: int
    own: int


def of_process() -> Pages | None:
    """Return what this process's RSS consists of; None where the system does not say.

    ``RssShmem`` and ``RssFile`` count the pages of shared memory and of files, ``RssAnon`` all others,
    also those that copy-on-write made. Source: proc_pid_status(5). It takes 25 µs, at any size.
    """
    found = {}
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                name, _, text = line.partition(":")
                if name.startswith("Rss"):
                    found[name] = int(text.split()[0]) << 10
        return Pages(found["RssShmem"] + found["RssFile"], found["RssAnon"])
    except (OSError, KeyError, ValueError, IndexError):
        return None


def of_mappings(mappings: Iterable[Mapping]) -> Pages | None:
    """Return what of mappings is in memory; None where the system does not say, or they are too large.

    A page that was written in a private mapping is an anonymous one from then on, see
    `segment.is_pristine`.
    """
    shared = own = 0
    try:
        for mapping in mappings:
            if len(mapping) > _MOST:
                return None
            left = math.ceil(len(mapping) / mmap.PAGESIZE)
            with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
                pagemap.seek(mapping.address // mmap.PAGESIZE * 8)
                while left > 0:
                    entries = np.frombuffer(pagemap.read(min(left, _BLOCK) * 8), np.uint64)
                    if not len(entries):
                        return None
                    there = entries[entries >> _PRESENT_OR_SWAPPED != 0]
                    of_file = int(np.count_nonzero(there >> _SHARED & np.uint64(1)))
                    shared += of_file
                    # What is of the file and in swap has no entry here; what is ours has.
                    own += len(there) - of_file if mapping.mode != "r+" else 0
                    left -= len(entries)
    except OSError:
        return None
    return Pages(shared * mmap.PAGESIZE, own * mmap.PAGESIZE)
