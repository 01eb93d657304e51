"""The nesting of an object is limited by the stack of the thread.

The C pickler calls itself, and only Python's recursion limit stops it. If the user raises that limit, the
stack overflows, and the process ends. So the limit is lowered to what this thread's stack allows, while
an object is written. From Python 3.12 on, that limit does not count calls in C; they have a
limit that the user cannot raise.
"""

from __future__ import annotations

import ctypes
import resource
import sys
import threading

from ..system.forks import wait_for
from ..system.signals import Guard, Order

# Bytes of stack per level. Measured on Python 3.11, x86-64: lists 89, objects 148, closures 177; 330
# where a `__reduce__` calls `pickle.dumps`.
_PER_LEVEL = 340
# Part of the stack that these levels may use; the callers and the reducers use the rest.
_SHARE = 0.75
# Bytes of a stack whose size is unknown.
_USUAL = 8 << 20
_ATTRIBUTES = 256
"""Bytes, more than any ``pthread_attr_t``."""

_COUNTS_C = sys.version_info < (3, 12)

_thread = threading.local()
_guard = Guard(Order.DEPTH)
wait_for(_guard.lock)
# The limits of the threads that write an object now. Python has one limit for all threads: a thread whose
# calls are nested deeper gets a RecursionError instead of an overflow.
_needed: list[int] = []
_before = 0


def begin() -> int:
    """Lower the recursion limit to what this thread's stack allows; return what `end` takes.

    Raises
    ------
    RecursionError
        The stack is used up already.
    """
    global _before  # noqa: PLW0603
    if not _COUNTS_C:
        return 0
    levels: int = getattr(_thread, "levels", 0)
    if not levels:
        levels = _thread.levels = int(_stack() * _SHARE) // _PER_LEVEL
    with _guard:
        found = sys.getrecursionlimit()
        # The limit after the other threads are done.
        usual = _before if _needed else found
        if usual <= levels:
            return 0
        limit = levels + _frames()
        if usual <= limit:
            return 0
        if limit < found:
            sys.setrecursionlimit(limit)
        if not _needed:
            _before = found
        _needed.append(limit)
    return limit


def end(limit: int) -> None:
    """Set the recursion limit back to what it was, unless other code has changed it."""
    if not limit:
        return
    with _guard:
        is_ours = sys.getrecursionlimit() == min(_needed)
        _needed.remove(limit)
        if is_ours:
            sys.setrecursionlimit(min(_needed, default=_before))


def _frames() -> int:
    """Return the depth of this thread's calls, which counts too."""
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
