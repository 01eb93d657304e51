"""Damaged files and unsafe directories give clear errors, and the rest works."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jshm.store import default_store

from ...support.processes import Child
from .contract import PREFIX, operations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Api


def truncate(path: str) -> None:
    os.truncate(path, 100)


def empty(path: str) -> None:
    os.truncate(path, 0)


def overwrite(path: str) -> None:
    with open(path, "r+b") as file:
        file.write(os.urandom(500))


def lengthen_its_header(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(b"\xff" * 8)


def replace_by_a_link(path: str) -> None:
    os.unlink(path)
    os.symlink("/etc/passwd", path)


def replace_by_a_pipe(path: str) -> None:
    os.unlink(path)
    os.mkfifo(path)


def replace_by_a_directory(path: str) -> None:
    os.unlink(path)
    os.mkdir(path)


@pytest.mark.parametrize(
    "harm",
    [
        truncate, empty, overwrite, lengthen_its_header, os.unlink,
        replace_by_a_link,
        replace_by_a_pipe,
        replace_by_a_directory,
    ],
)  # fmt: skip
async def test_a_damaged_segment(api: Api, store_dir: str, harm: Callable[[str], None]) -> None:
    store = default_store()
    store.publish({"X": np.arange(5000.0), "Y": np.arange(5.0)})
    store.publish({"O": {"a": np.arange(5000.0)}})
    for name in ("X", "O"):
        harm(store.location(name))
        for _ in range(2):
            answer = await api("GET", f"/previews/{name}")
            assert answer.code in (404, 422), answer
            assert answer.json["message"], answer
            assert b"root:" not in answer.raw
        details = await api("GET", f"/segments/{name}")
        assert details.code in (200, 404, 422), details
    assert await api.list() == ["O", "X", "Y"]
    assert (await api.get("/previews/Y"))["stats"]["max"] == 4
    # Damaged names can still be released.
    for name in ("X", "O"):
        assert (await api("DELETE", f"/segments/{name}")).code == 200
    assert await api.list() == ["Y"]


@pytest.fixture(autouse=True)
def _no_link_is_left(store_dir: str) -> Iterator[None]:
    yield
    if os.path.islink(store_dir):
        os.unlink(store_dir)


async def refused(api: Api, *words: str) -> None:
    """Check that every request is answered with the problem of the directory."""
    bodies = {"/release": {"names": ["X"]}}
    for path, method in operations():
        short = path.removeprefix(PREFIX).replace("{name}", "X")
        answer = await api(method.upper(), short, bodies.get(short))
        assert answer.code == 503, (method, path, answer)
        assert answer.json["reason"] == "store"
        assert all(word in answer.json["message"] for word in words), answer


async def test_a_directory_that_is_open_to_others(api: Api, store_dir: str) -> None:
    os.chmod(store_dir, 0o755)
    await refused(api, store_dir, "755", "chmod 700")
    os.chmod(store_dir, 0o700)
    default_store().publish({"X": np.zeros(3)})
    assert await api.list() == ["X"]


async def test_a_directory_that_is_a_link(api: Api, store_dir: str, tmp_path: Path) -> None:
    os.rmdir(store_dir)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    os.symlink(tmp_path / "elsewhere", store_dir)
    await refused(api, store_dir, "not a directory")
    assert os.listdir(tmp_path / "elsewhere") == []
    os.unlink(store_dir)
    default_store().publish({"X": np.zeros(3)})
    assert await api.list() == ["X"]


async def test_a_directory_that_cannot_be_made(
    api: Api, store_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("JSHM_DIR", "/proc/no/such/place")
        await refused(api, "/proc/no/such/place")
    assert await api.list() == []


@pytest.mark.filterwarnings("ignore::jshm.DirectoryLostWarning")  # what it says is in test_recovery
async def test_a_directory_that_is_gone_while_the_server_runs(
    api: Api, store_dir: str, child_directory: Path
) -> None:
    default_store().publish({"X": np.zeros(3)})
    assert await api.list() == ["X"]
    shutil.rmtree(store_dir)
    assert await api.list() == []
    with Child(child_directory) as child:
        child.run("import jshm, numpy as np; jshm.publish('Y', np.zeros(3))")
        assert await api.list() == ["Y"]


@pytest.mark.filterwarnings("ignore::jshm.DirectoryLostWarning")  # what it says is in test_recovery
async def test_a_directory_that_is_replaced_while_the_server_runs(
    api: Api, store_dir: str, tmp_path: Path
) -> None:
    """A directory that is open to others, or a link, is refused until it is repaired."""
    default_store().publish({"X": np.zeros(3)})
    assert await api.list() == ["X"]
    shutil.rmtree(store_dir)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    os.symlink(tmp_path / "elsewhere", store_dir)
    await refused(api, store_dir)
    assert os.listdir(tmp_path / "elsewhere") == []
    os.unlink(store_dir)
    os.mkdir(store_dir)
    os.chmod(store_dir, 0o755)
    await refused(api, store_dir, "chmod 700")
    os.chmod(store_dir, 0o700)
    assert await api.list() == []


def damage_registry(store_dir: str) -> None:
    for ending in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{store_dir}/registry.db{ending}")
    overwrite(f"{store_dir}/registry.db")


async def test_a_registry_that_is_damaged(api: Api, store_dir: str, child_directory: Path) -> None:
    with Child(child_directory) as child:
        child.run("import jshm, numpy as np; jshm.publish('X', np.zeros(3), keep=True)")
    damage_registry(store_dir)
    for path in ("/segments", "/summary", "/segments/X"):
        answer = await api("GET", path)
        assert answer.code == 503
        assert "check" in str(answer.json)
    with Child(child_directory) as child:
        assert child.run("import jshm; len(jshm.check(fix=True))") == 1
    assert await api.list() == ["X"]
