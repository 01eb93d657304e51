"""The notebook widget in a real JupyterLab: the same view as the panel's, over its kernel's comm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ..support.processes import until
from .test_panel import confirm, two_notebooks

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from .lab import Lab

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def widget(lab: Lab, code: str = "%shm_browser") -> Locator:
    """Show a widget in eda.ipynb; return it."""
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.arange(12.0).reshape(3, 4)\n%shm_publish X --note first")
    lab.run("eda.ipynb", code)
    found = lab.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea .jshm-browser")
    expect(found).to_be_visible()
    return found


def test_attach_preview_release_and_undo(lab: Lab) -> None:
    view = widget(lab)
    row = lab.row("X", within=view)
    expect(row).to_contain_text("train.ipynb")
    row.click()
    expect(view.locator("canvas[role=img]")).to_be_visible()
    expect(view.locator(".jshm-details")).to_contain_text("first")
    view.locator(".jshm-details input").fill("data")
    view.get_by_role("button", name="Attach as").click()
    expect(row).to_contain_text("this notebook")
    assert (
        lab.run("eda.ipynb", "data.tolist()[2], data.flags.writeable")
        == "([8.0, 9.0, 10.0, 11.0], False)"
    )
    view.get_by_role("button", name="Release…").click()
    expect(lab.page.locator("dialog[open]")).to_contain_text("this notebook")
    confirm(lab.page)
    expect(row).to_contain_text("released")
    view.get_by_role("button", name="Undo").click()
    expect(row).not_to_contain_text("released")
    view.get_by_role("button", name="Release…").click()
    confirm(lab.page)
    expect(view.get_by_role("button", name="Undo")).to_have_count(0, timeout=20_000)
    expect(row).to_contain_text("released")  # this notebook still holds it
    assert "nothing is shared under 'X'" in lab.run("train.ipynb", "%shm_attach X")


def test_a_notebook_reacts_to_its_traits(lab: Lab) -> None:
    view = widget(
        lab,
        "browser = jshm.SegmentBrowser()\nseen = []\n"
        "browser.observe(lambda change: seen.append(change.new), 'selected')\nbrowser",
    )
    lab.row("X", within=view).click()
    until(lambda: lab.run("eda.ipynb", "seen") == "['X']")
    view.get_by_role("searchbox").fill("nothing like it")
    expect(lab.row("X", within=view)).to_have_count(0)
    until(lambda: lab.run("eda.ipynb", "browser.filter") == "'nothing like it'")
    lab.run("eda.ipynb", "browser.filter = ''")
    expect(lab.row("X", within=view)).to_be_visible()


def test_it_says_that_it_waits_while_its_kernel_computes(lab: Lab) -> None:
    view = widget(lab)
    expect(lab.row("X", within=view)).to_be_visible()
    pid = int(lab.run("eda.ipynb", "os.getpid()"))
    # Some kernels answer in a thread of their own while a cell runs; one that is stopped cannot.
    os.kill(pid, signal.SIGSTOP)
    try:
        lab.row("X", within=view).click()
        expect(view).to_contain_text("aiting for the kernel")
        expect(lab.row("X", within=view)).to_be_visible()
        expect(view.locator("canvas[role=img]")).to_have_count(0)
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(view.locator("canvas[role=img]")).to_be_visible()
    expect(view).not_to_contain_text("aiting for the kernel")


def test_what_another_notebook_publishes_comes_by_itself(lab: Lab) -> None:
    view = widget(lab)
    expect(lab.row("X", within=view)).to_be_visible()
    lab.run("eda.ipynb", "jshm.publish('Y', np.ones(3)).version")
    expect(lab.row("Y", within=view)).to_be_visible()
    lab.run("train.ipynb", "jshm.publish('Z', np.ones(3)).version")
    lab.open_notebook("eda.ipynb")
    expect(lab.row("Z", within=view)).to_be_visible(timeout=15_000)


def test_a_saved_notebook_shows_a_snapshot_offline(lab: Lab) -> None:
    view = widget(lab)
    page = lab.page
    expect(page.locator(".jshm-snapshot")).to_be_hidden()  # where the widget lives
    expect(lab.row("X", within=view)).to_be_visible()
    lab.command("docmanager:save")
    saved = lab.server.root / "eda.ipynb"
    until(lambda: "snapshot" in saved.read_text())
    text = saved.read_text()
    assert "not live" in text
    assert str(lab.server.root) not in text
    assert lab.server.store not in text
    target = lab.server.root / "eda.html"
    convert = [
        sys.executable,
        "-m",
        "nbconvert",
        "--to",
        "html",
        "--output",
        str(target),
        str(saved),
    ]
    subprocess.run(convert, check=True, capture_output=True, env=lab.server.env)
    lost: list[str] = []
    page.route("http*://**", lambda route: (lost.append(route.request.url), route.abort()))
    page.goto(target.as_uri())
    snapshot = page.locator(".jshm-snapshot")
    expect(snapshot).to_be_visible()
    expect(snapshot).to_contain_text("X")
    expect(snapshot).to_contain_text("not live")


def test_without_its_kernel_a_notebook_shows_the_snapshot(lab: Lab) -> None:
    widget(lab)
    lab.command("docmanager:save")
    until(lambda: "snapshot" in (lab.server.root / "eda.ipynb").read_text())
    for session in lab.server.ask("api/sessions")[1]:
        lab.server.ask(f"api/sessions/{session['id']}", "DELETE")
    lab.open("eda.ipynb")
    expect(lab.page.locator(".jshm-snapshot")).to_be_visible()
