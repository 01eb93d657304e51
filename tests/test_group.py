"""Sharing with a Unix group, between real users; and what those outside of it get: nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.store import _store_in, default_store

from .conftest import PREFIX, SHM
from .users import People, User, people

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .processes import Child

pytestmark = pytest.mark.xdist_group("users")  # they are made once


@pytest.fixture(scope="module")
def lab() -> Iterator[People]:
    with people() as made:
        yield made


@pytest.fixture
def place(store_dir: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A directory like /dev/shm, in which everybody may make directories."""
    root = tempfile.mkdtemp(prefix=PREFIX, dir=SHM)
    os.chmod(root, 0o1777)
    monkeypatch.setenv("JSHM_GROUP_DIR", root)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def start(lab: People, place: str, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Start a process of a user, in the store of the group; or, without a group, in his own."""
    tmp_path.chmod(0o755)
    started: list[Child] = []

    def start(user: User, script: str = "train.py", group: str | None = None, **how: int) -> Child:
        env = {"JSHM_GROUP": lab.group if group is None else group}
        env["JSHM_DIR"] = os.path.join(place, f"own-{user.name}")
        child = user.child(tmp_path, script, env, **how)
        started.append(child)
        child.run("import jshm, numpy as np")
        return child

    yield start
    for child in started:
        child.__exit__()


def files(root: str) -> Iterator[tuple[str, os.stat_result]]:
    for directory, _, names in os.walk(root):
        for name in ["", *names]:
            path = os.path.join(directory, name)
            yield path, os.lstat(path)


# -- by default: nobody ----------------------------------------------------------------------------


def test_nobody_reads_another_s_data_by_default(start: Callable[..., Child], lab: People) -> None:
    ada = start(lab.ada, group="", umask=0)
    path = ada.run("jshm.publish('X', np.arange(3.0)); from jshm.store import default_store; "
                   "default_store().path('X')")  # fmt: skip
    bob = start(lab.bob, group="")
    for attempt in (f"open({path!r}).read()", f"np.load({path!r})", f"os.stat({path!r})",
                    f"os.listdir({os.path.dirname(path)!r})"):  # fmt: skip
        assert "PermissionError" in bob.fails(attempt).kinds
    root = os.path.dirname(os.path.dirname(path))
    bob.run(f"os.environ['JSHM_DIR'] = {root!r}")
    refused = bob.fails("jshm.attach('X')")
    assert "UnsafeDirectoryError" in refused.kinds
    assert f"belongs to user {lab.ada.uid}" in refused.message
    for path, status in files(root):
        assert not status.st_mode & 0o077, path


def test_a_foreign_segment_is_never_unpickled(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """One that somebody with more rights put there, or that was given away."""
    ada = start(lab.ada, group="")
    path = ada.run("""
ran = os.path.join(os.environ["JSHM_DIR"], "ran")
class Canary:
    def __reduce__(self):
        return os.mkdir, (ran,)
jshm.publish("O", Canary())
from jshm.store import default_store
default_store().path("O")
""")
    os.chown(path, lab.eve.uid, -1)
    os.chmod(path, 0o444)
    refused = ada.fails("jshm.attach('O')")
    assert "CorruptSegmentError" in refused.kinds
    assert "not a regular file of this user" in refused.message
    assert not os.path.exists(ada.run("ran"))
    os.chown(path, lab.ada.uid, -1)
    ada.run("jshm.attach('O')")
    assert os.path.exists(ada.run("ran"))


# -- the deliberate way ----------------------------------------------------------------------------


def test_arrays_are_shared_with_the_group(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("jshm.publish('X', np.arange(6.0).reshape(2, 3), note='for all')")
    assert bob.run("jshm.attach('X').tolist()") == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    bob.run("x = jshm.attach('X')")
    listed = (
        "[[i.name, i.publisher, i.mine, [h.label for h in i.holders]] for i in jshm.segments()]"
    )
    assert bob.run(listed) == [["X", f"train.py ({lab.ada.name})", False, ["eda.py"]]]
    assert ada.run(listed) == [["X", "train.py", True, [f"eda.py ({lab.bob.name})"]]]
    root = os.path.join(place, f"jshm-group-{lab.group}")
    for path, status in files(root):
        assert status.st_gid == lab.gid, path
        assert not status.st_mode & 0o007, path
        if stat.S_ISDIR(status.st_mode):
            assert stat.S_IMODE(status.st_mode) == 0o2770, path
    (name,) = os.listdir(f"{root}/segments")
    assert stat.S_IMODE(os.stat(f"{root}/segments/{name}").st_mode) == 0o440
    # The same rules as between notebooks.
    assert "NotOwnerError" in bob.fails("jshm.publish('X', np.zeros(3))").kinds
    assert "NotOwnerError" in bob.fails("jshm.release('X')").kinds
    assert bob.run("jshm.publish('X', np.ones(3), replace=True).version") == 2
    assert ada.run("jshm.attach('X').tolist()") == [1.0] * 3
    assert ada.run("jshm.release('X', force=True)[0].name") == "X"
    bob.run("del x; jshm.gc()")
    assert ada.run("[jshm.segments(), jshm.check()]") == [[], []]
    assert os.listdir(f"{root}/segments") == []


def test_the_same_memory(start: Callable[..., Child], lab: People) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("jshm.publish('L', np.zeros(1000), writable=True); a = jshm.attach('L', 'r+')")
    bob.run("b = jshm.attach('L', 'r+'); b[7] = 42")
    assert ada.run("a[7]") == 42
    born = "e = jshm.empty(10); e[:] = 5; jshm.publish('E', e)"
    ada.run(born)
    assert bob.run("jshm.attach('E').sum()") == 50
    assert "ReadOnlyError" in bob.fails("jshm.attach('E', 'r+')").kinds
    assert bob.run("c = jshm.attach('E', 'c'); c[0] = 1; jshm.attach('E')[0]") == 5


def test_an_object_in_a_group_s_store_needs_trust(start: Callable[..., Child], lab: People) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("""
ran = os.path.join(os.environ["JSHM_GROUP_DIR"], "ran")
class Canary:
    def __reduce__(self):
        return exec, (f"import os; os.mkdir({ran!r}); os.chmod({ran!r}, 0o777)",)
jshm.publish("O", {"a": np.ones(100_000), "canary": Canary()})
""")
    ran = ada.run("ran")
    for look in ("jshm.segments()", "jshm.info('O')", "jshm.check()"):
        bob.run(look)
    refused = bob.fails("jshm.attach('O')")
    assert "UntrustedError" in refused.kinds
    assert lab.ada.name in refused.message
    assert "trust=True" in refused.message
    assert not os.path.exists(ran)
    assert bob.run("jshm.attach('O', trust=True)['a'].sum()") == 100_000
    assert os.stat(ran).st_uid == lab.bob.uid  # so it did run, as bob
    os.rmdir(ran)
    # They may refer to arrays of others. One's own need it too: a member could make it seem so.
    ada.run("jshm.publish('X', np.arange(4.0))")
    bob.run("x = jshm.attach('X'); jshm.publish('mine', {'x': x[::-1]}); del x")
    assert bob.run("jshm.attach('mine', trust=True)['x'].tolist()") == [3.0, 2.0, 1.0, 0.0]
    for member in (ada, bob):
        assert "UntrustedError" in member.fails("jshm.attach('mine')").kinds


def test_whoever_is_not_a_member(start: Callable[..., Child], lab: People, place: str) -> None:
    ada = start(lab.ada, umask=0)
    path = ada.run("jshm.publish('X', np.zeros(3)); from jshm.store import default_store; "
                   "default_store().path('X')")  # fmt: skip
    eve = start(lab.eve)
    refused = eve.fails("jshm.attach('X')")
    assert "UnknownGroupError" in refused.kinds
    assert "log in again" in refused.message
    assert "UnknownGroupError" in eve.fails("jshm.publish('Y', np.zeros(3))").kinds
    assert "PermissionError" in eve.fails(f"open({path!r})").kinds
    eve.run("os.environ['JSHM_GROUP'] = ''")
    eve.run(f"os.environ['JSHM_DIR'] = {os.path.dirname(os.path.dirname(path))!r}")
    assert "UnsafeDirectoryError" in eve.fails("jshm.attach('X')").kinds


def test_no_such_group(store_dir: str, place: str) -> None:
    with jshm.group("no-such-group"), pytest.raises(jshm.UnknownGroupError, match="no-such-group"):
        jshm.segments()
    assert os.listdir(place) == []


@pytest.mark.parametrize("squat", ["directory", "open", "link", "file", "no-set-group-id"])
def test_a_directory_that_somebody_else_made(
    start: Callable[..., Child], lab: People, place: str, squat: str
) -> None:
    root = os.path.join(place, f"jshm-group-{lab.group}")
    eve = start(lab.eve, group="")
    if squat == "directory":
        eve.run(f"os.mkdir({root!r}, 0o777); os.chmod({root!r}, 0o2777)")
    elif squat == "link":
        eve.run(f"os.mkdir({place + '/trap'!r}); os.symlink({place + '/trap'!r}, {root!r})")
    elif squat == "file":
        eve.run(f"open({root!r}, 'w').close()")
    else:
        os.mkdir(root)
        os.chown(root, lab.ada.uid, lab.gid)
        os.chmod(root, 0o2777 if squat == "open" else 0o770)
    ada = start(lab.ada)
    assert "UnsafeDirectoryError" in ada.fails("jshm.publish('X', np.zeros(3))").kinds
    assert [name for name in os.listdir(place) if name.startswith("jshm-group")] == [
        os.path.basename(root)
    ]


def test_a_hostile_registry_leads_nobody_out_of_the_directory(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """A member who writes rows of his own must not get another's files read, changed or removed."""
    ada = start(lab.ada, group="")
    treasure, other = (os.path.join(place, name) for name in ("treasure.npy", "other.npy"))
    for path in (treasure, other):
        ada.run(f"np.save({path!r}, np.arange(3.0))")
    ada.run(f"os.environ['JSHM_GROUP'] = {lab.group!r}")
    ada.run("jshm.publish('X', np.arange(3.0))")
    root = os.path.join(place, f"jshm-group-{lab.group}")
    bob = start(lab.bob, "eda.py")
    bob.run(f"""
import sqlite3
con = sqlite3.connect({root!r} + "/registry.db")
for id, wanted in (("../../treasure", 1), ("../../other", 0)):
    con.execute("INSERT INTO segments SELECT ?, kind, descr, shape, \\"order\\", nbytes, overflow, writable, "
                "?, unlinked FROM segments WHERE wanted LIMIT 1", (id, wanted))
con.execute("INSERT INTO names VALUES ('T', 1, 1)")
con.execute("INSERT INTO versions SELECT 'T', 1, '../../treasure', lease, created, keep, note, once, 0 "
            "FROM versions WHERE name = 'X'")
con.commit(); con.close()
""")
    for attempt in ("jshm.attach('T')", "jshm.gc()", "jshm.release('T', force=True)",
                    "jshm.publish('T', np.zeros(2), replace=True)"):  # fmt: skip
        assert "CorruptRegistryError" in ada.fails(attempt).kinds
    assert np.load(treasure).tolist() == np.load(other).tolist() == [0.0, 1.0, 2.0]
    assert ada.run("len(jshm.check(fix=True)) > 0 and jshm.check()") == []
    assert np.load(treasure).tolist() == np.load(other).tolist() == [0.0, 1.0, 2.0]
    assert ada.run("jshm.attach('X').tolist()") == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("place_of", ["leases", "segments", "locks"])
def test_a_directory_that_a_member_replaces_by_a_link(
    start: Callable[..., Child], lab: People, place: str, place_of: str
) -> None:
    """What it leads to is another's, and stays whole."""
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    precious = os.path.join(place, "precious")
    names = ["thesis", "0123456789abcdef", "0123456789abcdef.npy", ".new-0123456789abcdef"]
    names.append(f"name-{'0' * 32}")
    ada.run(f"os.mkdir({precious!r}, 0o700)")
    for name in names:
        ada.run(f"open({precious + '/' + name!r}, 'w').write('mine')")
    ada.run("jshm.publish('X', np.zeros(3)); x = jshm.attach('X')")
    root = os.path.join(place, f"jshm-group-{lab.group}")
    bob.run(f"os.rename({root!r} + '/{place_of}', {root!r} + '/aside')")
    bob.run(f"os.symlink({precious!r}, {root!r} + '/{place_of}')")
    for attempt in ("jshm.segments()", "jshm.gc()", "jshm.publish('Y', np.zeros(3))"):
        ada.run(f"import contextlib\nwith contextlib.suppress(jshm.JshmError, OSError): {attempt}")
    assert set(names) <= set(os.listdir(precious))
    if place_of == "locks":
        assert "UnsafeDirectoryError" in ada.fails("jshm.lock('Y').__enter__()").kinds
        assert set(names) == set(os.listdir(precious))


def test_pointers_in_a_row_are_not_followed(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("jshm.publish('X', np.zeros(3))")
    root = os.path.join(place, f"jshm-group-{lab.group}")
    bob.run(f"""
import sqlite3
con = sqlite3.connect({root!r} + "/registry.db")
con.execute("UPDATE segments SET descr = ?", ("'|O'",))
con.commit(); con.close()
""")
    refused = ada.fails("jshm.attach('X')")
    assert {"CorruptRegistryError", "CorruptSegmentError"} & set(refused.kinds)


def test_what_was_sealed_stays_sealed(start: Callable[..., Child], lab: People, place: str) -> None:
    """A member says in the registry that others may write it: its owner does not let them."""
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("jshm.publish('X', np.zeros(3))")
    root = os.path.join(place, f"jshm-group-{lab.group}")
    bob.run(f"""
import sqlite3
con = sqlite3.connect({root!r} + "/registry.db")
con.execute("UPDATE segments SET writable = 1")
con.execute("INSERT INTO behind SELECT id FROM segments")
con.commit(); con.close()
""")
    ada.run("jshm.publish('Y', np.zeros(2)); jshm.gc()")
    modes = {stat.S_IMODE(os.stat(f"{root}/segments/{name}").st_mode)
             for name in os.listdir(f"{root}/segments")}  # fmt: skip
    assert modes == {0o440}


def test_links_that_a_member_plants_are_not_followed(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    secret = os.path.join(place, "secret")
    ada.run(f"open({secret!r}, 'w').write('mine'); os.chmod({secret!r}, 0o600)")
    ada.run("jshm.publish('X', np.zeros(3)); x = jshm.attach('X')")
    root = os.path.join(place, f"jshm-group-{lab.group}")
    bob.run(f"""
import glob
for lease in glob.glob({root!r} + "/leases/*.holds"):
    os.symlink({secret!r}, os.path.join(os.path.dirname(lease), ".new-" + os.path.basename(lease)))
path = glob.glob({root!r} + "/segments/*.npy")[0]
os.rename(path, path + ".aside"); os.symlink({secret!r}, path)
os.unlink({root!r} + "/registry.db.ballast"); os.symlink({secret!r}, {root!r} + "/registry.db.ballast")
""")
    ada.run("for i in range(600):\n y = jshm.empty(1); del y; jshm.segments()")
    ada.run(
        "import contextlib\nwith contextlib.suppress(jshm.JshmError, OSError): jshm.publish('A', x)"
    )
    ada.run("jshm.publish('B', np.zeros(4)); jshm.gc()")
    status = os.stat(secret)
    with open(secret) as file:
        assert file.read() == "mine"
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == 4


def test_a_dead_member_is_reaped_by_another(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("jshm.publish('X', np.zeros(3)); jshm.publish('K', np.ones(3), keep=True)")
    bob.run("jshm.segments()")
    ada.kill()
    bob.run("jshm.gc()")
    assert bob.run("[i.name for i in jshm.segments()]") == ["K"]
    root = os.path.join(place, f"jshm-group-{lab.group}")
    assert len(os.listdir(f"{root}/segments")) == 1
    assert len([n for n in os.listdir(f"{root}/leases") if "." not in n]) == 1
    for ending in ("", "-wal", "-shm"):
        os.unlink(f"{root}/registry.db{ending}")
    again = start(lab.ada, "again.py")
    assert again.run("jshm.attach('K').tolist()") == [1.0] * 3
    assert again.run("jshm.check()") == []


def test_alias_of_another_s_array_is_a_copy(start: Callable[..., Child], lab: People) -> None:
    """Its file says what its owner wrote into it."""
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("jshm.publish('X', np.arange(3.0)); mine = jshm.attach('X'); jshm.publish('Y', mine)")
    assert ada.run("jshm.info('X').segment == jshm.info('Y').segment")
    bob.run("x = jshm.attach('X'); jshm.publish('Z', x)")
    assert bob.run("jshm.info('X').segment != jshm.info('Z').segment")
    bob.run("jshm.release('Y', force=True)")
    assert ada.run("jshm.check()") == []
    assert ada.run("jshm.attach('X').tolist()") == [0.0, 1.0, 2.0]


def test_members_lock_each_other_out(start: Callable[..., Child], lab: People, place: str) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run(
        "jshm.publish('X', np.zeros(3), writable=True); lock = jshm.lock('X'); lock.__enter__()"
    )
    refused = bob.fails("jshm.lock('X', timeout=0.05).__enter__()")
    assert f"which train.py ({lab.ada.name}) (pid {ada.pid}) has" in refused.message
    bob.send("seen = []; watch = jshm.watch('X', lambda info: seen.append(info.version))\n"
             "with jshm.lock('X'): jshm.attach('X', 'r+')[0] = 1")  # fmt: skip
    ada.run("lock.__exit__(None, None, None)")
    bob.receive()
    assert ada.run("with jshm.lock('X', timeout=0): pass\njshm.attach('X')[0]") == 1.0
    ada.run("jshm.publish('X', np.ones(3))")
    assert bob.run("jshm.wait('X', newer_than=1, timeout=30).version") == 2
    bob.run("import time\nwhile not seen: time.sleep(0.01)")
    locks = os.path.join(place, f"jshm-group-{lab.group}", "locks")
    (path, _), *_ = [entry for entry in files(locks) if "name-" in entry[0]]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    ada.run("jshm.gc()")
    assert os.listdir(locks) == []
    bob.run("watch.stop()")


def test_a_private_store_beside_it(start: Callable[..., Child], lab: People) -> None:
    """One process uses both; what is of the one is copied into the other."""
    ada = start(lab.ada, group="")
    ada.run(f"""
lab = {lab.group!r}
jshm.publish("X", np.arange(3.0))
with jshm.group(lab):
    jshm.publish("X", np.arange(5.0))
    shared = jshm.attach("X")
    assert [i.name for i in jshm.segments()] == ["X"]
assert jshm.attach("X").tolist() == [0.0, 1.0, 2.0]
jshm.publish("S", shared)
jshm.publish("D", {{"shared": shared}})
handed = jshm.loads(jshm.dumps(shared))
with jshm.group(lab):
    own = jshm.SharedNumpyArray
    jshm.publish("P", jshm.attach("X"))
    with jshm.group(""):
        assert jshm.info("X").nbytes == 24
    jshm.release(["X", "P"])
""")
    assert ada.run("shared.sum(), jshm.attach('S').sum(), handed.sum()") == [10.0] * 3
    assert ada.run("jshm.attach('D')['shared'].sum()") == 10.0
    ada.run("del shared")
    ada.run("with jshm.group(lab):\n jshm.gc()\n assert jshm.segments() == jshm.check() == []")


def test_full_without_overflow(start: Callable[..., Child], lab: People) -> None:
    """A member's disk is nobody else's: what does not fit is refused."""
    ada = start(lab.ada)
    refused = ada.fails("jshm.publish('X', np.lib.stride_tricks.as_strided(np.zeros(1), "
                        "(1 << 44,), (0,)))")  # fmt: skip
    assert "NoSpaceError" in refused.kinds


def test_one_user_alone_in_a_group_of_the_machine(place: str, store_dir: str) -> None:
    """Any group that one is in will do, also for who is not root."""
    import grp

    name = grp.getgrgid(os.getegid()).gr_name
    with jshm.group(name):
        jshm.publish("X", np.ones(3))
        assert jshm.attach("X").sum() == 3
        root = default_store().directory.root
        assert os.path.dirname(root) == place
        jshm.release("X")
        default_store().close()
    _store_in.cache_clear()
    con = sqlite3.connect(f"{root}/registry.db")
    assert con.execute("SELECT count(*) FROM segments").fetchone() == (0,)
    con.close()
