"""JSHM_QUOTA, and low memory of the machine or of a cgroup."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.store.local import space as room
from jshm.system import memory
from jshm.system.memory import Memory

from ....support.full_disk import MB, start
from ....support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jshm.store.local.store import LocalStore


def shared(root: str) -> int:
    """Return the bytes of all files of segments in memory, with headers."""
    with os.scandir(f"{root}/segments") as entries:
        return sum(entry.stat().st_size for entry in entries)


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota of 10 MB, and no overflow to disk."""
    monkeypatch.setenv("JSHM_QUOTA", "10M")
    monkeypatch.setenv("JSHM_OVERFLOW_DIR", "")


# -- what it says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("0", 0), ("1000000", 10**6), ("8G", 8 * 10**9), ("1.5k", 1500), ("500 MB", 5 * 10**8),
        ("2Gi", 2 << 30), ("3kib", 3 << 10), ("4T", 4 * 10**12), ("10b", 10),
        ("50%", 64 * 10**9), ("0%", 0), ("12.5 %", 16 * 10**9), ("100%", 128 * 10**9),
    ],
)  # fmt: skip
def test_valid_quotas(monkeypatch: pytest.MonkeyPatch, text: str, nbytes: int) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 128 * 10**9)
    memory._parse_size.cache_clear()
    monkeypatch.setenv("JSHM_QUOTA", text)
    try:
        assert room.quota() == nbytes
    finally:
        memory._parse_size.cache_clear()


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_quota_means_no_quota(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("JSHM_QUOTA", text)
    assert room.quota() is None


@pytest.mark.parametrize(
    "text", ["much", "-1", "10 apples", "1e9", "101%", "1,000", "5%%", "k", "8GiBs", "0x10", "٣%x"]
)
def test_invalid_quotas(store: LocalStore, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    jshm.publish("X", np.ones(3), keep=True)
    monkeypatch.setenv("JSHM_QUOTA", text)
    for operation in (lambda: jshm.publish("Y", np.ones(3)), lambda: jshm.empty(3)):
        with pytest.raises(jshm.InvalidSettingError) as caught:
            operation()
        for part in ("JSHM_QUOTA", repr(text), "8G", "2Gi", "50%"):
            assert part in str(caught.value)
        assert isinstance(caught.value, ValueError)
    # An empty array needs no quota.
    assert jshm.attach("X").sum() == 3
    assert [info.name for info in jshm.segments()] == ["X"]
    jshm.release("X")


# -- what it does ----------------------------------------------------------------------------------


def test_a_quota_limits_all_segments(allowed: None, store_dir: str, tmp_path: Path) -> None:
    del allowed
    with start(tmp_path, store_dir) as train, start(tmp_path, store_dir, script="eda.py") as eda:
        train.run("jshm.publish(dict(x=data(4), y=data(3)))")
        for operation in (
            "jshm.publish('x', data(4))",
            "jshm.publish('z', data(4))",
            "jshm.publish(dict(v=data(1.5), w=data(1.5)))",
            "jshm.publish('o', {'a': data(4)})",
            "jshm.empty(4 * MB, 'u1')",
            "jshm.SharedNumpyArray.create_copy(data(4))",
        ):
            for child, mine in ((train, True), (eda, False)):
                if "'x'" in operation and not mine:
                    continue
                error = child.fails(operation)
                assert "NoSpaceError" in error.kinds, operation
                for part in (
                    "the quota of 10.0 MB (JSHM_QUOTA", "largest not in use: x (4.2 MB, train.py)",
                ):  # fmt: skip
                    assert part in error.message, (operation, error.message)
                assert shared(store_dir) < 7.5 * MB
        # An alias needs no quota.
        eda.run("held = jshm.attach('x'); jshm.publish('alias', held)")
        train.run("b = jshm.empty(2 * MB, 'u1'); jshm.publish('b', b)")
        # A released version that is held is in memory, and counts.
        train.run("jshm.release(['x', 'b']); del b")
        assert "NoSpaceError" in train.fails("jshm.publish('z', data(5))").kinds
        eda.run("jshm.release('alias'); del held")
        eda.run("jshm.gc()")
        train.run("jshm.publish('z', data(5))")
        assert train.run("jshm.check()") == []


def test_data_beyond_the_quota_go_to_disk(
    store_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JSHM_QUOTA", "5M")
    with start(tmp_path, store_dir, str(tmp_path / "disk")) as train:
        train.run("""
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    warnings.simplefilter("ignore", jshm.ShortLifeWarning)
    infos = jshm.publish(dict(x=data(3), y=data(3), z=data(3)))
""")
        assert train.run("[p.overflow for p in infos]") == [False, True, True]
        (text,) = train.run("[str(w.message) for w in found]")
        assert text.startswith(
            "3.1 MB do not fit into shared memory (1.9 MB left of the quota of 5.0"
        )
        assert "Raise JSHM_QUOTA, or release what you no longer need" in text
        # Data on disk do not count.
        train.run("jshm.publish('x2', data(1))")
        assert train.run("[i.name for i in jshm.segments() if not i.overflow]") == ["x", "x2"]


def test_two_publishes_at_once(allowed: None, store_dir: str, tmp_path: Path) -> None:
    """Both find space before they write. The registering transaction decides."""
    del allowed
    with start(tmp_path, store_dir) as train, start(tmp_path, store_dir, script="eda.py") as eda:
        train.run("jshm.publish('x', data(1, 1), keep=True)")
        eda.run("jshm.segments()")
        # Stopped in the middle of its copy, after it has checked the quota.
        train.run("""
import signal
real = os.pwrite
def pwrite(fd, data, offset):
    if len(data) > MB:
        os.pwrite = real
        os.kill(os.getpid(), signal.SIGSTOP)
    return real(fd, data, offset)
os.pwrite = pwrite
""")
        train.send("jshm.publish('x', data(6))")
        train.stands()
        eda.run("jshm.publish('y', data(6))")
        train.signal(signal.SIGCONT)
        with pytest.raises(Exception, match=r"other processes have used.*JSHM_QUOTA") as caught:
            train.receive()
        assert "NoSpaceError" in caught.value.kinds  # type: ignore[attr-defined]
        assert "largest not in use: y (6.3 MB, eda.py)" in str(caught.value)
        assert shared(store_dir) < 7.5 * MB  # the file is removed at once
        assert eda.run("bool((jshm.attach('x') == data(1, 1)).all())")
        assert eda.run("jshm.info('x').version") == 1
        assert eda.run("jshm.check()") == []
        # The same for an allocated array.
        eda.run("jshm.release('y')")
        train.run("""
real_reserve = os.posix_fallocate
def reserve(*args):
    os.posix_fallocate = real_reserve
    os.kill(os.getpid(), signal.SIGSTOP)
    return real_reserve(*args)
os.posix_fallocate = reserve
""")
        train.send("jshm.empty(6 * MB, 'u1')")
        train.stands()
        eda.run("jshm.publish('y', data(6))")
        train.signal(signal.SIGCONT)
        with pytest.raises(Exception, match="other processes have used"):
            train.receive()
        assert shared(store_dir) < 7.5 * MB
        assert eda.run("jshm.check()") == []


def test_space_is_what_the_quota_leaves(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    without = store.space()
    assert without.quota is None
    monkeypatch.setenv("JSHM_QUOTA", "1M")
    jshm.publish("X", np.zeros(50_000))
    space = store.space()
    assert (space.quota, space.capacity, space.free) == (10**6, 10**6, 600_000)
    monkeypatch.setenv("JSHM_QUOTA", "1k")
    assert store.space().free == 0
    monkeypatch.setenv("JSHM_QUOTA", "100T")
    assert store.space().capacity == without.capacity


# -- memory ----------------------------------------------------------------------------------------


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make 1.05 GB of 10 GB available, as jshm sees it."""
    found = Memory(1_050_000_000, 10_000_000_000)
    monkeypatch.setattr(room, "tightest", lambda: found)
    monkeypatch.setattr(room, "_next_warning", 0.0)


def test_a_warning_when_memory_runs_low(
    store: LocalStore, scarce: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del scarce
    jshm.publish("idle", np.zeros(1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jshm.publish("some", np.zeros(40 * MB, np.uint8))  # leaves exactly 10 %
        jshm.publish("little", np.zeros(1000))
    before = shared(store.directory.root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(jshm.LowMemoryWarning) as caught:
            jshm.publish("much", np.zeros(60 * MB, np.uint8))
    assert shared(store.directory.root) == before  # the warning comes before anything is written
    me = jshm.info("some").publisher
    assert str(caught.value) == (
        "memory runs low: 62.9 MB more leave 987.1 MB of 10.0 GB, and Linux kills processes when it runs "
        f"out; largest not in use: some (41.9 MB, {me}), idle (8.0 kB, {me}), little (8.0 kB, {me})"
    )
    # Once a minute.
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        jshm.publish("much", np.zeros(60 * MB, np.uint8))
        assert found == []
        monkeypatch.setattr(room, "_next_warning", room._next_warning - 60)
        array = jshm.empty(60 * MB, np.uint8)
    assert [warning.category for warning in found] == [jshm.LowMemoryWarning]
    assert found[0].filename == __file__
    assert "\n" not in str(found[0].message)
    del array


# -- cgroups ---------------------------------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory cgroup (version 1) within the one of this process."""
    with open("/proc/self/cgroup") as file:
        own = [line.rstrip("\n").split(":", 2)[2] for line in file if ":memory:" in line]
    if not own:
        pytest.skip("there is no memory cgroup of version 1")
    path = Path(tempfile.mktemp(prefix="jshm-", dir=f"/sys/fs/cgroup/memory{own[0]}"))
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"a cgroup cannot be made here: {error}")
    yield path
    path.rmdir()


@contextlib.contextmanager
def limited(group: Path, nbytes: int, tmp_path: Path, root: str) -> Iterator[Child]:
    (group / "memory.limit_in_bytes").write_text(str(nbytes))
    enter = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
    env = {"JSHM_DIR": root, "JSHM_OVERFLOW_DIR": ""}
    with Child(tmp_path, env=env, prefix=enter) as child:
        child.run("import numpy as np, jshm, warnings; MB = 1 << 20")
        child.run("from jshm.system.memory import available_memory, total_memory")
        yield child


def test_a_memory_limit_is_an_error_before_the_kernel_kills(
    group: Path, store_dir: str, tmp_path: Path
) -> None:
    with limited(group, 600 * MB, tmp_path, store_dir) as child:
        assert child.run("total_memory()") == 600 * MB
        left = child.run("available_memory()")
        assert 500 * MB < left < 600 * MB
        # One repeated byte: the array takes no memory, and is copied in pieces.
        child.run("X = np.broadcast_to(np.uint8(1), 1 << 40)")
        for operation in (
            f"jshm.publish('X', X[:{left}])",
            f"jshm.publish('X', dict(a=X[:{left - 20 * MB}]))",
            f"jshm.empty({left}, 'u1')",
        ):
            error = child.fails(operation)
            assert "NoSpaceError" in error.kinds, operation
            assert "of memory available" in error.message
        assert os.listdir(f"{store_dir}/segments") == []
        # Data within the limit are published with a warning.
        child.run("warnings.simplefilter('error')")
        assert "LowMemoryWarning" in child.fails(f"jshm.publish('X', X[:{left - 50 * MB}])").kinds
        child.run("warnings.simplefilter('ignore')")
        child.run(f"jshm.publish('X', X[:{left - 50 * MB}])")
        assert child.run("available_memory()") < 60 * MB
        # Many small arrays count as one large one.
        error = child.fails("for i in range(400): jshm.publish(f'x{i}', X[:500_000])")
        assert "NoSpaceError" in error.kinds
        assert "largest not in use: X (" in error.message
        assert child.run("jshm.check()") == []


def test_a_quota_can_be_a_share_of_the_cgroup_limit(
    group: Path, store_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JSHM_QUOTA", "10%")
    with limited(group, 200 * MB, tmp_path, store_dir) as child:
        error = child.fails("jshm.empty(21 * MB, 'u1')")
        assert "left of the quota of 21.0 MB (JSHM_QUOTA)" in error.message
        child.run("a = jshm.empty(19 * MB, 'u1')")


def test_cgroups_of_both_versions_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tightest limit counts: `memory.max`, also of an outer cgroup."""
    outer = tmp_path / "docker"
    inner = outer / "job"
    inner.mkdir(parents=True)
    for place, limit, usage in ((outer, "1000000", "900000"), (inner, "max", "5")):
        (place / "memory.max").write_text(limit)
        (place / "memory.current").write_text(usage)
        (place / "memory.stat").write_text("anon 5\ninactive_file 40000\n")
    assert list(memory._groups(str(tmp_path), "/docker/job", "memory.max", "memory.current")) == [
        Memory(140_000, 1_000_000)
    ]
    monkeypatch.setattr(memory, "_levels", lambda: iter([Memory(5, 50), Memory(3, 100)]))
    assert (memory.available_memory(), memory.total_memory()) == (3, 50)
    monkeypatch.setattr(memory, "_levels", lambda: iter([]))
    assert memory.total_memory() > 1 << 60
