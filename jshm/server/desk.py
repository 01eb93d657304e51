"""Answers requests in threads, so that a slow or huge store never blocks the server, and watches it."""

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

    from .kernels import Kernels

T = TypeVar("T")

SCHEMA = "urn:jshm:changed:v1"
# Seconds between looks, and for how long after the last request they go on: nobody looks, nobody pays.
_INTERVAL = 0.5
_INTEREST = 60.0


class Desk:
    """Where requests are answered.

    Parameters
    ----------
    kernels : Kernels
    events : EventLogger
    """

    def __init__(self, kernels: Kernels, events: EventLogger) -> None:
        self._kernels = kernels
        self._events = events
        # A list remembers what it read, for its one thread; what may take long goes elsewhere.
        self._lists = ThreadPoolExecutor(1, "jshm-list")
        self._others = ThreadPoolExecutor(2, "jshm-other")
        self._service: Service | None = None
        self._watching: asyncio.Task[None] | None = None
        self._interest = 0.0
        self._told: object = None

    async def look(self, answer: Callable[[Service], T]) -> T:
        """Ask for what is on the list, and watch it for a while from now on."""
        await self._kernels.refresh()
        found = await self._run(self._lists, lambda: answer(self._get_service()))
        self._interest = time.monotonic() + _INTEREST
        if self._watching is None or self._watching.done():
            self._told = await self._run(self._lists, default_store().state)
            self._watching = asyncio.create_task(self._watch())
        return found

    async def summary(self) -> dict[str, Any]:
        """Return the store as a whole (`ISummary`), with what the server knows of its kernels."""
        return self.noticed(await self.look(lambda service: service.summary()))

    def noticed(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return a summary with what the server knows of its kernels."""
        return {**summary, "notices": [*summary["notices"], *self._kernels.notices()]}

    async def do(self, answer: Callable[[Service], T]) -> T:
        """Ask for something that is not on the list, or change something."""
        return await self._run(self._others, lambda: answer(self._get_service()))

    async def _run(self, pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    def _get_service(self) -> Service:
        # Made late: the store's directory may be refused, and be put right while the server runs.
        if self._service is None:
            self._service = Service(default_store(), self._kernels)
        return self._service

    async def _watch(self) -> None:
        """Tell those who listen when something has changed."""
        while (began := time.monotonic()) < self._interest:
            try:
                found = await self._run(self._lists, default_store().state)
            except (JshmError, OSError) as error:  # a request says what is wrong
                found = type(error).__name__
            if found != self._told:
                self._told = found
                self._events.emit(schema_id=SCHEMA, data={})
            await asyncio.sleep(max(_INTERVAL, 5 * (time.monotonic() - began)))

    def close(self) -> None:
        """Stop watching, and answer nothing any more."""
        if self._watching is not None:
            self._watching.cancel()
        self._lists.shutdown(wait=False, cancel_futures=True)
        self._others.shutdown(wait=False, cancel_futures=True)
