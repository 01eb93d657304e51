"""Every face works with every store, and knows none of them.

Each test does the same through one face: publish, attach, list, complete, show, detach and release. A
store without optional abilities is used as well: what needs one fails in one clear line.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pytest_jupyter.jupyter_server import *  # noqa: F403 - the fixtures of a real server

import jshm
from jshm import cli
from jshm.store import default_store

from ..support.bare_store import BareStore
from ..unit.server.conftest import Api, api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from IPython.core.interactiveshell import InteractiveShell

    from jshm.store.base import Store

__all__ = ["api"]  # a fixture, here too

DATA = np.arange(6.0).reshape(2, 3)
QUERY = {
    "filter": "", "sort": "name", "descending": False, "grouped": False, "unused": False,
    "offset": 0, "limit": 100,
}  # fmt: skip


@pytest.fixture
def bare_store(store_dir: str) -> BareStore:
    """A store that faces take for the default one, and that has no optional ability."""
    bare = BareStore(default_store())
    jshm.store._store_in.cache_clear()
    jshm.store._made[store_dir, os.geteuid()] = bare
    return bare


@pytest.fixture(params=["store", "group_store", "bare_store"])
def any_store(request: pytest.FixtureRequest) -> Store:
    """The default store, of each kind."""
    found: Store = request.getfixturevalue(request.param)
    assert default_store() is found
    return found


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """An IPython in this process, with the extension."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    for module in ("__main__", "builtins"):
        monkeypatch.setitem(sys.modules, module, sys.modules[module])
    for hook in ("displayhook", "excepthook"):
        monkeypatch.setattr(sys, hook, getattr(sys, hook))
    config = Config()
    config.HistoryManager.enabled = False
    made = InteractiveShell.instance(config=config)
    made.run_line_magic("load_ext", "jshm")
    yield made
    made.run_line_magic("unload_ext", "jshm")
    made.atexit_operations()
    atexit.unregister(made.atexit_operations)
    InteractiveShell.clear_instance()


@pytest.fixture
def cell(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Run a cell, and return what it prints. An error is raised."""

    def run(code: str) -> str:
        capsys.readouterr()
        shell.run_cell(code).raise_error()
        return capsys.readouterr().out

    return run


def completions(shell: InteractiveShell, line: str) -> list[str]:
    from IPython.core.completer import provisionalcompleter

    with provisionalcompleter():
        return [found.text for found in shell.Completer.completions(line, len(line))]


# -- every store -----------------------------------------------------------------------------------


def test_the_api(any_store: Store) -> None:
    assert jshm.publish("exp/X", DATA, note="a note").version == 1
    assert jshm.publish("O", {"a": DATA}).kind == "object"
    x = jshm.attach("exp/X")
    np.testing.assert_array_equal(x, DATA)
    np.testing.assert_array_equal(jshm.attach("O")["a"], DATA)
    assert [info.name for info in jshm.segments()] == ["O", "exp/X"]
    assert (jshm.info("exp/X").note, jshm.info("exp/X").in_use) == ("a note", True)
    assert jshm.wait("exp/X", timeout=0).version == 1
    born = jshm.zeros(3)
    born[:] = 7
    assert jshm.publish("born", born).version == 1
    handle = jshm.SharedNumpyArray.as_shared(x)
    assert (handle.name, handle.is_in_use()) == ("exp/X", True)
    handle.detach()
    del x
    assert [done.name for done in jshm.release(["exp/X", "O"])] == ["exp/X", "O"]
    del born, handle
    jshm.release("born")
    jshm.gc()
    assert jshm.check() == []
    assert jshm.segments() == []


def test_magics(any_store: Store, cell: Callable[[str], str], shell: InteractiveShell) -> None:
    shell.user_ns["X"] = DATA
    assert cell("%shm_publish X --as exp/X --note 'a note'").startswith("exp/X v1 ")
    assert cell("%shm_attach exp/X --as Y").startswith("Y ← ")
    np.testing.assert_array_equal(shell.user_ns["Y"], DATA)
    assert "exp/X" in cell("%shm_list")
    assert "exp/X" in cell("%shm_list 'exp/*'")
    assert "a note" in cell("%shm_info exp/X")
    for line in ("%shm_attach ex", "%shm_info exp/", "jshm.attach('ex"):
        assert "exp/X" in completions(shell, line), line
    assert "Y" in cell("%shm_detach Y")
    assert "Y" not in shell.user_ns
    assert "released" in cell("%shm_release exp/X")
    assert any_store.names() == []
    with pytest.raises(Exception, match="nothing is shared under 'exp/X'") as caught:
        cell("%shm_attach exp/X")
    assert type(caught.value).__name__ == "UsageError"


@pytest.mark.parametrize("any_store", ["store", "group_store"], indirect=True)
def test_a_cell_that_is_run_once(any_store: Store, cell: Callable[[str], str]) -> None:
    code = "%%shm_once X\nimport numpy as np\nX = np.arange(3.0)\nran = ran + 1"
    cell("ran = 0")
    cell(code)
    cell("del X")
    cell(code)
    assert cell("print(ran, X.sum())") == "1 3.0\n"


def test_a_variable_that_follows_a_name(any_store: Store, cell: Callable[[str], str]) -> None:
    jshm.publish("X", DATA)
    cell("%shm_attach X --follow")
    jshm.publish("X", DATA + 1)
    assert cell("print(X.min())").endswith("1.0\n")
    cell("%shm_detach X")


def test_the_widget(
    any_store: Store, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comm

    monkeypatch.setattr(comm, "create_comm", lambda *_, **how: comm.DummyComm(**how))
    from jshm.widget import SegmentBrowser

    answers: list[dict[str, Any]] = []
    browser = SegmentBrowser()
    monkeypatch.setattr(browser, "send", answers.append)

    def ask(method: str, **params: Any) -> Any:
        browser._answer({"id": 1, "method": method, "params": params}, None)
        answer = answers.pop()
        return answer.get("result", answer.get("error"))

    jshm.publish("exp/X", DATA, note="a note")
    assert [row["name"] for row in ask("list", query=QUERY)["rows"]] == ["exp/X"]
    assert ask("info", name="exp/X")["note"] == "a note"
    assert ask("preview", name="exp/X", version=1)["type"]
    ask("attach", name="exp/X", variable="Y", mode="r")
    np.testing.assert_array_equal(shell.user_ns["Y"], DATA)
    del shell.user_ns["Y"]
    assert ask("info", name="missing")["reason"] == "missing"
    assert [done["name"] for done in ask("release", names=["exp/X"])] == ["exp/X"]
    assert ask("list", query=QUERY)["rows"] == []
    browser.close()


def test_the_command(any_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> str:
        assert cli.main(list(words)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    jshm.publish("exp/X", DATA, note="a note")
    assert "exp/X" in run("list")
    assert json.loads(run("list", "exp/*", "--json"))[0]["note"] == "a note"
    assert "a note" in run("info", "exp/X")
    if any_store.can("location"):
        np.testing.assert_array_equal(np.load(run("path", "exp/X").rstrip("\n")), DATA)
    assert cli.main(["info", "missing"]) == 1
    assert "missing" in capsys.readouterr().err
    assert "exp/X released" in run("release", "exp/X", "--force")
    assert "freed" in run("gc")
    assert run("check")
    assert any_store.names() == []


@pytest.fixture
def jp_server_config(any_store: Store) -> dict[str, Any]:
    extensions = {"jshm": True, "jupyter_server_terminals": False}
    return {"ServerApp": {"jpserver_extensions": extensions}}


def test_the_server(any_store: Store, api: Api, jp_asyncio_loop: Any) -> None:
    async def use() -> None:
        jshm.publish("exp/X", DATA, note="a note")
        assert await api.list() == ["exp/X"]
        assert (await api.get("/summary"))["names"] == 1
        assert (await api.get("/segments/exp/X"))["note"] == "a note"
        assert (await api.get("/previews/exp/X", version=1))["type"]
        assert (await api("GET", "/segments/missing")).code == 404
        assert (await api("DELETE", "/segments/exp/X")).json["name"] == "exp/X"
        assert await api.list() == []

    jp_asyncio_loop.run_until_complete(use())


# -- a store without optional abilities ------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    ["%shm_publish X --writable", "%shm_push X --to b.ipynb", "%shm_accept", "%%shm_once Y\nY = 1"],
)
def test_a_magic_that_needs_an_ability(
    bare_store: BareStore, cell: Callable[[str], str], shell: InteractiveShell, line: str
) -> None:
    shell.user_ns["X"] = DATA
    cell("%shm_publish X")
    with pytest.raises(Exception, match=r"this store has") as caught:
        cell(line)
    assert type(caught.value).__name__ == "UsageError"
    assert "\n" not in str(caught.value)


def test_functions_that_need_an_ability(bare_store: BareStore) -> None:
    for use in (
        lambda: jshm.publish("X", DATA, writable=True),
        lambda: jshm.lock("X").__enter__(),
    ):
        with pytest.raises(jshm.UnsupportedError, match="this store has"):
            use()
    assert bare_store.names() == []


def test_a_command_that_needs_an_ability(
    bare_store: BareStore, capsys: pytest.CaptureFixture[str]
) -> None:
    jshm.publish("X", DATA)
    assert cli.main(["path", "X"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "jshm path is not possible: this store has no files" in told.err
    assert told.err.count("\n") == 1
