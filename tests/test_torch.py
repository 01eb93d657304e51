"""PyTorch writes into arrays that are born in shared memory. It is no dependency: skipped without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import jshm

if TYPE_CHECKING:
    from jshm.store.local import LocalStore

torch = pytest.importorskip("torch")


def test_results_go_where_the_array_is(store: LocalStore) -> None:
    array = jshm.empty((300, 400), np.float32)
    tensor = torch.from_numpy(array)
    assert tensor.data_ptr() == array.__array_interface__["data"][0]
    torch.add(torch.ones(300, 400), 2, out=tensor)
    assert (array == 3).all()
    jshm.publish("X", array)
    assert not array.flags.writeable
    assert (np.load(store.path("X")) == 3).all()


def test_a_tensor_is_copied_once(store: LocalStore) -> None:
    array = jshm.empty(1000)
    torch.from_numpy(array).copy_(torch.arange(1000, dtype=torch.float64))
    jshm.publish("X", array)
    shared = jshm.attach("X", "c")
    assert (torch.from_numpy(shared) == torch.arange(1000)).all()


def test_what_was_attached_read_only_stays_everybody_s(store: LocalStore) -> None:
    """A tensor does not know of NumPy's flag: what it writes is this process's own."""
    jshm.publish("X", np.zeros(1000))
    mine = jshm.attach("X")
    with pytest.warns(UserWarning, match="not writable"):
        torch.from_numpy(mine)[5] = 7
    assert np.load(store.path("X"))[5] == 0
    del mine
