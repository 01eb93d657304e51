"""Two releases of jshm, built from two commits, against one store: each keeps what is the other's."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .outside import Outside

ROOT = Path(__file__).parents[2]
PRELUDE = """
import os, warnings
warnings.simplefilter("ignore")
import numpy as np
import jshm
def listed():
    return {i.name: i.version for i in jshm.segments() if i.version == jshm.info(i.name).version}
"""


def git(*words: str) -> bytes:
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the history of a clone: git {words[0]}: {done.stderr.decode()[:100]}")
    return done.stdout


def added(path: str) -> str:
    """Return the commit that made a file."""
    if git("rev-parse", "--is-shallow-repository").strip() != b"false":
        pytest.skip("needs the whole history; this clone is shallow")
    return git("log", "--diff-filter=A", "--format=%H", "--", path).split()[-1].decode()


# Release → its commit.
RELEASES: dict[str, Callable[[], str]] = {
    "the first": lambda: added("jshm/api.py"),
    "before objects": lambda: f"{added('jshm/object_layout.py')}^",
    "the last commit's parent": lambda: "HEAD~1",
}


def install(commit: str, place: Path) -> Path:
    archive = git("archive", "--format=tar", commit, "jshm")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(place, filter="data")
    return place


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """What an older release is called, and where it is installed."""
    return request.param, install(RELEASES[request.param](), tmp_path / "older")


@pytest.fixture
def start(store_dir: str, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    with contextlib.ExitStack() as stack:

        def begin(script: str, place: Path = ROOT) -> Child:
            env = {"PYTHONPATH": str(place)}
            child = stack.enter_context(Child(tmp_path, script, env=env))
            child.run(PRELUDE)
            assert child.run("jshm.__file__") == str(place / "jshm" / "__init__.py")
            return child

        yield begin


@pytest.mark.parametrize("maker", ["older", "newer"])
def test_releases_share_arrays(
    start: Callable[..., Child], release: tuple[str, Path], outside: Outside, maker: str
) -> None:
    """In both orders of who makes the registry, and of who makes it again when it is lost."""
    older, newer = start("old.py", release[1]), start("new.py")
    children = [older, newer] if maker == "older" else [newer, older]
    assert children[0].run("jshm.segments()") == []

    older.run("jshm.publish({'old': np.arange(3.0), 'both': np.zeros(1)}); x = jshm.zeros(9)")
    newer.run("jshm.publish({'new': np.arange(4.0), 'live': np.zeros(2)}, writable=True)")
    for child, name in ((older, "old kept"), (newer, "new kept")):
        child.run(f"jshm.publish({name.replace(' ', '/')!r}, np.ones(2), keep=True)")
    for child in children:
        assert child.run("jshm.attach('old').tolist()") == [0, 1, 2]
        assert child.run("jshm.attach('new').tolist()") == [0, 1, 2, 3]
        child.run("jshm.gc()")
        assert set(child.run("listed()")) == {"old", "new", "both", "live", "old/kept", "new/kept"}
        assert child.run("[problem.what for problem in jshm.check()]") == []
    newer.run("w = jshm.attach('live', 'r+'); r = jshm.attach('both')")
    newer.run("w[0] = 7")
    assert older.run("jshm.attach('live').tolist()") == [7, 0]

    # Each replaces what is the other's, and versions go on; who holds the last one keeps it.
    assert "JshmError" in older.fails("jshm.publish('new', np.zeros(1))").kinds
    older.run("jshm.publish('both', np.ones(1))")
    newer.run("jshm.publish('both', np.full(1, 2.0), replace=True)")
    older.run("jshm.publish('both', np.full(1, 3.0), replace=True); jshm.release('old')")
    assert outside.versions()["both"] == (4, [3])
    assert newer.run("[r.tolist(), jshm.attach('both').tolist()]") == [[0], [3]]
    assert "old" not in newer.run("listed()")
    newer.run("del r, w; jshm.gc()")

    # The registry is lost, and made again from the segments.
    left = outside.versions()
    for file in os.listdir(outside.store):
        if file.startswith("registry.db"):
            os.unlink(f"{outside.store}/{file}")
    for child in children:
        assert child.run("listed()") == {name: version for name, (version, _) in left.items()}
    assert outside.versions() == left

    # Each reaps what the other left.
    older.kill()
    newer.run("jshm.gc()")
    kept = {"old/kept": [1, 1], "new/kept": [1, 1]}
    assert outside.names() == {"new": [0, 1, 2, 3], "live": [7, 0], **kept}
    older = start("old.py", release[1])
    newer.kill()
    older.run("jshm.gc()")
    assert outside.names() == kept
    assert len(outside.segments()) == 2


def test_objects_are_left_alone_by_who_does_not_know_them(
    start: Callable[..., Child], release: tuple[str, Path], outside: Outside
) -> None:
    older, newer = start("old.py", release[1]), start("new.py")
    newer.run(
        "x = jshm.publish('X', np.arange(3.0)) and jshm.attach('X')\n"
        "jshm.publish('dict', {'x': x, 'large': np.arange(5000.0)}); del x"
    )
    before = outside.segments()
    if release[0] == "the last commit's parent":
        assert older.run("jshm.attach('dict')['x'].tolist()") == [0, 1, 2]
    else:
        assert "JshmError" in older.fails("jshm.attach('dict')").kinds
    if release[0] != "the first":
        assert set(older.run("listed()")) == {"X", "dict"}
        assert older.run("[problem.what for problem in jshm.check()]") == []
    older.run("jshm.publish('mine', np.zeros(1)); jshm.gc()")
    # The name goes; the data are the object's, too.
    older.run("jshm.release(['mine', 'X'], force=True)")
    assert outside.segments() == before
    assert newer.run("jshm.attach('dict')['x'].tolist()") == [0, 1, 2]
    older.run("jshm.release('dict', force=True)")
    newer.run("jshm.gc()")
    assert outside.segments() == []


# A jshm of tomorrow: it says more of everything, in ways that are allowed without a new format.
TOMORROW = """
import json
from jshm import object_layout, rows
from jshm.identity import Identity
def identity(me, to_json=Identity.to_json):
    content = json.loads(to_json(me))
    return json.dumps({**content, "host": "h", "session": {**content["session"], "cookie": 1}})
def record(entry, metadata=rows.metadata):
    return {**metadata(entry), "colour": "blue", "tags": ["a", {"b": None}]}
def header(content, encode=object_layout.encode):
    return encode({**content, "colour": "blue"} if isinstance(content, dict) else content)
Identity.to_json, rows.metadata, object_layout.encode = identity, record, header
jshm.segments()
with default_store().registry.database.transact() as tx:
    for table in ("names", "versions", "segments", "leases", "refs"):
        tx.execute(f"ALTER TABLE {table} ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
    tx.execute("CREATE TABLE subscriptions(name TEXT PRIMARY KEY)")
"""


def test_what_a_newer_release_says_besides_is_passed_over(
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
        for file in os.listdir(outside.store):  # and once more, from what the segments say
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


def test_objects_are_found_again_after_an_older_release_made_the_registry(
    start: Callable[..., Child], tmp_path: Path, outside: Outside
) -> None:
    place = install(RELEASES["before objects"](), tmp_path / "older")
    newer = start("new.py")
    newer.run("jshm.publish('dict', {'large': np.arange(5000.0)}, keep=True)")
    newer.kill()
    for file in os.listdir(outside.store):
        if file.startswith("registry.db"):
            os.unlink(f"{outside.store}/{file}")
    start("old.py", place).run("jshm.gc()")
    assert len(outside.segments()) == 1
    again = start("again.py")
    again.run("jshm.gc()")
    assert again.run("jshm.attach('dict')['large'].tolist() == list(range(5000))")
    assert again.run("listed()") == {"dict": 1}
