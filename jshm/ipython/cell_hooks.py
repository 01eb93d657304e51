"""Hooks around each cell: rebind what follows a name and show offers before it, tell others after it.

Nothing here may raise into the user's cell or slow it: while nobody has published anything, the hook
before a cell takes a few microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import variables
from ..errors import JshmError
from ..pickling import static
from ..segment import file as segment
from ..store import default_store, open_stores, store_of
from ..store.identity import discover
from ..system.weak import WeakKeys
from ..text import say
from ..variables import user_namespace
from . import following, offering
from .magics import explain, group_option, short_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..segment.file import Mapping
    from ..store.base import Store

# The revision of each store at the last look.
_seen: WeakKeys[Store, object] = WeakKeys()
# The kind of error that the user was told about each store.
_said: WeakKeys[Store, str] = WeakKeys()


def arrive() -> None:
    """Make this notebook visible to others, so that they can offer names to it."""
    with contextlib.suppress(JshmError, OSError):
        if discover().connection_file:
            _ = default_store().identity  # from now on others see this process


def before(_info: object = None) -> None:
    """Bind newer versions of what is followed, and show new offers."""
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
    """Rebind what has a newer version, show new offers, and drop the old values."""
    with short_warnings():
        namespace = user_namespace()
        said = [*following.update(namespace, store), *offering.look(namespace, store)]
    say(*said)
    if said:
        variables.forget_unused()
        _flush(store)


def _complain(store: Store, error: Exception) -> None:
    """Print once that what is followed cannot be updated."""
    kind = type(error).__name__
    if following.followers(store) and _said.get(store) != kind:
        _said[store] = kind
        say(f"what is followed here is not updated: {explain(error, group=store.group)}")


def after(result: Any = None) -> None:
    """Tell others what the cell released, and explain an error about read-only data."""
    variables.forget_unused()
    say(*read_only_advice(getattr(result, "error_in_exec", None)))
    say(*following.stop(variables.forget_unbound(user_namespace())))
    for store in open_stores():
        _flush(store)
    start_resting()


def _flush(store: Store) -> None:
    with contextlib.suppress(JshmError, OSError):
        store.flush()


# -- spares -----------------------------------------------------------------------------------------

# A kernel that is idle gives its spares back, checked by a timer on its event loop. Without a loop
# (terminal, script) any other process takes the spares instead.
# Seconds between two checks, which cost microseconds.
_PERIOD = 1.0

_timer: asyncio.TimerHandle | None = None


def start_resting() -> None:
    """Start the timer if this process has spares."""
    if any(store.own_spares() for store in open_stores()):
        with contextlib.suppress(RuntimeError):  # no event loop runs here
            _rest_later(asyncio.get_running_loop())


def stop_resting() -> None:
    """Stop the timer; other processes can still take the spares."""
    global _timer  # noqa: PLW0603
    if _timer is not None:
        _timer.cancel()
    _timer = None


def _rest_later(loop: asyncio.AbstractEventLoop) -> None:
    global _timer  # noqa: PLW0603
    stop_resting()
    _timer = loop.call_later(_PERIOD, _rest, loop)


def _rest(loop: asyncio.AbstractEventLoop) -> None:
    left = False
    for store in open_stores():
        with contextlib.suppress(JshmError, OSError):
            left |= store.rest()
    if left:
        _rest_later(loop)


# -- read-only errors -------------------------------------------------------------------------------

# In this order: NumPy, Cython's buffers, memoryview and pandas; numba; NumPy about its flag; xarray.
_READ_ONLY = re.compile(r"read-only|readonly|WRITEABLE|Assignment destination is a view")


def read_only_advice(error: BaseException | None) -> list[str]:
    """Return advice for each variable that the failed statement names and that is attached read-only."""
    with contextlib.suppress(Exception):  # advice must not hide the error
        if error is not None and _READ_ONLY.search(str(error)):
            space = variables.user_namespace()
            named = {name: space[name] for name in _names(error, space)}
            if not any(map(_is_own, named.values())):  # otherwise the error may be about that one
                return [
                    line for name, value in named.items() if (line := _advice_line(name, value))
                ]
    return []


def _names(error: BaseException, space: dict[str, Any]) -> Iterator[str]:
    """Yield the notebook's variables that are named by the failed statement and the functions it called."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals is space:
            yield from (name for name in trace.tb_frame.f_code.co_names if name in space)
        trace = trace.tb_next


def _is_own(value: object) -> bool:
    """Return whether a value is an array that the user made read-only."""
    return (
        isinstance(value, np.ndarray)
        and not value.flags.writeable
        and segment.find_mapping(value) is None
    )


def _copies_itself(value: object) -> bool:
    """Return whether pandas copies this table on write, so that its read-only views are its own."""
    if not any(static.root(base) == "pandas" for base in static.mro(type(value))):
        return False
    pandas = sys.modules["pandas"]
    return pandas.__version__ >= "3" or pandas.get_option("mode.copy_on_write") is True


def _advice_line(variable: str, value: object) -> str:
    found: list[Mapping] = []

    if _copies_itself(value):
        return ""

    def test(part: object) -> bool:
        if not isinstance(part, np.ndarray) or part.flags.writeable:
            return False
        mapping = segment.find_mapping(part)
        if mapping is not None and mapping.mode == "r":
            found.append(mapping)
        return bool(found)

    variables.find_arrays({variable: value}, test)
    if not found:
        return ""
    own = variables.segments_of_value(value)[:1]
    store = store_of(found[0].segment)
    names = store.names_of(own[0] if own else found[0].segment)
    if not names:  # it was released
        return f"{variable} is attached read-only; with --mode c your changes would stay yours"
    name = names[0]
    what = "is attached" if own else f"is a part of {name}, which is attached"
    bound = f" --as {variable}" if own and variable != name else ""
    return (
        f"{variable} {what} read-only: %shm_attach {name}{bound} --mode c{group_option(store.group)} "
        "(copy-on-write: your changes stay yours)"
    )
