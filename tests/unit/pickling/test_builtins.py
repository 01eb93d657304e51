"""Nested builtins, and the objects that they share, arrive as from pickle itself."""

from __future__ import annotations

import errno
import io
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jshm.pickling import Pickler, dumps, loads

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 300), 1 << 300),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
    st.sampled_from(
        [..., NotImplemented, int, len, range(3), slice(1, None), "x" * 300, b"y" * 5000]
    ),
)
KEYS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.tuples(st.integers(), st.text(max_size=2)),
    st.frozensets(st.integers(), max_size=3),
)


@st.composite
def graphs(draw: st.DrawFn) -> list[Any]:
    """Containers of leaves and of one another: shared, and in cycles."""
    nodes: list[Any] = []

    def part() -> Any:
        return draw(st.sampled_from(nodes) | LEAVES if nodes else LEAVES)

    for kind in draw(st.lists(st.sampled_from("ltdsf"), min_size=1, max_size=12)):
        size = draw(st.integers(0, 4))
        if kind == "l":
            nodes.append([part() for _ in range(size)])
        elif kind == "t":
            nodes.append(tuple(part() for _ in range(size)))
        elif kind == "d":
            nodes.append({draw(KEYS): part() for _ in range(size)})
        else:
            elements = draw(st.sets(KEYS, max_size=4))
            nodes.append(frozenset(elements) if kind == "f" else elements)
    # Later containers are put into earlier ones.
    open_ = [node for node in nodes if isinstance(node, list | dict)]
    for node in open_:
        if draw(st.booleans()):
            other = draw(st.sampled_from(nodes))
            if isinstance(node, list):
                node.append(other)
            else:
                node["later"] = other
    return draw(st.permutations(nodes))


def text_of(leaf: Any) -> str:
    """Describe a leaf; sets have no order."""
    if isinstance(leaf, frozenset):
        return f"frozenset {sorted(map(text_of, leaf))}"
    return f"tuple {[*map(text_of, leaf)]}" if isinstance(leaf, tuple) else repr(leaf)


def shape(root: Any) -> list[Any]:
    """Describe a graph: types, values, and which containers are one object."""
    numbers: dict[int, int] = {}
    found: list[Any] = []
    stack = [root]
    while stack:
        obj = stack.pop()
        kind = type(obj)
        if kind not in (list, tuple, dict, set, frozenset, bytearray):
            found.append((kind, repr(obj)))
            continue
        # There is only one empty tuple.
        if obj != () and id(obj) in numbers:
            found.append(numbers[id(obj)])
            continue
        numbers[id(obj)] = len(numbers)
        if kind is dict:
            found.append((kind, [text_of(key) for key in obj]))
            stack += obj.values()
        elif kind in (set, frozenset):
            found.append((kind, sorted(map(text_of, obj))))
        elif kind is bytearray:
            found.append((kind, bytes(obj)))
        else:
            found.append((kind, len(obj)))
            stack += obj
    return found


@settings(max_examples=60, deadline=None)
@given(graphs(), st.sampled_from([2, 3, 4, 5, None]))
def test_as_pickle_does(graph: list[Any], protocol: int | None) -> None:
    own = pickle.loads(pickle.dumps(graph, 5 if protocol is None else protocol))
    data = dumps(graph, protocol)
    assert shape(loads(data)) == shape(own)
    assert shape(pickle.loads(data)) == shape(own)  # plain pickle reads it
    assert shape(graph) == shape(own)


@settings(max_examples=20, deadline=None)
@given(st.lists(graphs(), min_size=2, max_size=4))
def test_one_pickler_for_several(several: list[list[Any]]) -> None:
    with io.BytesIO() as ours, io.BytesIO() as theirs:
        pickler, own = Pickler(ours), pickle.Pickler(theirs, 5)
        for graph in [*several, several]:
            pickler.dump(graph)
            own.dump(graph)
        ours.seek(0)
        theirs.seek(0)
        a, b = pickle.Unpickler(ours), pickle.Unpickler(theirs)
        found = [a.load() for _ in range(len(several) + 1)]
        expected = [b.load() for _ in range(len(several) + 1)]
    assert shape(found) == shape(expected)
    assert found[-1] is not found[0]
    assert all(x is y for x, y in zip(found[-1], found, strict=False))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_protocol_is_the_one_that_was_asked_for(protocol: int) -> None:
    assert dumps([1], protocol)[:2] == bytes([0x80, protocol])


def test_the_protocol_is_the_first_with_buffers() -> None:
    assert dumps([1])[:2] == b"\x80\x05"


def test_large_arrays() -> None:
    large = {"a": ["x" * 100_000, b"y" * 200_000], "b": list(range(50_000))}
    large["c"] = large["a"]
    found = loads(dumps(large))
    assert found == large
    assert found["c"] is found["a"]


def test_arguments_of_a_pickler() -> None:
    with pytest.raises(ValueError, match="protocol"):
        dumps(1, 99)
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        loads(b"")
    assert loads(bytearray(dumps([1]))) == [1]
    assert loads(memoryview(dumps([1]))) == [1]


class Full(io.BytesIO):
    def write(self, _: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_errors_of_the_file_are_its_own() -> None:
    with Full() as file, pytest.raises(OSError, match="No space left") as caught:
        Pickler(file).dump([1])
    assert caught.value.errno == errno.ENOSPC
    assert not isinstance(caught.value, TypeError)


def test_an_object_without_write_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="write"):
        Pickler(None)
