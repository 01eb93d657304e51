"""A list that is updated from the last one equals a new one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

import jshm
from jshm.store.local.inspection import VersionList, list_versions
from jshm.store.local.registry import rows

from ....support.processes import Child

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from jshm.store.local.registry.registry import Registry
    from jshm.store.local.store import LocalStore


def read_anew(store: LocalStore) -> VersionList:
    process = store.process
    return list_versions(
        store.registry, store.directory, process.identity, process.living(), VersionList()
    )


def test_an_updated_list_equals_a_new_one(store: LocalStore, tmp_path: Path) -> None:
    chance = random.Random(3)
    held: list[object] = []
    with Child(tmp_path) as child:
        child.run("import jshm, numpy as np; held = []")

        def step() -> None:
            name = f"n{chance.randrange(6)}"
            kind = chance.randrange(7)
            if kind == 0:
                child.run(f"jshm.publish({name!r}, np.arange(5), replace=True)")
            elif kind == 1:
                child.run("held.clear(); jshm.gc()")
            elif kind == 2:
                jshm.publish({name: {"a": np.arange(2000.0), "of": held[-1:]}}, replace=True)
            elif kind == 3:
                held.clear()
            elif name not in store.names():
                jshm.publish(name, np.arange(3.0), replace=True, writable=True)
            elif kind == 4:
                jshm.release(name, force=True)
            elif kind == 5:
                held.append(jshm.attach(name))
            else:
                child.run(f"held.append(jshm.attach({name!r}))")

        for _ in range(150):
            step()
            if chance.random() < 0.7:
                assert store.segments() == read_anew(store).segments
    assert store.segments() == read_anew(store).segments


def test_only_changed_names_are_read(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    jshm.publish({f"n{i}": np.zeros(2) for i in range(300)})
    store.segments()
    read: list[str] = []
    parse = rows.Entry.parse
    monkeypatch.setattr(rows.Entry, "parse", lambda row: (read.append(row[0]), parse(row))[1])

    def listed(registry: Registry = store.registry) -> list[str]:
        read.clear()
        assert [i.name for i in store.segments()] == registry.names()
        return read

    assert listed() == []
    jshm.publish("n7", np.ones(2))
    read.clear()
    assert listed() == ["n7"]
    jshm.publish("a", np.ones(2))
    jshm.release(["n7", "n8"])
    assert sorted(listed()) == ["a"]
    assert listed() == []
