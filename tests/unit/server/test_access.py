"""Access needs a token or a login, the same site, and the permission of the authorizer."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jupyter_server.auth import Authorizer

from .contract import PREFIX, operations

if TYPE_CHECKING:
    from jshm.store.local.store import LocalStore

    from .conftest import Api

BODY = b'{"names": ["X"]}'
REQUESTS = [
    (method.upper(), path.removeprefix(PREFIX).replace("{name}", "X"))
    for path, method in operations()
]


def body_of(method: str, path: str) -> bytes | None:
    return BODY if method == "POST" else None


@pytest.fixture
def shared(served: LocalStore) -> LocalStore:
    """A store with one name."""
    served.publish({"X": np.zeros(3)})
    return served


@pytest.mark.parametrize("headers", [{}, {"Authorization": "token wrong"}, {"Cookie": "user=me"}])
async def test_access_needs_a_token(api: Api, shared: LocalStore, headers: dict[str, str]) -> None:
    for method, path in REQUESTS:
        for target in (path, f"{path}?token=wrong"):
            answer = await api.raw(method, PREFIX + target, body_of(method, path), **headers)
            assert answer.code == 403, (method, target)
            assert b"float64" not in answer.raw
    assert shared.names() == ["X"]


async def login(api: Api) -> str:
    """Log in like a browser; return the cookies without the one for XSRF."""
    answer = await api.raw("GET", f"/api/status?token={api._token}")
    cookies = SimpleCookie()
    for line in answer.headers.get_list("Set-Cookie"):
        cookies.load(line)
    return "; ".join(f"{c.key}={c.coded_value}" for c in cookies.values() if c.key != "_xsrf")


async def test_a_login_needs_xsrf_protection_to_change_anything(
    api: Api, shared: LocalStore
) -> None:
    cookie, token = await login(api), "0123456789abcdef0123456789abcdef"
    other = token[::-1]
    assert (await api.raw("GET", f"{PREFIX}/segments", Cookie=cookie)).code == 200
    changing = [(method, path) for method, path in REQUESTS if method != "GET"]
    assert len(changing) == 2
    wrong: list[dict[str, str]] = [
        {"Cookie": cookie},
        {"Cookie": f"{cookie}; _xsrf={token}"},
        {"Cookie": cookie, "X-XSRFToken": token},
        {"Cookie": f"{cookie}; _xsrf={token}", "X-XSRFToken": other},
    ]
    for method, path in changing:
        for headers in wrong:
            answer = await api.raw(method, PREFIX + path, body_of(method, path), **headers)
            assert answer.code == 403, (method, path, headers)
    assert shared.names() == ["X"]
    right = {"Cookie": f"{cookie}; _xsrf={token}", "X-XSRFToken": token}
    assert (await api.raw("POST", f"{PREFIX}/release", BODY, **right)).code == 200
    shared.publish({"Y": np.zeros(3)})
    assert (await api.raw("DELETE", f"{PREFIX}/segments/Y", **right)).code == 200
    assert shared.names() == []


async def test_another_site_is_refused(api: Api, shared: LocalStore) -> None:
    cookie, token = await login(api), "0123456789abcdef0123456789abcdef"
    headers = {
        "Cookie": f"{cookie}; _xsrf={token}", "X-XSRFToken": token, "Origin": "http://evil.example",
    }  # fmt: skip
    for method, path in REQUESTS:
        answer = await api.raw(method, PREFIX + path, body_of(method, path), **headers)
        assert answer.code in (403, 404), (method, path)
    assert shared.names() == ["X"]


class ReadOnly(Authorizer):
    """Lets everybody read."""

    asked: list[tuple[str, str]]

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        self.asked.append((action, resource))
        return action == "read"


class Nobody(ReadOnly):
    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        super().is_authorized(handler, user, action, resource)
        return False


class TestDenied:
    @pytest.fixture(params=[ReadOnly, Nobody])
    def jp_server_config(self, jp_server_config: Any, request: pytest.FixtureRequest) -> Any:
        request.param.asked = []
        jp_server_config["ServerApp"]["authorizer_class"] = request.param
        return jp_server_config

    async def test_the_authorizer_is_asked(
        self, api: Api, shared: LocalStore, jp_serverapp: Any
    ) -> None:
        authorizer = jp_serverapp.authorizer
        looks = type(authorizer) is ReadOnly
        for method, path in REQUESTS:
            authorizer.asked.clear()
            answer = await api(method, path, body_of(method, path))
            action = "read" if method == "GET" else "write"
            assert authorizer.asked == [(action, "jshm")]
            assert answer.code == (200 if looks and method == "GET" else 403), (method, path)
            if answer.code == 403:
                assert re.search(rb"(?i)forbidden|not authorized", answer.raw), answer
        assert shared.names() == ["X"]
