"""Runs requests in threads, so that a slow store does not block the server, and polls the store."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from ..browse.service import Service
from ..errors import JshmError
from ..store import default_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_events import EventLogger

    from .notebooks import ServerNotebooks

T = TypeVar("T")

SCHEMA = "urn:jshm:changed:v1"
# Seconds between two polls, and for how long after the last request polling goes on.
_INTERVAL = 0.5
_INTEREST = 60.0


class RequestWorker:
    """Runs the requests of all handlers.

    Parameters
    ----------
    notebooks : ServerNotebooks
    events : EventLogger
    """

    def __init__(self, notebooks: ServerNotebooks, events: EventLogger) -> None:
        self._notebooks = notebooks
        self._events = events
        # A list is for one thread. Requests that may take long run in other threads.
        self._lists = ThreadPoolExecutor(1, "jshm-list")
        self._others = ThreadPoolExecutor(2, "jshm-other")
        self._service: Service | None = None
        self._polling: asyncio.Task[None] | None = None
        self._interest = 0.0
        self._emitted: object = None

    async def read_list(self, request: Callable[[Service], T]) -> T:
        """Run a request that reads the list, and emit events about its changes for a while."""
        await self._notebooks.refresh()
        found = await self._run(self._lists, lambda: request(self._get_service()))
        self._interest = time.monotonic() + _INTEREST
        if self._polling is None or self._polling.done():
            self._emitted = await self._run(self._lists, default_store().state)
            self._polling = asyncio.create_task(self._poll())
        return found

    async def run(self, request: Callable[[Service], T]) -> T:
        """Run a request that does not read the list."""
        return await self._run(self._others, lambda: request(self._get_service()))

    def with_notices(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return a `Summary` with the notices about this server's kernels added."""
        return {**summary, "notices": [*summary["notices"], *self._notebooks.notices]}

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    def _get_service(self) -> Service:
        # Made late: the store's directory may be refused now, and be repaired while the server runs.
        if self._service is None:
            self._service = Service(default_store(), self._notebooks)
        return self._service

    async def _poll(self) -> None:
        while (began := time.monotonic()) < self._interest:
            try:
                found = await self._run(self._lists, default_store().state)
            except (JshmError, OSError) as error:  # the next request reports it
                found = type(error).__name__
            if found != self._emitted:
                self._emitted = found
                self._events.emit(schema_id=SCHEMA, data={})
            await asyncio.sleep(max(_INTERVAL, 5 * (time.monotonic() - began)))

    def close(self) -> None:
        """Stop polling, and accept no more requests."""
        if self._polling is not None:
            self._polling.cancel()
        self._lists.shutdown(wait=False, cancel_futures=True)
        self._others.shutdown(wait=False, cancel_futures=True)
