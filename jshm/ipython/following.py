"""``%shm_attach --follow``: variables that are rebound to the newest version of a name before each cell.

A variable is never rebound while a cell runs. Nothing here keeps memory: a follower knows the id of its
segment, and whether its variable is still bound to it (`variables.bind`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import variables
from ..text import age_text, printable
from ..variables import forget_history
from .magics import explain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..segment.file import Mode
    from ..store.base import Attached, SegmentInfo, Store

Namespace = dict[str, Any]
# Attempts to get a consistent view of all names.
_TRIES = 10
# At most this number of lines is printed at once.
_SHOWN = 5


@dataclass(slots=True)
class Follower:
    """What one variable follows.

    Attributes
    ----------
    name : str
    store : Store
    mode : {'r', 'r+'}
    trust : bool
        As for `Store.attach`.
    version, segment : int and str
        What the variable is bound to; `segment` is the value's id (`SegmentInfo.value_id`).
    seen : tuple of int and str
        The same of the newest version that was bound, or that could not be bound.
    said : str
        The reason, told to the user, why the variable is not updated; empty if it is.
    """

    name: str
    store: Store
    mode: Mode
    trust: bool
    version: int
    segment: str
    seen: tuple[int, str]
    said: str = ""


_followers: dict[str, Follower] = {}


def follow(variable: str, attached: Attached, store: Store, mode: Mode, *, trust: bool) -> None:
    """Keep a variable that was just bound at the newest version from now on."""
    seen = attached.version, attached.segments[0]
    name = store.exact(attached.name)
    _followers[variable] = Follower(name, store, mode, trust, *seen, seen)


def stop(variables: Iterable[str]) -> list[str]:
    """Stop following with these variables; return the lines that tell the user."""
    gone = [(v, f) for v in variables if (f := _followers.pop(v, None)) is not None]
    return [f"{variable} no longer follows {follower.name}" for variable, follower in gone]


def stop_all() -> None:
    """Stop following with all variables."""
    _followers.clear()


def followers(store: Store) -> dict[str, list[str]]:
    """Return name → variables that follow it, for a store."""
    found: dict[str, list[str]] = {}
    for variable, follower in _followers.items():
        if follower.store is store:
            found.setdefault(follower.name, []).append(variable)
    return found


def update(namespace: Namespace, store: Store) -> list[str]:
    """Rebind what has a newer version, in one consistent view; return the lines that tell the user.

    Raises
    ------
    JshmError, OSError
        The store cannot be read.
    """
    mine = {variable: f for variable, f in _followers.items() if f.store is store}
    if not mine:
        return []
    lost = [
        variable
        for variable, follower in mine.items()
        if follower.segment not in variables.segments_bound(variable, namespace.get(variable))[:1]
    ]
    said = stop(lost)
    for variable in lost:
        del mine[variable]
    newest, found = _look(store, mine)
    for variable, follower in mine.items():
        entry, new = newest.get(follower.name), found.get(variable)
        if entry is None:
            said += _stays(variable, follower, "released", f"{follower.name} was released")
        elif isinstance(new, Exception):
            follower.seen = _seen(entry)  # the next attempt is with the next version
            said += _stays(variable, follower, type(new).__name__, explain(new, group=store.group))
        elif new is not None:
            said.append(_rebind(namespace, variable, follower, new))
        elif entry.version == follower.version:
            follower.said = ""
    del found
    return said if len(said) <= _SHOWN else [*said[:_SHOWN], f"… and {len(said) - _SHOWN} more"]


def _look(
    store: Store, mine: dict[str, Follower]
) -> tuple[dict[str, SegmentInfo], dict[str, Attached | Exception]]:
    """Return the newest versions, and variable → attached value of what is new, in one consistent view."""
    names = list(dict.fromkeys(follower.name for follower in mine.values()))
    newest = store.current(names)
    if len(newest) < len(names):
        # The directory may have been deleted: flush restores what is mapped here.
        store.flush()
        newest = store.current(names)
    found: dict[str, Attached | Exception] = {}
    for _ in range(_TRIES):
        new = {
            variable: follower
            for variable, follower in mine.items()
            if follower.name in newest and _seen(newest[follower.name]) != follower.seen
        }
        found = _attach(store, new)
        before, newest = newest, store.current(names)
        if before == newest:
            break
    return newest, found


def _seen(entry: SegmentInfo) -> tuple[int, str]:
    return entry.version, entry.value_id


def _attach(store: Store, new: dict[str, Follower]) -> dict[str, Attached | Exception]:
    """Return variable → attached value, or the error where it cannot be attached."""
    alike: dict[tuple[Mode, bool], list[str]] = {}
    for variable, follower in new.items():
        alike.setdefault((follower.mode, follower.trust), []).append(variable)
    found: dict[str, Attached | Exception] = {}
    for (mode, trust), names in alike.items():
        done = attach_each(store, [new[variable].name for variable in names], mode, trust=trust)
        found.update(zip(names, done, strict=True))
    return found


def attach_each(
    store: Store, names: list[str], mode: Mode = "r", *, trust: bool = False
) -> list[Attached | Exception]:
    """Return what is attached under each name, all from one moment.

    If one of them fails, they are attached one by one, and its error is in its place.
    """
    if not names:
        return []
    with contextlib.suppress(Exception):  # an object's own code may raise anything
        return [*store.attach(names, mode, trust=trust)]
    found: list[Attached | Exception] = []
    for name in names:
        try:
            found += store.attach([name], mode, trust=trust)
        except Exception as error:  # noqa: BLE001
            # The traceback would keep the values in its frames.
            found.append(error.with_traceback(None))
    return found


def _rebind(namespace: Namespace, variable: str, follower: Follower, new: Attached) -> str:
    """Bind a variable to the new value and drop the old one; return the line that tells the user."""
    old = namespace.get(variable)
    variables.bind(namespace, variable, new.value, new.segments)
    # A displayed version would stay in IPython's history forever. Views that the user made stay.
    if variables.is_remembered(old):
        forget_history(namespace, lambda value: value is old)
    follower.seen = follower.version, follower.segment = new.version, new.segments[0]
    follower.said = ""
    what = "" if variable == new.name else f"{new.name} "
    who = "this notebook" if new.identity.is_here else new.publisher
    return printable(f"{variable} → {what}v{new.version}, {who}, {age_text(new.created)}")


def _stays(variable: str, follower: Follower, why: str, text: str) -> list[str]:
    """Return the line that tells why a variable is not updated; none if the user was told."""
    if follower.said == why:
        return []
    follower.said = why
    return [printable(f"{variable} stays v{follower.version}: {text}")]
