"""Notebooks with other variables that raise, or record it, when anything is asked of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..support import touching

MAKE = """
for _number, _value in enumerate(RAISING.values()):
    globals()[f"raising{_number}"] = _value
for _number, _base in enumerate(BASES):
    globals()[f"recorded{_number}"] = recording(_base)
in_a_list = [recording(dict), {Key(): recording(object)}]
touched.clear()
"""


@pytest.fixture
def a(open_notebook):
    notebook = open_notebook("a.ipynb")
    notebook.do(Path(touching.__file__).read_text())
    notebook.do(MAKE)
    return notebook


def untouched(notebook) -> bool:
    return notebook.value("touched") == []


def test_publish_attach_and_detach(a):
    a.do("X = np.arange(6.0); model = {'w': np.ones(3)}")
    assert a.do("%shm_publish X model").startswith("X v1 · float64 (6,)")
    assert a.do("%shm_publish 'X*' --move").startswith("X v2 · float64 (6,)")
    assert a.do("%shm_attach X").startswith("X ← v2 from a.ipynb")
    a.do("%shm_attach model --as attached")
    a.do("view = X[1:]; kept = [X]")
    assert "model" in str(a("%shm_list").results)
    assert "kept[0]" in str(a("%shm_info X").results)
    said = a.do("%shm_detach X")
    assert said.startswith("X · deleted X · ")
    assert said.endswith(": view, kept[0]\n")
    assert a.do("%shm_detach attached").startswith("attached detached · deleted attached")
    assert untouched(a)


def test_a_replaced_variable_is_reported(a):
    a.do("X = np.ones(2)\n%shm_publish X")
    numbers = [int(n) for n in a.value("[name[7:] for name in globals() if name[:7] == 'raising']")]
    for number in numbers:
        said = a.do(f"%shm_attach X --as raising{number}")
        assert " · replaced your " in said
    for number in range(len(touching.BASES)):
        assert (
            " · replaced your Recording" in a.do(f"%shm_attach X --as recorded{number}")
            or number == 8
        )
    assert untouched(a)


def test_completion(a):
    a.do("X = np.arange(6.0)\n%shm_publish X\n%shm_attach X --as Y")
    found = dict(a.complete("%shm_publish raising"))
    assert len(found) == len(touching.RAISING)
    assert {found["raising0"], found["raising2"]} == {"Lazy", "Mapping"}
    assert a.complete("%shm_detach Y") == [("Y", "float64\u00a0(6,)")]
    assert len(a.complete("%shm_publish recorded")) == len(touching.BASES)
    assert untouched(a)


def test_following(a, open_notebook):
    b = open_notebook("b.ipynb")
    b.do("X = np.zeros(2)\n%shm_publish X")
    a.do("%shm_attach X --follow")
    b.do("X = np.ones(2)\n%shm_publish X")
    assert a.do("0").startswith("X → v2, b.ipynb")
    assert a.value("X.tolist()") == [1, 1]
    assert "X no longer follows X" in a.do("X = RAISING['lazy']") + a.do("0")
    assert untouched(a)


def test_each_is_published_or_refused_by_name(a):
    published = 0
    for number in range(len(touching.RAISING)):
        outcome = a(f"%shm_publish raising{number}")
        if outcome.ok:
            published += 1
            a.do(f"%shm_attach raising{number} --as again\n%shm_info raising{number}")
        else:
            assert outcome.ename == "UsageError"
            assert outcome.evalue.startswith(f"raising{number}"), outcome.evalue
    assert published >= len(touching.RAISING) - 2
