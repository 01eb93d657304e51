from __future__ import annotations

import keyword
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jshm.errors import InvalidNameError, NotShareableError, Remedy, SegmentNotFoundError
from jshm.store.names import check_name, check_note, check_version, is_glob, nearest, variable_for

GOOD = ["X", "x1", "exp1/weights", "a-b", "a.b", "_x", "1", "日本/データ", "é", "a/b/c", "X" * 200,
        "train.v2", "a_", "a-", "a.", "हिन्दी", "exp/हिन्दी", "தமிழ்", "x\u0304", "a.b\u0304"]  # fmt: skip
BAD = ["", "/", "/X", "X/", "a//b", "-X", ".X", "..", "a..b", "a/../b", "a b", "a*", "a?", "[a]", "a]",
       "a@b", "a\\b", "a\0", "a\n", "X\n", "a\t", "\u200b", "a:b", "a'b", 'a"b', "<b>", "a$", "a;b",
       "X" * 201, "\ud800", "a\u202eb", "\u0304x", "a/\u0304x", "a\u20dd", "a\u200db"]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_valid_names(name: str) -> None:
    assert check_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_invalid_names(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_name(name)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", [None, 3, b"X", ("X",), ["X"]])
def test_a_name_is_a_string(name: object) -> None:
    with pytest.raises(InvalidNameError, match=type(name).__name__):
        check_name(name)  # type: ignore[arg-type]


def test_names_that_look_the_same_are_the_same() -> None:
    assert check_name("e\u0301") == check_name("\u00e9") == "\u00e9"


def test_the_message_names_the_invalid_characters() -> None:
    with pytest.raises(InvalidNameError, match=r"'\$'.*use letters"):
        check_name("a$b")
    with pytest.raises(InvalidNameError, match="200 characters, not 300"):
        check_name("a" * 300)


@given(st.text(max_size=12) | st.text("ab/.-_*?[]@\\é\u0301 ", max_size=12))
def test_accepted_names_follow_the_grammar(text: str) -> None:
    try:
        name = check_name(text)
    except InvalidNameError:
        return
    assert unicodedata.is_normalized("NFC", name)
    assert check_name(name) == name
    assert name
    assert name[0] not in "-/."
    assert ".." not in name
    assert not set(name) & set("*?[]@\\ ")
    for component in name.split("/"):
        assert component
        for character in component:
            category = unicodedata.category(character)
            assert category[0] in "LNM" or character in "_.-" or category == "Pc"
            assert character.isprintable()
    assert not is_glob(name)
    name.encode()


@given(st.text(max_size=12) | st.sampled_from([*GOOD, *keyword.kwlist, "a/class", "exp/1st"]))
def test_a_name_gives_a_variable_or_an_error_that_suggests_one(text: str) -> None:
    try:
        name = check_name(text)
    except InvalidNameError:
        return
    try:
        variable = variable_for(name)
        assert variable == unicodedata.normalize("NFKC", name.split("/")[-1])
    except InvalidNameError as error:
        variable = str(error.remedies[0].options["as"])
    assert variable.isidentifier()
    assert not keyword.iskeyword(variable)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("X", "X"),
        ("exp/w", "w"),
        ("a/b/c", "c"),
        ("日本/データ", "データ"),
        ("ﬁ/ﬁle", "file"),
        ("a/हिन्दी", "हिन्दी"),
    ],
)
def test_the_variable_is_the_last_component(name: str, expected: str) -> None:
    assert variable_for(name) == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("my-data", "my_data"),
        ("exp/1st", "my_1st"),
        ("class", "my_class"),
        ("a/b.c", "b_c"),
        ("𝐜𝐥𝐚𝐬𝐬", "my_class"),
    ],
)
def test_the_error_suggests_a_variable(name: str, hint: str) -> None:
    with pytest.raises(InvalidNameError, match="cannot be a variable") as caught:
        variable_for(name)
    assert caught.value.remedies == (
        Remedy("attach", (name,), {"as": hint}, "Choose another variable"),
    )


@pytest.mark.parametrize("text", ["*", "exp/*", "a?", "[ab]"])
def test_globs(text: str) -> None:
    assert is_glob(text)
    assert not is_glob("exp/a")


def test_nearest() -> None:
    names = ["weights", "exp1/weights", "X", "labels", "Weights2"]
    assert nearest("weigths", names)[0] == "weights"
    assert nearest("WEIGHTS", names)[0] == "weights"
    assert nearest("weights", ["exp1/weights"]) == ["exp1/weights"]
    assert nearest("nothing like it", names) == []
    assert nearest("x", ["X"]) == ["X"]
    many = [f"data{i}" for i in range(100)]
    found = nearest("data", many)
    assert 0 < len(found) <= 3
    assert set(found) <= set(many)


@pytest.mark.parametrize("note", ["", "train split", "é\n\x1b😀", "n" * 10_000])
def test_valid_notes(note: str) -> None:
    assert check_note(note) == note


@pytest.mark.parametrize(
    ("note", "message"),
    [(None, "not NoneType"), (b"x", "not bytes"), (3, "not int"),
     ("n" * 10_001, "at most 10,000 characters, not 10,001"),
     ("ab\ud800", "character 2 is the lone surrogate")],
    ids=["None", "bytes", "int", "long", "surrogate"],
)  # fmt: skip
def test_invalid_notes(note: object, message: str) -> None:
    with pytest.raises(NotShareableError, match=message) as caught:
        check_note(note)  # type: ignore[arg-type]
    str(caught.value).encode()  # the message is valid Unicode


@pytest.mark.parametrize("version", [1, 2**63 - 1, np.int64(7), np.uint8(3)])
def test_valid_versions(version: int) -> None:
    assert check_version(version) == int(version)
    assert type(check_version(version)) is int


@pytest.mark.parametrize(
    "version", [0, -1, 2**63, 10**5000, -(10**5000), False], ids=list("abcdef")
)
def test_numbers_that_no_version_has(version: int) -> None:
    with pytest.raises(SegmentNotFoundError, match="numbered 1, 2, 3"):
        check_version(version)


@pytest.mark.parametrize("version", ["1", 1.0, None, [1]])
def test_a_version_is_an_integer(version: object) -> None:
    with pytest.raises(TypeError, match=f"integer, not {type(version).__name__}"):
        check_version(version)  # type: ignore[arg-type]
