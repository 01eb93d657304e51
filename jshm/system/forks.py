"""Forks wait for locks: a lock that another thread held during a fork would stay locked in the child."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _thread import LockType, RLock


def wait_for(lock: LockType | RLock) -> None:
    """Make every later fork acquire a lock first; parent and child release it afterwards.

    A fork acquires the locks in the reverse order of these calls. A fork that began before the call does
    not wait; the child then resets the lock.
    """
    held: list[bool] = []

    def before() -> None:
        lock.acquire()
        held.append(True)

    def after() -> None:
        if held:
            held.pop()
            lock.release()

    def after_in_child() -> None:
        if held:
            after()
        else:
            lock._at_fork_reinit()  # type: ignore[union-attr]  # noqa: SLF001 - as the standard library does it

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=after_in_child)
