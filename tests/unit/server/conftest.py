"""A real server with the extension, in the test's own event loop and with a private store."""

from __future__ import annotations

import json
import os
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pytest_jupyter.jupyter_server import *  # noqa: F403 - its fixtures, for this directory only

from jshm.store import default_store

from . import contract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

API = "/jshm/api"


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    code: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


def quoted(name: str) -> str:
    """Return a name as the front end writes it into a path: its slashes stay."""
    return urllib.parse.quote(name, safe="/")


class Api:
    """Asks the server, with its token. What is answered is as ``openapi.yaml`` says, or the test fails."""

    def __init__(self, fetch: Callable[..., Any], base: str, token: str) -> None:
        self._fetch = fetch
        self._base = base.rstrip("/")
        self._token = token

    async def raw(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> Answer:
        """Ask with these headers only."""
        got = await self._fetch(
            self._base + path, method=method, body=body, headers=headers, raise_error=False,
            allow_nonstandard_methods=True, request_timeout=60, follow_redirects=False,
        )  # fmt: skip
        return Answer(got.code, got.headers, got.body)

    async def __call__(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask for what is below ``/jshm/api``; a body that is no bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        answer = await self.raw(method, API + path, body, Authorization=f"token {self._token}")
        contract.check(method, path.partition("?")[0], answer.code, answer)
        return answer

    async def get(self, path: str, **query: object) -> Any:
        """Return what a GET that succeeds answers."""
        answer = await self("GET", path + (f"?{urllib.parse.urlencode(query)}" if query else ""))
        assert answer.code == 200, answer
        return answer.json

    async def list(self, **query: object) -> list[str]:
        """Return the names on the list."""
        return [row["name"] for row in (await self.get("/segments", **query))["rows"]]


@pytest.fixture
def jp_server_config(store_dir: str) -> dict[str, Any]:
    return {
        "ServerApp": {
            "jpserver_extensions": {"jshm": True, "jupyter_server_terminals": False},
            "allow_unauthenticated_access": False,
        }
    }


@pytest.fixture
def api(jp_asyncio_loop, jp_serverapp, http_server_client, jp_base_url) -> Iterator[Api]:
    yield Api(http_server_client.fetch, jp_base_url, jp_serverapp.identity_provider.token)
    desk = jp_serverapp.web_app.settings["jshm_desk"]
    jp_asyncio_loop.run_until_complete(jp_serverapp.extension_manager.stop_all_extensions())
    # No thread uses the store when its directory goes.
    desk._lists.shutdown()
    desk._others.shutdown()


@pytest.fixture
def served(api: Api, store_dir: str) -> Iterator[LocalStore]:
    """The store of the server, sound before and after."""
    yield default_store()
    found = default_store()
    assert found.check() == []


@pytest.fixture
def segments(store_dir: str) -> Callable[[], dict[str, int]]:
    """Look which segments there are, and how large their files, past the store."""

    def look() -> dict[str, int]:
        place = f"{store_dir}/segments"
        return {e.name: e.stat().st_size for e in os.scandir(place)} if os.path.isdir(place) else {}

    return look


@pytest.fixture
def child_directory(tmp_path: Path) -> Path:
    """Where programs of children are written."""
    place = tmp_path / "programs"
    place.mkdir()
    return place
