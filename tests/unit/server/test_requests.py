"""Names, notes, queries and bodies with unusual or hostile content."""

from __future__ import annotations

import json
import unicodedata
import urllib.parse
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from ...conftest import make_older
from .conftest import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from jshm.store.local.store import LocalStore

    from .conftest import Api

NAMES = [
    "a/b/c/d", "x" * 200, "ä" * 200, "名前/データ", "नमस्ते", "segments", "release", "release/summary",
    "exp1.v2-final_3", "Ω/Å", "_private", "3d", "a.b", "undo",
]  # fmt: skip
NOTES = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"quotes' & &amp; </script>",
    "a\u2028b\u2029c", "\x00\x1b[31mred", "{{7*7}} ${7*7} %s %(a)s", "\u202eright to left", "ü" * 200,
    "]]>--><!--", "\\u003cb\\u003e", "line\nline\r\n",
]  # fmt: skip


async def test_names_and_notes_come_back_as_they_are(api: Api, served: LocalStore) -> None:
    notes = dict(zip(NAMES, [*NOTES, *NOTES], strict=False))
    for name, note in notes.items():
        served.publish({name: np.arange(4.0)}, note=note)
    rows = {row["name"]: row for row in (await api.get("/segments"))["rows"]}
    written = {unicodedata.normalize("NFC", name): note for name, note in notes.items()}
    assert {name: row["note"] for name, row in rows.items()} == written
    for name, note in written.items():
        for path in (quoted(name), urllib.parse.quote(name, safe="")):
            assert (await api.get(f"/segments/{path}"))["note"] == note, name
            assert (await api.get(f"/previews/{path}"))["stats"]["max"] == 3
    # Each way deletes the one that it names, and no other.
    for i, name in enumerate(written):
        path = quoted(name) if i % 2 else urllib.parse.quote(name, safe="")
        assert (await api("DELETE", f"/segments/{path}")).json["name"] == name
        assert name not in served.names()
        assert len(served.names()) == len(written) - i - 1


async def test_html_is_text_in_json(api: Api, served: LocalStore) -> None:
    def evil(value: object = "<script>alert(2)</script>") -> object:
        """<img src=x onerror=alert(3)>"""
        return value

    served.publish({"f": evil, "t": pd.DataFrame({"<b>bold</b>": ["<i>cell</i>"]})})
    found = await api.get("/segments/f")
    assert found["doc"] == "<img src=x onerror=alert(3)>"
    assert "<script>" in found["summary"]
    assert "<script>alert(2)" in (await api.get("/previews/f"))["text"]
    assert "<b>bold</b>" in json.dumps(await api.get("/previews/t"))


HOSTILE = [
    "..", "../X", "../../etc/passwd", "a/../X", "/etc/passwd", "<img src=x onerror=alert(1)>",
    'a"b', "a'b", "a b", "a\x00b", "a\nb", "a\\b", "a@1", "-X", ".X", "a//b", "X/", "x" * 201,
    "%58", "X%00", "\u202eX", "\ufeffX", "a;b", "a?b", "a#b", "; DROP TABLE names",
]  # fmt: skip


async def test_invalid_names_are_refused(api: Api, served: LocalStore) -> None:
    served.publish({"X": np.zeros(3)})
    for name in HOSTILE:
        path = urllib.parse.quote(name, safe="")
        for method, where in (("GET", "segments"), ("GET", "previews"), ("DELETE", "segments")):
            answer = await api(method, f"/{where}/{path}")
            assert answer.code in (400, 404), (method, name, answer)
            assert answer.headers["Content-Type"] == "application/json"
        assert (await api("POST", "/release", {"names": [name]})).code in (400, 404), name
    assert served.names() == ["X"]


@pytest.mark.parametrize("name", ["..", "../segments/X", "a/../X"])
async def test_dots_in_a_path_lead_nowhere(api: Api, served: LocalStore, name: str) -> None:
    served.publish({"X": np.zeros(3)})
    for path in (name, name.replace(".", "%2e"), name.replace("/", "%2F")):
        assert (await api("GET", f"/segments/{path}")).code in (400, 404)
        assert (await api("DELETE", f"/segments/{path}")).code in (400, 404)
    assert served.names() == ["X"]


@pytest.mark.parametrize("path", ["/segments/%ff", "/segments?filter=%ff", "/previews/X%c3"])
async def test_bytes_that_are_not_text(api: Api, served: LocalStore, path: str) -> None:
    assert (await api("GET", path)).code == 400


async def test_a_decomposed_name_is_the_same_name(api: Api, served: LocalStore) -> None:
    served.publish({"ä": np.zeros(3)})
    path = urllib.parse.quote(unicodedata.normalize("NFD", "ä"))
    assert (await api.get(f"/previews/{path}"))["stats"]["total"] == 3
    assert (await api.get(f"/segments/{path}"))["name"] == "ä"
    assert (await api("DELETE", f"/segments/{path}")).code == 200


@pytest.mark.parametrize("pattern", ["*", "?", "[XY]", "a/*"])
async def test_delete_takes_one_name_and_no_pattern(
    api: Api, served: LocalStore, pattern: str
) -> None:
    served.publish({"X": np.zeros(3), "Y": np.zeros(3), "a/b": np.zeros(3), "a/c": np.zeros(3)})
    answer = await api("DELETE", f"/segments/{urllib.parse.quote(pattern, safe='')}")
    assert served.names() == ["X", "Y", "a/b", "a/c"]
    assert answer.code in (400, 404)


QUERIES = [
    "limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1.5", "limit=1e2",
    "offset=-1", "offset=x", "offset=9223372036854775808", "offset=" + "9" * 5000,
    "sort=nonsense", "sort=", "sort=Name", "descending=yes", "descending=2", "grouped=true",
    "unused=", "unused=-1",
]  # fmt: skip


async def test_bad_queries(api: Api, served: LocalStore) -> None:
    for query in QUERIES:
        answer = await api("GET", f"/segments?{query}")
        assert answer.code == 400, query
        assert answer.json["reason"] == "refused"
        assert answer.json["message"].startswith(query.partition("=")[0]), answer
    for version in ("0", "-1", "x", "1.0", "", str(1 << 63)):
        assert (await api("GET", f"/previews/X?version={version}")).code == 400, version


async def test_unusual_valid_queries(api: Api, served: LocalStore) -> None:
    served.publish({f"x{i}": np.zeros(3) for i in range(5)})
    assert await api.list(offset=2**63 - 1) == []
    assert await api.list(offset=3, limit=1000) == ["x3", "x4"]
    assert await api.list(filter="X3") == ["x3"]
    assert await api.list(filter='<">%\\*') == []
    assert await api.list(filter=" ") == [f"x{i}" for i in range(5)]
    assert await api.list(filter="x" * 5000) == []
    assert await api.list(nonsense=1) == [f"x{i}" for i in range(5)]


BODIES: list[bytes] = [
    b"nonsense", b"[]", b'"X"', b"1", b"null", b"{", b'{"names": "X"}', b'{"names": [1]}',
    b'{"names": [["X"]]}', b'{"names": null}', b'{"names": {"X": 1}}', b"\xff\xfe", b"names=X",
    b'{"names": ["X"], "names": 3}', b"{'names': ['X']}",
]  # fmt: skip


async def test_bad_bodies(api: Api, served: LocalStore) -> None:
    served.publish({"X": np.zeros(3)})
    for body in BODIES:
        answer = await api("POST", "/release", body)
        assert answer.code == 400, body
        assert answer.json["reason"] == "refused"
    wrong: list[object] = [
        {"names": []}, {}, {"unused": False}, {"names": ["X"], "unused": True},
        {"names": ["X"], "versions": 1}, {"names": ["X"], "versions": {"X": "1"}},
        {"names": ["X"], "versions": {"X": True}}, {"names": ["X"], "versions": None},
    ]  # fmt: skip
    for content in wrong:
        assert (await api("POST", "/release", content)).code == 400, content
    assert served.names() == ["X"]


async def test_a_body_that_is_nested_too_deeply(api: Api, served: LocalStore) -> None:
    assert (await api("POST", "/release", b'{"names":' + b"[" * 200_000)).code == 400


@pytest.mark.parametrize("names", [["\ud800"], ["X", "\udfff"], ["\ud800*"], ["[\ud800]"]])
async def test_a_name_that_is_half_a_character(
    api: Api, served: LocalStore, names: list[str]
) -> None:
    served.publish({"X": np.zeros(3)})
    assert (await api("POST", "/release", {"names": names})).code in (400, 404)
    assert served.names() == ["X"]


async def test_unused_must_be_a_boolean(api: Api, served: LocalStore) -> None:
    """Otherwise `{"unused": "false"}` would release everything."""
    served.publish({"X": np.zeros(3)})
    for value in ("false", "no", 0.5, [0], {"a": 1}):
        assert (await api("POST", "/release", {"unused": value})).code == 400, value
    assert served.names() == ["X"]


async def test_missing_names_among_several(api: Api, served: LocalStore) -> None:
    served.publish({"X": np.zeros(3), "Y": np.zeros(3), "e/a": np.zeros(3), "e/b": np.zeros(3)})
    assert (await api("POST", "/release", {"names": ["missing"]})).code == 404
    assert (await api("POST", "/release", {"names": ["nothing/*"]})).code == 404
    assert (await api("POST", "/release", {"names": ["X", "nothing/*"]})).code == 404
    assert (await api("POST", "/release", {"names": ["X", "a//b"]})).code == 400
    assert served.names() == ["X", "Y", "e/a", "e/b"]
    done = (await api("POST", "/release", {"names": ["X", "missing", "X"]})).json
    assert [one["name"] for one in done] == ["X"]
    done = (await api("POST", "/release", {"names": ["e/*", "e/a"]})).json
    assert sorted(one["name"] for one in done) == ["e/a", "e/b"]
    assert served.names() == ["Y"]


async def test_release_of_unused_names(
    api: Api, served: LocalStore, segments: Callable[[], dict[str, int]]
) -> None:
    served.publish({"idle": np.zeros(3), "used": np.zeros(3)})
    served.publish({"kept": np.zeros(3)}, keep=True)
    used = served.attach(["used"])[0].value
    assert (await api("POST", "/release", {"unused": True})).json == []  # published just now
    make_older(served)
    done = (await api("POST", "/release", {"unused": True})).json
    assert [(one["name"], one["freed"]) for one in done] == [("idle", 24)]
    assert served.names() == ["kept", "used"]
    assert (await api("POST", "/release", {"unused": True})).json == []
    assert len(segments()) == 2
    assert used.sum() == 0
