"""A full file system: existing data stay whole, and can be read and released."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ....support.full_disk import MB, MakeMount, Mount, start

if TYPE_CHECKING:
    from pathlib import Path

    from ....support.processes import Child

# Every way to put data into shared memory, and the MB that it takes.
WAYS = {
    "new": "jshm.publish('new', data({mb}))",
    "replace": "jshm.publish('x', data({mb}))",
    "strided": "jshm.publish('x', data(2 * {mb})[::2])",
    "group": "jshm.publish(dict(small=data(0.001), x=data({mb}), new=data(0.001)))",
    "object": "jshm.publish('o', dict(a=data({mb}), b=list(range(1000))))",
    "pickled": "jshm.publish('o', ['long' * (int({mb} * MB) // 4)])",
    "empty": "jshm.empty(int({mb} * MB), 'u1')",
    "full": "jshm.full(int({mb} * MB), 7, 'u1')",
    "create_new": "jshm.SharedNumpyArray.create_new(int({mb} * MB), 'u1')",
    "create_copy": "jshm.SharedNumpyArray.create_copy(data({mb}))",
    "as_shared": "jshm.SharedNumpyArray.as_shared(data({mb}))",
}
# The data from before, read by NumPy alone.
EXPECTED = np.random.default_rng(1).integers(0, 256, MB, np.uint8)


def prepare(train: Child) -> str:
    """Publish data that must stay whole; return the path of the array."""
    train.run("jshm.publish(dict(x=data(1, 1), o=dict(a=data(0.01))), keep=True)")
    return str(train.run("default_store().location('x')"))


def intact(small: Mount, path: str, *overflow: Path) -> None:
    assert small.problems(*overflow) == []
    assert np.array_equal(np.load(path), EXPECTED)


def interpose(call: str, before: str) -> str:
    """Return code that runs `before` before each system call, or in the middle of a large write."""
    return f"""
real_{call} = os.{call}
def {call}(*args):
    if {call!r} == 'pwrite' and len(args[1]) > MB // 4:
        done = real_pwrite(args[0], args[1][:len(args[1]) // 2], args[2])
        {before}
        return done
    if {call!r} != 'pwrite':
        {before}
    return real_{call}(*args)
os.{call} = {call}
"""


# Stands for another program: writes until nothing is free.
TAKE = """
def take(leave):
    with open({path!r}, 'ab', buffering=0) as file:
        for size in (MB, 4096):
            try:
                while os.statvfs({point!r}).f_bavail * 4096 >= leave + size:
                    file.write(bytes(size))
            except OSError:
                pass
"""


def rival(small: Mount) -> str:
    take = TAKE.format(path=str(small.point / "junk"), point=str(small.point))
    return (
        take + interpose("pwrite", "take(0)") + interpose("posix_fallocate", "take(MB // 2 + 4096)")
    )


def test_the_file_system_runs_full_during_a_write(mount: MakeMount, tmp_path: Path) -> None:
    """Another program takes every free byte in the middle of the copy."""
    small = mount("size=16m")
    with start(tmp_path, small.root) as train:
        path = prepare(train)
        train.run(rival(small))
        for way, code in WAYS.items():
            error = train.fails(code.format(mb=5))
            assert "NoSpaceError" in error.kinds, (way, error)
            assert "ran full while it was written" in error.message, way
            assert "largest not in use: x (1.0 MB, train.py), o (" in error.message, way
            # The written part is freed, also if the kernel had allocated half of it.
            assert small.free() >= MB // 2, way
            intact(small, path)
            small.relieve()
        assert train.run("jshm.check()") == []
        assert train.run("[(i.name, i.version) for i in jshm.segments()]") == [["o", 1], ["x", 1]]


def test_a_write_that_runs_full_goes_to_disk(mount: MakeMount, tmp_path: Path) -> None:
    small, disk = mount("size=16m"), mount("size=64m")
    with start(tmp_path, small.root, str(disk.point)) as train:
        path = prepare(train)
        train.run(rival(small))
        for way, code in WAYS.items():
            train.run(
                f"with warnings.catch_warnings(record=True) as found:\n"
                f"    warnings.simplefilter('always')\n"
                f"    warnings.simplefilter('ignore', jshm.ShortLifeWarning)\n"
                f"    result = {code.format(mb=5)}"
            )
            (said,) = train.run("[[w.category.__name__, str(w.message)] for w in found]")
            assert said[0] == "OverflowWarning", way
            assert str(disk.point) in said[1], way
            assert "\n" not in said[1]
            assert small.problems(disk.point) == [], way
            small.relieve()
            train.run("del result, found; import gc; gc.collect(); jshm.gc()")
        assert train.run("jshm.check()") == []
        # The next disk is full, too.
        disk.fill(MB)
        small.fill(3 * MB)
        for way, code in WAYS.items():
            error = train.fails(code.format(mb=5))
            assert "NoSpaceError" in error.kinds, (way, error)
            assert str(disk.point) in error.message, way
            assert small.problems(disk.point) == [], way
        del path


def look_around(child: Child) -> None:
    """Run all operations that need no space."""
    assert child.run("bool((jshm.attach('x') == data(1, 1)).all())")
    assert child.run("jshm.attach('o')['a'].nbytes") == MB // 100
    assert child.run("[i.name for i in jshm.segments() if i.state == 'current']")[:2] == ["o", "x"]
    assert child.run("jshm.info('x').nbytes") == MB
    child.run("X = jshm.attach('x'); handle = jshm.SharedNumpyArray.as_shared(X)")
    child.run("handle.detach(); del X, handle")
    assert child.run("[p.what for p in jshm.check()]") == []


def test_the_registry_itself_is_full(mount: MakeMount, tmp_path: Path) -> None:
    """No byte can be published; everything else works, above all a release."""
    small = mount("size=8m")
    with start(tmp_path, small.root) as train, start(tmp_path, small.root, script="e.py") as eda:
        path = prepare(train)
        eda.run("held = jshm.attach('x')")
        small.fill()
        os.unlink(f"{small.root}/registry.db.ballast")
        small.fill()
        for way, code in WAYS.items():
            error = train.fails(code.format(mb=1e-6))
            assert "NoSpaceError" in error.kinds, (way, error)
            assert "largest not in use: o (" in error.message, (way, error.message)
            intact(small, path)
            small.fill()
        for child in (train, eda):
            look_around(child)
            small.fill()
        eda.run("del held; jshm.segments()")
        small.fill()
        assert eda.fails("jshm.release('x')").kinds[0] == "NotOwnerError"
        assert train.run("jshm.release('x')[0].freed") == MB
        assert eda.run("[i.name for i in jshm.segments()]") == ["o"]
        assert small.problems() == []
        small.relieve()
        train.run("jshm.publish('x', data(1, 1)); jshm.gc()")
        assert train.run("jshm.check()") == []
        assert os.stat(f"{small.root}/registry.db.ballast").st_size == 512 << 10


@pytest.mark.parametrize("step", [1, 300])
def test_many_names_are_released_where_nothing_is_free(
    mount: MakeMount, tmp_path: Path, step: int
) -> None:
    """One by one, while freed space is taken at once, and all in one call; without the ballast."""
    small = mount("size=8m")
    with start(tmp_path, small.root) as train:
        train.run("names = [f'x{i}' for i in range(300)]")
        train.run("for name in names: jshm.publish(name, data(0.0005))")
        train.run("jshm.gc()")  # as housekeeping does once a second
        os.unlink(f"{small.root}/registry.db.ballast")
        for begin in range(0, 300, step):
            small.fill()
            assert small.free() < 4096
            released = train.run(f"[r.freed for r in jshm.release(names[{begin}:{begin + step}])]")
            assert released == [524] * step
        assert small.files() == {}
        assert small.problems() == []
        assert train.run("jshm.check()") == []


def test_a_release_too_large_for_the_ballast(mount: MakeMount, tmp_path: Path) -> None:
    """The log of one step needs more space than there is: the release is done in several."""
    small = mount("size=64m")
    with start(tmp_path, small.root) as train:
        train.run("names = [f'{i}' + 'n' * 150 for i in range(1500)]")
        # Not in one step, which would leave a log that is long enough.
        train.run("for i in range(0, 1500, 25): jshm.publish({n: MB for n in names[i : i + 25]})")
        train.run("jshm.gc()")
        os.unlink(f"{small.root}/registry.db.ballast")
        small.fill()
        train.run("""
from jshm.store.local import release
steps, step = [], release._release
def counted(store, names, **how):
    steps.append(len(names))
    return step(store, names, **how)
release._release = counted
released = jshm.release(names)
""")
        assert train.run("[r.name for r in released] == names")
        assert 1 < train.run("len(steps)") < 100
        assert small.files() == {}
        assert train.run("jshm.check()") == []


def test_no_inode_is_left(mount: MakeMount, tmp_path: Path) -> None:
    small = mount("size=64m,nr_inodes=200")
    with start(tmp_path, small.root) as train, start(tmp_path, small.root, script="e.py") as eda:
        path = prepare(train)
        eda.run("jshm.segments()")
        small.take_inodes()
        for way, code in WAYS.items():
            error = train.fails(code.format(mb=2))
            assert "NoSpaceError" in error.kinds, (way, error)
            assert "largest not in use: x (1.0 MB, train.py)" in error.message, way
            intact(small, path)
        for child in (train, eda):
            look_around(child)
        assert train.run("[r.freed for r in jshm.release(['x', 'o'])][0]") == MB
        assert small.files() == {}
        assert train.run("jshm.check()") == []


def test_a_limit_of_the_file_size(mount: MakeMount, tmp_path: Path) -> None:
    """RLIMIT_FSIZE gives neither SIGXFSZ nor an overflow, which would fail in the same way."""
    small = mount("size=64m")
    with start(tmp_path, small.root, str(tmp_path / "disk")) as train:
        path = prepare(train)
        train.run(f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({2 * MB}, -1))")
        train.run("warnings.simplefilter('error')")
        for way, code in WAYS.items():
            error = train.fails(code.format(mb=3))
            assert "NoSpaceError" in error.kinds, (way, error)
            assert "`ulimit -f`" in error.message, way
            intact(small, path)
        assert not (tmp_path / "disk").exists()
        train.run("jshm.publish('x', data(1.5))")
        assert train.run("jshm.check()") == []


def test_an_allocated_array_can_be_written_when_nothing_is_free(
    mount: MakeMount, tmp_path: Path
) -> None:
    """Every page is allocated from the beginning: a write never gives SIGBUS."""
    small = mount("size=16m")
    with start(tmp_path, small.root) as train:
        train.run("""
a = jshm.empty(3 * MB, 'u1')
b = jshm.zeros((1000, 999), 'i2', 'F')
c = jshm.empty_like(np.empty((7, 11, 13)))
d = jshm.SharedNumpyArray.create_copy(data(1))
jshm.publish('live', data(2, 2), writable=True)
jshm.publish('x', data(1, 1))
""")
        small.fill()
        train.run("""
live = jshm.attach('live', 'r+')
raw = np.load(default_store().location('live'), mmap_mode='r+')
mine = jshm.attach('x', 'c')
for array in (a, b, c, d.array, live, raw, mine):
    array[...] = 1
    array[...] = array + array
""")
        assert train.run("[int(z.sum() == 2 * z.size) for z in (a, b, c, d.array, live, raw)]") == [
            1, 1, 1, 1, 1, 1,
        ]  # fmt: skip
        train.run("jshm.release(['live', 'x'])")
        assert train.run("jshm.check()") == []
