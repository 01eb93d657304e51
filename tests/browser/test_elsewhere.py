"""Notebook 7, a base URL, and a server without the extension."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from .lab import Lab, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

LOAD = "%load_ext jshm\nimport jshm, numpy as np\nX = np.ones((3, 4))\n%shm_publish X\n"


@pytest.fixture
def start(store_dir: str, tmp_path) -> Iterator:
    """Start servers with options of their own."""
    started: list[Server] = []

    def begin(*options: str, **place: str) -> Server:
        server = Server(tmp_path / f"home{len(started)}", store_dir, *options, **place)
        started.append(server)
        return server

    yield begin
    for server in started:
        server.stop()


def test_notebook_7_loads_it_without_errors_of_ours(start, page: Page) -> None:
    server = start(app="notebook")
    server.write("train.ipynb", LOAD + "jshm.SegmentBrowser()")
    errors: list[str] = []
    page.on(
        "pageerror", lambda error: errors.append(f"{error.name}: {error.message}\n{error.stack}")
    )
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.goto(f"{server.url}/notebooks/train.ipynb?token={server.token}")
    page.wait_for_function("() => window.jupyterapp !== undefined")
    plugins = page.evaluate("() => window.jupyterapp.hasPlugin('jshm:plugin')")
    assert plugins
    Lab(server, page).await_kernel("train.ipynb")
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    view = page.locator(".jshm-browser")
    expect(view.locator(".jshm-row", has=page.locator('[title="X"]'))).to_be_visible(timeout=30_000)
    assert [error for error in errors if "jshm" in error] == []


def test_a_base_url(start, page: Page) -> None:
    server = start(base="/user/abc/")
    server.write("train.ipynb", LOAD)
    lab = Lab(server, page)
    lab.open("train.ipynb")
    lab.run("train.ipynb", LOAD)
    lab.show_panel()
    expect(lab.row("X")).to_be_visible()
    lab.row("X").click()
    expect(lab.panel.locator("canvas[role=img]")).to_be_visible()


def test_without_the_server_extension_the_panel_says_what_to_do(start, page: Page) -> None:
    server = start("--ServerApp.jpserver_extensions=jshm=False")
    lab = Lab(server, page)
    lab.open()
    panel = lab.show_panel()
    expect(panel).to_contain_text("The server extension of jshm is not enabled")
    expect(panel).to_contain_text("pip install jshm")


def test_a_directory_that_is_not_private_is_said_and_can_be_put_right(
    start, page: Page, store_dir: str
) -> None:
    os.chmod(store_dir, 0o755)
    lab = Lab(start(), page)
    lab.open()
    panel = lab.show_panel()
    expect(panel).to_contain_text("has mode 755")
    os.chmod(store_dir, 0o700)
    panel.get_by_role("button", name="Refresh").click()
    expect(panel).to_contain_text("Nothing is shared yet.")
