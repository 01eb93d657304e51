"""``%shm_attach --follow``: variables that are the newest version of a name, cell by cell.

They are rebound before a cell, and never while one runs. Nothing here keeps memory: a follower knows its
segment by id, and whether its variable is still what was bound to it (`variables.bind`).
"""

from __future__ import annotations

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
# So often it is tried again to see all names as they were at one moment.
_TRIES = 10
# So many lines are printed at once.
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
        That the variable is; of a segment's part, what tells it from all others.
    seen : tuple of int and str
        Version and segment (or part) of the newest that was bound, or could not be.
    said : str
        Why it stays what it is, as the user was told; empty if it does not.
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
    """Let a variable that was just bound be the newest version from now on."""
    seen = attached.version, attached.segments[0]
    name = store.exact(attached.name)
    _followers[variable] = Follower(name, store, mode, trust, *seen, seen)


def stop(variables: Iterable[str]) -> list[str]:
    """Let variables follow nothing any more; return what to tell the user."""
    gone = [(v, f) for v in variables if (f := _followers.pop(v, None)) is not None]
    return [f"{variable} no longer follows {follower.name}" for variable, follower in gone]


def stop_all() -> None:
    """Let nothing follow anything any more."""
    _followers.clear()


def followers(store: Store) -> dict[str, list[str]]:
    """Return for each name of a store that is followed here: by which variables."""
    found: dict[str, list[str]] = {}
    for variable, follower in _followers.items():
        if follower.store is store:
            found.setdefault(follower.name, []).append(variable)
    return found


def update(namespace: Namespace, store: Store) -> list[str]:
    """Rebind what has a newer version, all as they were at one moment; return what to tell the user.

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
            follower.seen = _seen(entry)  # it is tried again when there is another
            said += _stays(variable, follower, type(new).__name__, explain(new))
        elif new is not None:
            said.append(_rebind(namespace, variable, follower, new))
        elif entry.version == follower.version:
            follower.said = ""
    del found
    return said if len(said) <= _SHOWN else [*said[:_SHOWN], f"… and {len(said) - _SHOWN} more"]


def _look(
    store: Store, mine: dict[str, Follower]
) -> tuple[dict[str, SegmentInfo], dict[str, Attached | Exception]]:
    """Return the newest versions, and by variable what is new, attached: all as at one moment."""
    names = list(dict.fromkeys(follower.name for follower in mine.values()))
    newest = store.current(names)
    if len(newest) < len(
        names
    ):  # the directory may have been deleted: what is mapped here comes back
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
    """Attach what is new; of what cannot be attached return why."""
    alike: dict[tuple[Mode, bool], list[str]] = {}
    for variable, follower in new.items():
        alike.setdefault((follower.mode, follower.trust), []).append(variable)
    found: dict[str, Attached | Exception] = {}
    for (mode, trust), followers_of in alike.items():
        try:
            names = [new[variable].name for variable in followers_of]
            found.update(zip(followers_of, store.attach(names, mode, trust=trust), strict=True))
        except Exception:  # noqa: BLE001 - an object's own code may raise anything
            for variable in followers_of:  # one of them: the others follow on
                try:
                    found[variable] = store.attach([new[variable].name], mode, trust=trust)[0]
                except Exception as error:  # noqa: BLE001
                    # Its traceback would keep what is in its frames.
                    found[variable] = error.with_traceback(None)
    return found


def _rebind(namespace: Namespace, variable: str, follower: Follower, new: Attached) -> str:
    """Let a variable be what was attached, and let go of what it was; return what to say."""
    old = namespace.get(variable)
    variables.bind(namespace, variable, new.value, new.segments)
    # Each version that was displayed once would stay for ever; views that the user took are his.
    if variables.is_remembered(old):
        forget_history(namespace, lambda value: value is old)
    follower.seen = follower.version, follower.segment = new.version, new.segments[0]
    follower.said = ""
    what = "" if variable == new.name else f"{new.name} "
    who = "this notebook" if new.identity.is_here else new.publisher
    return printable(f"{variable} → {what}v{new.version}, {who}, {age_text(new.created)}")


def _stays(variable: str, follower: Follower, why: str, text: str) -> list[str]:
    """Return why a variable stays what it is, unless that was said."""
    if follower.said == why:
        return []
    follower.said = why
    return [printable(f"{variable} stays v{follower.version}: {text}")]
