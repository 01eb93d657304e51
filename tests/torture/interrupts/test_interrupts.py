"""Ctrl-C at any point of an operation: the old version or the new one, and nothing leaked or locked."""

from __future__ import annotations

import pytest

from .runner import OPERATIONS, run

# `detach` looks for who has an array at great length.
_STEPS = {"detach": 997}
_STEP = 29


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_interrupt_anywhere_leaves_the_old_or_the_new(store_dir: str, operation: str) -> None:
    result = run(operation, 1, _STEPS.get(operation, _STEP), timeout=60)
    assert result.failures == []
    assert result.places > 150
    assert result.interrupted > 0.7 * result.tried > 3
