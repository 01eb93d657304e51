"""PyTorch writes into allocated arrays. Skipped if PyTorch is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm

if TYPE_CHECKING:
    from jshm.store.local.store import LocalStore

torch = pytest.importorskip("torch")


def test_results_are_written_into_shared_memory(store: LocalStore) -> None:
    array = jshm.empty((300, 400), np.float32)
    tensor = torch.from_numpy(array)
    assert tensor.data_ptr() == array.__array_interface__["data"][0]
    torch.add(torch.ones(300, 400), 2, out=tensor)
    assert (array == 3).all()
    jshm.publish("X", array)
    assert not array.flags.writeable
    assert (np.load(store.location("X")) == 3).all()


def test_a_tensor_is_copied_once(store: LocalStore) -> None:
    array = jshm.empty(1000)
    torch.from_numpy(array).copy_(torch.arange(1000, dtype=torch.float64))
    jshm.publish("X", array)
    shared = jshm.attach("X", "c")
    assert (torch.from_numpy(shared) == torch.arange(1000)).all()


def test_a_write_into_a_read_only_attachment_is_private(store: LocalStore) -> None:
    """A tensor ignores NumPy's read-only flag: its writes stay in this process."""
    jshm.publish("X", np.zeros(1000))
    mine = jshm.attach("X")
    with pytest.warns(UserWarning, match="not writable"):
        torch.from_numpy(mine)[5] = 7
    assert np.load(store.location("X"))[5] == 0
    del mine


def _cost(value: Any) -> int:
    buffers: list[Any] = []
    data = jshm.dumps(value, buffer_callback=buffers.append)
    return len(data) + sum(memoryview(buffer).nbytes for buffer in buffers)


def test_a_view_takes_only_its_own_bytes() -> None:
    whole = torch.arange(100_000, dtype=torch.float32)
    table = whole.reshape(100, 1000)
    for view in (
        whole[:3], whole[5:8], whole[::50_000], table[:, 3], table[2:4].T, table[:2, ::2],
        whole[:0], whole[7], whole[:6].view(torch.int32), torch.view_as_complex(table[:3, :2])[1:].conj(),
    ):  # fmt: skip
        found = jshm.loads(jshm.dumps(view))
        assert torch.equal(found, view)
        assert (found.dtype, found.shape) == (view.dtype, view.shape)
        assert _cost(view) < view.numel() * view.element_size() + 2000
    for repeated in (whole[:1].expand(1000), whole[:3].expand(10**15, 3)):
        found = jshm.loads(jshm.dumps(repeated))
        assert (found.shape, found.stride()) == (repeated.shape, repeated.stride())
        assert torch.equal(found[:7], repeated[:7])
        assert _cost(repeated) < 2000
    assert jshm.loads(jshm.dumps(table[2:4].T)).stride() == (1, 1000)


def test_a_view_keeps_its_other_attributes() -> None:
    whole = torch.arange(100_000, dtype=torch.float32)
    view = whole[:3].clone().requires_grad_()
    parameter = torch.nn.Parameter(whole[:3])
    tagged = whole[4:6]
    tagged.unit = "m"
    found = jshm.loads(jshm.dumps([view, parameter, parameter, tagged, whole[:3].requires_grad_()]))
    assert found[0].requires_grad
    assert type(found[1]) is torch.nn.Parameter
    assert found[1] is found[2]  # tied
    assert found[1].requires_grad
    assert found[3].unit == "m"
    assert found[4].requires_grad
    assert _cost(parameter) < 2000
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight
    again = jshm.loads(jshm.dumps(model))
    assert again[1].weight is again[0].weight
    assert torch.equal(again[0].bias, model[0].bias)
