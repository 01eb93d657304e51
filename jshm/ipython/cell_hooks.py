"""What happens around each cell: before it what is followed is rebound, after it others are told.

Nothing here may raise into the user's cell, or slow it: as long as nobody has published anything, a
look before a cell takes a microsecond or two.
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
from ..pickling import static as looking
from ..segment import file as segment
from ..store import default_store, open_stores
from ..store.identity import discover
from ..system.weak import WeakKeys
from ..text import say
from ..variables import user_namespace
from . import following, offering
from .magics import explain, short_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..segment.file import Mapping
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
        variables.forget_unused()
        _flush(store)


def _complain(store: Store, error: Exception) -> None:
    """Say once that nothing can be followed now."""
    kind = type(error).__name__
    if following.followers(store) and _said.get(store) != kind:
        _said[store] = kind
        say(f"what is followed here stays as it is: {explain(error)}")


def after(result: Any = None) -> None:
    """Tell others what the cell let go of; say what to do if it met something read-only."""
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

# Seconds between two looks, which cost microseconds.
_PERIOD = 1.0

_timer: asyncio.TimerHandle | None = None


def start_resting() -> None:
    """Look after the spares from now on, if there are any."""
    if any(store.own_spares() for store in open_stores()):
        with contextlib.suppress(RuntimeError):  # no loop runs here
            _rest_later(asyncio.get_running_loop())


def stop_resting() -> None:
    """Leave them to others."""
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

# NumPy, Cython's buffers, memoryview and pandas say the first; numba the second; NumPy of its flag the
# third; xarray replaces NumPy's words.
_READ_ONLY = re.compile(r"read-only|readonly|WRITEABLE|Assignment destination is a view")


def read_only_advice(error: BaseException | None) -> list[str]:
    """Return a line for each variable that the failed statement names and that is attached read-only."""
    with contextlib.suppress(Exception):  # it must not hide the error that it is about
        if error is not None and _READ_ONLY.search(str(error)):
            space = variables.user_namespace()
            named = {name: space[name] for name in _names(error, space)}
            if not any(map(_is_own, named.values())):  # else nobody knows which it was about
                return [
                    line for name, value in named.items() if (line := _advice_line(name, value))
                ]
    return []


def _names(error: BaseException, space: dict[str, Any]) -> Iterator[str]:
    """Yield the notebook's variables that the failed statement, and functions that it called, name."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals is space:
            yield from (name for name in trace.tb_frame.f_code.co_names if name in space)
        trace = trace.tb_next


def _is_own(value: object) -> bool:
    """Tell whether a value is an array that the user made read-only."""
    return (
        isinstance(value, np.ndarray) and not value.flags.writeable and segment.find(value) is None
    )


def _copies_itself(value: object) -> bool:
    """Tell whether a value is a table that pandas copies on write; its read-only views are pandas' own."""
    if not any(looking.root(base) == "pandas" for base in looking.mro(type(value))):
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
        mapping = segment.find(part)
        if mapping is not None and mapping.mode == "r":
            found.append(mapping)
        return bool(found)

    variables.find_arrays({variable: value}, test)
    if not found:
        return ""
    own = variables.segments_of_value(value)[:1]
    names = default_store().names_of(own[0] if own else found[0].segment)
    if not names:  # it was released, or is of a group
        return f"{variable} is attached read-only; with --mode c your changes would stay yours"
    name = names[0]
    what = "is attached" if own else f"is a part of {name}, which is attached"
    bound = f" --as {variable}" if own and variable != name else ""
    return (
        f"{variable} {what} read-only: %shm_attach {name}{bound} --mode c (copy-on-write: your "
        "changes stay yours)"
    )
