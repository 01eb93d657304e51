"""A store with no optional ability, so that tests see what the contract derives and what faces say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from jshm.errors import UnsupportedError
from jshm.store.base import Store

if TYPE_CHECKING:
    from collections.abc import Mapping as Dict
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    import numpy.typing as npt

    from jshm.segment.array_layout import Order
    from jshm.segment.file import Mapping, Mode
    from jshm.store.base import Attached, Problem, Published, Reader, Released, SegmentInfo, Space
    from jshm.store.identity import Identity


class BareStore(Store):
    """Has the abstract methods of another store, and the contract's defaults for everything else."""

    is_usable = True

    def __init__(self, whole: Any) -> None:
        self.whole = whole

    def close(self) -> None:
        self.whole.close()

    @property
    def identity(self) -> Identity:
        return self.whole.identity

    def processes(self) -> list[Identity]:
        return self.whole.processes()

    def mapped(self) -> set[str]:
        return self.whole.mapped()

    def mappings(self, segment: str) -> list[Mapping]:
        return self.whole.mappings(segment)

    def publish(
        self, values: Dict[str, Any], *, writable: bool = False, **how: Any
    ) -> list[Published]:
        if writable:
            raise UnsupportedError("this store has only snapshots")
        return self.whole.publish(values, **how)

    def require_owner(self, names: Sequence[str], *, replace: bool = False) -> None:
        self.whole.require_owner(names, replace=replace)

    def attach(
        self,
        names: Sequence[str],
        mode: Mode = "r",
        versions: Sequence[int] | None = None,
        *,
        trust: bool = False,
    ) -> list[Attached]:
        return self.whole.attach(names, mode, versions, trust=trust)

    def attach_segment(self, segment: str, mode: Mode = "r") -> Mapping:
        return self.whole.attach_segment(segment, mode)

    def allocate(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        order: Order = "C",
        *,
        zero: bool = True,
    ) -> np.ndarray[Any, Any]:
        return self.whole.allocate(shape, dtype, order, zero=zero)

    def checked(self, name: str) -> str:
        return self.whole.checked(name)

    def names(self) -> list[str]:
        return self.whole.names()

    def complete(self, prefix: str, most: int) -> list[tuple[str, str]]:
        return self.whole.complete(prefix, most)

    def current(self, names: Sequence[str]) -> dict[str, SegmentInfo]:
        return self.whole.current(names)

    def segments(self) -> list[SegmentInfo]:
        return self.whole.segments()

    def info(self, name: str, version: int | None = None) -> SegmentInfo:
        return self.whole.info(name, version)

    def versions(self, name: str) -> list[SegmentInfo]:
        return self.whole.versions(name)

    def reader(self, name: str, version: int | None = None) -> AbstractContextManager[Reader]:
        return self.whole.reader(name, version)

    def revision(self) -> object:
        return self.whole.revision()

    def space(self) -> Space:
        return self.whole.space()

    def release(self, names: Sequence[str], *, force: bool = False) -> list[Released]:
        return self.whole.release(names, force=force)

    def flush(self) -> None:
        self.whole.flush()

    def gc(self) -> int:
        return self.whole.gc()

    def check(self, *, fix: bool = False) -> list[Problem]:
        return self.whole.check(fix=fix)

    def end_session(self) -> None:
        self.whole.end_session()


def private_bare_store() -> BareStore:
    """Return a bare store over the store of ``JSHM_DIR``."""
    from jshm import store

    return BareStore(store._store_in(os.environ["JSHM_DIR"], os.geteuid()))
