"""`docs/formats.md` describes what jshm writes: a reader made from it reads the bytes of the release."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jshm.segment.object_layout import OBJECT_FORMAT
from jshm.store.groups import names_file
from jshm.store.local.registry import rows

from . import golden
from .reader import read_array, read_object

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
WRITTEN = dict(golden.kept())
ARRAYS = [name for name in WRITTEN if name.endswith(".npy")]
OBJECTS = [name for name in WRITTEN if name.endswith(".jshm")]


def segment_of(name: str) -> bytes:
    """Return the segment of a name in the golden store."""
    (data,) = (data for data in WRITTEN.values() if f'"name":"{name}"'.encode() in data)
    return data


@pytest.mark.parametrize(
    "name", [n for n, v in golden.values().items() if isinstance(v, np.ndarray)]
)
def test_an_array_is_where_the_page_says(name: str) -> None:
    value: np.ndarray[Any, Any] = golden.values()[name]
    found = read_array(segment_of(name), value.dtype.itemsize)
    assert found.header["descr"] == np.lib.format.dtype_to_descr(value.dtype)
    assert found.header["shape"] == value.shape
    order = "F" if found.header["fortran_order"] else "C"
    assert found.content == value.tobytes(order)  # type: ignore[arg-type]
    assert found.trailer.committed
    assert [record["name"] for record in found.trailer.records] == [name]


@pytest.mark.parametrize("name", ["object/small", "object/large"])
def test_an_object_is_where_the_page_says(name: str) -> None:
    found = read_object(segment_of(name))
    assert found.trailer.committed
    assert found.header["what"]["summary"] == "dict of 2"
    value = golden.values()[name]["array"]
    if found.buffers:
        assert found.buffers[0] == value.tobytes()
    loaded = pickle.loads(found.pickled, buffers=found.buffers)
    assert np.array_equal(loaded["array"], value)


def test_an_object_names_what_it_needs() -> None:
    found = read_object(segment_of("refers"))
    (needed,) = found.header["references"]
    assert needed.encode() in found.pickled
    assert read_array(WRITTEN[f"{needed}.npy"], 8).trailer.records[0]["name"] == "small"


def test_values_that_share_state_are_one_pickle() -> None:
    found = read_object(segment_of("part/a"))
    assert len(found.header["parts"]) == 2
    assert [(r["name"], r["part"]) for r in found.trailer.records] == [("part/a", 1), ("part/b", 2)]
    a, b = pickle.loads(found.pickled)
    assert b[0] is a


def fields(title: str) -> set[str]:
    """Return the names in the first column of the table that follows a text of the page."""
    rest = PAGE[PAGE.index(title) :]
    table = rest[rest.index("\n|") : rest.index("\n\n", rest.index("\n|"))]
    return {
        name
        for line in table.strip().splitlines()[2:]
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }


def test_all_fields_are_described() -> None:
    both = read_object(segment_of("part/a"))
    assert fields("Fields of the header:") == both.header.keys()
    assert fields("A description has these fields") == both.header["what"].keys()
    record = both.trailer.records[0]
    assert fields("only zeros. A reader takes") == record.keys()
    assert fields("Its content is the *identity*") == record["identity"].keys()


def test_the_registry_is_described_as_it_is() -> None:
    def statements(text: str) -> set[str]:
        tables = re.findall(r"CREATE TABLE \w+\(.*?\)(?: WITHOUT ROWID)?;", text, re.DOTALL)
        return {re.sub(r"\s", "", table) for table in tables}

    made = (golden.FOLDER / "registry.sql").read_text()
    assert statements(PAGE) == statements(made)
    tables = fields("Nothing in the registry decides")
    assert tables == set(re.findall(r"CREATE TABLE (\w+)\(", made))


def test_the_numbers_of_the_formats() -> None:
    for text, number in (
        ("object segment | second field of its prelude", OBJECT_FORMAT),
        ("trailer record | field `jshm`", rows.FORMAT),
        ("registry | `PRAGMA user_version`", rows.FORMAT),
        ("list of a group's member | field `jshm` of its first line", names_file.FORMAT),
    ):
        assert f"| {text} | {number} |" in PAGE
