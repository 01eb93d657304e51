"""Where names live: the contract (`base`), the store of this machine (`local`), the handle."""

from __future__ import annotations

import os
from functools import lru_cache

from .directory import default_root
from .local import LocalStore


def default_store() -> LocalStore:
    """Return the store of ``JSHM_DIR``, or of this user on this machine."""
    return _store_in(default_root(), os.geteuid())


@lru_cache(maxsize=8)
def _store_in(root: str, user: int) -> LocalStore:  # noqa: ARG001 - part of the key
    return LocalStore(root)
