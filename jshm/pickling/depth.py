"""How deep an object may be nested: as far as the thread's stack reaches.

The C pickler calls itself, and only Python's recursion limit stops it. A user who raises that limit lets
the stack overflow, which ends the process. While an object is written the limit is therefore no higher
than what the stack of this thread bears. From Python 3.12 on, the limit says nothing of C code, which has
a limit that the user cannot raise.
"""

from __future__ import annotations

import ctypes
import resource
import sys
import threading

from ..forks import wait_for

# Bytes of stack per level. Measured on Python 3.11, x86-64: lists 89, objects 148, closures 177; 330
# where a `__reduce__` calls `pickle.dumps`.
_PER_LEVEL = 340
# Of a stack; the rest is for what has called us, and for the reducers.
_SHARE = 0.75
# Where the size of a stack cannot be found out.
_USUAL = 8 << 20
_ATTRIBUTES = 256
"""Bytes, more than any ``pthread_attr_t``."""

_COUNTS_C = sys.version_info < (3, 12)

_thread = threading.local()
_lock = threading.RLock()
wait_for(_lock)
# The limits that threads which write at the moment need; the limit holds for all threads.
_needed: list[int] = []
_before = 0


def begin() -> int:
    """Lower the recursion limit if this thread's stack does not bear it; return what `end` takes.

    Raises
    ------
    RecursionError
        The stack is used up already.
    """
    if not _COUNTS_C:
        return 0
    levels: int = getattr(_thread, "levels", 0)
    if not levels:
        levels = _thread.levels = int(_stack() * _SHARE) // _PER_LEVEL
    if sys.getrecursionlimit() <= levels:
        return 0
    return _lower(levels + _frames())


def _lower(limit: int) -> int:
    global _before  # noqa: PLW0603
    with _lock:
        found = sys.getrecursionlimit()
        if found <= limit:
            return 0
        sys.setrecursionlimit(limit)
        if not _needed:
            _before = found
        _needed.append(limit)
    return limit


def end(limit: int) -> None:
    """Set the recursion limit back to what it was, unless somebody else has set it."""
    if not limit:
        return
    with _lock:
        is_ours = sys.getrecursionlimit() == min(_needed)
        _needed.remove(limit)
        if is_ours:
            sys.setrecursionlimit(min(_needed, default=_before))


def _frames() -> int:
    """Return how deep this thread's calls are nested: they count too."""
    count, frame = 0, sys._getframe()
    while frame.f_back is not None:
        count, frame = count + 1, frame.f_back
    return count


def _stack() -> int:
    """Return the bytes of this thread's stack."""
    try:
        libc = ctypes.CDLL(None)
        attributes = ctypes.create_string_buffer(_ATTRIBUTES)
        thread = ctypes.c_ulong(threading.get_ident())
        address, size = ctypes.c_void_p(), ctypes.c_size_t()
        if libc.pthread_getattr_np(thread, attributes) == 0:
            found = libc.pthread_attr_getstack(
                attributes, ctypes.byref(address), ctypes.byref(size)
            )
            libc.pthread_attr_destroy(attributes)
            if found == 0 and size.value:
                return size.value
    except (AttributeError, OSError):  # not on this system
        pass
    if threading.current_thread() is not threading.main_thread() and threading.stack_size():
        return threading.stack_size()
    limit = resource.getrlimit(resource.RLIMIT_STACK)[0]
    return _USUAL if limit == resource.RLIM_INFINITY else limit
