"""The messages between the widget of a live kernel and its front end."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .notebook import Notebook, Outcome

QUERY = {
    "filter": "", "sort": "name", "descending": False, "grouped": False, "unused": False,
    "offset": 0, "limit": 100,
}  # fmt: skip
VIEW = "application/vnd.jupyter.widget-view+json"


class Browser:
    """The front end of one widget, without a browser."""

    def __init__(self, notebook: Notebook, code: str = "jshm.SegmentBrowser()") -> None:
        self.notebook = notebook
        self.outcome: Outcome = notebook(code)
        assert self.outcome.ok, self.outcome
        (view,) = [data[VIEW] for data in self.outcome.results if VIEW in data]
        self.model: str = view["model_id"]  # type: ignore[index]
        self._number = 0

    def send(self, **content: Any) -> None:
        client = self.notebook.client
        message = {"comm_id": self.model, "data": {"method": "custom", "content": content}}
        client.shell_channel.send(client.session.msg("comm_msg", message))

    def receive(self, *, timeout: float = 30) -> dict[str, Any]:
        """Return the next message that the kernel sends to this widget's front end."""
        deadline = time.monotonic() + timeout
        while True:
            message = self.notebook.client.get_iopub_msg(timeout=deadline - time.monotonic())
            content = message["content"]
            if message["msg_type"] == "comm_msg" and content["comm_id"] == self.model:
                data = content["data"]
                if data["method"] == "custom":
                    found: dict[str, Any] = data["content"]
                    return found

    def ask(self, method: str, **params: Any) -> Any:
        self._number += 1
        self.send(id=self._number, method=method, params=params)
        reply = self.receive()
        assert reply["id"] == self._number
        return reply["error"] if "error" in reply else reply["result"]

    def set(self, **state: Any) -> None:
        client = self.notebook.client
        message = {
            "comm_id": self.model,
            "data": {"method": "update", "state": state, "buffer_paths": []},
        }
        client.shell_channel.send(client.session.msg("comm_msg", message))


@pytest.fixture
def eda(open_notebook):
    train = open_notebook("train.ipynb")
    train.do("X = np.arange(12.0).reshape(3, 4)\n%shm_publish X --note '<b>hot</b>'")
    return open_notebook("eda.ipynb")


def test_list_info_preview_attach_and_release(eda: Notebook) -> None:
    browser = Browser(eda)
    page = browser.ask("list", query=QUERY)
    assert page["total"] == 1
    (row,) = page["rows"]
    assert (row["name"], row["nbytes"], row["publisher"]["label"]) == ("X", 96, "train.ipynb")
    assert browser.ask("info", name="X")["note"] == "<b>hot</b>"
    assert browser.ask("preview", name="X", version=1)["type"] == "heatmap"
    said = browser.ask("attach", name="X", variable="data", mode="r")
    assert said.startswith("data ← X v1 from train.ipynb")
    assert eda.value("data.tolist()") == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert not eda.value("data.flags.writeable")
    (holder,) = browser.ask("list", query=QUERY)["rows"][0]["holders"]
    assert (holder["label"], holder["here"]) == ("eda.ipynb", True)
    eda.do("%shm_detach data")
    assert browser.ask("release", names=["X"], versions={"X": 0}) == []  # a newer version
    (released,) = browser.ask("release", names=["X"], versions={"X": 1})
    assert (released["name"], released["freed"]) == ("X", 96)
    assert browser.ask("list", query=QUERY)["total"] == 0
    assert os.listdir(os.path.join(eda.env["JSHM_DIR"], "segments")) == []


def test_errors_are_answered(eda: Notebook) -> None:
    browser = Browser(eda)
    assert browser.ask("info", name="Y")["reason"] == "missing"
    assert browser.ask("preview", name="../X", version=1)["reason"] == "refused"
    assert (
        "cannot be a variable"
        in browser.ask("attach", name="X", variable="a b", mode="r")["message"]
    )
    assert browser.ask("attach", name="X", variable="a", mode="r+")["reason"] == "refused"
    assert browser.ask("attach", name="X", variable="a", mode="w")["reason"] == "refused"
    for query in (
        {},
        {**QUERY, "sort": "nonsense"},
        {**QUERY, "limit": 10**9},
        {**QUERY, "offset": -1},
        7,
    ):
        assert browser.ask("list", query=query)["reason"] == "refused"
    assert "nonsense" in browser.ask("nonsense")["message"]
    assert browser.ask("list", query=QUERY)["total"] == 1  # and it still works


def test_its_traits_are_the_notebooks(eda: Notebook) -> None:
    eda.do(
        "browser = jshm.SegmentBrowser(filter='X')\nseen = []\n"
        "browser.observe(lambda change: seen.append(change.new), 'selected')"
    )
    browser = Browser(eda, "browser")
    browser.set(selected="X", filter="other")
    assert eda.value("[browser.filter, browser.selected, seen]") == ["other", "X", ["X"]]


def test_it_notifies_its_front_end_after_a_cell(eda: Notebook) -> None:
    browser = Browser(eda)
    assert browser.ask("list", query=QUERY)["total"] == 1
    eda.client.execute("Y = np.ones(3); jshm.publish('Y', Y).version")
    assert browser.receive() == {"changed": True}
    assert browser.ask("list", query=QUERY)["total"] == 2


def test_a_cell_that_changes_nothing_sends_nothing(eda: Notebook) -> None:
    """A cell that changes nothing that is shared sends nothing."""
    browser = Browser(eda)
    browser.ask("list", query=QUERY)
    eda.do("1 + 1")
    browser.send(id="last", method="list", params={"query": QUERY})
    assert browser.receive()["id"] == "last"


def test_a_release_frees_the_memory_at_once(eda: Notebook) -> None:
    browser = Browser(eda)
    browser.ask("list", query=QUERY)
    (released,) = browser.ask("release", names=["X"])
    assert (released["name"], released["freed"]) == ("X", 96)
    assert os.listdir(os.path.join(eda.env["JSHM_DIR"], "segments")) == []


def test_an_exception_of_an_object_is_answered(eda: Notebook) -> None:
    eda.do(
        "class Bad:\n    def __reduce__(self):\n        return fail, ()\n"
        "def fail():\n    raise RuntimeError('not today')\n%shm_publish Bad fail\n"
        "bad = Bad()\n%shm_publish bad"
    )
    browser = Browser(eda)
    error = browser.ask("attach", name="bad", variable="x", mode="r")
    assert error["message"] == "RuntimeError: not today"
    assert browser.ask("list", query=QUERY)["total"] == 4


def test_a_saved_notebook_has_a_snapshot_and_no_more(eda: Notebook) -> None:
    browser = Browser(eda, "%shm_browser")
    (snapshot,) = [data["text/html"] for data in browser.outcome.results if "text/html" in data]
    assert re.search(r"snapshot \d\d:\d\d, not live", snapshot)
    assert ">X<" in snapshot
    assert "&lt;b&gt;hot" in snapshot
    assert "<b>hot" not in snapshot
    assert "/home/someone" not in snapshot
    assert "script" not in snapshot
    # The synchronised state may be saved. It has only the traits, and no part of an answer.
    browser.ask("list", query=QUERY)
    state = eda.value(
        "sorted(k for k in jshm.SegmentBrowser().get_state() if not k.startswith('_'))"
    )
    assert state == [
        "confirm_release",
        "filter",
        "layout",
        "magic_code",
        "selected",
        "tabbable",
        "tooltip",
    ]


def test_a_snapshot_is_short(eda: Notebook) -> None:
    eda.do("jshm.publish({f'many/{i}': np.zeros(1) for i in range(80)})")
    browser = Browser(eda)
    (snapshot,) = [data["text/html"] for data in browser.outcome.results if "text/html" in data]
    assert snapshot.count("<tr>") == 51
    assert "… and 31 more" in snapshot
    only = Browser(eda, "jshm.SegmentBrowser(filter='X')").outcome.results
    assert sum(data.get("text/html", "").count("<tr>") for data in only) == 2


def test_the_magic_returns_nothing_and_keeps_nothing(eda: Notebook) -> None:
    before = eda.value("len(Out)")
    eda.do("%shm_browser")
    assert eda.value("len(Out)") == before
