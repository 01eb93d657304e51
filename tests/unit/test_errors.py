"""The advice in errors is right for the place: which setting to change, and whether a release helps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm.segment import file as segment
from jshm.store import default_store
from jshm.store.local.directory import disk_full
from jshm.system import file_locks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..support.full_disk import MakeMount

root_only = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to make what is another user's"
)


def _foreign(path: str) -> None:
    os.mkdir(path, 0o700)
    os.chown(path, 12345, 12345)


def _foreign_link(path: str) -> None:
    os.symlink("/tmp", path)
    os.lchown(path, 12345, 12345)


NOT_OURS = [
    pytest.param(lambda path: os.mkdir(path) or os.chmod(path, 0o755), "has mode 755", id="open"),
    pytest.param(os.mknod, "is not a directory; remove it, or set", id="a file"),
    pytest.param(os.mkfifo, "is not a directory; remove it, or set", id="a FIFO"),
    pytest.param(lambda path: os.symlink("/tmp", path), "is not a directory; remove", id="a link"),
    pytest.param(_foreign, "belongs to user 12345", id="foreign", marks=root_only),
    pytest.param(_foreign_link, "is not a directory; set", id="a foreign link", marks=root_only),
]


@pytest.fixture
def overflow(store_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The overflow directory of this user; no memory is left."""
    monkeypatch.setenv("JSHM_QUOTA", "100k")
    (tmp_path / "overflow").mkdir()
    return str(tmp_path / "overflow" / f"jshm-{os.geteuid()}")


@pytest.mark.parametrize(("make", "what"), NOT_OURS)
def test_an_overflow_directory_that_is_not_ours(
    overflow: str, make: Callable[[str], object], what: str
) -> None:
    make(overflow)
    with pytest.raises(jshm.UnsafeDirectoryError, match=f"{overflow} {what}") as refused:
        jshm.publish("X", np.zeros(100_000))
    assert "set JSHM_OVERFLOW_DIR" in str(refused.value).replace("Set", "set")
    assert "JSHM_DIR" not in str(refused.value)
    assert jshm.segments() == []
    assert jshm.check(fix=True) == []  # nothing of ours is there
    jshm.publish("Y", np.zeros(10))  # what fits needs none


def test_an_object_that_cannot_be_inspected_is_not_forgotten(overflow: str) -> None:
    with pytest.warns(jshm.OverflowWarning):
        jshm.publish("X", np.arange(100_000.0), keep=True)
    os.chmod(overflow, 0o755)
    default_store().close()
    with pytest.raises(jshm.UnsafeDirectoryError, match=r"has mode 755.*JSHM_OVERFLOW_DIR"):
        jshm.attach("X")
    for fix in (False, True):
        (problem,) = jshm.check(fix=fix)
        assert "JSHM_OVERFLOW_DIR" in problem.what
    jshm.gc()
    assert [info.name for info in jshm.segments()] == ["X"]
    os.chmod(overflow, 0o700)
    assert jshm.attach("X")[-1] == 99_999
    assert jshm.check() == []
    jshm.release("X")


@pytest.mark.parametrize(("make", "what"), NOT_OURS)
def test_a_directory_that_is_not_ours(
    store_dir: str, monkeypatch: pytest.MonkeyPatch, make: Callable[[str], object], what: str
) -> None:
    place = f"{store_dir}/here"
    make(place)
    monkeypatch.setenv("JSHM_DIR", place)
    for operation in (jshm.segments, jshm.check, lambda: jshm.publish("X", 1)):
        with pytest.raises(jshm.UnsafeDirectoryError, match=f"{place} {what}") as refused:
            operation()
        assert "set JSHM_DIR" in str(refused.value).replace("Set", "set")


@pytest.mark.parametrize("options", ["size=64k", "size=4m,nr_inodes=3", "size=4m,nr_inodes=6"])
def test_a_first_use_where_nothing_fits(
    mount: MakeMount, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    made = mount(f"{options},mode=0700")
    monkeypatch.setenv("JSHM_DIR", made.root)
    if "inodes" not in options:
        made.fill()
    for operation in (jshm.segments, jshm.check, lambda: jshm.publish("X", np.zeros(9))):
        with pytest.raises(
            jshm.NoSpaceError, match=r"[Ff]ree space there, or set JSHM_DIR"
        ) as full:
            operation()
        assert "elease" not in str(full.value)


def test_only_what_is_there_can_be_released(store_dir: str) -> None:
    default_store()
    assert disk_full("a lease", store_dir, "").remedies == ()
    draft = segment.create(f"{store_dir}/segments/00000000000000aa.npy")  # in the making
    os.mkfifo(f"{store_dir}/segments/00000000000000bb.npy")
    assert disk_full("a lease", store_dir, "").remedies == ()
    file_locks.close(draft)
    assert [remedy.action for remedy in disk_full("a lease", store_dir, "").remedies] == ["list"]


def test_no_room_says_what_would_give_more(store_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JSHM_OVERFLOW_DIR", "")
    monkeypatch.setenv("JSHM_QUOTA", "100k")
    with pytest.raises(jshm.NoSpaceError, match=r"Raise JSHM_QUOTA$"):
        jshm.publish("X", np.zeros(100_000))
    jshm.publish("Y", np.zeros(100))
    with pytest.raises(
        jshm.NoSpaceError, match=r"Raise JSHM_QUOTA; largest not in use: Y .*Release"
    ):
        jshm.publish("X", np.zeros(100_000))
