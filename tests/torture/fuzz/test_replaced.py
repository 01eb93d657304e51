"""A file in the place of a segment that is not one: every operation refuses it and leaves it as it is."""

from __future__ import annotations

import os
import signal
import stat
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.browse.labels import Notebooks
from jshm.browse.service import Service
from jshm.store import default_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DATA = np.arange(600.0).reshape(20, 30)
SECRET = b"nobody's business" * 100
NOBODY = 65534


class Canary:
    """To unpickle it is to leave a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.open, (self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC)


def symlink(path: str, elsewhere: Path) -> None:
    target = elsewhere / "target"
    target.write_bytes(SECRET)
    target.chmod(0o644)
    os.symlink(target, path)


def symlink_to_itself(path: str, _elsewhere: Path) -> None:
    beside = f"{os.path.dirname(path)}/../moved"
    os.rename(path + ".moved", beside)
    os.symlink(beside, path)


def dangling(path: str, elsewhere: Path) -> None:
    os.symlink(elsewhere / "nothing", path)


def directory(path: str, _elsewhere: Path) -> None:
    os.mkdir(path)


def fifo(path: str, _elsewhere: Path) -> None:
    os.mkfifo(path)


def socket(path: str, _elsewhere: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


def device(path: str, _elsewhere: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero


def foreign(path: str, _elsewhere: Path) -> None:
    os.rename(path + ".moved", path)
    os.chown(path, NOBODY, NOBODY)


IN_ITS_PLACE = [symlink, symlink_to_itself, dangling, directory, fifo, socket]
if os.geteuid() == 0:
    IN_ITS_PLACE += [device, foreign]


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """Opening a FIFO waits for ever; then this kills the test."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(params=["array", "object", "overflow"])
def path(
    store_dir: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The file of X, of which Y is another name or part, mapped by nobody."""
    if request.param == "overflow":
        overflow = str(default_store().directory.overflow)
        assert overflow
        with monkeypatch.context() as patch:
            patch.setenv("JSHM_QUOTA", "1")
            with pytest.warns(jshm.OverflowWarning):
                jshm.publish("X", DATA, keep=True)
        assert default_store().location("X").startswith(overflow)
    elif request.param == "object":
        jshm.publish("X", [Canary(str(tmp_path / "unpickled")), DATA], keep=True)
    else:
        jshm.publish("X", DATA, keep=True)
    if request.param != "object":
        jshm.publish("Y", jshm.attach("X"), keep=True)  # an alias: releases rewrite the records
    jshm.publish("Z", DATA, keep=True)
    return default_store().location("X")


def look(name: str) -> list[Callable[[], object]]:
    return [
        lambda: jshm.attach(name),
        lambda: jshm.attach(name, "c"),
        lambda: Service(default_store(), Notebooks()).preview(name),
    ]


@pytest.mark.parametrize("put", IN_ITS_PLACE, ids=lambda put: put.__name__)
def test_refused(path: str, tmp_path: Path, put: Callable[[str, Path], None]) -> None:
    os.rename(path, path + ".moved")
    put(path, tmp_path)
    if os.path.lexists(path + ".moved"):
        os.unlink(path + ".moved")
    before = os.lstat(path)
    for use in look("X"):
        with pytest.raises(jshm.CorruptSegmentError):
            use()
    jshm.segments()
    jshm.gc()
    problems = jshm.check()
    assert problems
    if not stat.S_ISREG(before.st_mode):
        assert any(path in problem.what for problem in problems)
        assert os.lstat(path).st_ino == before.st_ino  # not ours, so not touched
    jshm.publish("X", DATA)
    jshm.publish("X", DATA)
    jshm.release([name for name in default_store().names() if name != "Z"])
    assert np.array_equal(jshm.attach("Z"), DATA)
    jshm.check(fix=True)
    if put is symlink:
        target = tmp_path / "target"
        assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (SECRET, 0o644)
    assert not (tmp_path / "unpickled").exists()


def test_a_second_link_is_harmless(path: str, tmp_path: Path) -> None:
    """A hard link is the same file, with the same owner: what it holds is what was shared."""
    os.link(path, f"{path}.link")
    value = jshm.attach("X")
    assert np.array_equal(value if isinstance(value, np.ndarray) else value[1], DATA)
    assert any(f"{path}.link" in problem.what for problem in jshm.check(fix=True))
    jshm.release([name for name in default_store().names() if name != "Z"])
    assert os.path.exists(f"{path}.link")
    os.unlink(f"{path}.link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_another_user_s_segment_is_not_unpickled(store_dir: str, tmp_path: Path) -> None:
    """A whole segment, checksums and all, whose only fault is its owner: also in a rebuild."""
    marker = tmp_path / "unpickled"
    jshm.publish("X", [Canary(str(marker)), DATA], keep=True)
    path = default_store().location("X")
    os.chown(path, NOBODY, NOBODY)
    for use in [*look("X"), lambda: jshm.info("X")]:
        with pytest.raises(jshm.CorruptSegmentError):
            use()
    default_store().registry.close()
    os.unlink(default_store().directory.registry)
    assert default_store().names() == []
    assert not marker.exists()
    assert os.stat(path).st_uid == NOBODY or not os.path.exists(path)


def test_the_canary_sings(store_dir: str, tmp_path: Path) -> None:
    jshm.publish("X", [Canary(str(tmp_path / "unpickled"))])
    os.close(jshm.attach("X")[0])
    assert (tmp_path / "unpickled").exists()
