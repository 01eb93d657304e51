"""The command: what a shell's user is told, and which exit code a script gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm
from jshm import cli
from jshm.browse.command_line import explain
from jshm.errors import NotOwnerError, Remedy

if TYPE_CHECKING:
    from jshm.store.local.store import LocalStore


def publish_elsewhere(*names: str) -> None:
    """Publish names that belong to somebody else."""
    code = f"import jshm, numpy; [jshm.publish(n, numpy.ones(3), keep=True) for n in {names!r}]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_empty_list_says_where_to_begin(store: LocalStore, capsys) -> None:
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out == (
        "Nothing is shared yet. In a notebook: %load_ext jshm, then %shm_publish X\n"
    )
    assert cli.main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    publish_elsewhere("X", "é")
    assert cli.main(["list", "q*"]) == 0
    assert capsys.readouterr().out == "nothing that is shared matches q*\n"
    assert cli.main(["list", "e\u0301", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["é"]


def test_a_shell_is_told_what_a_shell_can_do(store: LocalStore, capsys) -> None:
    assert cli.main(["info", "X"]) == 1
    assert "Publish it first: in a notebook: %shm_publish X\n" in capsys.readouterr().err
    publish_elsewhere("exp/X")
    for words in (["info", "q"], ["path", "q"], ["release", "q"]):
        assert cli.main(words) == 1
        said = capsys.readouterr().err
        assert said == "jshm: nothing is shared under 'q'. See what is shared: jshm list\n"
    assert cli.main(["release", "exp/X"]) == 1
    said = capsys.readouterr().err
    assert "Retire for everyone: jshm release exp/X --force\n" in said
    assert "%" not in said
    assert "force=True" not in said
    assert cli.main(["release", "exp/X", "--force"]) == 0


@pytest.mark.parametrize(
    ("remedy", "shown"),
    [
        (Remedy("release", ("a b",), {"force": True}, "Retire it"), "Retire it: jshm release 'a b' --force"),
        (Remedy("list"), "jshm list"),
        (Remedy("check", (), {"fix": True}), "jshm check --fix"),
        (Remedy("attach", ("X",), {"mode": "c"}), "in a notebook: %shm_attach X --mode c"),
        (Remedy("detach", ("X",), {}, "Let go here"), ""),
    ],
)  # fmt: skip
def test_a_remedy_is_a_command_of_the_shell(remedy: Remedy, shown: str) -> None:
    error = NotOwnerError("X belongs to train.ipynb", remedy=remedy)
    assert explain(error) == ". ".join(filter(None, ["X belongs to train.ipynb", shown]))


def test_a_remedy_in_a_group_names_the_group() -> None:
    with jshm.group("lab"):
        error = NotOwnerError("X is ada's", remedy=Remedy("info", ("X",)))
        assert explain(error) == "X is ada's. jshm --group lab info X"
        error = NotOwnerError("X is ada's", remedy=Remedy("attach", ("X",), {"trust": True}))
        assert explain(error) == ("X is ada's. in a notebook: %shm_attach X --trust --group lab")


def test_a_check_that_finds_something_says_how_to_repair_it(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    thing = f"{store.directory.root}/segments/thing.npy"
    with open(thing, "wb"):
        pass
    assert cli.main(["check"]) == 1
    said = capsys.readouterr()
    assert "thing.npy" in said.out
    assert said.err == "to repair what can be repaired: jshm check --fix\n"
    os.remove(thing)
    assert cli.main(["check", "--fix"]) == 0
    assert capsys.readouterr().out == "no problems found\n"


def test_release_spares_what_was_not_meant(store: LocalStore, capsys) -> None:
    publish_elsewhere("xa", "xb", "y")
    assert cli.main(["release", "--force", "q*", "y"]) == 1
    assert "no shared name matches 'q*'" in capsys.readouterr().err
    assert cli.main(["release", "--force", "x*", "nope"]) == 1
    assert sorted(store.names()) == ["xa", "xb", "y"]
    assert cli.main(["release", "--force", "x*", "xa"]) == 0
    assert store.names() == ["y"]


def test_names_that_a_pattern_found_may_vanish(
    store: LocalStore, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_elsewhere("xa", "xb")
    names = [*store.names(), "x-vanished"]
    real = type(store).own_names
    answers = [names]
    monkeypatch.setattr(
        type(store), "own_names", lambda self: answers.pop() if answers else real(self)
    )
    assert cli.main(["release", "--force", "x*"]) == 0
    assert "x-vanished" not in capsys.readouterr().out
    assert store.names() == []


def test_a_closed_pipe_is_no_traceback(store: LocalStore) -> None:
    publish_elsewhere("X")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "jshm", "list"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


# -- arguments of the functions --------------------------------------------------------------------


def test_where_nothing_can_be_printed_there_is_no_traceback(store: LocalStore) -> None:
    jshm.publish("X", np.zeros(3))
    begin = [sys.executable, "-m", "jshm"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*begin, "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "jshm: [Errno 28] No space left on device\n")
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *begin, "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_notes_are_checked_before_anything_is_published(store: LocalStore) -> None:
    for note in ("\ud800", "n" * 10_001, None):
        with pytest.raises(jshm.NotShareableError, match="note"):
            jshm.publish("X", np.ones(2), note=note)  # type: ignore[arg-type]
    assert store.names() == []


def test_versions_that_cannot_be(store: LocalStore) -> None:
    jshm.publish("X", np.ones(2))
    for ask in (lambda v: jshm.attach("X", version=v), lambda v: jshm.info("X", v)):
        for version in (0, -1, 2**63, 2**70):
            with pytest.raises(jshm.SegmentNotFoundError, match="numbered 1, 2, 3"):
                ask(version)
        with pytest.raises(TypeError, match="integer"):
            ask("1")
    assert jshm.attach("X", version=np.int64(1)).tolist() == [1, 1]


@pytest.mark.parametrize(
    "make", [jshm.empty, jshm.zeros, lambda s, order: jshm.full(s, 1, order=order)]
)
@pytest.mark.parametrize("order", ["K", "A", "c", None, 3])
def test_the_order_is_c_or_f(store: LocalStore, make, order) -> None:
    with pytest.raises(ValueError, match=r"'C' .*'F'"):
        make((2, 3), order=order)


def test_move_attaches_the_very_version_or_says_that_it_is_gone(
    store: LocalStore, monkeypatch
) -> None:
    from jshm import variables as namespace

    mine, holder = np.arange(4.0), []
    monkeypatch.setattr(namespace, "user_namespace", lambda: {"X": mine})
    real = type(store).publish

    def overtaken(self, arrays, **options):
        done = real(self, arrays, **options)
        if holder is not None:
            holder[:] = [jshm.attach("X")]
        real(self, {"X": np.zeros(2)})
        return done

    monkeypatch.setattr(type(store), "publish", overtaken)
    done = store.publish({"X": mine})
    (attached,) = namespace.attach_published(store, done, "r")
    assert (attached.version, attached.value.tolist()) == (1, [0, 1, 2, 3])
    del attached
    holder = None
    with pytest.raises(jshm.SegmentNotFoundError, match="stays private"):
        jshm.publish("X", mine, move=True)
