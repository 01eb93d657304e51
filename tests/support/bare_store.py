"""A store with no optional ability, so that tests see what the contract derives and what faces say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from jshm.errors import UnsupportedError
from jshm.store.base import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jshm.store.base import Published


def _delegate(name: str) -> Any:
    """Return a method, or a property, that asks the whole store."""
    if isinstance(getattr(Store, name), property):
        return property(lambda self: getattr(self.whole, name))
    return lambda self, *args, **options: getattr(self.whole, name)(*args, **options)


_Abstract: Any = type(Store)(
    "_Abstract", (Store,), {name: _delegate(name) for name in Store.__abstractmethods__}
)


class BareStore(_Abstract):
    """Has the abstract methods of another store, and the contract's defaults for everything else."""

    is_usable = True

    def __init__(self, whole: Any) -> None:
        self.whole = whole

    def publish(
        self, values: Mapping[str, Any], *, writable: bool = False, **options: Any
    ) -> list[Published]:
        if writable:
            raise UnsupportedError("this store has only snapshots")
        found: list[Published] = self.whole.publish(values, **options)
        return found

    def close(self) -> None:
        self.whole.close()


def private_bare_store() -> BareStore:
    """Return a bare store over the store of ``JSHM_DIR``."""
    from jshm import store

    return BareStore(store._store_in(os.environ["JSHM_DIR"], os.geteuid()))
