"""Chromium, and a Lab for each module of tests, in a store of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from ..conftest import PREFIX, SHM
from . import chromium
from .lab import Lab, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium.find()
    assert path is not None, "no Chromium: python -m tests.browser.chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=chromium.ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def store_root() -> Iterator[str]:
    """A store directory that the servers and kernels of a module share."""
    root = tempfile.mkdtemp(prefix=PREFIX, dir=SHM)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def server(store_root: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("home"), store_root)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page; if the test fails, a picture of it goes to $SHOTS."""
    page = context.new_page()
    yield page
    shots = os.environ.get("SHOTS")
    report = request.node.stash.get(_REPORT, None)
    if shots and report is not None and report.failed:
        page.screenshot(path=os.path.join(shots, f"{request.node.name}.png"))


_REPORT = pytest.StashKey[pytest.TestReport]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if report.when == "call":
        item.stash[_REPORT] = report
    return report


@pytest.fixture
def lab(server: Server, page: Page) -> Lab:
    return Lab(server, page)


@pytest.fixture
def nothing_is_left(server: Server) -> Iterator[None]:
    """Each test begins with no names, and with no kernels of the one before."""
    yield
    for session in server.ask("api/sessions")[1]:
        server.ask(f"api/sessions/{session['id']}", "DELETE")
    names = [row["name"] for row in server.ask("jshm/api/segments?limit=1000")[1]["rows"]]
    while names:
        server.ask("jshm/api/release", "POST", {"names": names})
        names = [row["name"] for row in server.ask("jshm/api/segments?limit=1000")[1]["rows"]]
