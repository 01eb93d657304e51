"""The stores that this process has open: what becomes of them at its end, and in a fork."""

from __future__ import annotations

import atexit
import contextlib
import os
from typing import TYPE_CHECKING, Protocol

from ...errors import JshmError
from ...system.processes import after_workers
from ...system.weak import WeakSet

if TYPE_CHECKING:
    from .process import Presence


class Opened(Protocol):
    """A store, as far as a process's end and forks concern it."""

    presence: Presence

    def close(self) -> None:
        """Give up what belongs to this process."""

    def after_fork_in_child(self) -> None:
        """Be another process."""


_opened: WeakSet[Opened] = WeakSet()
add = _opened.add


def _after_fork_in_child() -> None:
    for store in _opened:
        store.after_fork_in_child()


@atexit.register
@after_workers
def _close_all() -> None:
    for store in _opened:
        # A program ends quietly, whatever has become of the directory.
        with contextlib.suppress(JshmError, OSError):
            store.close()


def _after_fork_in_parent() -> None:
    for store in _opened:
        store.presence.after_fork_in_parent()


os.register_at_fork(after_in_child=_after_fork_in_child, after_in_parent=_after_fork_in_parent)
