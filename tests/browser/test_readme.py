"""The README's picture is of this very panel: made here, and found stale when the panel changes.

``SCREENSHOT=1`` writes it anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from .picture import text_of, with_text

if TYPE_CHECKING:
    from .lab import Lab

PICTURE = Path(__file__).parent.parent.parent / "docs" / "panel.png"
_VOLATILE = (
    (re.compile(r"just now|\d+(\.\d+)? (s|min) ago"), "AGO"),
    (re.compile(r"[\d.]+ [TG]B free"), "FREE"),
    (re.compile(r"[\d.]+ k?B\b"), "SIZE"),  # of a pickle: other Pythons write other ones
    (re.compile(r"/\S+/jt\S+"), "DIRECTORY"),
)

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_the_readme_shows_the_panel_as_it_is(lab: Lab) -> None:
    lab.page.set_viewport_size({"width": 1180, "height": 700})
    for name in ("train.ipynb", "eda.ipynb"):
        lab.server.write(name)
    lab.open("train.ipynb")
    lab.command("docmanager:open", path="eda.ipynb", options={"mode": "split-right"})
    lab.await_kernel("eda.ipynb")
    panel = lab.show_panel()
    lab.run(
        "train.ipynb",
        "%load_ext jshm\nimport numpy as np\nx = np.linspace(-9, 9, 2000)\n"
        "waves = np.sin(x[:, None] * x / 9) + np.cos(x)\n%shm_publish waves --move --note 'interference'",
    )
    lab.run(
        "train.ipynb",
        "def smooth(rows, width=5):\n    return waves[rows, ::width].mean(1)\n\n"
        "labels = np.arange(2000) % 7\n%shm_publish smooth labels",
    )
    lab.run("eda.ipynb", "%load_ext jshm\n%shm_attach waves smooth\nsmooth(slice(0, 3))")
    lab.row("waves").click()
    expect(panel.locator("canvas[role=img]")).to_be_visible()
    lab.page.mouse.move(600, 500)
    lab.page.wait_for_timeout(500)
    shown = panel.inner_text()
    for pattern, name in _VOLATILE:
        shown = pattern.sub(name, shown)
    shown = re.sub(r"\s+", " ", shown)
    picture = lab.page.screenshot(animations="disabled")
    if os.environ.get("SCREENSHOT"):
        PICTURE.write_bytes(with_text(picture, shown))
    assert text_of(PICTURE.read_bytes()) == shown, "make screenshot, and look at docs/panel.png"
    assert PICTURE.stat().st_size < 200_000
