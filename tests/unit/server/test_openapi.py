"""The document and the handlers agree, and answers match the document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import openapi_spec_validator
import pandas as pd
from jupyter_server.base.handlers import APIHandler
from tornado.web import RequestHandler

from jshm.browse.listing import MOST_ROWS, SORT_KEYS
from jshm.server import handlers

from ...support.processes import Child
from .contract import DOCUMENT, METHODS, operations, responses

if TYPE_CHECKING:
    from pathlib import Path

    from jshm.store.local.store import LocalStore

    from .conftest import Api


def test_the_document_is_valid() -> None:
    openapi_spec_validator.validate(DOCUMENT)


def test_handlers_and_document_agree() -> None:
    handled = {
        (re.sub(r"\(\.\+\)", "{name}", path), method.lower())
        for path, handler in handlers.HANDLERS
        for method in RequestHandler.SUPPORTED_METHODS
        if getattr(handler, method.lower()) is not getattr(APIHandler, method.lower())
    }
    assert handled == set(operations())
    assert len(handlers.HANDLERS) == len(DOCUMENT["paths"])


def test_limits_match_the_code() -> None:
    asked = {
        parameter["name"]: parameter["schema"]
        for parameter in DOCUMENT["paths"]["/jshm/api/segments"]["get"]["parameters"]
    }
    assert asked["sort"] == {"$ref": "#/components/schemas/SortKey"}
    assert tuple(DOCUMENT["components"]["schemas"]["SortKey"]["enum"]) == SORT_KEYS
    assert asked["limit"]["maximum"] == MOST_ROWS


async def test_other_methods_and_paths_do_not_exist(api: Api, served: LocalStore) -> None:
    served.publish({"X": np.zeros(3)})
    for path in DOCUMENT["paths"]:
        there = set(dict.fromkeys(m for p, m in operations() if p == path))
        # Options are answered by Jupyter, for every API; tornado does not know trace.
        for method in set(METHODS) - there - {"options", "trace"}:
            short = path.removeprefix("/jshm/api").replace("{name}", "X")
            answer = await api(
                method.upper(), short, {} if method in ("put", "patch", "post") else None
            )
            assert answer.code == 405, (method, path)
    for nothing in ("", "/", "/nothing", "/segmentsX", "/release/X", "/summary/X", "/openapi.yaml"):
        assert (await api("GET", nothing)).code in (301, 302, 404, 405), nothing
    assert served.names() == ["X"]


async def test_answers_match_the_document(
    api: Api, served: LocalStore, child_directory: Path
) -> None:
    def scale(frame: object, *, factor: float = 2.0) -> object:
        """Multiply."""
        return frame, factor

    served.publish(
        {
            "line": np.arange(50.0), "heat": np.ones((9, 8)), "picture": np.zeros((4, 5, 3), np.uint8),
            "nan": np.array([np.nan, np.inf, -np.inf]), "none": np.zeros((0, 3)),
            "records": np.zeros(3, [("a", "i4"), ("b", "U3")]), "when": np.zeros(2, "M8[ns]"),
            "complex": np.ones(4, complex), "text": np.array(["<b>", "ü"]), "scalar": np.array(7),
            "frame": pd.DataFrame({"<i>": [1, 2], "name": ["a", None]}), "scale": scale,
            "big": np.array([2**63 - 1], "i8"), "list": [1, 2], "flags": np.array([True, False]),
            "exp1/held": np.zeros(10), "live": np.zeros(3),
        }, note="n",
    )  # fmt: skip
    served.publish({"LIVE": np.zeros(3)}, writable=True, keep=True)
    with Child(child_directory, "eda.py") as child:
        child.run(
            "import jshm; held = jshm.attach('exp1/held'); live = jshm.attach('LIVE', mode='r+')"
        )
        served.publish({"exp1/held": np.zeros(20)})
        names = served.names()
        page = await api.get("/segments", grouped=1)
        assert [row["name"] for row in page["rows"]] == sorted(names, key=str.casefold)
        row = DOCUMENT["components"]["schemas"]["Row"]["properties"]
        assert {key for found in page["rows"] for key in found} == set(row)
        assert set(page) == set(DOCUMENT["components"]["schemas"]["Page"]["properties"])
        summary = DOCUMENT["components"]["schemas"]["Summary"]["properties"]
        assert set(await api.get("/summary")) == set(page["summary"]) == set(summary)
        details = DOCUMENT["components"]["schemas"]["Details"]["allOf"][1]["properties"]
        for name in names:
            found = await api.get(f"/segments/{name}")
            assert set(found) == {*row, *details}
            assert {k: v for k, v in found.items() if k in row} == next(
                r for r in page["rows"] if r["name"] == name
            )
            await api.get(f"/previews/{name}")
        old = next(r for r in page["rows"] if r["name"] == "exp1/held")
        assert [(o["version"], o["holders"][0]["label"]) for o in old["older"]] == [(1, "eda.py")]
        assert (await api.get("/previews/exp1/held", version=1))["stats"]["total"] == 10
        assert (await api.get("/previews/exp1/held"))["stats"]["total"] == 20
        done = (await api("DELETE", "/segments/exp1/held")).json
        released = set(DOCUMENT["components"]["schemas"]["Released"]["properties"])
        assert set(done) == released
        assert (done["name"], done["nbytes"]) == ("exp1/held", 240)
        done = (await api("POST", "/release", {"names": ["*"]})).json
        assert sorted(one["name"] for one in done) == sorted({*names} - {"exp1/held"})
        assert await api.list() == ["exp1/held", "LIVE"]  # released, and still held


WRONG = [
    ("GET", "/segments?limit=0", None, 400),
    ("GET", "/segments/missing", None, 404),
    ("GET", "/segments/a//b", None, 400),
    ("DELETE", "/segments/missing", None, 404),
    ("GET", "/previews/missing", None, 404),
    ("GET", "/previews/X?version=0", None, 400),
    ("GET", "/previews/X?version=9", None, 404),
    ("POST", "/release", {"names": ["missing"]}, 404),
    ("POST", "/release", {}, 400),
    ("POST", "/release", b"no", 400),
]


async def test_errors_match_the_document(api: Api, served: LocalStore) -> None:
    served.publish({"X": np.zeros(3)})
    for method, path, body, code in WRONG:
        answer = await api(method, path, body)  # checks its form
        assert answer.code == code, (method, path, answer)
        reason = {400: "refused", 404: "missing"}[code]
        assert (answer.json["reason"], bool(answer.json["message"])) == (reason, True)
    assert served.names() == ["X"]


def test_every_status_is_in_the_document() -> None:
    missing = [
        (method, path, code)
        for method, path, _, code in WRONG
        if str(code) not in responses(method, path.partition("?")[0])
    ]
    assert missing == []


def test_every_request_may_find_an_unusable_store() -> None:
    lacking = [
        (path, method)
        for path, method in operations()
        if "503" not in responses(method, path.removeprefix("/jshm/api"))
    ]
    assert lacking == []
