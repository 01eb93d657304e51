"""Sharing with a Unix group, between real users; users outside of the group have no access."""

from __future__ import annotations

import grp
import os
import sqlite3
import stat
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.store import _store_in, default_store

from .conftest import files, root_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ....support.processes import Child
    from ....support.users import People

pytestmark = pytest.mark.xdist_group("users")  # they are created once

# -- private by default ----------------------------------------------------------------------------


def test_other_users_cannot_read_data_by_default(start: Callable[..., Child], lab: People) -> None:
    ada = start(lab.ada, group="", umask=0)
    path = ada.run("jshm.publish('X', np.arange(3.0)); from jshm.store import default_store; "
                   "default_store().location('X')")  # fmt: skip
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
    """A segment that root put there, or that was given to another user."""
    ada = start(lab.ada, group="")
    path = ada.run("""
ran = os.path.join(os.environ["JSHM_DIR"], "ran")
class Canary:
    def __reduce__(self):
        return os.mkdir, (ran,)
jshm.publish("O", Canary())
from jshm.store import default_store
default_store().location("O")
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


# -- shared with a group ---------------------------------------------------------------------------


def test_arrays_are_shared_with_the_group(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("jshm.publish('X', np.arange(6.0).reshape(2, 3), note='for all')")
    assert bob.run("jshm.attach('X').tolist()") == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    bob.run("x = jshm.attach('X')")
    listed = (
        "[[i.name, i.publisher, i.user, i.mine, i.releasable, [h.label for h in i.holders]]"
        " for i in jshm.segments()]"
    )
    name = lab.ada.name
    assert bob.run(listed) == [["X", f"train.py ({name})", name, False, False, ["eda.py"]]]
    assert ada.run(listed) == [["X", "train.py", name, True, True, [f"eda.py ({lab.bob.name})"]]]
    assert ada.run("[h.label for h in jshm.info('X').holders]") == [f"eda.py ({lab.bob.name})"]
    for user in (lab.ada, lab.bob):
        root = root_of(place, lab, user)
        for path, status in files(root):
            mode = stat.S_IMODE(status.st_mode)
            assert (status.st_uid, mode & 0o027) == (user.uid, 0), path
            if path.startswith(f"{root}/private"):
                assert not mode & 0o077, path
            elif stat.S_ISDIR(status.st_mode):
                assert (status.st_gid, mode) == (lab.gid, 0o2750), path
    root = root_of(place, lab, lab.ada)
    (name,) = os.listdir(f"{root}/segments")
    assert stat.S_IMODE(os.stat(f"{root}/segments/{name}").st_mode) == 0o440
    assert ada.run("jshm.release('X')[0].held_by") == [f"eda.py ({lab.bob.name})"]
    assert "SegmentNotFoundError" in bob.fails("jshm.attach('X')").kinds
    assert bob.run("x.sum()") == 15.0
    bob.run("del x; jshm.gc()")
    ada.run("jshm.gc()")
    for member in (ada, bob):
        assert member.run("[jshm.segments(), jshm.check()]") == [[], []]
    assert os.listdir(f"{root}/segments") == []


def test_a_name_belongs_to_its_member(start: Callable[..., Child], lab: People) -> None:
    """Others neither replace nor release it; a name of two members has their logins before it."""
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    a, b = lab.ada.name, lab.bob.name
    names = "[i.name for i in jshm.segments()]"
    ada.run("jshm.publish('X', np.zeros(3)); jshm.publish('only', np.ones(2))")
    for attempt in ("jshm.release('X')", "jshm.release('X', force=True)",
                    f"jshm.release('{a}:X', force=True)"):  # fmt: skip
        refused = bob.fails(attempt)
        assert "NotOwnerError" in refused.kinds
        assert f"only {a} can release it" in refused.message
    assert (
        "InvalidNameError" in bob.fails(f"jshm.publish('{a}:X', np.zeros(1), replace=True)").kinds
    )
    assert bob.run(f"jshm.publish('{b}:own', np.ones(1)).name") == "own"
    bob.run("jshm.release('own')")
    assert bob.run("jshm.publish('X', np.ones(3)).name") == f"{b}:X"
    for member in (ada, bob):
        assert member.run(names) == [f"{a}:X", f"{b}:X", "only"]
        assert member.run(f"jshm.attach('{a}:X').tolist()") == [0.0] * 3
        assert member.run(f"jshm.attach('{b}:X').tolist()") == [1.0] * 3
        assert member.run(f"jshm.attach('{a}:only').tolist()") == [1.0] * 2
        for use in ("attach('X')", "info('X')", "wait('X', timeout=0)", "attach(['only', 'X'])"):
            refused = member.fails(f"jshm.{use}")
            assert "AmbiguousNameError" in refused.kinds
            assert {f"{a}:X", f"{b}:X"} <= set(refused.message.replace(",", "").split())
    # The errors for names with a login.
    assert f"nothing is shared under '{a}:Y'" in bob.fails(f"jshm.attach('{a}:Y')").message
    assert "nothing is shared under 'nobody:X'" in bob.fails("jshm.attach('nobody:X')").message
    assert bob.run("jshm.publish('X', np.full(3, 2.0)).version") == 2
    assert ada.run(f"jshm.attach('{b}:X').tolist()") == [2.0] * 3
    assert ada.run(f"jshm.info('{b}:X').version") == 2
    assert ada.run("jshm.release('X')[0].name") == "X"
    assert ada.run(names) == ["X", "only"]
    assert ada.run("jshm.attach('X').tolist()") == [2.0] * 3
    assert "NotOwnerError" in ada.fails("jshm.release('X', force=True)").kinds


def test_wait_and_watch(start: Callable[..., Child], lab: People) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    bob.run("from jshm.store import default_store\nstate = default_store().state()")
    bob.send("i = jshm.wait('X', timeout=50); w = jshm.attach('X'); [i.name, i.version, w.sum()]")
    ada.run("jshm.publish('X', np.arange(3.0))")
    assert bob.receive() == ["X", 1, 3.0]
    assert bob.run("state != default_store().state()")
    bob.run("seen = []; watch = jshm.watch('X', lambda info: seen.append(info.version))")
    for _ in range(20):
        ada.run("jshm.publish('X', np.arange(3.0))")
    bob.run("import time\nwhile seen[-1:] != [21]: time.sleep(0.01)")
    bob.run("watch.stop(); state = default_store().state()")
    ada.run("x = jshm.attach('X')")
    assert bob.run("state != default_store().state()")
    assert bob.run("[len(i.holders) for i in jshm.segments() if i.state == 'current']") == [1]
    ada.run("jshm.release('X')")
    assert "WaitTimeoutError" in bob.fails("jshm.wait('X', timeout=0)").kinds


def test_attaching_while_another_publishes(start: Callable[..., Child], lab: People) -> None:
    """A listed version is there, or a newer one is listed."""
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("""
import threading
def publish():
    for i in range(500): jshm.publish("X", np.full(2000, i, float))
publish_all = threading.Thread(target=publish)
jshm.publish("X", np.zeros(2000)); publish_all.start()
""")
    newest = bob.run("""
newest = 0
while newest < 499:
    x = jshm.attach("X")
    assert (x == x[0]).all() and x[0] >= newest
    newest = int(x[0])
newest
""")
    assert newest == 499
    ada.run("publish_all.join()")


def test_another_member_s_object_needs_trust(
    start: Callable[..., Child], lab: People, place: str
) -> None:
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
    assert os.stat(ran).st_uid == lab.bob.uid  # it did run, as bob
    os.rmdir(ran)
    # It may refer to other arrays of that member. Own objects need no trust.
    ada.run("jshm.publish('X', np.arange(4.0)); x = jshm.attach('X')")
    ada.run("e = jshm.full(5, 7.0); jshm.publish('mine', {'x': x[::-1], 'e': e, 'O': 1}); del x, e")
    assert ada.run("jshm.attach('mine')['x'].tolist()") == [3.0, 2.0, 1.0, 0.0]
    bob.run("mine = jshm.attach('mine', trust=True); x = jshm.attach('X')")
    assert bob.run("[mine['x'].tolist(), mine['e'].tolist()]") == [[3.0, 2.0, 1.0, 0.0], [7.0] * 5]
    assert bob.run("np.shares_memory(mine['x'], x)")
    bob.run("jshm.publish('again', {'x': x}); del mine, x")  # a copy that belongs to bob
    ada.run("jshm.release(['X', 'mine'])")
    assert bob.run("jshm.attach('again')['x'].tolist()") == [0.0, 1.0, 2.0, 3.0]


def test_a_handle_is_passed_to_another_member(start: Callable[..., Child], lab: People) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    pickled = ada.run("""
import pickle
jshm.publish("X", np.arange(4.0)); h = jshm.SharedNumpyArray.as_shared(jshm.attach("X"))
pickle.dumps(h).hex()
""")
    bob.run(f"import pickle; h = pickle.loads(bytes.fromhex({pickled!r}))")
    assert bob.run("[h.array.tolist(), h.name, h.version]") == [[0.0, 1.0, 2.0, 3.0], "X", 1]
    assert bob.run("h.is_in_use()")
    assert "NotOwnerError" in bob.fails("h.release(force=True)").kinds
    back = bob.run("pickle.dumps(h).hex()")
    assert ada.run(f"np.shares_memory(pickle.loads(bytes.fromhex({back!r})).array, h.array)")


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


def test_a_user_who_is_not_a_member(start: Callable[..., Child], lab: People, place: str) -> None:
    ada = start(lab.ada, umask=0)
    path = ada.run("jshm.publish('X', np.zeros(3)); from jshm.store import default_store; "
                   "default_store().location('X')")  # fmt: skip
    eve = start(lab.eve)
    refused = eve.fails("jshm.attach('X')")
    assert "UnknownGroupError" in refused.kinds
    assert "log in again" in refused.message
    assert "UnknownGroupError" in eve.fails("jshm.publish('Y', np.zeros(3))").kinds
    assert "PermissionError" in eve.fails(f"open({path!r})").kinds
    eve.run("os.environ['JSHM_GROUP'] = ''")
    eve.run(f"os.environ['JSHM_DIR'] = {os.path.dirname(os.path.dirname(path))!r}")
    assert "UnsafeDirectoryError" in eve.fails("jshm.attach('X')").kinds


def test_an_unknown_group(store_dir: str, place: str) -> None:
    with jshm.group("no-such-group"), pytest.raises(jshm.UnknownGroupError, match="no-such-group"):
        jshm.segments()
    assert os.listdir(place) == []


def test_only_its_user_cleans_up_after_a_dead_process(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """Other members remove nothing. The user's own next operation does."""
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("jshm.publish('X', np.zeros(3)); jshm.publish('K', np.ones(3), keep=True)")
    assert bob.run("[i.publisher_alive for i in jshm.segments()]") == [True, True]
    ada.kill()
    before = sorted(
        (path, status.st_ctime_ns) for path, status in files(root_of(place, lab, lab.ada))
    )
    bob.run("jshm.gc(); jshm.check(fix=True)")
    assert bob.run("[[i.name, i.publisher_alive] for i in jshm.segments()]") == [
        ["K", False],
        ["X", False],
    ]
    assert before == sorted(
        (path, status.st_ctime_ns) for path, status in files(root_of(place, lab, lab.ada))
    )
    again = start(lab.ada, "again.py")
    assert again.run("[i.name for i in jshm.segments()]") == ["K"]
    assert bob.run("[i.name for i in jshm.segments()]") == ["K"]
    root = root_of(place, lab, lab.ada)
    for ending in ("", "-wal", "-shm"):
        os.unlink(f"{root}/private/registry.db{ending}")
    os.unlink(f"{root}/names")
    assert again.run("jshm.attach('K').tolist()") == [1.0] * 3
    assert again.run("jshm.check()") == []
    assert bob.run("jshm.attach('K').tolist()") == [1.0] * 3


def test_no_file_of_another_member_is_touched(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """Whatever a member does, no file of another member changes, not even its status."""
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("""
jshm.publish("X", np.arange(6.0)); jshm.publish("O", {"a": 1}); jshm.publish("L", np.zeros(3), writable=True)
""")
    root = root_of(place, lab, lab.ada)

    def seen() -> list[tuple[object, ...]]:
        return sorted(
            (path, s.st_ino, s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
            for path, s in files(root)
        )

    before = seen()
    bob.run(f"""
import contextlib
a = {lab.ada.name!r}
x = jshm.attach("X"); l = jshm.attach("L", "r+"); c = jshm.attach("X", "c"); c[0] = 5
o = jshm.attach("O", trust=True)
jshm.segments(); jshm.info("X"); jshm.info(a + ":O"); jshm.gc(); jshm.check(fix=True)
for name in ("X", "L", "O"):
    jshm.publish(name, x); jshm.release(name); jshm.publish(name, o)
    with contextlib.suppress(jshm.JshmError): jshm.release(a + ":" + name, force=True)
jshm.release(["X", "L", "O"])
jshm.wait("X", timeout=1)
with jshm.lock("L", timeout=1): pass
from jshm.store import default_store
store = default_store(); store.flush(); store.space(); store.state(); store.names(); store.complete("", -1)
with store.reader("X") as reader: reader.read(0, 10)
store.close()
""")
    assert seen() == before


def test_publishing_another_member_s_array_copies_it(
    start: Callable[..., Child], lab: People
) -> None:
    """A member cannot give a second name to another member's file."""
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("jshm.publish('X', np.arange(3.0)); mine = jshm.attach('X'); jshm.publish('Y', mine)")
    assert ada.run("jshm.info('X').segment == jshm.info('Y').segment")
    bob.run("x = jshm.attach('X'); jshm.publish('Z', x)")
    assert bob.run("jshm.info('X').segment != jshm.info('Z').segment")
    ada.run("del mine; jshm.release(['X', 'Y'])")
    assert bob.run("jshm.attach('Z').tolist()") == [0.0, 1.0, 2.0]
    assert bob.run("jshm.check()") == []


def test_a_lock_excludes_other_members(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run(
        "jshm.publish('X', np.zeros(3), writable=True); lock = jshm.lock('X'); lock.__enter__()"
    )
    refused = bob.fails("jshm.lock('X', timeout=0.05).__enter__()")
    assert f"held by train.py ({lab.ada.name}) (pid {ada.pid})" in refused.message
    bob.send("seen = []; watch = jshm.watch('X', lambda info: seen.append(info.version))\n"
             "with jshm.lock('X'): jshm.attach('X', 'r+')[0] = 1")  # fmt: skip
    ada.run("lock.__exit__(None, None, None)")
    bob.receive()
    assert ada.run("with jshm.lock('X', timeout=0): pass\njshm.attach('X')[0]") == 1.0
    ada.run("jshm.publish('X', np.ones(3))")
    assert bob.run("jshm.wait('X', newer_than=1, timeout=30).version") == 2
    bob.run("import time\nwhile not seen: time.sleep(0.01)")
    bob.run("watch.stop()")
    ada.run("jshm.publish('X', np.ones(3), writable=True)")
    # The file is read-only for other members, and exists as long as the data is LIVE.
    locks = os.path.join(root_of(place, lab, lab.ada), "locks")
    (path, _), *_ = [entry for entry in files(locks) if "name-" in entry[0]]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    ada.run("jshm.gc()")
    assert os.path.exists(path)
    ada.run("jshm.publish('Y', np.zeros(3))")
    assert "only LIVE data" in bob.fails(f"jshm.lock('{lab.ada.name}:Y')").message
    bob.run("with jshm.lock('Y', timeout=0): pass")  # bob's own
    ada.run("jshm.release('X'); jshm.gc()")
    assert os.listdir(locks) == []


def test_a_private_store_beside_it(start: Callable[..., Child], lab: People) -> None:
    """One process uses both stores; data of one is copied into the other."""
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
    """A group's store does not overflow to a disk: data that does not fit is refused."""
    ada = start(lab.ada)
    refused = ada.fails("jshm.publish('X', np.lib.stride_tricks.as_strided(np.zeros(1), "
                        "(1 << 44,), (0,)))")  # fmt: skip
    assert "NoSpaceError" in refused.kinds


def test_a_single_user_of_a_group(place: str, store_dir: str) -> None:
    """Any group that the user is in works, also without root."""
    name = grp.getgrgid(os.getegid()).gr_name
    with jshm.group(name):
        jshm.publish("X", np.ones(3))
        assert jshm.attach("X").sum() == 3
        root = default_store().directory.root
        assert os.path.dirname(root) == place
        jshm.release("X")
        default_store().close()
    _store_in.cache_clear()
    con = sqlite3.connect(f"{root}/private/registry.db")
    assert con.execute("SELECT count(*) FROM segments").fetchone() == (0,)
    con.close()
