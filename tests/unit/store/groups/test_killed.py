"""A member is killed before the names file is written: the next operation writes it."""

from __future__ import annotations

import grp
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm

from ....conftest import PREFIX, SHM
from ....torture.kills.fuse import Fuse
from ....torture.kills.trials import run

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = grp.getgrgid(os.getegid()).gr_name
_EVERY = 11


def publish() -> None:
    jshm.publish("new", np.arange(3.0), keep=True)


def replace() -> None:
    jshm.publish({"X": np.arange(3.0), "Y": np.arange(4.0)}, keep=True, replace=True)


def go_live() -> None:
    jshm.publish("X", np.arange(3.0), keep=True, writable=True, replace=True)


def release() -> None:
    jshm.release(["X", "Y"], force=True)


def prepare() -> None:
    jshm.publish({"X": np.zeros(3), "Y": np.zeros(3)}, keep=True)


def victim(operation: Callable[[], None], at: int) -> bool:
    fuse = Fuse(at)
    fuse.install()
    jshm.segments()
    fuse.armed = True
    operation()
    fuse.armed = False
    return True


def look() -> list[str]:
    """Do one operation; return what `check` finds: it compares the names file with the registry."""
    jshm.publish("next", np.zeros(1), keep=True, replace=True)
    return [problem.what for problem in jshm.check()]


@pytest.mark.parametrize("operation", [publish, replace, go_live, release])
def test_a_member_is_killed_in_a_group_s_store(
    operation: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JSHM_GROUP", GROUP)
    killed, at = 0, 1
    while True:
        place = tempfile.mkdtemp(prefix=PREFIX, dir=SHM)
        try:
            monkeypatch.setenv("JSHM_GROUP_DIR", place)
            run(prepare)
            if run(victim, operation, at):
                break
            killed += 1
            assert run(look) == [], at
        finally:
            shutil.rmtree(place)
        at += _EVERY
    assert killed > 5
