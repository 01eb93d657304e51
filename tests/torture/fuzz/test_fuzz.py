"""Promise 5: all that is read back is checked. Here 10,000 mutations; `make torture` tries a million."""

from __future__ import annotations

import pytest

from .runner import campaign
from .targets import TARGETS

MUTATIONS = 10_000
SEED = 5


def test_the_shares_are_all_of_it() -> None:
    assert sum(aim.share for aim in TARGETS.values()) == pytest.approx(1)


@pytest.mark.parametrize("target", TARGETS)
def test_only_errors_of_jshm(target: str) -> None:
    count = round(MUTATIONS * TARGETS[target].share)
    found = campaign(target, SEED, count)
    assert found.failures == []
    assert found.tried == count


def test_a_crash_is_found_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A campaign must not pass because it tried nothing."""
    monkeypatch.setenv("JSHM_FUZZ_CRASH", "7")
    found = campaign("words", SEED, 10)
    assert found.tried == 10
    assert [line.rpartition(" ")[2] for line in found.failures] == ["SIGSEGV"]
