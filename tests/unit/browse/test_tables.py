from __future__ import annotations

import dataclasses
import time
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from jshm.browse import tables as table
from jshm.store.base import Holder, ObjectDetails, SegmentInfo

EVIL = "<script>alert('x')</script>\"&amp;\n\x1b[31m\u202e"

NOW = 1_800_000_000.0

INFO = SegmentInfo(
    name="exp1/weights", version=3, kind="array", summary="float32 (1000, 1000)",
    dtype=np.dtype("f4"), shape=(1000, 1000),
    order="C", nbytes=4_000_000, publisher="train.ipynb", publisher_alive=True, mine=False,
    created=NOW - 150, note="", keep=False, lifetime="server", writable=False,
    overflow=False, state="current", once="", segment="0123456789abcdef",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _a_fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


def info(**changes: Any) -> SegmentInfo:
    return dataclasses.replace(INFO, **changes)


class Parsed(HTMLParser):
    """The tags, and the text of every cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[Any, ...]]] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(attrs)))
        if tag in ("td", "th", "p"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data


HOSTILE = [
    {"publisher": EVIL},
    {"note": EVIL},
    {"holders": (Holder(EVIL, "r", 1, here=False),)},
    {"summary": EVIL},
    {"name": EVIL},
]
DETAILS = ObjectDetails("doc", "In[3]", "3.11", {"m": "1"}, (7000, 8), 5, ("c",), {"X v1": 9})
EVIL_DETAILS = ObjectDetails(EVIL, EVIL, EVIL, {EVIL: EVIL}, (7, 8), 5, (EVIL,), {EVIL: 9})  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: next(iter(change)))
def test_nothing_in_a_list_becomes_html(change: dict[str, Any]) -> None:
    hostile, harmless = Parsed(table.as_html([info(**change)])), Parsed(table.as_html([INFO]))
    assert hostile.tags == harmless.tags
    assert any("<script>" in cell for cell in hostile.cells)


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: next(iter(change)))
def test_nothing_in_the_details_becomes_html(change: dict[str, Any]) -> None:
    rows = table.details(info(**{"note": "n", "holders": INFO.holders, **change}), EVIL, [EVIL])
    harmless = table.details(info(note="n"), "path", ["X"])
    hostile = Parsed(table.details_html(rows))
    assert hostile.tags == Parsed(table.details_html(harmless)).tags
    assert sum("<script>" in cell for cell in hostile.cells) >= 3 - (len(rows) != len(harmless))


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: next(iter(change)))
def test_a_row_of_text_is_one_line_and_no_escape_code(change: dict[str, Any]) -> None:
    lines = table.as_text([INFO, info(**change), INFO]).split("\n")
    assert len(lines) == 1 + 3 + 1
    assert all(line.isprintable() for line in lines)
    rows = table.details(info(**{"note": "n", **change}), EVIL, [EVIL])
    lines = table.details_text(rows).split("\n")
    assert len(lines) == len(rows)
    assert all(line.isprintable() for line in lines)


def test_nothing_that_an_object_says_of_itself_becomes_html() -> None:
    harmless = table.details(info(kind="object", details=DETAILS), "path", ["X"])
    hostile = table.details(info(kind="object", details=EVIL_DETAILS), "path", ["X"])
    parsed = Parsed(table.details_html(hostile))
    assert parsed.tags == Parsed(table.details_html(harmless)).tags
    assert sum("<script>" in cell for cell in parsed.cells) == 6
    assert all(line.isprintable() for line in table.details_text(hostile).split("\n"))
    assert (
        table.object_text(DETAILS)
        == "7.0 kB shared, 5 B copied (object columns: c) · refers to X v1 (9 B)"
    )


def test_columns_line_up() -> None:
    lines = table.as_text(
        [INFO, info(name="X", version=12, summary="float32 (3,)", nbytes=12, segment="2")]
    ).split("\n")
    assert lines[0].split() == ["Name", "v", "Type", "Size", "From", "Used", "by", "Age"]
    assert lines[1].split()[:6] == ["exp1/weights", "3", "float32", "(1000,", "1000)", "4.0"]
    assert lines[1].index("train.ipynb") == lines[2].index("train.ipynb") == lines[0].index("From")
    assert lines[2].startswith("X             12  float32 (3,)")
    assert "2 min ago" in lines[1]
    assert lines[3] == "2 names · 4.0 MB · 4.0 MB not in use"


def test_an_empty_list_says_how_to_begin() -> None:
    assert table.as_text([], hint="%shm_publish <X>") == "Nothing is shared yet. %shm_publish <X>"
    assert "%shm_publish &lt;X&gt;" in table.as_html([], hint="%shm_publish <X>")


@pytest.mark.parametrize(
    ("change", "mark"),
    [({"writable": True}, "LIVE"), ({"state": "old"}, "old"), ({"keep": True}, "kept"),
     ({"state": "released"}, "released, still held"), ({"overflow": True}, "on disk"),
     ({"publisher_alive": False}, "only copy"), ({"note": "hello"}, "hello"), ({}, ""),
     ({"publisher_alive": False, "holders": (Holder("b", "r", 1, here=False),)}, ""),
     ({"writable": True, "keep": True, "note": "n"}, "LIVE, kept, n")],
)  # fmt: skip
def test_marks(change: dict[str, Any], mark: str) -> None:
    assert table.marks(info(**change)) == mark


def test_holders_are_named_once_and_this_one_first() -> None:
    holders = (
        Holder("b.ipynb", "r", 1, here=False), Holder("a.ipynb", "r", 2, here=False),
        Holder("me.ipynb", "r", 3, here=True), Holder("b.ipynb", "c", 1, here=False),
    )  # fmt: skip
    assert table.users(info(holders=holders)) == "this notebook, a.ipynb, b.ipynb"
    assert table.users(INFO) == "–"


def test_a_shared_segment_counts_once() -> None:
    infos = [INFO, info(name="alias"), info(name="Y", segment="other", nbytes=1000,
             holders=(Holder("b", "r", 1, here=False),)), info(state="old", version=2)]  # fmt: skip
    assert table.total_text(infos) == "3 names · 4.0 MB · 4.0 MB not in use"
    assert table.total_text([INFO]).startswith("1 name ·")


@pytest.mark.parametrize("lifetime", ["kept", "server", "run", "process"])
def test_details_leave_out_what_is_empty(lifetime: Any) -> None:
    rows = dict(table.details(info(lifetime=lifetime), "/p", []))
    assert rows["Lives"]
    assert rows["Used by"] == "nobody (not in use)"
    assert "Held here by" not in rows
    assert "Marks" not in rows
    assert rows["File"] == "/p"
    assert rows["Size"] == "4.0 MB (4000000 bytes)"
    stopped = dict(table.details(info(publisher_alive=False), "/p", ["X", "Out[3]"]))
    assert stopped["From"] == "train.ipynb (stopped)"
    assert stopped["Held here by"] == "X, Out[3]"
