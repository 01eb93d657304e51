"""Values that jshm returned: they are known only by identity, are not kept alive, and can be detached."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm
from jshm import variables
from jshm.variables import forget_unused, is_remembered, remember, segments_of_value

from ..support.processes import Child, ChildError
from ..support.touching import BASES, CANNOT_BE_SHARED, RAISING, Key, recording, touched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore


class Thing:
    """An object that supports weak references, and equals every other."""

    def __init__(self, a: Any = None) -> None:
        self.a = a

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)

    __hash__ = None  # type: ignore[assignment]


class Slotted:
    """An object that does not support weak references."""

    __slots__ = ("a",)

    def __init__(self, a: Any = None) -> None:
        self.a = a


@pytest.fixture(autouse=True)
def _nothing_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests in this process may have bound variables."""
    monkeypatch.setattr(variables, "_bound", {})


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without IPython, even if other tests have imported it."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(variables, "_keeps_containers", False)


@pytest.fixture
def main(store: LocalStore, plain: None) -> Iterator[dict[str, Any]]:
    """The variables of ``__main__``."""
    namespace = sys.modules["__main__"].__dict__
    before = dict(namespace)
    yield namespace
    for name in set(namespace) - set(before):
        del namespace[name]
    namespace.update(before)
    gc.collect()


def mapped() -> int:
    """Return the number of segment files that this process has mapped, from ``/proc/self/maps``."""
    with open("/proc/self/maps") as file:
        return sum("/segments/" in line for line in file)


# -- by identity -----------------------------------------------------------------------------------

SHARED_BY_ALL: list[Any] = [
    None, True, False, 0, 5, -5, 10**30, 1.5, 2j, "", "text", b"bytes", (), (1, [2]), frozenset(), os,
    np.float64(1.5), ..., NotImplemented,
]  # fmt: skip


@pytest.mark.parametrize("value", SHARED_BY_ALL, ids=repr)
def test_values_that_others_may_share_are_not_remembered(value: Any) -> None:
    assert remember(value, ("segment",)) is value
    assert not is_remembered(value)
    assert segments_of_value(value) == ()


@pytest.mark.parametrize("make", [Thing, lambda: np.zeros(3), lambda: {1, 2}, lambda: lambda: 1])
def test_a_value_is_known_by_its_identity(make: Any) -> None:
    value, other = make(), make()
    assert remember(value, ("one",)) is value
    assert is_remembered(value)
    assert segments_of_value(value) == ("one",)
    assert not is_remembered(other)
    assert segments_of_value(other) == ()
    remember(other, ("two", "what it needs"))
    remember(value, ("three",))
    forget_unused()
    assert (segments_of_value(value), segments_of_value(other)) == (
        ("three",),
        ("two", "what it needs"),
    )


def test_a_remembered_value_is_not_kept_alive() -> None:
    value = remember(Thing(np.zeros(10)), ("segment",))
    alive = weakref.ref(value)
    del value
    assert alive() is None
    forget_unused()
    known = [key in variables._weak or key in variables._strong for key in variables._segments]
    assert all(known)


def test_a_new_object_with_an_old_id_is_not_remembered() -> None:
    seen, again = set(), 0
    for i in range(3000):
        value = Thing()
        again += id(value) in seen
        seen.add(id(value))
        assert not is_remembered(value)
        assert segments_of_value(value) == ()
        if i % 2:
            remember(value, (str(i),))
            assert segments_of_value(value) == (str(i),)
        del value
    assert again > 1000, "no id was used again, so nothing was tested"


@pytest.mark.parametrize("make", [dict, list, Slotted, bytearray])
def test_a_notebook_keeps_a_container_only_as_long_as_the_user_does(
    monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    """A notebook forgets unused values after each cell."""
    monkeypatch.setattr(variables, "_keeps_containers", True)
    monkeypatch.setattr(variables, "_strong", {})
    values = [remember(make(), (str(i),)) for i in range(100)]
    mine = {"deep": [values[7]]}
    forget_unused()
    assert all(map(is_remembered, values))
    assert [segments_of_value(value) for value in values] == [(str(i),) for i in range(100)]
    del values
    forget_unused()
    assert [id(value) for value in variables._strong.values()] == [id(mine["deep"][0])]
    assert is_remembered(mine["deep"][0])
    for _ in range(1000):
        assert not is_remembered(make())
    mine.clear()
    forget_unused()
    assert variables._strong == {}
    # Without a prune, too, only values in use are kept.
    for _ in range(100):
        remember(make())
    assert len(variables._strong) <= 2


@pytest.mark.parametrize("make", [dict, list, Slotted, bytearray, lambda: np.dtype([("a", "i4")])])
def test_a_program_keeps_no_container(plain: None, make: Any) -> None:
    before = dict(variables._strong)
    for _ in range(1000):
        assert not is_remembered(remember(make(), ("segment",)))
        assert not is_remembered(make())
    assert variables._strong == before


def test_a_program_keeps_no_attached_value(store: LocalStore, plain: None) -> None:
    """Neither the object nor its memory stays."""
    for value in (
        {"a": np.zeros(9)},
        [np.zeros(9)],
        Thing(np.zeros(9)),
        np.zeros(9),
        (np.zeros(9),),
    ):
        jshm.publish("X", value)
        for mode in ("r", "c"):
            for _ in range(5):
                got = jshm.attach("X", mode)
                del got
            assert mapped() == 0, "it is unmapped without the garbage collector"
    store.flush()
    jshm.gc()


# -- detach, in a program --------------------------------------------------------------------------


def test_detach_of_an_object(main: dict[str, Any], store: LocalStore) -> None:
    jshm.publish("cfg", Thing(np.zeros(1000)))
    main["one"], main["two"] = jshm.attach("cfg"), jshm.attach("cfg")
    main["copy"] = jshm.attach("cfg", "c")
    main["own"] = Thing(np.zeros(3))
    assert jshm.detach("cfg") == []
    assert not {"one", "two", "copy"} & set(main)
    assert main["own"].a.sum() == 0
    assert mapped() == 0
    assert not jshm.info("cfg").in_use
    with pytest.raises(jshm.SegmentNotFoundError, match="'cfg' is not mapped here"):
        jshm.detach("cfg")
    main["cfg"] = jshm.attach("cfg")
    left = jshm.detach(main["cfg"])  # in an assert, pytest would hold it
    assert left == []
    assert "cfg" not in main


@pytest.mark.parametrize("way", ["name", "variable", "value"])
def test_detach_by_name_variable_or_value(main: dict[str, Any], way: str) -> None:
    jshm.publish({"exp/one": Thing(np.zeros(10)), "exp/two": Thing(np.zeros(10))})
    main["one"], main["two"] = jshm.attach(["exp/one", "exp/two"])
    left = jshm.detach(
        main["one"] if way == "value" else {"name": "exp/one", "variable": "one"}[way]
    )
    assert left == []
    assert "one" not in main
    assert main["two"].a.shape == (10,)


@pytest.mark.parametrize("value", [Thing(), Thing("text"), {1, 2}])
def test_detach_of_an_object_without_shared_memory(main: dict[str, Any], value: Any) -> None:
    jshm.publish("cfg", value)
    main["cfg"], main["own"] = jshm.attach("cfg"), value
    assert jshm.detach("cfg") == []
    assert "cfg" not in main
    assert main["own"] is value


def test_detach_of_an_object_that_refers_to_an_array(
    main: dict[str, Any], store: LocalStore
) -> None:
    jshm.publish("X", np.arange(1000.0))
    jshm.publish("cfg", Thing(jshm.attach("X")))
    main["cfg"] = jshm.attach("cfg")
    main["X"] = jshm.attach("X")
    # The variable X does not keep the object, and the object's array is not the variable X.
    assert jshm.detach("X") == ["cfg.a"]
    assert "X" not in main
    assert main["cfg"].a[-1] == 999
    assert jshm.detach("cfg") == []
    assert "cfg" not in main
    assert mapped() == 0
    assert not jshm.info("X").in_use


def test_detach_names_other_references(main: dict[str, Any]) -> None:
    jshm.publish("cfg", Thing({"deep": np.zeros(1000)}))
    main["cfg"] = jshm.attach("cfg")
    main["mine"] = {"part": main["cfg"].a["deep"][3:5]}
    assert jshm.detach("cfg") == ["mine['part']"]
    assert "cfg" not in main
    del main["mine"]
    assert mapped() == 0


def test_detach_keeps_a_changed_copy(main: dict[str, Any]) -> None:
    """A private change may be the user's work."""
    jshm.publish("cfg", Thing(np.zeros(1000)))
    main["same"] = jshm.attach("cfg", "c")
    assert jshm.detach("cfg") == []
    assert "same" not in main
    main["changed"] = jshm.attach("cfg", "c")
    main["changed"].a[5] = 7
    assert jshm.detach("cfg") == ["changed"]
    assert main["changed"].a[5] == 7


def test_detach_keeps_a_changed_data_frame(main: dict[str, Any]) -> None:
    pandas = pytest.importorskip("pandas")
    jshm.publish("df", pandas.DataFrame({"a": np.zeros(1000), "b": np.zeros(1000)}))
    main["df"] = jshm.attach("df", "c")
    main["df"].iloc[0, 0] = 5
    jshm.detach("df")
    assert "df" in main


def test_detach_names_a_column_that_keeps_a_data_frame_s_memory(main: dict[str, Any]) -> None:
    pandas = pytest.importorskip("pandas")
    jshm.publish("df", pandas.DataFrame({"a": np.zeros(1000), "b": np.zeros(1000)}))
    main["df"] = jshm.attach("df")
    main["mine"] = main["df"]["a"]
    assert jshm.detach("df") == ["mine"]


@pytest.mark.parametrize(
    ("made", "culprit"),
    [
        ("table.index", "mine"),
        ("table.set_index('text').index", "mine"),
        ("table[['many']] * 2", "mine.index"),
        ("table['text']", "mine"),
        ("table['kind'].cat.categories", "mine"),
        ("table['many'].array", "mine"),
        ("{'k': [table['text'].array]}", "mine['k'][0]"),
        ("table.groupby('kind', observed=True)", "mine.obj"),
    ],
)
def test_what_keeps_a_table_s_memory_is_told(main: dict[str, Any], made: str, culprit: str) -> None:
    pd: Any = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    texts = [f"text {i}" for i in range(5000)]
    table = pd.DataFrame({"many": pd.array(range(5000), dtype="Int64"), "text": texts})
    table["kind"] = pd.Categorical([float(i) for i in range(5000)])
    table["text"] = table["text"].astype("string[pyarrow]")
    table.index = pd.date_range("2026", periods=5000)
    jshm.publish("table", table)
    main["table"] = jshm.attach("table")
    main["mine"] = eval(made, main)
    assert culprit in jshm.detach("table")
    del main["mine"]
    assert mapped() == 0


def test_a_table_made_of_an_attached_one_does_not_keep_its_memory(main: dict[str, Any]) -> None:
    pd: Any = pytest.importorskip("pandas")
    jshm.publish("table", pd.DataFrame({"some": np.zeros(1000), "other": np.ones(1000)}))
    main["table"] = jshm.attach("table")
    main["mine"] = main["table"] * 2
    assert jshm.detach("table") == []
    assert list(main["mine"].columns) == ["some", "other"]


def test_detach_names_references_of_values_that_were_published_together(
    main: dict[str, Any],
) -> None:
    shared = np.zeros(1000)
    with pytest.warns(jshm.SharedStateWarning):
        jshm.publish({"one": Thing(shared), "two": Thing([shared])})
    main["one"], main["two"] = jshm.attach(["one", "two"])
    main["mine"] = main["one"].a
    del main["one"]
    assert jshm.detach("one") == ["mine", "two.a[0]"]


def test_detach_in_a_program_keeps_a_dict(main: dict[str, Any]) -> None:
    """The dict may be another one than was attached; the references to the memory are named."""
    jshm.publish("cfg", {"a": np.zeros(1000)})
    main["cfg"] = jshm.attach("cfg")
    assert jshm.detach("cfg") == ["cfg['a']"]
    assert "cfg" in main
    del main["cfg"]
    assert mapped() == 0


def test_detach_of_several_versions(main: dict[str, Any], store: LocalStore) -> None:
    jshm.publish("cfg", Thing(np.zeros(10)))
    main["old"] = jshm.attach("cfg")
    jshm.publish("cfg", Thing(np.ones(10)))
    main["new"] = jshm.attach("cfg")
    assert segments_of_value(main["old"]) != segments_of_value(main["new"])
    assert jshm.detach("old") == []
    assert "old" not in main
    assert main["new"].a.sum() == 10
    main["old"] = jshm.attach("cfg", version=2)
    assert jshm.detach("cfg") == []
    assert not {"old", "new"} & set(main)


@pytest.mark.parametrize("what", ["function", "class", "logger"])
def test_detach_keeps_objects_that_existed_before(main: dict[str, Any], what: str) -> None:
    import json
    import logging
    from collections import OrderedDict

    value = {"function": json.dumps, "class": OrderedDict, "logger": logging.getLogger("x")}[what]
    main["own"] = value
    jshm.publish("f", value)
    main["f"] = jshm.attach("f")
    assert main["f"] is value
    with contextlib.suppress(jshm.SegmentNotFoundError):
        jshm.detach("f")
    assert main.get("own") is value


# -- under IPython ---------------------------------------------------------------------------------

SHELL = """
import contextlib, gc, io, os, sys, warnings
warnings.simplefilter("ignore")
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.history import HistoryManager
HistoryManager.enabled = False
shell = InteractiveShell.instance()
import jshm
from jshm import variables
from jshm import store as stores
from jshm.store import default_store

def cell(code):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        result = shell.run_cell(code, store_history=True)
    result.raise_error()
    return out.getvalue()

def mapped():
    with open("/proc/self/maps") as file:
        return sum("/segments/" in line for line in file)

cell("import jshm, numpy as np")
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    pytest.importorskip("IPython")
    with Child(tmp_path_factory.mktemp("shell"), "shell.py") as child:
        child.run(SHELL)
        yield child


@pytest.fixture
def bare(store: LocalStore, process: Child) -> Iterator[Child]:
    """A shell in this test's store, which has not loaded the extension."""
    process.run(f"os.environ['JSHM_DIR'] = {store.directory.root!r}")
    yield process
    process.run(
        "cell('%reset -f'); variables.forget_unused(); cell('import jshm, numpy as np'); gc.collect()\n"
        # Otherwise the next cell's hooks would create the directory of this store again.
        "default_store().close(); stores._made.clear(); stores._store_in.cache_clear()"
    )


@pytest.fixture
def shell(bare: Child) -> Iterator[Child]:
    """With the extension, which forgets unused values after each cell."""
    bare.run("cell('%load_ext jshm')")
    yield bare
    bare.run("cell('%unload_ext jshm')")


OBJECTS: dict[str, Any] = {"dict": {"a": np.zeros(1000)}, "list": [np.zeros(1000), 1]}


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_notebook_remembers_attached_containers(
    store: LocalStore, shell: Child, kind: str
) -> None:
    jshm.publish("cfg", OBJECTS[kind])
    shell.run("cell('%shm_attach cfg\\nalso = jshm.attach(\"cfg\"); own = dict(a=1)')")
    asked = "[variables.is_remembered(shell.user_ns[n]) for n in ('cfg', 'also', 'own')]"
    assert shell.run(asked) == [True, True, False]
    assert shell.run("variables.segments_of_value(shell.user_ns['cfg'])") == [
        jshm.info("cfg").segment
    ]
    # An attach may replace it, because jshm bound it; an equal dict of the user is kept.
    assert "v1" in shell.run("cell('%shm_attach cfg')")
    out = shell.run("cell('%shm_detach cfg')")
    assert "cfg detached" in out
    assert "deleted" in out
    assert shell.run("[n for n in ('cfg', 'also', 'own') if n in shell.user_ns]") == ["own"]
    assert shell.run("mapped()") == 0


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_notebook_keeps_no_memory_alive(store: LocalStore, shell: Child, kind: str) -> None:
    jshm.publish("cfg", OBJECTS[kind])
    shell.run('cell(\'cfg = jshm.attach("cfg", "c")\')')
    assert shell.run("mapped(), len(variables._strong)") == [1, 1]
    for gone in ("del cfg", "cfg = 5", "cfg = [jshm.attach('cfg')]; del cfg[0]"):
        shell.run(f"cell({gone!r})")
        assert shell.run("gc.collect() and 0, mapped(), len(variables._strong)") == [0, 0, 0]
        shell.run('cell(\'cfg = jshm.attach("cfg", "c")\')')
    # A value that no variable refers to is not kept either.
    shell.run('cell(\'del cfg\\nfor i in range(20): jshm.attach("cfg", "c")\')')
    assert shell.run("gc.collect() and 0, mapped(), len(variables._strong)") == [0, 0, 0]
    # A part of another object lives as long as that object.
    shell.run("cell('mine = dict(inner=jshm.attach(\"cfg\"))')")
    assert shell.run("mapped()") == 1
    shell.run("cell('del mine')")
    assert shell.run("gc.collect() and 0, mapped(), len(variables._strong)") == [0, 0, 0]


def test_a_new_dict_with_an_old_id_is_not_remembered(store: LocalStore, shell: Child) -> None:
    jshm.publish("cfg", {"a": 1})
    assert shell.run("""
seen, again, mistaken = set(), 0, 0
for i in range(300):
    cell("cfg = jshm.attach('cfg')")
    seen.add(id(shell.user_ns["cfg"]))
    cell("del cfg")
    for k in range(20):
        new = [{} for _ in range(5)]
        again += sum(id(d) in seen for d in new)
        mistaken += sum(variables.is_remembered(d) or bool(variables.segments_of_value(d)) for d in new)
[again > 100, mistaken]
""") == [True, 0]


def test_a_new_tuple_with_an_old_id_is_not_remembered(store: LocalStore, shell: Child) -> None:
    """Tuples have no weak references and are not kept, so a new one may get the id of an old one."""
    jshm.publish("pair", (np.arange(9), 1))
    reused = shell.run("""
reused = False
for i in range(200):
    cell("%shm_attach pair")
    old = id(shell.user_ns["pair"])
    cell("del pair")
    new = [(i, k) for k in range(500)]
    mine = [t for t in new if id(t) == old]
    if mine:
        shell.user_ns["pair"], reused = mine[0], True
        break
    del new, mine
reused
""")
    if not reused:
        pytest.skip("no tuple got the id of the one before")
    with contextlib.suppress(ChildError):
        shell.run("cell('%shm_detach pair')")
    assert shell.run("'pair' in shell.user_ns"), "the user's tuple was deleted"


def test_detach_in_a_notebook(store: LocalStore, shell: Child) -> None:
    """It also clears displayed results and objects that refer to the array."""
    jshm.publish("X", np.arange(1000))
    X = jshm.attach("X")
    jshm.publish("cfg", {"x": X})
    del X
    shell.run(
        "cell('cfg = jshm.attach(\"cfg\")'); cell('cfg'); cell('two = jshm.attach(\"cfg\"); two')"
    )
    assert shell.run("mapped()") == 1
    assert shell.run("cell('assert jshm.detach(\"cfg\") == []')") == ""
    assert shell.run("'cfg' in shell.user_ns or 'two' in shell.user_ns") is False
    assert shell.run("gc.collect() and 0, mapped()") == [0, 0]


def test_an_explicit_attach_says_what_it_replaced(store: LocalStore, shell: Child) -> None:
    jshm.publish({"cfg": {"a": 1}, "cfg2": {"a": 2}})
    shell.run("cell('cfg = {\"mine\": 1}')")
    error = shell.fails("cell(\"%shm_attach 'cfg*'\")")
    assert "cfg" in error.message
    assert shell.run("shell.user_ns['cfg']") == {"mine": 1}
    assert "replaced" in shell.run("cell('%shm_attach cfg')")
    assert shell.run("shell.user_ns['cfg']") == {"a": 1}
    # Now jshm has bound it.
    shell.run("cell(\"%shm_attach 'cfg*'\")")
    assert shell.run("shell.user_ns['cfg2']") == {"a": 2}


def test_without_the_extension_no_memory_is_kept_alive(store: LocalStore, bare: Child) -> None:
    jshm.publish("cfg", {"a": np.zeros(1000)})
    bare.run("cell('cfg = jshm.attach(\"cfg\", \"c\")'); cell('del cfg'); cell('pass')")
    left = bare.run("gc.collect() and 0, mapped(), len(variables._strong)")
    assert left == [0, 0, 0]


def test_a_program_that_imported_ipython_keeps_no_memory_alive(
    store: LocalStore, tmp_path: Path
) -> None:
    jshm.publish("cfg", {"a": np.zeros(1000)})
    with Child(tmp_path) as child:
        child.run("import gc, sys, types, jshm")
        # IPython without a shell.
        child.run("sys.modules['IPython'] = types.SimpleNamespace(get_ipython=lambda: None)")
        child.run("for i in range(50): cfg = jshm.attach('cfg', 'c')")
        child.run("del cfg; gc.collect()")
        mapped = child.run("with open('/proc/self/maps') as f: n = f.read().count('/segments/')\nn")
        child.kill()
    assert mapped == 0


def test_a_loop_in_a_cell_keeps_only_the_last_value(store: LocalStore, shell: Child) -> None:
    jshm.publish("cfg", {"a": np.zeros(1000)})
    shell.run(
        'cell(\'import gc\\nfor i in range(30): cfg = jshm.attach("cfg", "c")\\ngc.collect()\\n\'\n'
        '     \'with open("/proc/self/maps") as file: n = file.read().count("/segments/")\')'
    )
    n = shell.run("shell.user_ns['n']")
    assert n <= 2


def test_a_value_with_the_id_of_a_bound_one_is_another() -> None:
    """`del X; X = np.ones(4)` may give the new array the id of the attached one."""
    space: dict[str, object] = {}
    variables.bind(space, "X", np.zeros(3), ("aa",))
    assert variables.segments_bound("X", space["X"]) == ("aa",)
    mine = np.ones(3)
    variables._bound["X"] = variables._bound["X"]._replace(id=id(mine))
    space["X"] = mine
    assert variables.segments_bound("X", mine) == ()
    assert variables.forget_unbound(space) == ["X"]
    variables.bind(space, "n", 5, ("bb",))
    assert variables.segments_bound("n", 5) == ("bb",)
    assert variables.forget_unbound({}) == ["n"]


# -- beside other variables -------------------------------------------------------------------------


def detach_beside(main: dict[str, Any], bystander: Any) -> None:
    """Detach an array that a list keeps, beside another variable."""
    jshm.publish("X", np.arange(10.0))
    main["X"] = jshm.attach("X")
    main["keeper"] = [main["X"][2:]]
    main["bystander"], main["bystanders"] = bystander, {"x": [bystander]}
    touched.clear()
    assert jshm.detach("X") == ["keeper[0]"]
    assert touched == []
    assert "X" not in main
    assert main["bystander"] is bystander


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_detach_touches_no_other_variable(main: dict[str, Any], base: Any) -> None:
    detach_beside(main, recording(base))


@pytest.mark.parametrize("name", [*RAISING, *CANNOT_BE_SHARED])
def test_detach_beside_objects_that_raise(main: dict[str, Any], name: str) -> None:
    detach_beside(main, {**RAISING, **CANNOT_BE_SHARED}[name])


def test_detach_beside_variables_whose_names_are_not_strings(main: dict[str, Any]) -> None:
    main[5] = main[("a", 1)] = np.arange(3.0)  # type: ignore[index]
    detach_beside(main, None)
    del main[5], main["a", 1]  # type: ignore[arg-type]


def test_detach_beside_broken_tables(main: dict[str, Any]) -> None:
    pd: Any = pytest.importorskip("pandas")
    detach_beside(main, object.__new__(pd.DataFrame))
    detach_beside(main, pd.DataFrame({"a": [1]}).groupby("a"))


def test_detach_finds_views_in_subclasses_and_slots(main: dict[str, Any]) -> None:
    class AttrDict(dict[Any, Any]):
        __getattr__ = dict.__getitem__

    class Base:
        __slots__ = ("a",)

    class Derived(Base):
        __slots__ = ()
        __getattr__ = AttrDict.__getattr__

    class Sub(np.ndarray[Any, Any]):
        base = flags = dtype = property(lambda _: 1 / 0)  # type: ignore[assignment]

    jshm.publish("X", np.arange(10.0))
    X = main["X"] = jshm.attach("X")
    main["config"] = AttrDict(x=X[1:])
    main["slotted"] = Derived()
    main["slotted"].a = X[2:]
    main["array"] = np.ndarray.view(X, Sub)
    main["mapping"] = {(1, "a"): X[3:], Key(): X[4:]}
    del X
    found = set(jshm.detach("X"))
    assert found == {"array", "config['x']", "slotted.a", "mapping[(1, 'a')]", "mapping[<Key>]"}


def test_detach_finds_subclasses_of_tables(main: dict[str, Any]) -> None:
    pd: Any = pytest.importorskip("pandas")

    class Frame(pd.DataFrame):  # type: ignore[misc]
        columns = dtypes = items = property(lambda _: 1 / 0)

    jshm.publish("X", np.arange(10.0))
    main["X"] = jshm.attach("X")
    frame = main["df"] = object.__new__(Frame)
    plain = pd.DataFrame({"a": main["X"]}, copy=False)
    object.__setattr__(frame, "_mgr", plain._mgr)
    main["plain"] = plain
    assert set(jshm.detach("X")) == {"df", "plain['a']"}


def test_the_traceback_of_an_exception_that_refuses_attributes_is_cleared(
    main: dict[str, Any],
) -> None:
    class StubbornError(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise RuntimeError(name)

        __context__ = property(lambda _: 1 / 0)  # type: ignore[assignment]

    error = StubbornError()
    shell = types.SimpleNamespace(
        user_ns=main,
        user_ns_hidden={},
        last_execution_result=types.SimpleNamespace(error_in_exec=error, result=None),
    )
    try:
        raise error
    except StubbornError:
        pass
    assert error.__traceback__ is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variables, "shell", lambda: shell)
        variables._forget_exceptions()
    assert error.__traceback__ is None


@pytest.mark.parametrize("name", ["lazy", "proxy", "endless", "slotted", "attributes are items"])
def test_detach_of_a_value_that_is_not_shared(main: dict[str, Any], name: str) -> None:
    with pytest.raises(jshm.SegmentNotFoundError, match="not in shared memory"):
        jshm.detach(RAISING[name])


def test_copy_and_detach_leaves_other_values_of_a_mapping(main: dict[str, Any]) -> None:
    values = {**RAISING, **CANNOT_BE_SHARED}
    found = jshm.copy_and_detach(values)
    for name, value in values.items():
        if not issubclass(type(value), dict):
            assert found[name] is value, name
