"""The formats of 0.1.0: every change of them is noticed, and later versions read their bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm.store.local.lease import LeaseLog, read_log

from ..support.exactness import assert_same_dtype
from ..unit.pickling.fresh import Interpreter, Pickled
from . import golden

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..unit.pickling.cases import Case


def assert_exact(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    assert_same_dtype(found.dtype, expected.dtype)
    assert found.flags.f_contiguous == expected.flags.f_contiguous
    assert np.array_equal(found, expected)


CHANGED = (
    "a published format has changed. If that is intended, and an older jshm can read it, make the folder "
    "of the next release with `python -m tests.formats`, and keep a test that reads this one"
)


@pytest.fixture
def written(store_dir: str) -> str:
    """A store that this version has just written."""
    golden.write(store_dir)
    return store_dir


def test_segments_are_written_byte_for_byte(written: str) -> None:
    found, expected = golden.segments(written), dict(golden.kept())
    assert list(found) == list(expected)
    for name, data in found.items():
        # Compared in parts, because pytest would explain how 16 MB differ.
        assert len(data) == len(expected[name]), f"{name}: {CHANGED}"
        at = next(
            (i for i in range(0, len(data), 64) if data[i : i + 64] != expected[name][i : i + 64]),
            -1,
        )
        assert at < 0, f"{name} differs at byte {at}: {CHANGED}"


def test_the_registry_is_written_row_for_row(written: str) -> None:
    assert golden.registry(written) == (golden.FOLDER / "registry.sql").read_text(), CHANGED


@pytest.mark.parametrize("with_registry", [True, False], ids=["registry", "segments alone"])
def test_the_bytes_of_the_release_are_read(store_dir: str, *, with_registry: bool) -> None:
    golden.restore(store_dir, with_registry=with_registry)
    assert jshm.check() == []
    infos = {info.name: info for info in jshm.segments()}
    assert set(infos) == {*golden.values(), "refers", "live"}
    assert {(i.version, i.keep, i.state, i.lifetime) for i in infos.values()} == {
        (1, True, "current", "kept")
    }
    assert infos["small"].note == "Größe, 大きさ"
    assert infos["small"].created == 1_800_000_000.25
    assert infos["small"].once == infos["object/large"].once != ""
    assert infos["live"].writable
    assert all(info.publisher.startswith("train.ipynb") for info in infos.values())
    for name, value in golden.values().items():
        found = jshm.attach(name)
        if isinstance(value, np.ndarray):
            assert_exact(found, value)
        elif isinstance(value, dict):
            assert_exact(found["array"], value["array"])
            assert {**found, "array": 0, "small": 0} == {**value, "array": 0, "small": 0}
    a, b = jshm.attach(["part/a", "part/b"])
    assert a is b[0]
    refers, small = jshm.attach(["refers", "small"])
    assert np.shares_memory(refers["array"], small)
    jshm.attach("live", "r+")[0] = 7
    assert jshm.attach("live")[0] == 7
    # This version continues from there.
    assert jshm.publish("small", np.zeros(2), replace=True).version == 2
    assert refers["array"].tolist() == [0, 1]
    assert jshm.check() == []
    del refers, small, a, b, found
    jshm.release(list(infos), force=True)
    jshm.gc()
    assert os.listdir(f"{store_dir}/segments") == []


@pytest.mark.parametrize(("name", "start"), [("small", 128), ("large", 4096)])
def test_an_array_is_an_npy_file_with_a_trailer(store_dir: str, name: str, start: int) -> None:
    golden.restore(store_dir, with_registry=True)
    path = jshm.store.default_store().location(name)
    found = np.load(path, mmap_mode="r")
    assert found.offset == start
    assert_exact(np.asarray(found), golden.values()[name])
    with open(path, "rb") as file:
        file.seek((start + found.nbytes + 63) // 64 * 64)
        assert file.read(8) == b"\x93JSHMREC"


@pytest.fixture(scope="module")
def reader() -> Iterator[Interpreter]:
    with Interpreter() as interpreter:
        yield interpreter


@pytest.mark.parametrize("case", golden.CASES, ids=lambda case: case.name)
def test_the_pickles_of_the_release_are_read(reader: Interpreter, case: Case) -> None:
    """Also by another version of Python, which compiles the source in them."""
    reader.reset()
    reader.load(Pickled(*golden.kept_pickles()[case.name]))
    reader.run(case.check)


def test_the_log_of_a_lease_is_written_line_for_line(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    log = LeaseLog()
    log.begin(path, f"{path}.new", "")
    log.note([(("0" * 16, "r"), True)])
    log.note([(("1" * 16, "c"), True)])
    log.add_spare("2" * 16, 300_000, "exp1/Größe")
    log.note([(("0" * 16, "r"), False)])
    log.remove_spare("2" * 16)
    log.close()
    with open(path, "rb") as file:
        assert file.read() == (
            b"+0000000000000000 r\n+1111111111111111 c\n*2222222222222222 300000 exp1/Gr\\xf6\\xdfe\n"
            b"-0000000000000000 r\n/2222222222222222\n"
        )
    assert read_log(path).held == {("1" * 16, "c")}
