"""``%shm_attach --follow``: variables that are rebound to the newest version before each cell."""

from __future__ import annotations

import os

import pytest

from .test_group_option import GROUP, place  # noqa: F401 - a fixture


@pytest.fixture
def a(open_notebook):
    return open_notebook("train.ipynb")


@pytest.fixture
def b(open_notebook):
    return open_notebook("eda.ipynb")


def test_a_variable_is_the_newest_version_before_each_cell(a, b, store_dir):
    segments = os.path.join(store_dir, "segments")
    a.do("%env JSHM_SPARES=0\nX = np.zeros(1000)\n%shm_publish X")
    line = b.do("%shm_attach X --follow")
    assert line.startswith("X ← v1 from train.ipynb, ")
    assert line.endswith(" · read-only, nothing copied · followed\n")
    assert b.do("1") == ""
    a.do("X += 1\n%shm_publish X")
    b("X")  # displayed: Out[n] must not keep it for ever
    assert len(os.listdir(segments)) == 1  # the old version went before the cell ran
    a.do("X += 1\n%shm_publish X")
    shown = b("print(X[0], X.flags.writeable)")
    assert shown.stdout == "X → v3, train.ipynb, just now\n2.0 False\n"
    assert len(os.listdir(segments)) == 1
    assert b.do("X[0]") == ""
    assert b.value("jshm.info('X').holders[0].here")
    (listed,) = b("%shm_list").results
    assert "followed here" in listed["text/plain"]
    (told,) = b("%shm_info X").results
    assert "Followed by   X" in told["text/plain"]
    assert "followed here" not in str(a("%shm_list").results)
    b.do("head = X[:3]")
    a.do("X += 1\n%shm_publish X")
    assert b.value("(head.tolist(), X[0])") == [[2.0] * 3, 3.0]  # a view that one took is one's own
    assert "--follow would discard your changes" in b.fail("%shm_attach X --follow --mode c").evalue
    assert "means the newest version" in b.fail("%shm_attach X --follow --version 1").evalue
    assert ("--follow", "option") in b.complete("%shm_attach X --f")
    b.do("%unload_ext jshm")
    a.do("X += 1\n%shm_publish X")
    assert b.do("print(X[0])") == "3.0\n"
    b.do("%reload_ext jshm")
    assert b.do("print(X[0])") == "3.0\n"


def test_several_names_and_objects_are_of_one_moment(a, b):
    a.do("X = np.zeros(10); y = 0; table = {'a': X.copy()}\ndef f():\n    return 0")
    a.do("%shm_publish X y table f --as exp/")
    b.do("%shm_attach 'exp/*' --follow")
    a.do("%shm_publish X --as exp/later")
    a.do("X += 1; y = 1; table['a'] += 1\ndef f():\n    return 1")
    a.do("%shm_publish X y table f --as exp/")
    said, value = b.do("print(X[0], y, table['a'][0], f(), 'later' in globals())").rsplit("\n", 2)[
        :2
    ]
    assert value == "1.0 1 1.0 1 False"
    assert said.splitlines()[0] == "X → exp/X v2, train.ipynb, just now"
    assert len(said.splitlines()) == 4


def test_another_variable_live_data_and_a_version_of_ones_own(a, b):
    a.do("X = np.zeros(10)\n%shm_publish X --writable\nY = np.ones(3)\n%shm_publish Y")
    b.do("%shm_attach X --as data --mode r+ --follow\n%shm_attach Y --follow")
    a.do("%shm_publish X --writable")
    assert b.do("data[0] = 7").startswith("data → X v2, train.ipynb, ")
    assert a.do("%shm_attach X\nX[0]") is not None
    assert a.value("X[0]") == 7.0
    a.do("Z = np.ones(2)\n%shm_publish Z --as X")
    assert "data stays v2: X v3 is a read-only snapshot" in b.do("1")
    assert b.do("1") == ""
    assert b.value("data[0]") == 7.0
    b.do("%shm_publish data --as Y --replace")
    assert b.do("print(Y[0])") == "Y → v2, this notebook, just now\n7.0\n"


def test_another_use_of_the_variable_stops_the_follower(a, b):
    for stop, said in (
        ("X = 3", "X no longer follows X\n"),
        ("del X", "X no longer follows X\n"),
        ("%shm_detach X", "X no longer follows X\n"),
        ("%shm_attach X", "nothing copied · X no longer follows X\n"),
        ("%shm_attach other --as X", "nothing copied · X no longer follows X\n"),
        ("%%shm_once X --as mine\nX = np.ones(4)", ""),
        ("X = X + 1\n%shm_publish X --replace", "X no longer follows X\n"),
    ):
        a.do("X = np.zeros(10); other = np.ones(2)\n%shm_publish X other")
        b.do("%shm_attach X --follow")
        assert b.do(stop).endswith(said)
        before = b.value("repr(globals().get('X'))")
        a.do("%shm_publish X --replace")
        told = b.do("1")
        assert told == ""
        assert b.value("repr(globals().get('X'))") == before
        assert "followed here" not in str(b("%shm_list").results)


def test_a_name_that_is_released_and_comes_back(a, b):
    a.do("X = np.zeros(10)\n%shm_publish X")
    b.do("%shm_attach X --follow")
    a.do("%shm_release X")
    assert b.do("print(X.sum())") == "X stays v1: X was released\n0.0\n"
    a.do("%shm_publish X --as other")
    assert b.do("1") == ""
    a.do("X += 1\n%shm_publish X")
    assert b.do("print(X.sum())") == "X → v2, train.ipynb, just now\n10.0\n"


def test_one_that_cannot_be_attached_keeps_no_other_back(a, b):
    a.do("X = np.zeros(10); o = {'n': 1}\n%shm_publish X o")
    b.do("%shm_attach X o --follow")
    a.do(
        "class Odd:\n    def __reduce__(self):\n        return eval, ('1/0',)\n"
        "o = {'n': Odd()}; X += 1\n%shm_publish X o"
    )
    said = b.do("print(X[0], o)").splitlines()
    assert said[0].startswith("X → v2, ")
    assert said[1].startswith("o stays v1: ")
    assert said[2] == "1.0 {'n': 1}"
    assert b.do("1") == ""
    a.do("o = {'n': 2}\n%shm_publish o")
    assert b.do("print(o)").endswith("{'n': 2}\n")


def test_a_damaged_registry_is_reported_once_and_cells_run(a, b, store_dir):
    a.do("X = np.zeros(10)\n%shm_publish X")
    b.do("%shm_attach X --follow")
    a.do("import sqlite3; con = sqlite3.connect(jshm.store.default_store().registry.path)")
    a.do("con.execute(\"UPDATE versions SET created = 'x', version = 2\")")
    a.do('con.execute("UPDATE names SET current = 2"); con.commit(); con.close()')
    said = b.do("print(X.sum())")
    assert said.startswith("what is followed here is not updated: the registry is damaged")
    assert said.endswith("\n0.0\n")
    assert b.do("print(X.sum())") == "0.0\n"
    b.do("jshm.check(fix=True)")
    a.do("X += 1\n%shm_publish X")
    assert b.do("print(X.sum())").endswith("10.0\n")


def test_a_directory_that_is_deleted(a, b, store_dir):
    import shutil

    a.do("X = np.zeros(10)\n%shm_publish X")
    b.do("%shm_attach X --follow")
    shutil.rmtree(store_dir)
    assert b("print(X.sum())").stdout.endswith("0.0\n")
    a.do("X += 1\n%shm_publish X --replace")
    assert b.do("print(X.sum())") == "X → v2, train.ipynb, just now\n10.0\n"


def test_each_follower_knows_its_store(place, a, b):  # noqa: F811
    a.do(
        f"X = np.zeros(4); f = {{'a': X}}\n%shm_publish X f --group {GROUP}\n%shm_publish X --as Y"
    )
    b.do(f"%shm_attach X f --group {GROUP} --trust --follow\n%shm_attach Y --follow")
    a.do(f"X += 1\n%shm_publish X f --group {GROUP}\n%shm_publish X --as Y")
    said = b.do("print(X[0], f['a'][0], Y[0])").splitlines()
    assert sorted(line.split(" → ")[0] for line in said[:3]) == ["X", "Y", "f"]
    assert said[3] == "1.0 1.0 1.0"
    assert "followed here" in str(b(f"%shm_list --group {GROUP}").results)
