"""The REST interface that ``openapi.yaml`` describes: each handler reads a request and writes an answer."""

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

    from .worker import RequestWorker

T = TypeVar("T")
Method = TypeVar("Method", bound="Callable[..., Awaitable[None]]")


class RequestError(JshmError, ValueError):
    """The request is not valid."""


_MOST_NUMBER = (1 << 63) - 1
_LONGEST = len(str(_MOST_NUMBER))
# The HTTP status of an error: that of the first class that it is an instance of.
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
    """Return a handler's method that requires login and permission, and answers errors of jshm as JSON."""

    @authenticated
    @authorized
    @functools.wraps(method)
    async def call(self: JshmHandler, *args: str) -> None:
        try:
            await method(self, *args)
        except (JshmError, OSError) as error:
            self.set_status(next(status for kind, status in _STATUS if isinstance(error, kind)))
            self.answer(wire.problem(error))

    return cast("Method", call)


class JshmHandler(APIHandler):
    """Base of all handlers."""

    auth_resource = "jshm"

    @property
    def worker(self) -> RequestWorker:
        """The worker that runs the requests."""
        return cast("RequestWorker", self.settings["jshm_worker"])

    def answer(self, value: Any) -> None:
        """Send a value as JSON that must not be cached."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(value, allow_nan=False, separators=(",", ":")))

    def write_error(self, status_code: int, **options: Any) -> None:
        """Send an error of tornado or jupyter_server as JSON."""
        error = options.get("exc_info", (None, None))[1]
        message = getattr(error, "log_message", None) or self._reason
        reason = {403: "forbidden"}.get(status_code, "refused" if status_code < 500 else "store")  # noqa: PLR2004
        self.answer(wire.failure(reason, message))

    def argument(self, name: str, kind: Callable[[str], T], default: T) -> T:
        """Return an argument of the query, or raise RequestError with its name."""
        text = self.get_query_argument(name, None)
        try:
            return default if text is None else kind(text)
        except ValueError as error:
            raise RequestError(f"{name} must be {error}") from None

    def body(self) -> dict[str, Any]:
        """Return the request's JSON object, or raise RequestError."""
        try:
            found = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError):
            raise RequestError("the body is not JSON") from None
        if not isinstance(found, dict):
            raise RequestError("the body is not a JSON object")
        return found


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
    """One page of the list."""

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
        page = await self.worker.read_list(lambda service: service.page(query))
        self.answer({**page, "summary": self.worker.with_notices(page["summary"])})


class SummaryHandler(JshmHandler):
    """Sums over the whole store."""

    @answers
    async def get(self) -> None:
        summary = await self.worker.read_list(lambda service: service.summary())
        self.answer(self.worker.with_notices(summary))


class SegmentHandler(JshmHandler):
    """One name."""

    @answers
    async def get(self, name: str) -> None:
        self.answer(await self.worker.read_list(lambda service: service.info(name)))

    @answers
    async def delete(self, name: str) -> None:
        self.answer(await self.worker.run(lambda service: service.release_one(name)))


class PreviewHandler(JshmHandler):
    """A preview of the data of one name."""

    @answers
    async def get(self, name: str) -> None:
        version = self.argument("version", _within(1, _MOST_NUMBER), None)
        self.answer(await self.worker.run(lambda service: service.preview(name, version)))


class ReleaseHandler(JshmHandler):
    """Releases several names: by name, by pattern, or all names that are not in use."""

    @answers
    async def post(self) -> None:
        body = self.body()
        names, versions = body.get("names", []), body.get("versions", {})
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RequestError("names must be a list of strings")
        if not isinstance(versions, dict) or not all(type(v) is int for v in versions.values()):
            raise RequestError("versions must be an object of integers")
        if bool(names) == (body.get("unused", False) is True):
            raise RequestError("give either names, or unused: true")
        if names:
            done = await self.worker.run(lambda service: service.release(names, versions))
        else:
            done = await self.worker.run(lambda service: service.release_unused())
        self.answer(done)


_API = "/jshm/api"
HANDLERS = [
    (rf"{_API}/segments", SegmentsHandler),
    (rf"{_API}/segments/(.+)", SegmentHandler),
    (rf"{_API}/previews/(.+)", PreviewHandler),
    (rf"{_API}/release", ReleaseHandler),
    (rf"{_API}/summary", SummaryHandler),
]
