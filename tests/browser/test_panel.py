"""The panel in a real JupyterLab, with real kernels, in real Chromium."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ..support.processes import until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from .lab import Lab, Server

# The background color of an element: that of its nearest ancestor that has one.
_BACKGROUND = r"""e => {
  while (e && /rgba?\(0, 0, 0, 0\)/.test(getComputedStyle(e).backgroundColor)) e = e.parentElement;
  return getComputedStyle(e).backgroundColor.match(/[\d.]+/g).slice(0, 3).map(Number);
}"""
RELEASING = re.compile("jshm-releasing")
LOAD = "%load_ext jshm\nimport jshm, numpy as np, os, time\n"


pytestmark = pytest.mark.usefixtures("nothing_is_left")


def two_notebooks(lab: Lab) -> None:
    for name in ("train.ipynb", "eda.ipynb"):
        lab.server.write(name, LOAD)
    lab.open("train.ipynb", "eda.ipynb")
    for name in ("train.ipynb", "eda.ipynb"):
        lab.run(name, LOAD)


def confirm(page: Page) -> None:
    page.locator("dialog[open]").get_by_role("button", name="Release").click()


def used(panel: Locator) -> Locator:
    return panel.locator(".jshm-header, header").first


def test_what_a_notebook_publishes_appears_within_two_seconds(lab: Lab) -> None:
    lab.server.write("train.ipynb")
    lab.open("train.ipynb")
    panel = lab.show_panel()
    expect(panel.get_by_text("Nothing is shared yet.")).to_be_visible()
    lab.run("train.ipynb", LOAD + "X = np.arange(6.0).reshape(2, 3)")
    lab.run("train.ipynb", "%shm_publish X --note 'train split'")
    row = lab.row("X")
    expect(row).to_be_visible(timeout=2000)
    expect(row).to_contain_text("float64 2×3")
    expect(row).to_contain_text("48 B")
    expect(panel.get_by_text("train.ipynb", exact=True)).to_be_visible()
    lab.run("train.ipynb", "%shm_release X")
    expect(row).to_have_count(0, timeout=2000)


def test_preview_and_release_while_the_kernel_computes(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.random.default_rng(1).normal(size=(300, 200))\n%shm_publish X")
    panel = lab.show_panel()
    expect(lab.row("X")).to_be_visible()
    lab.run("train.ipynb", "time.sleep(30)", wait=False)
    lab.row("X").click()
    picture = panel.locator("canvas[role=img]")
    expect(picture).to_be_visible(timeout=5000)
    drawn = picture.evaluate(
        "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    assert drawn > 20
    expect(panel.locator(".jshm-details")).to_contain_text("min")
    panel.get_by_role("button", name="Release…").click()
    expect(lab.page.locator("dialog[open]")).to_contain_text("Nobody holds it")
    confirm(lab.page)
    expect(lab.row("X")).to_have_class(RELEASING)
    expect(lab.row("X")).to_have_count(0, timeout=20_000)  # after the time for an undo
    segments = os.path.join(lab.server.store, "segments")
    until(lambda: not os.listdir(segments))
    kernel = lab.server.kernels()["train.ipynb"]
    assert lab.server.ask(f"api/kernels/{kernel}")[1]["execution_state"] == "busy"


def test_a_release_can_be_undone(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.ones(1000)\n%shm_publish X")
    panel = lab.show_panel()
    lab.row("X").hover()
    lab.row("X").get_by_role("button", name="Release X").click()
    confirm(lab.page)
    expect(lab.row("X")).to_have_class(RELEASING)
    expect(lab.row("X")).to_contain_text("released")
    panel.get_by_role("button", name="Undo").click()
    expect(lab.row("X")).not_to_have_class(RELEASING)
    expect(panel.get_by_role("button", name="Undo")).to_have_count(0)
    assert lab.run("eda.ipynb", "%shm_attach X\nfloat(X.sum())").endswith("1000.0")


def test_a_release_says_who_still_holds_it(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.ones(1000)\n%shm_publish X")
    lab.run("eda.ipynb", "%shm_attach X")
    panel = lab.show_panel()
    lab.row("X").click()
    expect(panel.locator(".jshm-details")).to_contain_text("eda.ipynb")
    panel.get_by_role("button", name="Release…").click()
    expect(lab.page.locator("dialog[open]")).to_contain_text("eda.ipynb uses it and keeps it")
    lab.page.keyboard.press("Escape")
    expect(lab.page.locator("dialog[open]")).to_have_count(0)
    assert lab.run("eda.ipynb", "float(X.sum())") == "1000.0"


def test_insert_attach_code_and_run_it(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.arange(10.0)\n%shm_publish X --as exp1/X")
    panel = lab.show_panel()
    lab.open_notebook("eda.ipynb")
    lab.row("exp1/X").click()
    panel.get_by_role("button", name="Attach in eda.ipynb").last.click()
    until(lambda: lab.sources("eda.ipynb")[-1] != "")
    assert lab.sources("eda.ipynb")[-1] == 'import jshm\nX = jshm.attach("exp1/X")'
    lab.page.keyboard.press("Shift+Enter")
    assert lab.run("eda.ipynb", "float(X.sum()), X.flags.writeable") == "(45.0, False)"
    expect(panel.locator(".jshm-details")).to_contain_text("eda.ipynb")


def test_drag_a_row_into_a_notebook(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.arange(10.0)\n%shm_publish X")
    lab.show_panel()
    lab.open_notebook("eda.ipynb")
    row, target = (
        lab.row("X"),
        lab.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").first,
    )
    row.hover()
    lab.page.mouse.down()
    box = target.bounding_box()
    assert box is not None
    for step in range(1, 6):
        lab.page.mouse.move(box["x"] + 100 + step, box["y"] + 5 + step)
        lab.page.wait_for_timeout(50)
    lab.page.mouse.up()
    until(lambda: any("jshm.attach" in source for source in lab.sources("eda.ipynb")))


def test_a_holder_disappears_with_its_kernel(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.ones(1000)\n%shm_publish X")
    lab.run("eda.ipynb", "%shm_attach X")
    pid = int(lab.run("eda.ipynb", "os.getpid()"))
    panel = lab.show_panel()
    lab.row("X").click()
    uses = panel.locator(".jshm-details")
    expect(uses).to_contain_text(re.compile(r"eda\.ipynb v\d"))
    os.kill(pid, signal.SIGKILL)
    expect(uses).to_contain_text("Nobody holds it", timeout=5000)
    expect(lab.row("X")).to_be_visible()


def test_old_versions_say_who_is_on_them(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.ones(1000)\n%shm_publish X")
    lab.run("eda.ipynb", "%shm_attach X")
    lab.run("train.ipynb", "X = X + 1\n%shm_publish X")
    panel = lab.show_panel()
    lab.row("X").click()
    uses = panel.locator(".jshm-details")
    expect(uses).to_contain_text(re.compile(r"eda\.ipynb v\d \(old, 8\.0 kB\)"))
    expect(panel).to_contain_text("Old versions: 8.0 kB")
    panel.locator(".jshm-details").get_by_role("button", name="eda.ipynb").first.click()
    current = "() => window.jupyterapp.shell.currentWidget.context.path"
    until(lambda: lab.page.evaluate(current) == "eda.ipynb")


def test_the_review_spares_only_copies_and_what_is_kept(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run(
        "train.ipynb",
        "jshm.publish({'a': np.ones(10), 'b': np.ones(20)})\nk = np.ones(5)\n%shm_publish k --keep",
    )
    lab.run("eda.ipynb", "only = np.ones(40)\n%shm_publish only")
    os.kill(int(lab.run("eda.ipynb", "os.getpid()")), signal.SIGKILL)
    panel = lab.show_panel()
    expect(lab.row("only")).to_contain_text("only copy", timeout=5000)
    panel.get_by_role("button", name="Review…").click()
    dialog = lab.page.locator("dialog[open]")
    boxes = dialog.get_by_role("checkbox")
    expect(boxes).to_have_count(4)
    for name, checked in {"a": True, "b": True, "k": False, "only": False}.items():
        choice = dialog.locator("label", has=lab.page.locator(f'[title="{name}"]'))
        expect(choice.get_by_role("checkbox")).to_be_checked(checked=checked)
    dialog.get_by_role("button", name="Release 2 names").click()
    expect(lab.row("a")).to_have_class(RELEASING)
    expect(lab.row("k")).not_to_have_class(RELEASING)
    expect(lab.row("a")).to_have_count(0, timeout=20_000)
    expect(lab.row("k")).to_be_visible()
    expect(lab.row("only")).to_be_visible()


def test_release_from_the_running_panel(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.ones(1000)\n%shm_publish X")
    lab.page.evaluate("() => window.jupyterapp.shell.activateById('jp-running-sessions')")
    running = lab.page.locator("#jp-running-sessions")
    item = running.locator(".jshm-running", has_text="X")
    expect(item).to_be_visible(timeout=10_000)
    item.hover()
    item.locator("button").last.click()
    expect(item).to_have_count(0)
    segments = os.path.join(lab.server.store, "segments")
    until(lambda: not os.listdir(segments), timeout=20)  # after the time for an undo


def test_the_status_bar_says_how_much(lab: Lab) -> None:
    two_notebooks(lab)
    status = lab.page.locator(".jshm-status")
    expect(status).to_be_hidden()
    lab.run("train.ipynb", "X = np.ones(1_000_000)\n%shm_publish X")
    expect(status).to_contain_text("8.0 MB", timeout=5000)
    status.get_by_role("button").click()
    expect(lab.panel).to_be_visible()


def test_spares_are_shown_and_given_back_by_a_kernel_that_rests(lab: Lab) -> None:
    lab.server.write("train.ipynb")
    lab.open("train.ipynb")
    panel = lab.show_panel()
    lab.run("train.ipynb", LOAD + "X = np.zeros(500_000)\n%shm_publish X\n%shm_publish X")
    header = panel.locator(".jshm-capacity")
    expect(header).to_contain_text("4.0 MB used")
    expect(header).to_contain_text("4.0 MB in spares")
    expect(header).to_have_attribute("title", re.compile("after a minute without use.*JSHM_SPARES"))
    expect(panel.locator(".jshm-part.jshm-spares")).to_be_visible()
    status = lab.page.locator(".jshm-status [role=button]")
    expect(status).to_have_attribute("title", re.compile(r"4\.0 MB in spares$"))
    lab.run("train.ipynb", "import jshm.store.local.spares as spares\nspares.IDLE = 1.0")
    expect(header).not_to_contain_text("in spares")
    expect(header).to_contain_text("4.0 MB used")


def test_a_reload_restores_the_panel_and_releases_nothing(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.ones(1000)\n%shm_publish X")
    lab.show_panel()
    expect(lab.row("X")).to_be_visible()
    lab.page.wait_for_timeout(2000)  # Lab saves its layout a second after a change
    lab.row("X").hover()
    lab.row("X").get_by_role("button", name="Release X").click()
    confirm(lab.page)
    expect(lab.row("X")).to_have_class(RELEASING)
    lab.page.goto(f"{lab.server.url}/lab")
    expect(lab.panel).to_be_visible()
    expect(lab.row("X")).to_be_visible()
    expect(lab.row("X")).not_to_have_class(RELEASING)


def test_the_dark_theme(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.ones(1000)\n%shm_publish X")
    panel = lab.show_panel()
    lab.row("X").click()
    bright = "e => getComputedStyle(e).color.match(/[\\d.]+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0)"
    name = lab.row("X").locator(".jshm-name").first
    assert name.evaluate(bright) < 300
    lab.command("apputils:change-theme", theme="JupyterLab Dark")
    try:
        until(lambda: name.evaluate(bright) > 450)
        back = panel.locator(".jshm-browser").evaluate(_BACKGROUND)
        assert sum(back) < 200
    finally:
        lab.command("apputils:change-theme", theme="JupyterLab Light")


def test_hostile_names_and_notes_are_only_text(lab: Lab) -> None:
    two_notebooks(lab)
    lab.page.evaluate("() => { window.pwned = false }")
    note = '<img src=x onerror="window.pwned=true"><script>window.pwned=true</script>'
    long = "exp/" + "a-very.long_name" * 5
    turned = "שלום-data"
    lab.run(
        "train.ipynb",
        f"jshm.publish({long!r}, np.ones((4, 4)), note={note!r}); jshm.publish({turned!r}, np.ones(3))\n"
        "class Evil:\n    '''<b>doc</b>'''\n    pass\n"
        f"jshm.publish('evil', {{'<i>key</i>': np.ones(3), 'x': Evil()}}, note={note!r}).version",
    )
    panel = lab.show_panel()
    for name in (long, turned, "evil"):
        lab.row(name).click()
        expect(panel.locator(".jshm-details")).to_be_visible()
        expect(panel.locator(".jshm-details-preview")).not_to_be_empty()
        if name != turned:
            expect(panel.locator(".jshm-note")).to_have_text(note)
    expect(panel.locator(".jshm-details-preview")).to_contain_text("<i>key</i>")
    assert panel.locator("img, script, b, i").count() == 0
    assert lab.page.evaluate("() => window.pwned") is False
    box, outer = lab.row(long).bounding_box(), panel.bounding_box()
    assert box is not None
    assert outer is not None
    assert box["x"] + box["width"] <= outer["x"] + outer["width"] + 1
    lab.row(long).locator(".jshm-name").get_attribute("title")
    lab.row(long).hover()
    lab.row(long).get_by_role("button", name=re.compile("^Release")).click()
    confirm(lab.page)
    expect(lab.row(long)).to_have_class(RELEASING)


def test_what_vanished_and_what_is_damaged_is_said(lab: Lab) -> None:
    two_notebooks(lab)
    path = lab.run(
        "train.ipynb",
        "X = np.ones(1000)\njshm.publish('X', X, keep=True); jshm.publish('Y', X + 1, keep=True)\n"
        "from jshm.store import default_store\nprint(default_store().location('Y'))",
    ).strip()
    panel = lab.show_panel()
    expect(lab.row("Y")).to_be_visible()
    with open(path, "r+b") as file:
        file.write(b"not a header")
    lab.row("Y").click()
    expect(panel).to_contain_text("not a complete .npy file")
    lab.page.route("**/jshm/api/segments?*", lambda route: route.abort())  # it cannot see it go
    lab.run("train.ipynb", "jshm.release('X', force=True)")
    lab.row("X").click()
    expect(panel.get_by_role("alert").filter(has_text="'X'")).to_be_visible()
    lab.page.unroute("**/jshm/api/segments?*")
    expect(lab.row("X")).to_have_count(0, timeout=10_000)
    lab.run("train.ipynb", "jshm.check(fix=True)")


def test_a_dropped_network_is_said_and_recovers(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "X = np.ones(1000)\n%shm_publish X")
    panel = lab.show_panel()
    expect(lab.row("X")).to_be_visible()
    lab.page.route("**/jshm/api/**", lambda route: route.abort())
    panel.get_by_role("button", name="Refresh").click()
    expect(panel).to_contain_text("does not answer")
    expect(lab.row("X")).to_be_visible()  # what was known stays
    lab.page.unroute("**/jshm/api/**")
    panel.get_by_role("button", name="Refresh").click()
    expect(panel).not_to_contain_text("does not answer")


def test_ten_thousand_names(lab: Lab, server: Server) -> None:
    two_notebooks(lab)
    lab.run(
        "train.ipynb",
        "for b in range(10):\n    jshm.publish({f'n{b}/{i:03d}': np.ones(1) for i in range(1000)})",
    )
    panel = lab.show_panel()
    expect(lab.row("n0/000")).to_be_visible()
    rows = panel.locator(".jshm-row")
    assert rows.count() < 100
    scroller = panel.locator(".jshm-list")
    scroller.evaluate("e => { e.scrollTop = e.scrollHeight }")
    expect(lab.row("n9/999")).to_be_visible()
    assert rows.count() < 100
    panel.get_by_role("searchbox").fill("n5/12")
    expect(lab.row("n5/120")).to_be_visible()
    expect(lab.row("n9/999")).to_have_count(0)
    lab.run("train.ipynb", "jshm.release(jshm.api.default_store().names())\nNone")


def test_the_keyboard_is_enough(lab: Lab) -> None:
    two_notebooks(lab)
    lab.run("train.ipynb", "jshm.publish({'a': np.ones(10), 'b': np.ones(20)})\nNone")
    panel = lab.show_panel()
    expect(lab.row("b")).to_be_visible()
    panel.get_by_role("searchbox").focus()
    panel.locator('[role="row"][tabindex="0"]').first.focus()
    for key in ("End", "Enter"):
        lab.page.keyboard.press(key)
    expect(panel.locator(".jshm-details")).to_contain_text("float64 (20,)")
    lab.page.keyboard.press("Escape")
    expect(panel.locator(".jshm-details")).to_have_count(0)
    lab.page.keyboard.press("Delete")
    dialog = lab.page.locator("dialog[open]")
    expect(dialog).to_contain_text("Release “b”?")
    dialog.get_by_role("button", name="Release").focus()
    lab.page.keyboard.press("Enter")
    expect(lab.row("b")).to_have_class(RELEASING)


def test_a_hidden_panel_asks_for_nothing(lab: Lab) -> None:
    two_notebooks(lab)
    lab.show_panel()
    lab.command("statusbar:toggle")
    lab.command("filebrowser:activate")
    expect(lab.panel).to_be_hidden()
    asked: list[str] = []
    lab.page.on("request", lambda request: "jshm/api" in request.url and asked.append(request.url))
    try:
        lab.run("train.ipynb", "X = np.ones(1000)\n%shm_publish X")
        began = time.monotonic()
        while time.monotonic() < began + 3:
            lab.page.wait_for_timeout(100)
        assert asked == []
    finally:
        lab.command("statusbar:toggle")
