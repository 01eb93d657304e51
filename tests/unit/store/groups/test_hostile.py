"""A hostile member cannot change, remove or run anything of other members, and cannot block them.

`bob` does whatever the operating system allows; `ada` uses jshm.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from .conftest import files, root_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ....support.processes import Child
    from ....support.users import People

pytestmark = pytest.mark.xdist_group("users")  # they are created once

# Everyday operations. Whatever is wrong with another member's files, each works or raises a JshmError.
USE = """
import contextlib, resource
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
def use(*names):
    said = []
    for what in (jshm.segments, lambda: jshm.publish("own", np.arange(9.0)), lambda: jshm.attach("own"),
                 jshm.gc, jshm.check, lambda: jshm.release("own"),
                 *(lambda name=name: jshm.attach(name) for name in names),
                 *(lambda name=name: jshm.attach(name, trust=True) for name in names),
                 *(lambda name=name: jshm.info(name) for name in names),
                 *(lambda name=name: jshm.wait(name, timeout=0) for name in names)):
        try:
            what()
        except jshm.JshmError as error:
            said.append(f"{type(error).__name__}: {error}")
    return said
"""


def shared(start: Callable[..., Child], lab: People) -> tuple[Child, Child]:
    """Return a process of a victim and one of an attacker, who both share something."""
    ada, bob = start(lab.ada), start(lab.bob, "eda.py")
    ada.run("jshm.publish('A', np.arange(4.0)); jshm.publish('private_copy', np.ones(5))")
    bob.run("jshm.publish({'B': np.arange(5.0), 'O': {'a': 1}}, keep=True); b = jshm.attach('B')")
    assert ada.run("jshm.attach('B').sum()") == 10.0
    ada.run(USE)
    return ada, bob


ERRORS = {
    "SegmentNotFoundError", "CorruptSegmentError", "CorruptRegistryError", "UntrustedError",
    "UnsafeDirectoryError", "WaitTimeoutError", "FormatVersionError",
}  # fmt: skip

LISTS = {
    "sparse": "os.truncate(p, 100 << 30)",
    "fifo": "os.unlink(p); os.mkfifo(p)",
    "directory": "os.unlink(p); os.mkdir(p)",
    "link": "os.unlink(p); os.symlink(treasure, p)",
    "hard link of another list": "os.unlink(p); os.symlink(theirs, p)",
    "socket": "import socket; os.unlink(p); s = socket.socket(socket.AF_UNIX); s.bind(p)",
    "gone": "os.unlink(p)",
    "empty": "os.truncate(p, 0)",
    "not a names file": "open(p, 'wb').write(b'\\0' * 5000)",
    "deep": "add(b'[' * 100_000)",
    "deeper": "add(b'[\"B\", ' + b'[' * 100_000 + b']' * 100_001)",
    "not a name": "add(b'[5, []]')",
    "an invalid name": "add(b'[\"../../etc\", []]')",
    "large numbers": "add(line(version=1 << 200))",
    "digits": "add(b'[\"B\", [' + b'9' * 100_000 + b']]')",
    "negative": "add(line(nbytes=-1))",
    "not finite": "add(line(created=float('nan')))",
    "types": "add(line(note=['x']))",
    "a long note": "add(line(note='x' * 1_000_000))",
    "half a character": "add(line(note='\\ud800'))",
    "a path": "add(line(segment='../../treasure'))",
    "objects": "add(line(descr=repr('|O')))",
    "another dtype": "add(line(descr=repr('<i8')))",
    "a shape": "add(line(shape='[1, 1, 1, 1, 1, 1, 1, 1, 1, 1000000000000]'))",
    "no shape": "add(line(shape='[' * 100_000))",
    "an order": "add(line(order='K'))",
    "a kind": "add(line(kind='array/../..'))",
    "a part": "add(line(kind='object', part=10 ** 9))",
    "two of one number": "add(line2({}, {}))",
    "two newest": "add(line2({}, {'version': 7}))",
    "a time before all times": "add(line(created=-1e300))",
    "a dtype that takes long": "add(line(descr=repr([(f'f{i}', '<f8') for i in range(10_000)])))",
    "many dtypes": "add(*(line(name=f'n{i}', descr=repr('<U1' + '0' * 50_000 + str(i))) for i in range(30)))",
    "a long identity": "add(line(identity=identity.replace('eda.py', 'x' * 100_000)))",
    "an identity": "add(line(identity='{' * 1000))",
    "another publisher": "add(line(identity=identity.replace(str(os.getuid()), '0')))",
    "thousands": "add(*(line(name=f'n{i}') for i in range(20_000)))",
    "only ends": "open(p, 'ab').write(b'.\\n.\\n.\\n')",
}


def test_a_names_file_that_jshm_did_not_write(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    ada, bob = shared(start, lab)
    treasure = os.path.join(place, "treasure")
    ada.run(f"open({treasure!r}, 'w').write('mine'); os.chmod({treasure!r}, 0o600)")
    bob.run(f"""
import json
p, treasure = {root_of(place, lab, lab.bob) + "/names"!r}, {treasure!r}
theirs = {root_of(place, lab, lab.ada) + "/names"!r}
keys = ("version", "current", "lease", "created", "keep", "note", "once", "part", "identity", "segment",
        "kind", "descr", "shape", "order", "nbytes", "writable")
def look():
    global good, identity
    said = json.loads([l for l in open(p, "rb").read().split(b"\\n") if b'"B"' in l][-1])[1]
    good = dict(zip(keys, said[-1])); identity = good["identity"]
def line(name="B", **other):
    return json.dumps([name, [[{{**good, **other}}[key] for key in keys]]]).encode()
def line2(*others):
    return json.dumps(["B", [[{{**good, **other}}[key] for key in keys] for other in others]]).encode()
def add(*lines):
    with open(p, "ab") as file: file.write(b"\\n".join(lines) + b"\\n.\\n")
""")
    for how, code in LISTS.items():
        bob.run(f"look()\n{code}")
        said = ada.run(f"use('B', 'O', {lab.bob.name + ':B'!r})")
        for one in said:
            assert one.split(":")[0] in ERRORS, (how, one)
            assert len(one) < 1000, (how, one)
        if how not in ("another publisher", "thousands", "only ends", "gone", "objects", "types"):
            assert said, how
        # The reader's own names are unchanged.
        own = "[jshm.attach('A').tolist(), jshm.info('A').mine]"
        assert ada.run(own) == [[0.0, 1.0, 2.0, 3.0], True], how
        with open(treasure) as file:
            assert file.read() == "mine", how
        if how == "another publisher":
            assert ada.run("jshm.info('B').publisher") == f"eda.py ({lab.bob.name})"
        if how == "thousands":
            assert ada.run("len(jshm.segments())") > 20_000
        # After bob has repaired it, it can be used again.
        bob.run(
            "os.path.isdir(p) and os.rmdir(p)\nos.path.lexists(p) and os.unlink(p)\n"
            "jshm.publish('B', np.ones(3))"
        )
        assert ada.run("jshm.attach('B').sum()") == 3.0, how
        assert ada.run("jshm.check()") == [], how


SEGMENTS = {
    "fifo": "os.unlink(p); os.mkfifo(p); os.chmod(p, 0o666)",
    "link": "os.unlink(p); os.symlink(theirs, p)",
    "directory": "os.unlink(p); os.mkdir(p)",
    "socket": "import socket; os.unlink(p); s = socket.socket(socket.AF_UNIX); s.bind(p)",
    "gone": "os.unlink(p)",
    "short": "os.chmod(p, 0o640); os.truncate(p, 130)",
    "empty": "os.chmod(p, 0o640); os.truncate(p, 0)",
    "sparse": "os.chmod(p, 0o640); os.truncate(p, 100 << 30)",
    "not readable": "os.chmod(p, 0o200)",
    "another header": "os.chmod(p, 0o640); f = open(p, 'r+b'); f.write(b'x' * 64); f.flush()",
    "a directory that is a link": "os.rename(d, d + '.old'); os.symlink(their_dir, d)",
    "a directory that all may write to": "os.chmod(d, 0o2777)",
    "without the directory": "os.rename(d, d + '.old')",
    "a link to the other's root": "os.rename(r, r + '.old'); os.symlink(their_root, r)",
    "a root that all may write to": "os.chmod(r, 0o2777)",
    "a root of another group": "os.chown(r, -1, os.getgid())",
}


def test_a_file_that_jshm_did_not_write(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    ada, bob = shared(start, lab)
    theirs, root = root_of(place, lab, lab.ada), root_of(place, lab, lab.bob)
    bob.run(f"""
import glob, shutil
from jshm.store import default_store
r, their_root = {root!r}, {theirs!r}
d, their_dir = r + "/segments", their_root + "/segments"
theirs = glob.glob(their_dir + "/*.npy")[0]
p = default_store().location("B")
def keep(): shutil.copytree(r, r + ".kept")
def mend():
    shutil.rmtree(r + ".old", ignore_errors=True)
    os.unlink(r) if os.path.islink(r) else shutil.rmtree(r)
    os.mkdir(r); os.chown(r, -1, {lab.gid}); os.chmod(r, 0o2750)
    shutil.copytree(r + ".kept", r, dirs_exist_ok=True)
del b; default_store().close(); keep()
""")
    for how, code in SEGMENTS.items():
        before = sorted((path, s.st_ino, s.st_size, s.st_mode) for path, s in files(theirs))
        bob.run(code)
        said = ada.run(f"use('B', {lab.bob.name + ':O'!r})")
        assert any("B" in one or "segment" in one or lab.bob.name in one for one in said), how
        for one in said:
            assert one.split(":")[0] in ERRORS, (how, one)
        after = sorted((path, s.st_ino, s.st_size, s.st_mode) for path, s in files(theirs))
        assert [one for one in before if "/segments/" in one[0]] == [
            one for one in after if "/segments/" in one[0]
        ], how
        assert ada.run("jshm.attach('A').tolist()") == [0.0, 1.0, 2.0, 3.0], how
        bob.run("mend()")
        assert ada.run("jshm.attach('B').sum()") == 10.0, how


def test_a_long_names_file_that_changes_all_the_time(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """Reading it takes seconds each time, but only a limited share of a reader's time."""
    ada, bob = shared(start, lab)
    bob.run(f"""
import threading
p = {root_of(place, lab, lab.bob) + "/names"!r}
text = open(p, "rb").read()
head, line = text[:128], [l for l in text.split(b"\\n") if l.startswith(b'["B"')][-1]
many = b"\\n".join(line.replace(b'"B"', b'"n%d"' % i, 1) for i in range(20_000)) + b"\\n.\\n"
def anew():
    with open(p + ".x", "wb") as file: file.write(head + many)
    os.chmod(p + ".x", 0o640); os.rename(p + ".x", p)
anew()
""")
    ada.run("""
from jshm.store.groups import member
long = []
real = member.Member._with
def count(self, known, data):
    if len(data) > member._SHORT_LIST: long.append(len(data))
    return real(self, known, data)
member.Member._with, member._SLOW = count, 0.0
n = len(jshm.segments())
""")
    assert ada.run("n") > 20_000
    ada.run("long.clear()")
    for _ in range(5):
        bob.run("anew()")
        assert ada.run("jshm.attach('A').sum()") == 6.0
    assert ada.run("len(long)") < 5


def test_a_limit_of_the_reading_process(start: Callable[..., Child], lab: People) -> None:
    """The names of other members are there again as soon as there are descriptors again."""
    ada, bob = shared(start, lab)
    bob.run("jshm.publish('C', np.ones(3))")
    refused = ada.fails("""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); taken = []
try:
    while True: taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
try: jshm.attach("C")
finally:
    for fd in taken: os.close(fd)
""")
    assert "TooManyFilesError" in refused.kinds
    assert ada.run("[jshm.attach('C').sum(), jshm.check()]") == [3.0, []]


def test_equal_ids_are_different_segments(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """A member cannot pass a segment off as another member's by giving it the same id."""
    ada, bob = shared(start, lab)
    ada.run("a = jshm.attach('A')")
    bob.run(f"""
import json, glob, shutil
from jshm.store import default_store
theirs = [os.path.basename(p) for p in glob.glob({root_of(place, lab, lab.ada)!r} + "/segments/*.npy")]
mine = default_store().location("B")
p = {root_of(place, lab, lab.bob)!r} + "/names"
text = open(p).read().split("\\n")
for other in theirs:
    shutil.copy(mine, os.path.join(os.path.dirname(mine), other))
    line = [l for l in text if '"B"' in l][-1]
    line = line.replace(os.path.basename(mine)[:16], other[:16]).replace('"B"', json.dumps("C" + other[:3]))
    with open(p, "a") as file: file.write(line + "\\n.\\n")
names = ["C" + other[:3] for other in theirs]
""")
    names = bob.run("names")
    for name in names:
        assert ada.run(f"jshm.attach({name!r}).tolist()") == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert ada.run("[jshm.attach('A').tolist(), a.tolist()]") == [[0.0, 1.0, 2.0, 3.0]] * 2
    assert ada.run(f"c = jshm.attach({names[0]!r}); [i.name for i in jshm.segments() if i.holders "
                   "and i.mine]") == ["A"]  # fmt: skip
    ada.run("del a; jshm.release(['A', 'private_copy'])")
    assert ada.run("c.sum()") == 10.0


def test_files_that_a_member_locks_block_nobody(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """A user who can read a file can lock it. Neither the owner nor a reader waits for such a lock."""
    ada, bob = shared(start, lab)
    bob.run(f"""
import fcntl
del b; jshm.gc(); kept = []
for root, dirs, names in os.walk({root_of(place, lab, lab.ada)!r}):
    for name in (".", *names):
        try: fd = os.open(os.path.join(root, name), os.O_RDONLY)
        except OSError: continue
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB); kept.append(fd)
for name in ("B", "O"):
    from jshm.store import default_store
    fd = os.open(default_store().location(name), os.O_RDONLY); fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    kept.append(fd)
""")
    assert bob.run("len(kept)") > 5
    assert ada.run("jshm.attach('B').sum()") == 10.0
    assert ada.run("jshm.attach('A').sum()") == 6.0
    assert ada.run("[i.nbytes for i in (jshm.publish('A', np.zeros(50_000)),)]") == [400_000]
    assert ada.run("jshm.attach('A').sum()") == 0.0
    other = start(lab.ada, "other.py")
    assert other.run("jshm.attach('A').sum()") == 0.0
    assert other.run("jshm.publish('N', np.ones(3)); jshm.attach('N').sum()") == 3.0
    ada.run("jshm.release(['A', 'private_copy']); jshm.gc()")
    assert ada.run(
        "[i.name for i in jshm.segments() if i.releasable and i.state == 'current']"
    ) == ["N"]
    # Dead processes are still recognized: only their own user can open a lease.
    other.kill()
    ada.run("jshm.gc()")
    assert (
        ada.run("[i.name for i in jshm.segments() if i.releasable and i.state == 'current']") == []
    )
    bob.run("for fd in kept: os.close(fd)")
    ada.run("jshm.gc()")
    assert os.listdir(f"{root_of(place, lab, lab.ada)}/segments") == []


def test_logs_that_jshm_did_not_write(start: Callable[..., Child], lab: People, place: str) -> None:
    """Logs with impossible content, and too many of them."""
    ada, bob = shared(start, lab)
    bob.run(f"""
d = {root_of(place, lab, lab.bob)!r} + "/leases"
ours = [n for n in os.listdir(d) if n.endswith(".holds")][0]
who = open(os.path.join(d, ours)).read().split("\\n")[0]
ids = [os.path.basename(p)[:16] for p in os.listdir({root_of(place, lab, lab.ada)!r} + "/segments")]
def log(i, text):
    with open(os.path.join(d, f"{{i:016x}}.holds"), "w") as file: file.write(text)
log(1, who + "\\n" + "".join(f"+{{i}}@{lab.ada.uid} r\\n" for i in ids))
log(2, who + "\\n" + "+x@y r\\n+" + "9" * 16 + "@" + "9" * 30 + " r\\n+@ \\n=\\n-\\n+\\n*\\n")
log(3, "=" + "[" * 100_000 + "\\n+" + ids[0] + "@{lab.ada.uid} r\\n")
log(4, "+" + ids[0] + "@{lab.ada.uid} r")
os.truncate(os.path.join(d, f"{{3:016x}}.holds"), 100 << 30)
os.mkfifo(os.path.join(d, f"{{5:016x}}.holds"))
os.symlink("/dev/zero", os.path.join(d, f"{{6:016x}}.holds"))
for i in range(10, 2000): log(i, who + "\\n" + "+0123456789abcdef r\\n" * 50)
""")
    said = ada.run("use('B')")
    assert said == []
    # A process that claims to hold everything is listed, but keeps nothing.
    ada.run("jshm.release(['A', 'private_copy']); jshm.gc()")
    assert os.listdir(f"{root_of(place, lab, lab.ada)}/segments") == []


def test_another_entry_in_place_of_a_member_s_directory(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """Before a member's first use another member creates an entry with the name of that directory."""
    root = root_of(place, lab, lab.ada)
    bob = start(lab.bob, "eda.py")
    for made, gone in (("os.mkdir({0!r}); os.chmod({0!r}, 0o2777)", "os.rmdir({0!r})"),
                       ("os.symlink('/tmp', {0!r})", "os.unlink({0!r})"),
                       ("open({0!r}, 'w').close()", "os.unlink({0!r})"),
                       ("os.mkfifo({0!r})", "os.unlink({0!r})")):  # fmt: skip
        bob.run(made.format(root))
        ada = start(lab.ada)
        refused = ada.fails("jshm.publish('X', np.zeros(3))")
        assert "UnsafeDirectoryError" in refused.kinds
        assert root in refused.message
        bob.run(gone.format(root))
        assert ada.run("jshm.publish('X', np.zeros(3)).version") == 1
        ada.kill()
        os.system(f"rm -rf {root}")
    assert [n for n in os.listdir(place) if n.startswith("jshm-group")] == []


def test_a_parent_directory_without_the_sticky_bit(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    os.chmod(place, 0o777)
    refused = start(lab.ada).fails("jshm.publish('X', np.zeros(3))")
    assert "UnsafeDirectoryError" in refused.kinds
    assert f"chmod +t {place}" in refused.message


def test_a_parent_directory_of_another_member(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """The owner of a directory can rename its entries, sticky or not."""
    os.chown(place, lab.bob.uid, -1)
    refused = start(lab.ada).fails("jshm.publish('X', np.zeros(3))")
    assert "UnsafeDirectoryError" in refused.kinds
    assert f"chown root {place}" in refused.message
    assert start(lab.bob).run("jshm.publish('X', np.zeros(3)).version") == 1


def test_other_members_names_are_not_suggested_for_release(
    start: Callable[..., Child], lab: People
) -> None:
    ada, bob = shared(start, lab)
    bob.run("jshm.publish('large', np.zeros(1000))")
    said = ada.fails(
        "jshm.publish('X', np.lib.stride_tricks.as_strided(np.zeros(1), (1 << 50,), (0,)))"
    )
    assert "NoSpaceError" in said.kinds
    assert "private_copy" in said.message
    assert "large (" not in said.message
    assert "nothing at all" not in ada.fails("jshm.release('nothing')").message


def test_names_of_a_former_member_are_ignored(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """A directory of a user who is not in the group is ignored, whatever its name is."""
    ada, eve = start(lab.ada), start(lab.eve, "eve.py", group="")
    root = root_of(place, lab, lab.eve)
    ada.run("jshm.publish('A', np.zeros(3))")
    os.system(
        f"cp -a {root_of(place, lab, lab.ada)} {root}; chown -R {lab.eve.uid}:{lab.gid} {root}"
    )
    assert ada.run("[i.user for i in jshm.segments()]") == [lab.ada.name]
    assert eve.run("1") == 1


def test_members_cannot_change_published_files(
    start: Callable[..., Child], lab: People, place: str
) -> None:
    """A member cannot write, rename, remove or unseal files of another member."""
    ada, bob = shared(start, lab)
    root = root_of(place, lab, lab.ada)
    for attempt in ("open(p, 'r+b')", "os.truncate(p, 0)", "os.chmod(p, 0o660)", "os.unlink(p)",
                    "os.rename(p, p + 'x')", "os.rename(r, r + 'x')", "os.rename(r + '/names', r + '/x')",
                    "open(r + '/names', 'ab')", "open(r + '/segments/0123456789abcdef.npy', 'wb')",
                    "os.listdir(r + '/private')", "open(r + '/private/registry.db', 'rb')",
                    "[open(os.path.join(r, 'leases', n)) for n in os.listdir(r + '/leases') if '.' not in n]",
                    "os.mkfifo(r + '/leases/.new-0123456789abcdef.holds')"):  # fmt: skip
        bob.run(f"import glob; r = {root!r}; p = glob.glob(r + '/segments/*.npy')[0]")
        assert "PermissionError" in bob.fails(attempt).kinds, attempt
    assert ada.run("jshm.attach('A').tolist()") == [0.0, 1.0, 2.0, 3.0]
    modes = {
        stat.S_IMODE(s.st_mode) for path, s in files(f"{root}/segments") if path.endswith(".npy")
    }
    assert modes == {0o440}
