"""Errors in a notebook: their remedies are magics."""

from __future__ import annotations

import pickle

import pytest

import jshm
from jshm.errors import NotOwnerError, Remedy, ShortLifeWarning, TooManyFilesError
from jshm.ipython.magics import explain

RELEASE = Remedy("release", ("X",), {"force": True}, "Retire for everyone")


@pytest.mark.parametrize(
    ("remedy", "magic", "call"),
    [
        (
            RELEASE,
            "Retire for everyone: %shm_release X --force",
            'Retire for everyone: jshm.release("X", force=True)',
        ),
        (Remedy("detach", ("X",)), "%shm_detach X", 'jshm.detach("X")'),
        (Remedy("attach", ("X",), {"mode": "c"}), "%shm_attach X --mode c", 'jshm.attach("X", mode="c")'),
        (Remedy("attach", ("a/1",), {"as": "one"}), "%shm_attach a/1 --as one", 'one = jshm.attach("a/1")'),
        (
            Remedy("publish", ("X",), {"replace": True}),
            "%shm_publish X --replace",
            'jshm.publish("X", …, replace=True)',
        ),
        (Remedy("publish", ("exp/X",)), "%shm_publish X --as exp/X", 'jshm.publish("exp/X", …)'),
        (Remedy("publish", ("a-b",)), "%shm_publish X --as a-b", 'jshm.publish("a-b", …)'),
        (Remedy("list"), "%shm_list", "jshm.segments()"),
        (Remedy("info", ("X",)), "%shm_info X", 'jshm.info("X")'),
        (Remedy("release", ("X", "Y")), "%shm_release X Y", 'jshm.release(["X", "Y"])'),
        (Remedy("check", (), {"fix": True}), "jshm.check(fix=True)", "jshm.check(fix=True)"),
    ],
)  # fmt: skip
def test_a_remedy_in_a_notebook_and_in_a_program(remedy: Remedy, magic: str, call: str) -> None:
    error = NotOwnerError("X belongs to train.ipynb.", remedy=remedy)
    assert explain(error) == f"X belongs to train.ipynb. {magic}"
    assert str(error) == f"X belongs to train.ipynb. {call}"


def test_several_remedies_come_in_their_order() -> None:
    error = NotOwnerError(
        "X is in use", remedy=(Remedy("detach", ("X",), {}, "Let go here"), RELEASE)
    )
    assert explain(error) == (
        "X is in use. Let go here: %shm_detach X. Retire for everyone: %shm_release X --force"
    )


def test_a_remedy_in_a_group_chooses_the_group() -> None:
    with jshm.group("lab"):
        assert explain(NotOwnerError("no", remedy=Remedy("list"))) == "no. %shm_list --group lab"
        assert explain(NotOwnerError("no", remedy=Remedy("check", (), {"fix": True}))) == (
            'no. with jshm.group("lab"): jshm.check(fix=True)'
        )
        # A hook works in the store of a follower or of an offer, whatever the cell chose.
        assert explain(NotOwnerError("no", remedy=Remedy("list")), group="") == "no. %shm_list"
    assert explain(NotOwnerError("no", remedy=Remedy("list")), group="lab").endswith(" --group lab")


def test_a_magic_that_publishes_is_told_which_option_to_add() -> None:
    """It may have published another variable under this name."""
    replace = NotOwnerError(
        "no", remedy=Remedy("publish", ("exp/X",), {"replace": True}, "Replace")
    )
    assert explain(replace, "shm_publish") == "no. Replace: add --replace"
    assert explain(replace, "shm_once") == "no. Replace: add --replace"
    assert explain(replace, "shm_attach") == "no. Replace: %shm_publish X --as exp/X --replace"
    other = NotOwnerError("no", remedy=Remedy("publish", (), {"as": "NAME"}))
    assert explain(other, "shm_publish") == "no. add --as NAME"
    assert str(other) == 'no. jshm.publish("NAME", …)'
    live = NotOwnerError("no", remedy=Remedy("publish", ("X",), {"writable": False}))
    assert explain(live, "shm_publish") == "no. leave --writable out"
    assert str(live) == 'no. jshm.publish("X", …, writable=False)'


def test_remedies_survive_pickling_and_other_arguments() -> None:
    error = pickle.loads(pickle.dumps(TooManyFilesError(24, "too many files", remedy=RELEASE)))
    assert (error.errno, error.remedies) == (24, (RELEASE,))
    assert explain(ShortLifeWarning("it ends", remedy=Remedy("list"))) == "it ends. %shm_list"


def test_an_error_without_remedies_is_its_message() -> None:
    assert explain(NotOwnerError("X belongs to train.ipynb")) == "X belongs to train.ipynb"
    assert explain(ValueError("not of jshm")) == "not of jshm"
