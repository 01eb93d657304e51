"""Where names live: the contract (`base`), the store of this machine (`local`), the handle."""

from __future__ import annotations

import contextlib
import grp
import os
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING

from ..errors import JshmError
from ..system.access import of_group
from ..system.forks import wait_for
from ..system.signals import Guard, Order
from ..system.weak import WeakValues
from .base import segment_of
from .groups.group_store import GroupStore
from .local.directory import default_root, group_place, group_root
from .local.store import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..pickling.frozen import Resolver
    from .base import Store

# Two stores of one directory would be two processes in one: each with a lease and mappings of its own.
_made: WeakValues[tuple[str, int], LocalStore] = WeakValues()
_making = Guard(Order.STORE)
# The Unix group whose store is the default one; empty: the user's own; None: as JSHM_GROUP says.
chosen_group: ContextVar[str | None] = ContextVar("chosen_group", default=None)


def default_store() -> Store:
    """Return the store of ``JSHM_DIR``, or of this user on this machine.

    Inside `group`, or where ``JSHM_GROUP`` is set, it is that of a Unix group.
    """
    chosen = chosen_group.get()
    if name := (os.environ.get("JSHM_GROUP") if chosen is None else chosen):
        return _store_in(group_root(group_place(), name, os.geteuid()), os.geteuid(), name)
    return _store_in(default_root(), os.geteuid())


@contextlib.contextmanager
def group(name: str | None) -> Iterator[None]:
    """Work in the store that the members of a Unix group share.

    ::

        with jshm.group("lab"):
            jshm.publish("X", X)

    What you publish there all members can attach, and nobody else; only you replace and release it. A
    name that one member has is called so, one that several have after them: ``ada:X``. Objects of other
    members are attached only with ``trust=True``: that runs code of theirs. What is attached stays
    attached behind the ``with``.

    Parameters
    ----------
    name : str or None
        Of a group that you are in; empty for your own, private store; None for what ``JSHM_GROUP`` says.

    Raises
    ------
    UnknownGroupError, UnsafeDirectoryError
        When the store is first used.
    """
    token = chosen_group.set(name)
    try:
        yield
    finally:
        chosen_group.reset(token)


def end_session() -> None:
    """Release what lives as long as this process, in this user's own store and in those of groups.

    A store that cannot be opened is skipped.
    """
    for name in ("", *_own_groups()):
        root = group_root(group_place(), name, os.geteuid()) if name else default_root()
        if os.path.isdir(root):
            with contextlib.suppress(JshmError, OSError), group(name):
                default_store().end_session()


def _own_groups() -> list[str]:
    """Return the names of the Unix groups that this process is in."""
    names = []
    for gid in {*os.getgroups(), os.getegid()}:
        with contextlib.suppress(KeyError):  # it has no name
            names.append(grp.getgrgid(gid).gr_name)
    return names


def open_stores() -> list[Store]:
    """Return the stores that this process uses."""
    return [store for store in _made if store.is_usable]


def store_of(segment: str) -> Store:
    """Return the store in which a segment is mapped here, by default the default one."""
    identity = segment_of(segment)
    return next((s for s in open_stores() if s.mappings(identity)), None) or default_store()


def resolver() -> Resolver:
    """Return what `jshm.dumps`, `jshm.loads` and `pickle.loads` write and find references with."""
    return default_store().resolver()


# Threads that come first together all miss the cache, and find here what one of them made. The cache
# alone is asked ever after: an attach counts microseconds.
@lru_cache(maxsize=8)
def _store_in(root: str, user: int, group: str = "") -> LocalStore:
    with _making:
        store = _made.get((root, user))
        if store is None:
            store = GroupStore(root, of_group(group)) if group else LocalStore(root)
            _made[root, user] = store
        return store


# A child must not find it taken by a thread that it does not have.
wait_for(_making.lock)
