"""Which memory of this process is shared and which is its own.

What tools call RSS counts a shared page in every process that has touched it, so an attach looks like a
copy there. `Private_Clean` and `Private_Dirty` of ``/proc/self/smaps_rollup`` mislead as well: they count
a shared page as private as long as only one process maps it.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import FileIO

    from .file import Mapping

# Bytes of a mapping above which its pages are not counted: 13 ms per GiB.
_MOST = 32 << 30
# Entries of the page map that are read at once.
_BLOCK = 1 << 20
_PRESENT_OR_SWAPPED = np.uint64(62)
_SHARED = np.uint64(61)
_OF_FILE = np.uint64(1 << 61)
# PAGEMAP_SCAN of <linux/fs.h>: `struct pm_scan_arg`, and categories of pages.
_SCAN = 0xC0606610
_SCAN_ARGUMENT = struct.Struct("=12Q")
_PAGE_IS_FILE, _PAGE_IS_PRESENT, _PAGE_IS_SWAPPED = 1 << 2, 1 << 3, 1 << 4
# It only asks: whether a process is killed at it leaves no trace, so `tests.torture.kills` need not know it.
_ask = fcntl.ioctl
# Where it writes which page it found; nobody reads that.
_FOUND = np.empty(3, np.uint64)


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
    `is_pristine`.
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


def is_pristine(mapping: Mapping, start: int = 0, stop: int | None = None) -> bool:
    """Tell whether a private mapping (from `start` to `stop`) still shows what the segment holds.

    A page that was written has been replaced by an anonymous one, and the kernel tells: since Linux 6.7
    it searches for one itself (5 µs, and 0.2 ms per 100 MB that were read), else
    ``/proc/self/pagemap`` lists all (15 µs, and 0.4 ms). Where there is no pagemap the answer is False.
    Sources: the Linux kernel's Documentation/admin-guide/mm/pagemap.rst and include/uapi/linux/fs.h.
    """
    if mapping.mode == "r+":
        return False
    page = mmap.PAGESIZE
    address = mapping.address
    first = (address + start) // page
    last = math.ceil((address + (len(mapping) if stop is None else stop)) / page)
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            try:
                return not _scan(pagemap, first * page, last * page)
            except OSError:  # an older Linux
                return _all_of_file(pagemap, first, last)
    except OSError:
        return False


def _scan(pagemap: FileIO, start: int, end: int) -> int:
    """Return whether there is a page that is present or in swap, and not of the file: 0 or 1."""
    there = _PAGE_IS_PRESENT | _PAGE_IS_SWAPPED
    argument = _SCAN_ARGUMENT.pack(
        _SCAN_ARGUMENT.size, 0, start, end, 0, _FOUND.__array_interface__["data"][0], 1, 1,
        _PAGE_IS_FILE, _PAGE_IS_FILE, there, _PAGE_IS_FILE | there,
    )  # fmt: skip
    found: int = _ask(pagemap, _SCAN, bytearray(argument))
    return found


def _all_of_file(pagemap: FileIO, first: int, last: int) -> bool:
    """Tell whether all pages that are present or in swap are of the file.

    Of a page that is present (bit 63), bit 61 tells "file-mapped or shared-anonymous"; a page in swap
    (bit 62) of a private mapping is anonymous too.
    """
    pagemap.seek(first * 8)
    while first < last:
        entries = np.frombuffer(pagemap.read(min(last - first, 1 << 20) * 8), np.uint64)
        if not len(entries):
            return False
        if bool(np.any((entries >> _PRESENT_OR_SWAPPED != 0) & (entries & _OF_FILE == 0))):
            return False
        first += len(entries)
    return True
