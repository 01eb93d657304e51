"""What happens around each cell: before it what is followed is rebound, after it others are told.

Nothing here may raise into the user's cell, or slow it: as long as nobody has published anything, a
look before a cell takes a microsecond or two.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .. import handouts
from ..errors import JshmError
from ..store import default_store, open_stores
from ..store.identity import discover
from ..system.weak import WeakKeys
from ..text import say
from ..variables import user_namespace
from . import advice, following, offering, resting
from .base import short_warnings

if TYPE_CHECKING:
    from ..store.base import Store

# What each store's registry was when it was last looked at.
_seen: WeakKeys[Store, object] = WeakKeys()
# Why each could not be looked at, as the user was told.
_said: WeakKeys[Store, str] = WeakKeys()


def arrive() -> None:
    """Let other notebooks see that this one can be offered something."""
    with contextlib.suppress(JshmError, OSError):
        if discover().connection_file:
            _ = default_store().identity  # from now on others see this process


def before(_info: object = None) -> None:
    """Bring this notebook up to date, and say what is new."""
    for store in open_stores():
        try:
            state = store.revision()
            if state != _seen.get(store):
                _look(store)
                _seen[store] = state
            _said.pop(store, "")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the cell's
            _complain(store, error)


def _look(store: Store) -> None:
    """Say what is offered, rebind what has a newer version, and let go of what it was."""
    with short_warnings():
        namespace = user_namespace()
        said = [*following.update(namespace, store), *offering.look(namespace, store)]
    say(*said)
    if said:
        handouts.prune()
        _flush(store)


def _complain(store: Store, error: Exception) -> None:
    """Say once that nothing can be followed now."""
    kind = type(error).__name__
    if following.followers(store) and _said.get(store) != kind:
        _said[store] = kind
        say(f"what is followed here stays as it is: {error}")


def after(result: Any = None) -> None:
    """Tell others what the cell let go of; say what to do if it met something read-only."""
    handouts.prune()
    say(*advice.lines(getattr(result, "error_in_exec", None)))
    say(*following.stop(handouts.forget_unbound(user_namespace())))
    for store in open_stores():
        _flush(store)
    resting.begin()


def _flush(store: Store) -> None:
    with contextlib.suppress(JshmError, OSError):
        store.flush()
