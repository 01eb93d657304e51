from __future__ import annotations

import keyword
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jshm.errors import InvalidNameError
from jshm.store.names import check_name, is_glob, nearest, variable_for

GOOD = ["X", "x1", "exp1/weights", "a-b", "a.b", "_x", "1", "日本/データ", "é", "a/b/c", "X" * 200,
        "train.v2", "a_", "a-", "a."]  # fmt: skip
BAD = ["", "/", "/X", "X/", "a//b", "-X", ".X", "..", "a..b", "a/../b", "a b", "a*", "a?", "[a]", "a]",
       "a@b", "a\\b", "a\0", "a\n", "X\n", "a\t", "\u200b", "a:b", "a'b", 'a"b', "<b>", "a$", "a;b",
       "X" * 201, "\ud800", "a\u202eb"]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_valid(name: str) -> None:
    assert check_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_invalid(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_name(name)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", [None, 3, b"X", ("X",)])
def test_a_name_is_a_string(name: object) -> None:
    with pytest.raises(InvalidNameError, match=type(name).__name__):
        check_name(name)  # type: ignore[arg-type]


def test_what_looks_the_same_is_the_same() -> None:
    assert check_name("e\u0301") == check_name("\u00e9") == "\u00e9"


def test_the_message_shows_what_is_wrong() -> None:
    with pytest.raises(InvalidNameError, match=r"'\$'.*use letters"):
        check_name("a$b")
    with pytest.raises(InvalidNameError, match="200 characters, not 300"):
        check_name("a" * 300)


@given(st.text(max_size=12) | st.text("ab/.-_*?[]@\\é\u0301 ", max_size=12))
def test_what_is_accepted_follows_the_grammar(text: str) -> None:
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
def test_the_variable_is_one_or_the_error_gives_one(text: str) -> None:
    try:
        name = check_name(text)
    except InvalidNameError:
        return
    try:
        variable = variable_for(name)
        assert variable == name.split("/")[-1]
    except InvalidNameError as error:
        variable = str(error).partition("--as ")[2].rstrip("`")
    assert variable.isidentifier()
    assert not keyword.iskeyword(variable)


@pytest.mark.parametrize(
    ("name", "expected"), [("X", "X"), ("exp/w", "w"), ("a/b/c", "c"), ("日本/データ", "データ")]
)
def test_the_variable_is_the_last_component(name: str, expected: str) -> None:
    assert variable_for(name) == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [("my-data", "my_data"), ("exp/1st", "my_1st"), ("class", "my_class"), ("a/b.c", "b_c")],
)
def test_no_identifier_names_one(name: str, hint: str) -> None:
    with pytest.raises(InvalidNameError, match=f"add `--as {hint}`"):
        variable_for(name)


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
