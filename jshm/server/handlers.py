"""The REST interface, described in ``openapi.yaml``: each handler reads a request and writes an answer."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado.web import authenticated

from ..browse import wire
from ..browse.listing import MOST_ROWS, SORT_KEYS, Query, SortKey
from ..errors import (
    CorruptSegmentError,
    FormatVersionError,
    InvalidNameError,
    JshmError,
    NoSpaceError,
    SegmentNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .desk import Desk

T = TypeVar("T")
Method = TypeVar("Method", bound="Callable[..., Awaitable[None]]")


class RequestError(JshmError, ValueError):
    """A request that is none."""


_MOST_NUMBER = (1 << 63) - 1
_LONGEST = len(str(_MOST_NUMBER))
# The first that fits says which status an error has.
_STATUS: list[tuple[type[Exception] | tuple[type[Exception], ...], int]] = [
    (SegmentNotFoundError, 404),
    (InvalidNameError, 400),
    (RequestError, 400),
    ((CorruptSegmentError, FormatVersionError), 422),
    (NoSpaceError, 507),
    (wire.OF_THE_STORE, 503),
    (JshmError, 409),
    (OSError, 503),
]


def answers(method: Method) -> Method:
    """Let a method answer who is logged in and allowed, and say errors of jshm as JSON."""

    @authenticated
    @authorized
    @functools.wraps(method)
    async def call(self: JshmHandler, *args: str) -> None:
        try:
            await method(self, *args)
        except (JshmError, OSError) as error:
            self.set_status(next(status for kind, status in _STATUS if isinstance(error, kind)))
            self.say(wire.problem(error))

    return cast("Method", call)


class JshmHandler(APIHandler):
    """What all handlers share."""

    auth_resource = "jshm"

    @property
    def desk(self) -> Desk:
        """Where requests are answered."""
        return cast("Desk", self.settings["jshm_desk"])

    def say(self, answer: Any) -> None:
        """Answer with JSON, which is as it is now and is not to be kept."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(answer, allow_nan=False, separators=(",", ":")))

    def write_error(self, status_code: int, **options: Any) -> None:
        """Say in JSON what tornado and jupyter_server found wrong."""
        error = options.get("exc_info", (None, None))[1]
        message = getattr(error, "log_message", None) or self._reason
        reason = {403: "forbidden"}.get(status_code, "refused" if status_code < 500 else "store")  # noqa: PLR2004
        self.say({"reason": reason, "message": message, "remedy": ""})

    def argument(self, name: str, kind: Callable[[str], T], default: T) -> T:
        """Return an argument of the query, or RequestError that names it."""
        text = self.get_query_argument(name, None)
        try:
            return default if text is None else kind(text)
        except ValueError as error:
            raise RequestError(f"{name} must be {error}") from None

    def body(self) -> dict[str, Any]:
        """Return the request's JSON object, or RequestError."""
        try:
            found = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError):
            raise RequestError("the body is not JSON") from None
        if not isinstance(found, dict):
            raise RequestError("the body is not a JSON object")
        return found

    def names(self, body: dict[str, Any], default: Any = None) -> list[str]:
        """Return the names that a body tells, or RequestError."""
        names = body.get("names", default)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RequestError("names must be a list of texts")
        return names


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def _within(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or len(text) > _LONGEST or not low <= int(text) <= high:
            raise ValueError(f"a number from {low} to {high}")
        return int(text)

    return parse


def _sort(text: str) -> SortKey:
    if text not in SORT_KEYS:
        raise ValueError(f"one of {', '.join(SORT_KEYS)}")
    return text


class SegmentsHandler(JshmHandler):
    """The list."""

    @answers
    async def get(self) -> None:
        query = Query(
            filter=self.argument("filter", str, ""),
            sort=self.argument("sort", _sort, "name"),
            descending=self.argument("descending", _flag, default=False),
            grouped=self.argument("grouped", _flag, default=False),
            unused=self.argument("unused", _flag, default=False),
            offset=self.argument("offset", _within(0, _MOST_NUMBER), 0),
            limit=self.argument("limit", _within(1, MOST_ROWS), 200),
        )
        page = await self.desk.look(lambda service: service.page(query))
        self.say({**page, "summary": self.desk.noticed(page["summary"])})


class SummaryHandler(JshmHandler):
    """The store as a whole."""

    @answers
    async def get(self) -> None:
        self.say(await self.desk.summary())


class SegmentHandler(JshmHandler):
    """One name."""

    @answers
    async def get(self, name: str) -> None:
        self.say(await self.desk.look(lambda service: service.info(name)))

    @answers
    async def delete(self, name: str) -> None:
        self.say(await self.desk.do(lambda service: service.release_one(name)))


class PreviewHandler(JshmHandler):
    """A picture of some data."""

    @answers
    async def get(self, name: str) -> None:
        version = self.argument("version", _within(1, _MOST_NUMBER), None)
        self.say(await self.desk.do(lambda service: service.preview(name, version)))


class ReleaseHandler(JshmHandler):
    """Retiring several names, by name, by pattern, or all that are not in use."""

    @answers
    async def post(self) -> None:
        body = self.body()
        names = self.names(body, [])
        if bool(names) == (body.get("unused", False) is True):
            raise RequestError("say either names, or unused: true")
        if names:
            released = await self.desk.do(lambda service: service.release(names))
        else:
            released = await self.desk.do(lambda service: service.release_unused())
        self.say(released)


_API = "/jshm/api"
HANDLERS = [
    (rf"{_API}/segments", SegmentsHandler),
    (rf"{_API}/segments/(.+)", SegmentHandler),
    (rf"{_API}/previews/(.+)", PreviewHandler),
    (rf"{_API}/release", ReleaseHandler),
    (rf"{_API}/summary", SummaryHandler),
]
