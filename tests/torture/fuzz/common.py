"""Private stores for the targets, and an independent look at memory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import jshm
from jshm.browse.labels import Notebooks
from jshm.browse.listing import Query
from jshm.browse.service import Service
from jshm.segment.file import Mapping
from jshm.store.local.store import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

FRESH = np.arange(7.0)
# A kernel that something is offered to.
KERNEL = "/run/kernel-1.json"


class Target(Protocol):
    """Something that jshm reads back. Each target has its own directory and its own process.

    Attributes
    ----------
    tried : object
        The last mutation, for people.
    """

    tried: object

    def __init__(self, root: str) -> None: ...

    def attempt(self, random: Random) -> None:
        """Make one mutation, and raise anything at all if a promise does not hold."""


def memory_of(array: np.ndarray[Any, Any]) -> Mapping | None:
    """Return the mapping that an array is a view of; None if its memory is its own."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    return base if isinstance(base, Mapping) else None


def assert_inside(array: np.ndarray[Any, Any]) -> None:
    """Every byte of an array, and of each of its fields, is in the mapping that it is a view of."""
    mapping = memory_of(array)
    if mapping is None:
        assert array.base is None or isinstance(array.base, (bytes, np.ndarray))
        return
    whole = np.frombuffer(mapping, np.uint8)
    first = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    steps = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    if 0 not in array.shape:
        assert first + sum(step for step in steps if step < 0) >= 0
        reach = max(array.dtype.itemsize, extent(array.dtype))
        assert first + sum(step for step in steps if step > 0) + reach <= len(whole)


def extent(dtype: np.dtype[Any]) -> int:
    """Return how far a dtype's fields reach."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return extent(base) * int(np.prod(shape, dtype=object))
    fields = (dtype.fields or {}).values()
    return max([offset + extent(inner) for inner, offset, *_ in fields], default=dtype.itemsize)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Run what may refuse, and only as jshm does."""
    with contextlib.suppress(jshm.JshmError):
        yield


@contextlib.contextmanager
def store_of(
    root: str, files: dict[str, bytes], change: Callable[[], object] = lambda: None
) -> Iterator[LocalStore]:
    """A store that finds files, changed as said; afterwards nothing is left of it."""
    for place in ("", "/segments", "/leases"):
        os.mkdir(root + place, 0o700)
    try:
        for path, content in files.items():
            with open(f"{root}/{path}", "wb") as file:
                file.write(content)
            os.chmod(file.name, 0o400 if path.startswith("segments/") else 0o600)
        change()
        store = LocalStore(root)
        try:
            yield store
        finally:
            store.close()
    finally:
        shutil.rmtree(root)


def look_at_all(store: LocalStore) -> None:
    """Ask for everything that the front end can show."""
    service = Service(store, Notebooks())
    answers: list[Callable[[], Any]] = [
        lambda: service.page(Query(grouped=True, sort="type")),
        service.summary,
        store.names,
        lambda: store.complete("", 100),
        store.segments,
        lambda: store.registry.offers(KERNEL, 0.0),
        *(lambda name=name: service.info(name) for name in _names(store)),
        *(lambda name=name: service.preview(name) for name in _names(store)),
    ]
    for answer in answers:
        with refusing():
            found = answer()
            if isinstance(found, dict):
                json.dumps(found, allow_nan=False).encode()


def _names(store: LocalStore) -> list[str]:
    with refusing():
        return store.names()
    return []


def assert_mended(store: LocalStore) -> None:
    """`check` mends what is wrong; then all works, and there is nothing that could not be mended."""
    store.check(fix=True)
    store.publish({"fresh": FRESH}, replace=True)
    found = [problem.what for problem in store.check()]
    assert found == []
    assert np.array_equal(store.attach(["fresh"])[0].value, FRESH)
