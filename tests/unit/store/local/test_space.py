"""Full file systems, few inodes, few descriptors: a clear error, and no data lost."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from ....support.full_disk import MB, start

if TYPE_CHECKING:
    from pathlib import Path

    from ....support.full_disk import MakeMount


def test_data_that_do_not_fit_overflow_to_disk(mount: MakeMount, tmp_path: Path) -> None:
    small = mount("size=8m")
    root = small.root
    disk = tmp_path / "disk"
    with (
        start(tmp_path, root, str(disk)) as train,
        start(tmp_path, root, str(disk), "eda.py") as eda,
    ):
        train.run("infos = [jshm.publish(n, data(3, i)) for i, n in enumerate('abc')]")
        assert train.run("[i.overflow for i in infos]") == [False, False, True]
        assert [path.stat().st_size // MB for path in disk.rglob("*.npy")] == [3]
        assert eda.run("[i.overflow for i in jshm.segments()]") == [False, False, True]
        assert eda.run("[bool((jshm.attach(n) == data(3, i)).all()) for i, n in enumerate('abc')]")
        assert eda.run("jshm.check()") == []
        # An allocated array goes to disk too, and is published without a copy.
        train.run("d = jshm.empty(20 * MB, np.uint8); d[:] = data(20, 9); jshm.publish('d', d)")
        assert eda.run("bool((jshm.attach('d') == data(20, 9)).all())")
        # The next version is in memory again when there is space.
        train.run("jshm.release(['a', 'b'])")
        assert train.run("jshm.publish('c', data(3, 7)).overflow") is False
        assert eda.run("bool((jshm.attach('c') == data(3, 7)).all())")
        train.run("del d; jshm.release(['c', 'd'])")
        eda.run("jshm.gc()")
        assert list(disk.rglob("*.npy")) == []
        assert eda.run("jshm.check()") == []


def test_killed_publishers_leave_nothing_on_disk(mount: MakeMount, tmp_path: Path) -> None:
    small = mount("size=8m")
    root = small.root
    disk = tmp_path / "disk"
    with start(tmp_path, root, str(disk), "eda.py") as eda:
        with start(tmp_path, root, str(disk)) as train:
            train.run("jshm.publish('a', data(20)); b = jshm.empty(20 * MB, np.uint8)")
            assert len(list(disk.rglob("*.npy"))) == 2
            train.kill()
        eda.run("jshm.gc()")
        assert list(disk.rglob("*.npy")) == []


def test_no_space_anywhere(mount: MakeMount, tmp_path: Path) -> None:
    small = mount("size=8m")
    root = small.root
    with start(tmp_path, root) as train, start(tmp_path, root, script="eda.py") as eda:
        train.run("x = data(3); jshm.publish({'x': x, 'small': x[:100]})")
        for operation in (
            "jshm.publish('x', data(5))",
            "jshm.publish('x', np.broadcast_to(np.float64(1), (1000, 1000)))",
            "jshm.publish({'small': x[:10], 'x': data(5)})",
            "jshm.publish({'x': data(2), 'y': data(3)})",
            "jshm.empty(5 * MB, np.uint8)",
            "jshm.SharedNumpyArray.create_copy(data(5))",
        ):
            error = train.fails(operation)
            assert "NoSpaceError" in error.kinds, operation
            assert "MemoryError" in error.kinds
            for part in ("needs", "free", "largest not in use: x (3.1 MB, train.py)", "elease"):
                assert part in error.message, (operation, error.message)
            assert [size // MB for size in train.run("files()")] == [0, 3]
            assert eda.run("bool((jshm.attach('x') == data(3)).all())")
            assert eda.run("[(i.name, i.version) for i in jshm.segments()]") == [
                ["small", 1], ["x", 1],
            ]  # fmt: skip
            assert eda.run("jshm.check()") == []
        train.run("jshm.release('x')")
        train.run("jshm.publish('x', data(5))")
        assert eda.run("bool((jshm.attach('x') == data(5)).all())")


def test_space_taken_during_a_copy(mount: MakeMount, tmp_path: Path) -> None:
    """Another process uses the free space after the copy has begun."""
    small = mount("size=8m")
    root = small.root
    for overflow in ("", str(tmp_path / "disk")):
        with start(tmp_path, root, overflow) as train:
            train.run("""
from jshm.store.local import space
space._free = lambda path: 1 << 30
jshm.publish("x", data(1), keep=True)
""")
            if overflow:
                assert train.run("jshm.publish('big', data(9)).overflow") is True
                assert train.run("bool((jshm.attach('big') == data(9)).all())")
                assert train.run("jshm.empty(9 * MB, np.uint8).size") == 9 * MB
            else:
                for operation in ("jshm.publish('x', data(9))", "jshm.empty(9 * MB, np.uint8)"):
                    error = train.fails(operation)
                    assert "NoSpaceError" in error.kinds
                    assert "ran full while it was written" in error.message
                assert [size // MB for size in train.run("files()")] == [1]
            assert train.run("bool((jshm.attach('x') == data(1)).all())")
            assert train.run("jshm.check()") == []


def test_release_works_when_nothing_is_free(mount: MakeMount, tmp_path: Path) -> None:
    small = mount("size=8m")
    root = small.root
    with start(tmp_path, root) as train:
        train.run("[jshm.publish(n, data(0.5, i)) for i, n in enumerate('abcdef')]")
        small.fill()
        error = train.fails("jshm.publish('g', data(0.5))")
        assert "NoSpaceError" in error.kinds
        for name in "abc":
            assert train.run(f"jshm.release({name!r})[0].freed") == MB // 2
            small.fill()  # freed space is taken at once
        assert train.run("jshm.release(['d', 'e', 'f'])[2].freed") == MB // 2
        assert train.run("files()") == []
        assert train.run("jshm.check()") == []
        small.relieve()
        train.run("jshm.publish('a', data(4))")


@pytest.mark.parametrize("connected", [True, False])
def test_a_new_process_when_nothing_is_free(
    mount: MakeMount, tmp_path: Path, connected: bool
) -> None:
    """Its lease needs space, and so do SQLite's files if no process has them open."""
    small = mount("size=8m")
    root = small.root
    with start(tmp_path, root) as train:
        train.run("jshm.publish({'a': data(1), 'b': data(2)}, keep=True)")
        if not connected:
            train.exit()
        small.fill()
        with start(tmp_path, root, script="train.py") as eda:
            assert eda.run("jshm.release('a', force=True)[0].freed") == MB
            assert eda.run("[i.name for i in jshm.segments()]") == ["b"]
            assert eda.run("bool((jshm.attach('b') == data(2)).all())")


def test_reads_work_when_nothing_is_free(mount: MakeMount, tmp_path: Path) -> None:
    small = mount("size=8m")
    root = small.root
    with start(tmp_path, root) as train:
        train.run("jshm.publish({'a': data(1), 'b': data(2)}, keep=True)")
        small.fill()
        with start(tmp_path, root, script="eda.py") as eda:
            assert eda.run("bool((jshm.attach('b') == data(2)).all())")
            assert eda.run("[i.name for i in jshm.segments()]") == ["a", "b"]
            assert eda.run("x = jshm.attach('a'); float(x[0])") == train.run("float(data(1)[0])")


def test_few_inodes(mount: MakeMount, tmp_path: Path) -> None:
    small = mount("size=8m,nr_inodes=24")
    root = small.root
    with start(tmp_path, root) as train:
        train.run("jshm.publish('x', data(0.1, 1))")
        error = train.fails("for i in range(40): jshm.publish(f'y{i}', data(0.01))")
        assert "NoSpaceError" in error.kinds
        assert train.run("bool((jshm.attach('x') == data(0.1, 1)).all())")
        assert train.run("jshm.check()") == []
        train.run("jshm.release([n for n in default_store().names() if n != 'x'])")
        train.run("jshm.publish('x', data(0.1, 2))")
        assert train.run("bool((jshm.attach('x') == data(0.1, 2)).all())")
        assert train.run("jshm.check()") == []


def test_few_inodes_overflow(mount: MakeMount, tmp_path: Path) -> None:
    small = mount("size=8m,nr_inodes=24")
    root = small.root
    with start(tmp_path, root, str(tmp_path / "disk")) as train:
        train.run("for i in range(40): jshm.publish(f'y{i}', data(0.01, i))")
        assert train.run(
            "all(bool((jshm.attach(f'y{i}') == data(0.01, i)).all()) for i in range(40))"
        )
        assert train.run("jshm.check()") == []


def limited(limit: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))"


def test_too_many_open_files(store_dir: str, tmp_path: Path) -> None:
    """Any step of attach and publish may be the one without a free descriptor."""
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 200
    with start(tmp_path, store_dir) as train:
        train.run("for i in range(80): jshm.publish(f'x{i}', data(0.001, i), keep=True)")
        train.run("jshm.segments()")
        train.run(limited(64))
        train.run("""
spare, kinds = [], set()
def attempt(left, operation):
    import gc
    gc.collect()
    spare.clear()
    try:
        while True:
            spare.append(os.dup(0))
    except OSError:
        pass
    for _ in range(left):
        os.close(spare.pop())
    try:
        operation()
        return None
    except BaseException as error:
        return [type(error).__name__, str(error)]
    finally:
        while spare:
            os.close(spare.pop())
""")
        worked = set()
        for operation in ("jshm.attach('x7')", "jshm.publish('new', data(0.001))", "jshm.empty(3)"):
            for left in range(6):
                found = train.run(f"attempt({left}, lambda: {operation})")
                if found is None:
                    worked.add(operation)
                    continue
                assert found[0] == "TooManyFilesError", (operation, left, found)
                assert "ulimit -n" in found[1]
        assert len(worked) == 3
        assert train.run("jshm.check()") == []
        assert train.run("bool((jshm.attach('x7') == data(0.001, 7)).all())")


def test_attaching_until_no_descriptor_is_left(store_dir: str, tmp_path: Path) -> None:
    with start(tmp_path, store_dir) as train:
        train.run("for i in range(100): jshm.publish(f'x{i}', data(0.001, i), keep=True)")
        train.run(limited(64))
        train.run("""
held, message = [], ""
try:
    for i in range(100):
        held.append(jshm.attach(f"x{i}"))
except jshm.TooManyFilesError as error:
    message = str(error)
""")
        if train.run("len(held)") < 100:  # from Python 3.13 on a mapping costs no descriptor
            assert "ulimit -n" in train.run("message")
        assert train.run("len(held)") > 20
        assert train.run("all((x == data(0.001, i)).all() for i, x in enumerate(held))")
        train.run("held.clear()")
        assert train.run("jshm.attach('x99').size") > 0
        assert train.run("jshm.check()") == []


def test_more_garbage_than_descriptors(store_dir: str, tmp_path: Path) -> None:
    with start(tmp_path, store_dir, script="eda.py") as eda:
        with start(tmp_path, store_dir) as train:
            train.run("for i in range(150): jshm.publish(f'x{i}', data(0.001, i))")
            train.kill()
        eda.run(limited(64))
        eda.run("jshm.publish('y', data(0.1), keep=True)")
        eda.run("jshm.gc()")
        assert len(eda.run("files()")) == 1
        assert eda.run("jshm.check()") == []


def test_a_limit_of_the_file_size(store_dir: str, tmp_path: Path) -> None:
    with start(tmp_path, store_dir) as train:
        train.run("jshm.publish('x', data(1))")
        train.run(f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({2 * MB}, -1))")
        error = train.fails("jshm.publish('x', data(3))")
        assert "NoSpaceError" in error.kinds
        assert train.run("bool((jshm.attach('x') == data(1)).all())")
        assert len(train.run("files()")) == 1
        assert train.run("jshm.check()") == []
