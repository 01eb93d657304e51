"""Where names live: the contract (`base`), the store of this machine (`local`), the handle."""

from __future__ import annotations

import os
import threading
import weakref
from functools import lru_cache

from .directory import default_root
from .local import LocalStore
from .references import resolve_in

# Two stores of one directory would be two processes in one: each with a lease and mappings of its own.
_made: weakref.WeakValueDictionary[tuple[str, int], LocalStore] = weakref.WeakValueDictionary()
_making = threading.RLock()


def default_store() -> LocalStore:
    """Return the store of ``JSHM_DIR``, or of this user on this machine."""
    return _store_in(default_root(), os.geteuid())


# Threads that come first together all miss the cache, and find here what one of them made. The cache
# alone is asked ever after: an attach counts microseconds.
@lru_cache(maxsize=8)
def _store_in(root: str, user: int) -> LocalStore:
    with _making:
        store = _made.get((root, user))
        if store is None:
            store = _made[root, user] = LocalStore(root)
        return store


# A child must not find it taken by a thread that it does not have.
os.register_at_fork(
    before=_making.acquire,
    after_in_parent=_making.release,
    after_in_child=_making.release,
)
resolve_in(default_store)
