"""One expansion of glob patterns for every face."""

from __future__ import annotations

import fnmatch
import unicodedata
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jshm import errors
from jshm.browse.globs import expand, matching


@given(
    st.lists(st.text("abX*?[]/", min_size=1, max_size=3), min_size=1, max_size=4),
    st.sets(st.text("abX/", min_size=1, max_size=3), max_size=6),
)
def test_patterns_are_replaced_by_what_they_match(words: list[str], known: set[str]) -> None:
    patterns = [word for word in words if set(word) & set("*?[")]
    if not all(fnmatch.filter(known, pattern) for pattern in patterns):
        with pytest.raises(errors.SegmentNotFoundError):
            expand(words, known)
        return
    names, written, matched = expand(words, known)
    assert written == list(dict.fromkeys(w for w in words if w not in patterns))
    assert set(matched) == {n for p in patterns for n in fnmatch.filter(known, p)} - set(written)
    assert sorted(names) == sorted([*written, *matched])


def test_names_keep_the_order_of_the_words() -> None:
    assert expand(["z", "a*", "a2", "b"], ["a1", "a2", "b"]).names == ["z", "a1", "a2", "b"]


def test_names_are_returned_in_nfc_form() -> None:
    nfc, nfd = (unicodedata.normalize(form, "ä") for form in ("NFC", "NFD"))
    assert expand([nfd], [nfc]) == ([nfc], [nfc], [])
    assert expand([f"{nfd}*"], [nfc]) == ([nfc], [], [nfc])


def test_a_pattern_with_an_owner_is_compared_with_exact_names() -> None:
    store = SimpleNamespace(exact_names=lambda: ["ada:X", "bob:X"])
    assert expand(["ada:*"], ["X"], store).names == ["ada:X"]  # type: ignore[arg-type]
    assert expand(["*"], ["X"], store).names == ["X"]  # type: ignore[arg-type]


def test_the_error_says_what_matches_nothing() -> None:
    with pytest.raises(errors.SegmentNotFoundError, match=r"^no shared name matches 'q\*'$"):
        expand(["q*"], ["X"])
    with pytest.raises(errors.SegmentNotFoundError, match="no variable matches"):
        expand(["q*"], ["X"], what="variable")


def test_a_huge_pattern_matches_nothing_and_takes_no_time() -> None:
    assert matching("[" * 100_000, ["X"]) == []
