"""SIGKILL in the middle of what is done with objects: none is lost or torn, nothing leaks or dangles.

As a program, ``test_objects.py STORE_PARENT EVERY``, it kills at every EVERY-th boundary of each operation
and prints what was found, as JSON; see `harness`. ``JSHM_FAULTS_EVERY=1`` lets the tests kill at each.

The store that is operated on: X, an array; H, one whose name was released; B, one that never had any;
O, an object that refers to all three and has a buffer of its own; P, which refers to that buffer.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if __name__ == "__main__":
    from harness import LENGTH, Fuse, make, run, spawn

    import jshm
    from jshm import api, segment  # noqa: F401 - loaded before the forks
    from jshm.pickling import describe  # noqa: F401
    from jshm.store import default_store, local, objects  # noqa: F401
elif TYPE_CHECKING:
    from .harness import Fuse

PRELUDE = struct.Struct("<8sIII")


def up(offset: int) -> int:
    return (offset + 63) // 64 * 64


# -- the victim ------------------------------------------------------------------------------------


def setup() -> None:
    jshm.publish({"X": make("X", 1), "H": make("H", 1)}, keep=True)
    x, h = jshm.attach(["X", "H"])
    publish("O", 1, x=x[::-1], h=h, b=born())
    jshm.publish("P", {"v": 1, "o": jshm.attach("O")["own"][::2]}, keep=True)
    del x, h
    jshm.release("H")


def born() -> np.ndarray:
    array = jshm.empty(LENGTH)
    array[:] = make("B", 1)
    return array


def publish(name: str, version: int, **more: Any) -> None:
    jshm.publish(name, {"v": version, "own": make(name, version), **more}, keep=True)


def publish_new(fuse: Fuse) -> None:
    x = jshm.attach("X")
    fuse.armed = True
    publish("Z", 1, x=x[::-1], b=born())


def replace(fuse: Fuse) -> None:
    """O's first version stays: P needs its buffer. Its arrays are handed on."""
    o = jshm.attach("O")
    fuse.armed = True
    publish("O", 2, x=o["x"], h=o["h"], b=o["b"])


def replace_both(fuse: Fuse) -> None:
    """Nothing needs what O was, nor what it alone needed."""
    jshm.segments()
    fuse.armed = True
    jshm.publish(
        {"O": {"v": 2, "own": make("O", 2)}, "P": {"v": 2, "o": make("O", 2)[::2]}}, keep=True
    )


def release(fuse: Fuse) -> None:
    jshm.segments()
    fuse.armed = True
    jshm.release(["O", "P"])


def release_needed(fuse: Fuse) -> None:
    """X loses its name, and O goes on."""
    jshm.segments()
    fuse.armed = True
    jshm.release("X")


def attach(fuse: Fuse) -> None:
    fuse.armed = True
    for mode in ("r", "c"):
        o, p = jshm.attach(["O", "P"], mode)
        assert o["own"][2] == p["o"][1]


def reap(fuse: Fuse) -> None:
    """Reap the objects of a killed process, and what only they needed."""
    pid = os.fork()
    if not pid:
        x = jshm.attach("X")
        jshm.publish("left", {"x": x, "b": born(), "own": make("left", 1)})
        jshm.publish("left2", [jshm.attach("left")["own"]])
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    fuse.armed = True
    jshm.gc()


def everything(fuse: Fuse) -> None:
    """For kills at random times, also inside SQLite."""
    version = 2
    while True:
        o = jshm.attach("O")
        jshm.publish(
            {
                "O": {**o, "v": version, "own": make("O", version)},
                "P": {"v": version, "o": make("O", version)[::2], "old": o["own"]},
            },
            keep=True,
        )
        del o
        publish("Z", 1, x=jshm.attach("X")[::-1], b=born())
        jshm.release("Z")
        version += 1


SCENARIOS = [publish_new, replace, replace_both, release, release_needed, attach, reap]


def victim(scenario: Any, at: int) -> int:
    fuse = Fuse(at)
    fuse.install()
    scenario(fuse)
    fuse.armed = False
    return fuse.count


# -- what is there afterwards ----------------------------------------------------------------------


def wrong_in(name: str, value: Any) -> list[str]:
    """Say what is wrong with what was attached."""
    if isinstance(value, np.ndarray):
        return [] if (value == make(name, 1)).all() else [f"{name} shows {value[:3]}"]
    expected = {
        "own": make(name, value["v"]),
        "x": make("X", 1)[::-1],
        "h": make("H", 1),
        "b": make("B", 1),
        "o": make("O", value["v"])[::2],
        "old": make("O", value["v"] - 1),
    }
    return [
        f"{name}[{key!r}] shows {array[:3]}"
        for key, array in value.items()
        if key != "v" and not (array == expected[key]).all()
    ]


def look(kind: int) -> tuple[list[str], list[str]]:
    """Do one ordinary operation, then look through jshm; return what is wrong, and the names."""
    if kind == 0:
        jshm.segments()
    elif kind == 1:
        jshm.publish("next", {"a": np.zeros(3)})
    else:
        jshm.publish("next", [jshm.zeros(3)])
        jshm.release("next")
    wrong = [problem.what for problem in jshm.check()]
    names = [name for name in default_store().names() if name != "next"]
    for name in names:
        wrong += wrong_in(name, jshm.attach(name))
        jshm.info(name)
    if "next" in default_store().names():
        jshm.release("next")
    return wrong, names


def _has_half_a_magic(path: str) -> bool:
    """Tell whether the very write of the magic was torn: see `test_what_a_newer_jshm_made_stays_…`."""
    with open(path, "rb") as file:
        return file.read(8) == b"\x93JSH" + bytes(4)


def raw(scenario: str, root: str) -> list[str]:
    """Look with the format's description and sqlite3 alone."""
    wrong = []
    con = sqlite3.connect(f"{root}/registry.db")
    current = dict(con.execute("SELECT name, current FROM names WHERE current NOT NULL").fetchall())
    versions = con.execute("SELECT name, version, segment FROM versions").fetchall()
    kinds = dict(con.execute("SELECT id, kind FROM segments WHERE NOT unlinked").fetchall())
    refs = con.execute("SELECT segment, needs FROM refs").fetchall()
    con.close()
    files = {
        name.partition(".")[0]
        for name in os.listdir(f"{root}/segments")
        if not _has_half_a_magic(f"{root}/segments/{name}")
    }
    if files != set(kinds):
        wrong.append(f"files {sorted(files)}, rows {sorted(kinds)}")
    wrong += [f"a reference without its segment: {ref}" for ref in refs if not {*ref} <= set(kinds)]
    wanted = {segment for name, version, segment in versions if current.get(name) == version}
    while more := {needed for segment, needed in refs if segment in wanted} - wanted:
        wanted |= more
    if wanted != set(kinds):
        wrong.append(f"wanted {sorted(wanted)}, there {sorted(kinds)}")
    said = set()
    for identity, kind in kinds.items():
        if kind != "object":
            continue
        with open(f"{root}/segments/{identity}.jshm", "rb") as file:
            whole = file.read()
        magic, _, length, checksum = PRELUDE.unpack_from(whole)
        body = whole[PRELUDE.size : PRELUDE.size + length]
        if magic != b"\x93JSHMOBJ" or zlib.crc32(body) != checksum:
            wrong.append(f"{identity} has a torn header")
            continue
        content = json.loads(body)
        size, checksum = content["pickle"]
        start = up(PRELUDE.size + length)
        if zlib.crc32(whole[start : start + size]) != checksum:
            wrong.append(f"{identity} has a torn pickle")
        said |= {(identity, needed) for needed in content["references"]}
    if said != set(refs):
        wrong.append(f"references {sorted(refs)}, in the files {sorted(said)}")
    there = {"X", "O", "P"} - {"release": {"O", "P"}, "release_needed": {"X"}}.get(scenario, set())
    if not there <= set(current) or len(current.keys() & {"O", "P"}) == 1:
        wrong.append(f"names were lost: {current}")
    if scenario in ("replace_both", "everything") and current["O"] != current["P"]:
        wrong.append(f"half a group: {current}")
    if "left" in current or "left2" in current:
        wrong.append("a leftover was not reaped")
    if leases := os.listdir(f"{root}/leases"):
        wrong.append(f"lease files are left: {leases}")
    return wrong


def trial(
    scenario: Any, parent: str, at: int, delay: float | None = None
) -> tuple[list[str], bool]:
    """Kill a victim at one boundary (or after a delay); return what is wrong, whether it died."""
    root = tempfile.mkdtemp(dir=parent)
    os.environ["JSHM_DIR"] = root
    wrong: list[str] = []
    try:
        shutil.copytree(f"{parent}/template", root, dirs_exist_ok=True)
        if delay is None:
            died = run(victim, scenario, at) is None
        else:
            pid, pipe = spawn(victim, scenario, 0)
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pipe.close()
            died = True
        found, names = run(look, at % 3)
        wrong += found
        wrong += run(raw, scenario.__name__, root)
        # And what the files alone say.
        for ending in ("", "-wal", "-shm"):
            Path(f"{root}/registry.db{ending}").unlink(missing_ok=True)
        found, again = run(look, 0)
        wrong += [f"rebuilt: {what}" for what in found]
        # Who was killed may have told a file already that it has a name no more.
        if not set(again) <= set(names):
            wrong.append(f"names were {names}, rebuilt {again}")
    finally:
        shutil.rmtree(root)
    return wrong, died


def trials(scenario: Any, parent: str, every: int) -> dict[str, Any]:
    """Kill one operation at many boundaries."""
    wrong: dict[str, list[str]] = {}
    killed = 0
    # Another boundary for each scenario to begin with: together they meet more of them.
    at, died = 1 + 5 * SCENARIOS.index(scenario) % every, True
    while died:
        found, died = trial(scenario, parent, at)
        killed += died
        if found:
            wrong[str(at)] = found
        at += every
    return {"killed": killed, "wrong": wrong}


def random_trials(parent: str, count: int) -> dict[str, Any]:
    """Kill at any time: boundaries that no interposer sees, inside SQLite, inside the kernel."""
    draw = random.Random(count)
    wrong = {
        str(i): found
        for i in range(count)
        if (found := trial(everything, parent, i, 0.02 + draw.random() * 0.05)[0])
    }
    return {"killed": count, "wrong": wrong}


def main() -> None:
    parent, every = sys.argv[1], int(sys.argv[2])
    os.environ["JSHM_DIR"] = f"{parent}/template"
    assert run(setup) is None
    assert os.path.exists(f"{parent}/template/registry.db")
    found = {scenario.__name__: trials(scenario, parent, every) for scenario in SCENARIOS}
    found["everything"] = random_trials(parent, 100 // every + 3)
    json.dump(found, sys.stdout)


# -- the test --------------------------------------------------------------------------------------

# Fewer boundaries than these, and the harness does not see what the operation does.
AT_LEAST = {
    "publish_new": 90, "replace": 85, "replace_both": 105, "release": 75, "release_needed": 20,
    "attach": 85, "reap": 95,
}  # fmt: skip
EVERY = int(os.environ.get("JSHM_FAULTS_EVERY", "37"))


@pytest.fixture(scope="module")
def killed() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="jshm-faults-") as parent:
        found = subprocess.run(
            [sys.executable, __file__, parent, str(EVERY)],
            stdout=subprocess.PIPE,
            env={**os.environ, "JSHM_OVERFLOW_DIR": ""},
            timeout=600,
            check=True,
        )
    return json.loads(found.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("scenario", AT_LEAST)
def test_killed_on_the_way(killed: dict[str, Any], scenario: str) -> None:
    assert killed[scenario]["wrong"] == {}
    assert killed[scenario]["killed"] >= AT_LEAST[scenario] // EVERY


def test_killed_at_random_times(killed: dict[str, Any]) -> None:
    assert killed["everything"]["wrong"] == {}


if __name__ == "__main__":
    main()
