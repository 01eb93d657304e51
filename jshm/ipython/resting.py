"""A kernel that rests gives back its spares: a timer on its event loop, while there are any.

In a terminal, or a script, nothing runs by itself: there any other process takes them away.
"""

from __future__ import annotations

import asyncio
import contextlib

from ..errors import JshmError
from ..store import open_stores

# Seconds between two looks, which cost microseconds.
_PERIOD = 1.0

_timer: asyncio.TimerHandle | None = None


def begin() -> None:
    """Look after the spares from now on, if there are any."""
    if any(store.own_spares() for store in open_stores()):
        with contextlib.suppress(RuntimeError):  # no loop runs here
            _again(asyncio.get_running_loop())


def end() -> None:
    """Leave them to others."""
    global _timer  # noqa: PLW0603
    if _timer is not None:
        _timer.cancel()
    _timer = None


def _again(loop: asyncio.AbstractEventLoop) -> None:
    global _timer  # noqa: PLW0603
    end()
    _timer = loop.call_later(_PERIOD, _look, loop)


def _look(loop: asyncio.AbstractEventLoop) -> None:
    left = False
    for store in open_stores():
        with contextlib.suppress(JshmError, OSError):
            left |= store.rest()
    if left:
        _again(loop)
