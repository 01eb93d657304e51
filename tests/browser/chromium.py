"""The browser that the tests drive: the system's Chromium, else Playwright's.

``python -m tests.browser.chromium`` makes sure that there is one, and fails loudly if that cannot be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# As root in a container, and without anything that it would do by itself.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find() -> str | None:
    """Return the path of a browser, or None."""
    chosen = os.environ.get("CHROMIUM")
    for name in [chosen] if chosen else NAMES:
        if path := shutil.which(name):
            return path
    return None if chosen else _playwrights()


def _playwrights() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


def install() -> None:
    """Install the distribution's package, else what Playwright brings."""
    ways = []
    if shutil.which("apt-get") and os.geteuid() == 0:
        ways.append(["apt-get", "install", "--yes", "--no-install-recommends", "chromium"])
        subprocess.run(["apt-get", "update", "--quiet"], check=False)
    ways.append([sys.executable, "-m", "playwright", "install", "chromium"])
    for way in ways:
        done = subprocess.run(
            way, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False
        )
        if done.returncode == 0:
            return


def main() -> int:
    """Make sure that there is a browser; return the exit code."""
    if find() is None:
        install()
    path = find()
    if path is None:
        print(
            "no Chromium: install your distribution's package `chromium`, or set CHROMIUM",
            file=sys.stderr,
        )
        return 1
    print(f"browser tests use {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
