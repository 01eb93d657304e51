"""The demo: its notebooks run in turns; its Lab starts, ends, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
import zlib
from typing import TYPE_CHECKING, Any

import nbformat
import numpy as np
import pytest

import jshm
from jshm import demo
from jshm.demo import workspace
from jshm.demo.picture import paint, show

from ...kernels.notebook import Notebook, Outcome
from ...support.processes import Child, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

SIZE = 3_000_000
NAMES = (workspace.LEFT, workspace.RIGHT)


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--headless"], []])
def test_without_a_directory_it_fails_in_one_line(words: list[str], capsys) -> None:
    assert demo.main(["demo", "--size", "1e6", *words]) == 1  # JSHM_DIR cannot be made
    said = capsys.readouterr().err
    assert said.startswith("jshm demo: cannot make the directory")
    assert said.count("\n") == 1


@pytest.mark.parametrize("size", ["nan", "inf", "-1", "0", "big"])
def test_a_size_that_is_not_a_number_of_bytes_is_refused(size: str, capsys) -> None:
    with pytest.raises(SystemExit):
        demo.main(["demo", "--size", size])
    assert "not a number of bytes" in capsys.readouterr().err


def test_the_help_names_the_options(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.main(["demo", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--headless", "--port", "--no-browser", "--size"))


def test_without_jupyterlab_it_says_what_to_do(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    assert demo.main(["demo"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install jupyterlab" in said
    assert "jshm demo --headless" in said


def test_it_shares_less_if_memory_is_short(store, capsys, monkeypatch) -> None:
    monkeypatch.setattr(demo, "available_memory", lambda: 30_000)
    assert demo._affordable(2_000, 3) == 2_000
    assert capsys.readouterr().out == ""
    assert demo._affordable(20_000, 3) == 10_000
    assert "sharing 10.0 kB instead of 20.0 kB" in capsys.readouterr().out


# -- the picture -----------------------------------------------------------------------------------


def test_the_picture_has_the_size_that_was_asked_for() -> None:
    picture = paint(SIZE)
    assert (picture.dtype, picture.shape) == ("uint8", (1000, 1000, 3))
    assert picture.std(axis=(0, 1)).min() > 30
    assert paint(1).shape == (16, 16, 3)


def test_the_small_view_shows_pixels_of_the_picture() -> None:
    picture = paint(SIZE)
    (data,) = re.findall(rb"IDAT(.*)....\x00{4}IEND", show(picture).data, re.DOTALL)
    rows = np.frombuffer(zlib.decompress(data), "uint8").reshape(200, 1 + 200 * 3)
    assert set(rows[:, 0]) == {1}
    shown = rows[:, 1:].reshape(200, 200, 3).cumsum(axis=1, dtype="uint8")
    assert np.array_equal(shown, picture[::5, ::5])


# -- the notebooks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_notebooks_are_valid_and_have_no_outputs(name: str) -> None:
    book = nbformat.reads(workspace.notebook(name, SIZE), as_version=4)
    nbformat.validate(book)
    assert not any(cell.get("outputs") for cell in book.cells)
    assert ("SIZE = 3_000_000" in str(book)) is (name == workspace.LEFT)


def in_turns() -> Iterator[tuple[str, Any]]:
    """Yield the code cells in the order in which the notebooks send their reader from one to the other."""
    todo = {
        name: nbformat.reads(workspace.notebook(name, SIZE), as_version=4).cells for name in NAMES
    }
    here, other = NAMES
    while todo[here]:
        cell = todo[here].pop(0)
        if cell.cell_type == "code":
            yield here, cell
        if "go-to-the-other" in cell.metadata.get("tags", ()):
            here, other = other, here
    assert not todo[other], "cells that the reader is never sent to"


def run_in_turns(directory: str) -> Iterator[Outcome]:
    opened: dict[str, Notebook] = {}
    try:
        for name in NAMES:
            opened[name] = Notebook(f"/home/someone/{name}", directory, os.environ["JSHM_DIR"])
        for name, cell in in_turns():
            if "kills-the-kernel" in cell.metadata.get("tags", ()):
                opened[name].client.execute(cell.source)
                opened[name].manager.provisioner.process.wait()
                opened[name].restart()
                continue
            outcome = opened[name](cell.source)
            assert outcome.ok, f"{name}: {cell.source}\n{outcome.traceback}"
            yield outcome
    finally:
        for notebook in opened.values():
            notebook.close()


def test_the_notebooks_run_in_turns(store: LocalStore) -> None:
    with tempfile.TemporaryDirectory(prefix="jt-") as directory:
        outcomes = list(run_in_turns(directory))
    told = "".join(outcome.stdout for outcome in outcomes)
    pictures = [r["image/png"] for outcome in outcomes for r in outcome.results if "image/png" in r]
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 3  # as it was, with one block, and with both
    assert (
        pictures[-1] == pictures[-2]
    )  # at the right after the kill, at the left after the restart
    assert re.search(r"\d (µ|μ)s .* per loop", told)
    assert re.search(r"brightness v1 · function .* · (\d+ B|\d\.\d kB) · refers to .*picture", told)
    assert "jshm-demo/picture released · 3.0 MB freed" in told
    assert jshm.segments() == []


# -- the Lab ---------------------------------------------------------------------------------------


def test_the_directory_has_everything_that_lab_needs(tmp_path: Path) -> None:
    from jupyterlab_server.workspaces_handler import WorkspacesManager

    workspace.make(str(tmp_path), SIZE)
    assert sorted(os.listdir(tmp_path / "notebooks")) == sorted(NAMES)
    data = WorkspacesManager(str(tmp_path / "workspaces")).load("jshm-demo")["data"]
    columns = data["layout-restorer:data"]["main"]["dock"]["children"]
    assert [widget for column in columns for widget in column["widgets"]] == [
        f"notebook:{name}" for name in NAMES
    ]
    assert [data[f"notebook:{name}"]["data"]["path"] for name in NAMES] == list(NAMES)
    assert data["layout-restorer:data"]["left"]["current"] == "jshm-panel"
    (spec,) = (tmp_path / "data").rglob("kernel.json")
    assert json.loads(spec.read_text())["argv"][0] == sys.executable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_lab_starts_and_leaves_nothing_behind(store: LocalStore, tmp_path: Path, number) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path / "home")}
    words = [sys.executable, "-m", "jshm", "demo", "--no-browser", "--port", "0", "--size", "1e6"]
    running = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout.readline().startswith("starting")
        url = running.stdout.readline().strip()
        assert re.fullmatch(r"http://\S+/lab/workspaces/jshm-demo\?token=\w+", url)
        (directory,) = tmp_path.glob("jshm-demo-*")
        kernel = start_kernel(url)
        publish_as(kernel, directory)
        assert store.names() == ["jshm-demo/X"]
    finally:
        running.send_signal(number)
        running.communicate(timeout=60)
    assert running.returncode == (0 if number == signal.SIGINT else 128 + number)
    assert not directory.exists()
    assert store.names() == []
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and kernel in command_of(pid)]


LAB = """
import pathlib, signal, sys
try:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    pathlib.Path("started").touch()
    signal.pause()
finally:
    pathlib.Path("ended").touch()
"""


def test_lab_ends_when_the_demo_is_killed(tmp_path: Path) -> None:
    """A program of the same name takes the place of Lab."""
    package = tmp_path / "jupyterlab"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(LAB)
    words = [sys.executable, "-m", "jshm.demo.child"]
    code = f"import os, subprocess; subprocess.Popen([*{words}, str(os.getpid())]).pid"
    with Child(tmp_path, "demo.py", env={"PYTHONPATH": str(tmp_path)}) as running:
        lab = running.run(f"import os; os.chdir({str(tmp_path)!r}); {code}")
        until((tmp_path / "started").exists)
        assert not (tmp_path / "ended").exists()
        running.kill()
    until((tmp_path / "ended").exists)
    until(lambda: not command_of(str(lab)))

    # A demo that is killed before Lab has asked for the signal: Lab does not start at all.
    (tmp_path / "started").unlink()
    subprocess.run([*words, str(lab)], cwd=tmp_path, check=True, timeout=60)
    assert not (tmp_path / "started").exists()


def start_kernel(url: str) -> str:
    """Start a kernel as the browser does; return its id."""
    address, token = url.replace("lab/workspaces/jshm-demo", "api/sessions").split("?token=")
    body = {"path": "train.ipynb", "type": "notebook", "name": "", "kernel": {"name": "python3"}}
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Authorization": f"token {token}"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["kernel"]["id"]


def publish_as(kernel: str, directory: Path) -> None:
    """Publish a name from a kernel of the demo."""
    from jupyter_client import BlockingKernelClient

    (connection,) = directory.rglob(f"kernel-{kernel}.json")
    client = BlockingKernelClient(connection_file=str(connection))
    client.load_connection_file()
    client.start_channels(hb=False)  # heartbeats are late on a busy machine
    try:
        client.wait_for_ready(timeout=60)
        code = "import jshm, numpy; jshm.publish('jshm-demo/X', numpy.ones(3))"
        reply = client.execute_interactive(code, timeout=60, output_hook=lambda _: None)
        assert reply["content"]["status"] == "ok"
    finally:
        client.stop_channels()


def command_of(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # it has ended
        return ""


def test_a_lab_that_does_not_start_says_why(store, capsys, monkeypatch) -> None:
    from jshm.demo import lab

    words = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]
    monkeypatch.setattr(lab, "command", lambda *_, **__: words)
    assert demo.main(["demo", "--no-browser", "--size", "1e6"]) == 1
    assert capsys.readouterr().err == "jshm demo: JupyterLab did not start:\nno such thing\n"
