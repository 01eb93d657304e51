"""A real server with the extension, in the test's event loop and with a private store."""

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
    """An answer of the server."""

    code: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


def quoted(name: str) -> str:
    """Return a name as the front end writes it into a path, with its slashes."""
    return urllib.parse.quote(name, safe="/")


class Api:
    """Sends requests with the token. An answer that ``openapi.yaml`` does not describe fails the test."""

    def __init__(self, fetch: Callable[..., Any], base: str, token: str) -> None:
        self._fetch = fetch
        self._base = base.rstrip("/")
        self._token = token

    async def raw(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> Answer:
        """Send a request with these headers only."""
        got = await self._fetch(
            self._base + path, method=method, body=body, headers=headers, raise_error=False,
            allow_nonstandard_methods=True, request_timeout=60, follow_redirects=False,
        )  # fmt: skip
        return Answer(got.code, got.headers, got.body)

    async def __call__(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request to a path below ``/jshm/api``; a body that is not bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        answer = await self.raw(method, API + path, body, Authorization=f"token {self._token}")
        contract.check(method, path.partition("?")[0], answer.code, answer)
        return answer

    async def get(self, path: str, **query: object) -> Any:
        """Return the answer of a GET that must succeed."""
        answer = await self("GET", path + (f"?{urllib.parse.urlencode(query)}" if query else ""))
        assert answer.code == 200, answer
        return answer.json

    async def list(self, **query: object) -> list[str]:
        """Return the names in the list."""
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
    worker = jp_serverapp.web_app.settings["jshm_worker"]
    jp_asyncio_loop.run_until_complete(jp_serverapp.extension_manager.stop_all_extensions())
    # The store's directory is removed next: no thread may use it.
    worker._lists.shutdown()
    worker._others.shutdown()


@pytest.fixture
def served(api: Api, store_dir: str) -> Iterator[LocalStore]:
    """The store of the server. It must pass `check` after the test."""
    yield default_store()
    found = default_store()
    assert found.check() == []


@pytest.fixture
def segments(store_dir: str) -> Callable[[], dict[str, int]]:
    """Return the size of each segment file, read without the store."""

    def look() -> dict[str, int]:
        place = f"{store_dir}/segments"
        return {e.name: e.stat().st_size for e in os.scandir(place)} if os.path.isdir(place) else {}

    return look


@pytest.fixture
def child_directory(tmp_path: Path) -> Path:
    """The directory for the programs of children."""
    place = tmp_path / "programs"
    place.mkdir()
    return place
