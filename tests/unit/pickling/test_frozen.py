"""Functions that pickles name: their names and parameters are a format and never change."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest

import jshm
from jshm.pickling import Pickler, dumps, frozen, loads

from .globals_named import FROZEN, names, not_frozen

# Add lines and parameters with defaults; change nothing else.
SIGNATURES: dict[str, list[str]] = {
    "load_view": ["segment", "offset", "dtype", "shape", "strides"],
    "load_published": ["segment", "offset", "dtype", "shape", "strides"],
    "load_handle": ["root", "segment", "mode", "offset", "dtype", "shape", "strides"],
    "last": ["values"],
    "named": ["module", "path"],
    "type_of_named": ["module", "path"],
    "if_there": ["module", "qualname"],
    "set_state": ["obj", "state"],
    "called": ["kind", "arguments"],
    "bare": ["kind", "arguments"],
    "exception": ["kind", "made_of", "arguments"],
    "with_attributes": ["kind", "attributes"],
    "slotted": ["kind", "values"],
    "array": ["buffer", "dtype", "shape", "order"],
    "empty_array": ["kind", "shape", "dtype"],
    "empty_masked_array": ["kind", "base", "shape", "dtype"],
    "fill_array": ["array", "state"],
    "subclass_array": ["kind", "array"],
    "memory_view": ["buffer", "form", "shape"],
    "memory_view_of_array": ["array", "readonly"],
    "scalar": ["dtype", "content"],
    "item": ["array"],
    "aligned_dtype": ["arguments", "state"],
    "string_dtype": ["coerce", "missing"],
    "generator": ["bits"],
    "random_state": ["bits", "state"],
    "seed_sequence": ["state"],
    "bit_generator": ["name", "seed", "state"],
    "block_manager": ["make", "arguments"],
    "fill_block_manager": ["manager", "state"],
    "code": ["tag", "marshalled", "python", "address", "block"],
    "generated_code": ["tag", "marshalled", "qualname", "free"],
    "fill_cell": ["cell", "state"],
    "cached_function": ["function", "maxsize", "typed"],
    "cached_property": ["function", "name"],
    "own_or_new": ["origin", "qualname", "text", "make", "arguments"],
    "fill_function": ["function", "state"],
    "fill_cached_function": ["function", "attributes"],
    "own_or_new_module": ["origin", "make", "arguments"],
    "new_module": ["name", "attributes"],
    "fill_module": ["module", "state"],
    "imported": ["origin", "qualname"],
    "compiled": ["name", "file", "qualname"],
    "remember_place": ["name", "root", "file"],
    "class_of": ["definition", "identity", "origin", "construct", "arguments"],
    "fill_class": ["cls", "state"],
    "new_class": ["metaclass", "name", "bases", "keywords"],
    "enumeration": ["bases", "name", "qualname", "module", "values"],
    "enumeration_of": [
        "bases",
        "name",
        "qualname",
        "module",
        "contents",
        "uses_arguments",
        "made_by",
    ],
    "typed_dict": ["kind", "name", "bases", "namespace"],
    "base_named": ["cls", "name"],
    "resolved_annotations": ["resolved", "written"],
    "struct": ["fields", "options", "name", "bases", "namespace"],
    "fill_struct": ["cls", "state"],
    "type_variable": ["module", "name", "arguments"],
    "new_type": ["name", "supertype", "module"],
    "type_alias": ["name", "value", "parameters"],
    "forward_reference": ["text", "is_argument", "module", "is_class"],
    "ctypes_value": ["kind", "value"],
    "library": ["kind", "name", "flags"],
    "library_function": ["library", "name", "is_own"],
    "declare_function": ["function", "declared"],
    "function_type": ["restype", "argtypes", "flags"],
    "ctypes_type": ["make", "arguments"],
    "fill_ctypes_type": ["cls", "state"],
}


def test_names_and_parameters_stay() -> None:
    found = {
        name: [*inspect.signature(value).parameters]
        for name, value in vars(frozen).items()
        if name[0] != "_"
        and name != "process_resolver"
        and inspect.isroutine(value)
        and value.__module__ == FROZEN
    }
    for name, parameters in SIGNATURES.items():
        assert found[name][: len(parameters)] == parameters
        added = list(inspect.signature(getattr(frozen, name)).parameters.values())[
            len(parameters) :
        ]
        assert all(one.default is not one.empty for one in added), name
    assert found.keys() == SIGNATURES.keys()


def test_classes_stay() -> None:
    # As the default factory of a struct's field.
    assert loads(b"\x80\x05cjshm.pickling.frozen\nLateFactory\n)R.").__class__ is frozen.LateFactory


@pytest.mark.parametrize("name", sorted({*jshm.__all__} - {"__version__"}))
def test_public_names_are_written_as_such(name: str) -> None:
    value = getattr(jshm, name)
    data = dumps(value)
    assert not_frozen(data) == set()
    assert loads(data) is value
    assert pickle.loads(data) is value


def test_a_function_that_uses_jshm_names_nothing_that_may_move() -> None:
    from jshm import SegmentNotFoundError, attach

    def load(name: str) -> object:
        try:
            return attach(name)
        except SegmentNotFoundError:
            return None

    assert not_frozen(dumps(load)) == set()


@pytest.mark.usefixtures("store_dir")
def test_arrays_and_handles_in_segments() -> None:
    array = jshm.zeros(3)
    handle = jshm.SharedNumpyArray.create_new(3)
    data = dumps([array, array[1:], handle])
    assert {name for module, name in names(data) if module == FROZEN} == {
        "load_view",
        "load_handle",
    }
    found = loads(data)
    assert np.shares_memory(found[0], found[1])
    assert isinstance(found[2], jshm.SharedNumpyArray)
    assert not_frozen(data) == set()
    assert not_frozen(pickle.dumps(handle)) == set()


def test_a_pickler_is_given_how_to_refer(store_dir: str) -> None:
    written = []

    class File:
        def write(self, data: bytes) -> None:
            written.append(bytes(data))

    array = np.arange(3.0)
    Pickler(File(), refer=lambda _: (str, ("elsewhere",)), refers_to_any=True).dump([array])
    assert loads(b"".join(written)) == ["elsewhere"]
