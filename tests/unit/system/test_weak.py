"""Weak tables lose their entries by identity, without running Python code."""

from __future__ import annotations

import sys
from typing import Any

from jshm.system.weak import WeakKeys, WeakSet, WeakValues


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError


def test_weak_tables_compare_by_identity() -> None:
    one, other = Unhashable(), Unhashable()
    values: WeakValues[str, Unhashable] = WeakValues()
    keys: WeakKeys[Unhashable, str] = WeakKeys()
    members: WeakSet[Unhashable] = WeakSet()
    for thing, name in ((one, "one"), (other, "other")):
        values[name] = thing
        keys[thing] = name
        members.add(thing)
    del thing, one
    assert values.get("one") is None
    assert values.get("other") is other
    assert "one" not in values
    assert [found is other for found in values] == [True]
    assert keys.get(other) == "other"
    assert keys.pop(other, "") == "other"
    assert keys.get(other, "gone") == "gone"
    assert other in members
    assert len(list(members)) == 1
    members.discard(other)
    assert other not in members


def test_no_python_code_runs_when_an_entry_is_removed() -> None:
    called = []
    table: WeakValues[int, Any] = WeakValues()
    keys: WeakKeys[Any, int] = WeakKeys()
    thing: Any = Unhashable()
    table[1], keys[thing] = thing, 1
    sys.setprofile(
        lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None
    )
    try:
        thing = None
    finally:
        sys.setprofile(None)
    assert table.get(1) is None
    assert not called
