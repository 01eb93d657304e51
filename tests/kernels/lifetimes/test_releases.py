"""A newer jshm and this one use the same store: each keeps the other's data."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from ...support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .outside import Outside

PRELUDE = """
import os, warnings
warnings.simplefilter("ignore")
import numpy as np
import jshm
def listed():
    return {i.name: i.version for i in jshm.segments() if i.version == jshm.info(i.name).version}
"""


@pytest.fixture
def start(store_dir: str, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    with contextlib.ExitStack() as stack:

        def begin(script: str) -> Child:
            child = stack.enter_context(Child(tmp_path, script))
            child.run(PRELUDE)
            return child

        yield begin


# A future jshm that adds fields and tables in the ways that need no new format.
TOMORROW = """
import json
from jshm.segment import object_layout; from jshm.store.local.registry import rows
from jshm.store.identity import Identity
def identity(me, to_json=Identity.to_json):
    content = json.loads(to_json(me))
    return json.dumps({**content, "host": "h", "session": {**content["session"], "cookie": 1}})
def record(entry, metadata=rows.trailer_record):
    return {**metadata(entry), "colour": "blue", "tags": ["a", {"b": None}]}
def header(content, encode=object_layout.encode):
    return encode({**content, "colour": "blue"} if isinstance(content, dict) else content)
Identity.to_json, rows.trailer_record, object_layout.encode = identity, record, header
jshm.segments()
with default_store().registry.transact() as tx:
    for table in ("names", "versions", "segments", "leases", "refs"):
        tx.execute(f"ALTER TABLE {table} ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
    tx.execute("CREATE TABLE subscriptions(name TEXT PRIMARY KEY)")
"""


def test_additions_of_a_newer_release_are_ignored(
    start: Callable[..., Child], outside: Outside
) -> None:
    newer, ours = start("new.py"), start("fit.py")
    newer.run(f"from jshm.store import default_store\n{TOMORROW}")
    newer.run("jshm.publish({'X': np.arange(3.0), 'Y': np.zeros(2)})")
    newer.run("x = jshm.attach('X'); jshm.publish('dict', {'x': x, 'large': np.ones(5000)}); del x")
    for path in outside.segments():
        with open(f"{outside.store}/segments/{path}", "rb") as file:
            assert b'"colour":"blue"' in file.read()
    for _ in range(2):
        assert ours.run("listed()") == {"X": 1, "Y": 1, "dict": 1}
        assert ours.run("[problem.what for problem in jshm.check()]") == []
        assert ours.run("jshm.attach('dict')['x'].tolist()") == [0, 1, 2]
        assert ours.run("[i.publisher_alive for i in jshm.segments()]") == [True] * 3
        for file in os.listdir(outside.store):  # the second time from the segments alone
            if file.startswith("registry.db"):
                os.unlink(f"{outside.store}/{file}")
    ours.run("jshm.publish('Y', np.ones(2), replace=True); jshm.release('X', force=True)")
    assert newer.run("[jshm.attach('Y').tolist(), jshm.attach('dict')['x'].tolist()]") == [
        [1, 1], [0, 1, 2],
    ]  # fmt: skip
    newer.kill()
    ours.run("jshm.gc()")
    assert ours.run("listed()") == {"Y": 2}
    assert len(outside.segments()) == 1
