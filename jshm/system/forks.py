"""A fork waits for locks: what another thread has locked in this moment stays locked in the child."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _thread import LockType, RLock


def wait_for(lock: LockType | RLock) -> None:
    """Let every fork from now on wait for a lock, which both sides release.

    Python asks for the locks in the reverse order of these calls. A fork that began before the call does
    not: then the lock is made anew in the child.
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
