"""Pages: how much of this process's memory is shared, and whether private mappings were written to.

RSS counts a shared page in every process that has touched it, so an attach looks like a copy in tools that
show it. `Private_Clean` and `Private_Dirty` of ``/proc/self/smaps_rollup`` mislead as well: they count a
shared page as private while only one process maps it.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO

    import numpy.typing as npt

    from .file import Mapping

# Bytes. The pages of larger mappings are not counted, which takes 13 ms per GiB.
_MOST = 32 << 30
# Entries of the page map in one read.
_BLOCK = 1 << 20
_PRESENT_OR_SWAPPED = np.uint64(62)
_OF_FILE = np.uint64(1 << 61)
# PAGEMAP_SCAN of <linux/fs.h>: `struct pm_scan_arg`, and categories of pages.
_SCAN = 0xC0606610
_SCAN_ARGUMENT = struct.Struct("=12Q")
_PAGE_IS_FILE, _PAGE_IS_PRESENT, _PAGE_IS_SWAPPED = 1 << 2, 1 << 3, 1 << 4
# Under another name, because the kill tests must know every call that can change a file, and this cannot.
_ask = fcntl.ioctl
# The kernel writes the found page range here; it is not used.
_FOUND = np.empty(3, np.uint64)


class Pages(NamedTuple):
    """Bytes of memory: in pages that other processes may have too, and in pages of this process only."""

    shared: int
    own: int


def of_process() -> Pages | None:
    """Return the shared and the own part of this process's RSS; None if the system does not tell.

    ``RssShmem`` and ``RssFile`` count the pages of shared memory and of files, ``RssAnon`` all others,
    also copied-on-write ones. Source: proc_pid_status(5). This takes 25 µs at any size.
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
    """Return the parts of mappings that are in memory; None if the system does not tell, or one is too large.

    A page that was written in a private mapping counts as own: see `is_pristine`.
    """
    shared = own = 0
    try:
        for mapping in mappings:
            if len(mapping) > _MOST:
                return None
            first = mapping.address // mmap.PAGESIZE
            last = first + math.ceil(len(mapping) / mmap.PAGESIZE)
            with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
                for there in _present(pagemap, first, last):
                    of_file = int(np.count_nonzero(there & _OF_FILE))
                    shared += of_file
                    # A page of the file that is in swap has no entry here; one of our own has.
                    own += len(there) - of_file if mapping.mode != "r+" else 0
    except OSError:
        return None
    return Pages(shared * mmap.PAGESIZE, own * mmap.PAGESIZE)


def is_pristine(mapping: Mapping, start: int = 0, stop: int | None = None) -> bool:
    """Return whether a private mapping, from `start` to `stop`, was never written to.

    A write replaces a page by an anonymous one. Since Linux 6.7 the kernel searches for such a page (5 µs,
    and 0.2 ms per 100 MB that were read); before, ``/proc/self/pagemap`` lists all pages (15 µs, and
    0.4 ms). Without a pagemap the answer is False.
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
                return all(np.all(there & _OF_FILE) for there in _present(pagemap, first, last))
    except OSError:
        return False


def _scan(pagemap: FileIO, start: int, end: int) -> int:
    """Return 1 if a page is present or in swap and does not belong to the file, else 0."""
    there = _PAGE_IS_PRESENT | _PAGE_IS_SWAPPED
    argument = _SCAN_ARGUMENT.pack(
        _SCAN_ARGUMENT.size, 0, start, end, 0, _FOUND.__array_interface__["data"][0], 1, 1,
        _PAGE_IS_FILE, _PAGE_IS_FILE, there, _PAGE_IS_FILE | there,
    )  # fmt: skip
    found: int = _ask(pagemap, _SCAN, bytearray(argument))
    return found


def _present(pagemap: FileIO, first: int, last: int) -> Iterator[npt.NDArray[np.uint64]]:
    """Yield, in blocks, the entries of the pages that are present (bit 63) or in swap (bit 62).

    For a present page, bit 61 means "file-mapped or shared-anonymous". A page in swap of a private mapping
    is anonymous.

    Raises
    ------
    OSError
        The page map ends too early.
    """
    pagemap.seek(first * 8)
    while first < last:
        entries = np.frombuffer(pagemap.read(min(last - first, _BLOCK) * 8), np.uint64)
        if not len(entries):
            raise OSError("the page map is incomplete")
        yield entries[entries >> _PRESENT_OR_SWAPPED != 0]
        first += len(entries)
