"""SIGKILL at any boundary of any operation loses nothing, tears nothing and leaks nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HARNESS = str(Path(__file__).with_name("harness.py"))
# Fewer boundaries than these, and the harness does not see what the operation does.
AT_LEAST = {
    "publish_new": 50,
    "replace": 40,
    "replace_held": 40,
    "publish_two": 60,
    "attach": 20,
    "seal": 60,
    "alias": 30,
    "release": 15,
    "release_held": 15,
    "reap": 50,
}


def harness(*arguments: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="jshm-faults-") as parent:
        found = subprocess.run(
            [sys.executable, HARNESS, arguments[0], parent, *arguments[1:]],
            stdout=subprocess.PIPE,
            env={**os.environ, "JSHM_OVERFLOW_DIR": ""},
            timeout=300,
            check=True,
        )
    return json.loads(found.stdout)


@pytest.mark.parametrize("scenario", AT_LEAST)
def test_killed_at_every_boundary(scenario: str) -> None:
    found = harness(scenario)
    assert found["wrong"] == {}
    assert found["boundaries"] >= AT_LEAST[scenario]


def test_killed_at_random_times() -> None:
    """Boundaries that no interposer sees: inside SQLite, inside the kernel."""
    assert harness("everything", "random", "40")["wrong"] == {}
