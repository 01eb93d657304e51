"""Magics in live kernels: their words, options and messages."""

from __future__ import annotations

import re

import nbclient
import nbformat
import pytest


@pytest.fixture
def a(open_notebook):
    return open_notebook("a.ipynb")


def test_words_quotes_and_options(a):
    a.do("X = np.arange(4); i = 3; name = 'seven'; import threading; lock = threading.Lock()")
    assert a.do('%shm_publish X --as "exp {i}"'.replace(" {", "{")).startswith("exp3 v1 ")
    assert a.do("%shm_publish X --as $name/X   # a comment").startswith("seven/X v1 ")
    assert a.do("%shm_publish X --as $name/X;").startswith("seven/X v2 ")
    a.do('%shm_publish X --as noted --note "it\'s # 1"')
    assert a.value("jshm.info('noted').note") == "it's # 1"
    assert a.do("%shm_publish X --as naïve/été/数据").startswith("naïve/été/数据 v1 ")
    for line, said in (
        ("%shm_publish X --repl", "unrecognized arguments: --repl"),
        ("%shm_publish X --as 'oops", "no closing quotation"),
        ("%shm_publish", "which variable?"),
        ("%shm_publish Z", "no variable 'Z' here"),
        ("%shm_publish X.T", "takes variables: write Y = X.T first, then %shm_publish Y"),
        ("%shm_publish X name --as both", "a prefix ends with a slash: --as both/"),
        ("%shm_publish X --as ../up", "'../up' is not a valid name"),
        ("%shm_publish lock", "lock → lock: cannot be shared"),
        ("%shm_publish 'q*'", "no variable with an array or a table matches 'q*'"),
        ("%shm_attach", "which name?"),
        ("%shm_attach notd", "did you mean noted?"),
        ("%shm_attach noted --mode x", "mode must be 'r' (read-only)"),
        ("%shm_attach noted seven/X --as both", "is one variable for 2 names"),
        ("%shm_attach noted --as 1st", "a variable's name is an identifier"),
        ("%shm_attach noted --as class", "class: a variable's name is an identifier"),
        ("%shm_attach noted --version 0", "there is no version 0"),
        ("%shm_info noted --version 99999999999999999999", "there is no version with this number"),
        ("%shm_publish X --note " + "n" * 10_001, "at most 10,000 characters"),
        ("%shm_list notd", "did you mean noted?"),
        ("%shm_attach noted --wait soon", "invalid positive value: 'soon'"),
        ("%shm_info nothing", "nothing is shared under 'nothing'"),
        ("%shm_release", "name what to release, or say --unused"),
        ("%shm_detach nothing", "is not mapped here"),
    ):
        slip = a.fail(line)
        assert slip.ename == "UsageError", line
        assert said in slip.evalue, (line, slip.evalue)
        assert "\n" not in slip.evalue, line
        assert "Traceback" not in slip.stderr + slip.stdout, line


def test_loading_twice_and_unloading(a):
    assert "already loaded" in a.do("%load_ext jshm") or True
    a.do("%reload_ext jshm\nX = np.ones(2)\n%shm_publish X")
    hooks = "[f.__module__ for e in ('pre', 'post') for f in get_ipython().events.callbacks[e + '_run_cell']]"
    assert a.value(hooks).count("jshm.ipython.cell_hooks") == 2
    matchers = "[m.__module__ for m in get_ipython().Completer.custom_matchers]"
    assert a.value(matchers).count("jshm.ipython.completion") == 1
    a.do("%unload_ext jshm")
    assert a.value(hooks).count("jshm.ipython.cell_hooks") == 0
    assert "not found" in a.fail("%shm_list").evalue


def test_completion(a):
    a.do("weights = np.zeros((3, 2)); words = ['x']\n%shm_publish weights --as exp-1/weights")
    a.do("%shm_publish weights --as été")
    named = ("exp-1/weights", "float64\u00a0(3,\u00a02)")
    for code in (
        "%shm_attach ex",
        "y = %shm_attach ex",
        "z = 1\n%shm_info exp-1/w",
        "%shm_attach été exp-",
        "jshm.attach('ex",
        'jshm.info("exp-1/',
        "%shm_release exp-1/we",
    ):
        assert named in a.complete(code), code
    assert ("été", "float64\u00a0(3,\u00a02)") in a.complete("%shm_attach ")
    assert [text for text, _ in a.complete("%shm_publish we")] == ["weights"]
    assert a.complete("%shm_publish wo") == [("words", "list\u00a0of\u00a01")]
    assert ("--replace", "option") in a.complete("%shm_publish weights --re")
    assert [text for text, _ in a.complete("%shm_attach exp-1/weights --mode ")] == ["r", "r+", "c"]


def test_help_explains_itself(a):
    for magic in ("publish", "attach", "list", "info", "detach", "release"):
        outcome = a(f"%shm_{magic}?")
        message = a.client.inspect(f"%shm_{magic}", len(f"%shm_{magic}"), reply=True, timeout=60)
        assert outcome.ok
        text = message["content"]["data"]["text/plain"]
        assert f"%shm_{magic}" in text
        assert "::" in text


def test_lists_are_html_and_text(a):
    a.do("X = np.zeros((2, 3), '>i2')\n%shm_publish X --note '<b>&\"bold\"'")
    (shown,) = a("%shm_list").results
    assert "&lt;b&gt;&amp;&quot;bold&quot;" in shown["text/html"]
    assert "<b>" not in shown["text/html"]
    assert "X     1  >i2 (2, 3)  12 B  this notebook  –" in shown["text/plain"]
    (shown,) = a("%shm_info X").results
    assert "Lives    while its Jupyter server runs or a process holds it" in shown["text/plain"]
    assert ">Lives</th>" in shown["text/html"]
    assert "no shared name matches" in a.fail("%shm_list 'q*'").evalue


def test_a_glob_overwrites_only_what_jshm_bound(open_notebook, a):
    b = open_notebook("b.ipynb")
    a.do("X = np.ones(2); y = np.ones(3)\n%shm_publish X y --as exp/")
    b.do("y = 'mine'")
    slip = b.fail("%shm_attach 'exp/*'")
    assert "exp/y would overwrite your variable y" in slip.evalue
    assert b.value("('X' in globals(), y)") == [False, "mine"]
    assert "replaced your str" in b.do("%shm_attach exp/y")
    assert "replaced" not in b.do("%shm_attach 'exp/*'")
    b.do("del X, y\n%shm_attach 'exp/*'")


def test_detach_clears_what_ipython_keeps(open_notebook, a):
    b = open_notebook("b.ipynb")
    a.do("X = np.ones(200_000)\n%shm_publish X")
    b.do("%shm_attach X")
    b("X")
    b("X[3:]")
    b.fail("def f(z):\n    return z + 'no'\nf(X)")
    mapped = "sum(1 for line in open('/proc/self/maps') if '.npy' in line)"
    assert b.value(mapped) == 1
    assert b.do("%shm_detach X") == "X detached · deleted X · 1.6 MB unmapped here\n"
    assert b.value(mapped) == 0
    assert b.value("'X' in globals()") is False


def test_detach_names_the_culprits(open_notebook, a):
    b = open_notebook("b.ipynb")
    a.do("X = np.ones(200_000)\n%shm_publish X --as data/X")
    b.do("%shm_attach data/X\ntail = X[5:]; d = {'k': [X.reshape(2, -1)]}\n")
    b.do("class Model: pass\nm = Model(); m.coef_ = X.T\ndef f(): return X\n")
    b.do("def g(held): return lambda: held\nclosed = g(X[1:])")
    b.do("copy = X")
    said = b.do("%shm_detach data/X")
    assert "deleted X, copy" in said
    for culprit in ("tail", "d['k'][0]", "m.coef_", "closed (closure 'held')"):
        assert culprit in said, said
    assert "still mapped here by" in said
    b.do("del tail, d, m, closed")
    mapped = "sum(1 for line in open('/proc/self/maps') if '.npy' in line)"
    assert b.value(mapped) == 0


def test_move_reports_the_memory_that_came_back(a):
    a.do("X = np.ones(1_000_000); Y = X[5:]")
    a("X[:2]")
    said = a.do("%shm_publish X --move")
    assert "X is the shared copy now · 8.0 MB not freed: Y, Out[" in said, said
    assert a.value("(jshm.is_shared(X), jshm.is_shared(Y))") == [True, False]
    a.do("Z = np.ones(1_000_000)")
    a("Z")
    said = a.do("%shm_publish Z --move")
    assert "Z is the shared copy now · 8.0 MB of private memory returned" in said
    a.do("W = jshm.zeros(10); W[:] = 4")
    assert "sealed in place, nothing copied" in a.do("%shm_publish W")
    assert a.value("W.flags.writeable") is False


def test_republishing_what_was_attached_copies_nothing(open_notebook, a):
    b = open_notebook("b.ipynb")
    a.do("X = np.ones(1000)\n%shm_publish X")
    b.do("%shm_attach X")
    assert "already shared, nothing copied" in b.do("%shm_publish X --as mine")
    assert a.do("%shm_release X") == "X released · 0 B freed\n"
    b.do("%shm_attach mine\n%shm_attach mine --mode c --as C\nC[0] = 5")
    said = b.do("%shm_publish C")
    assert "nothing copied" not in said
    assert b.value("(jshm.attach('C')[0], jshm.attach('mine')[0])") == [5.0, 1.0]


def test_release_is_the_owner_s(open_notebook, a):
    b = open_notebook("b.ipynb")
    a.do("X = np.ones(1000); y = np.ones(10)\n%shm_publish X y --as exp/")
    b.do("%shm_attach exp/X")
    b.do("mine = np.ones(3)\n%shm_publish mine --as exp/mine")
    slip = b.fail("%shm_release exp/X")
    assert slip.evalue == (
        "exp/X belongs to a.ipynb; used by this notebook. Let go here: %shm_detach exp/X. "
        "Retire for everyone: %shm_release exp/X --force"
    )
    assert b.do("%shm_release 'exp/*'") == "exp/mine released · 24 B freed\n"
    assert "no name of this notebook" in b.fail("%shm_release 'exp/*'").evalue
    assert "still held by this notebook" in b.do("%shm_release exp/X --force")
    assert b.value("X.sum()") == 1000.0
    assert a.do("%shm_release exp/y") == "exp/y released · 80 B freed\n"


def test_an_overflow_to_disk_is_reported_in_one_line(a):
    a.do("import os; os.environ['JSHM_QUOTA'] = '1k'; X = np.ones(1000); import warnings")
    outcome = a("%shm_publish X")
    assert outcome.stdout == "X v1 · float64 (1000,) · 8.0 kB → %shm_attach X\n"
    (line,) = outcome.stderr.splitlines()
    assert line.startswith(
        "OverflowWarning: 8.0 kB do not fit into shared memory (1.0 kB left of the"
    )
    assert "JSHM_QUOTA" in line
    # Warnings of others are shown as ever, also in what a magic runs.
    told = a("%%shm_once Y\nY = np.ones(3); warnings.warn('mine')").stderr
    assert "UserWarning: mine\n" in told
    a.do("os.environ['JSHM_QUOTA'] = 'plenty'")
    refused = a("%shm_publish X")
    assert (refused.status, refused.ename) == ("error", "UsageError")
    assert "JSHM_QUOTA is 'plenty': give bytes, like 8G" in refused.evalue


OLDER = (
    "from jshm.store import default_store\n"
    "with default_store().registry.transact() as tx:\n"
    "    tx.execute('UPDATE versions SET created = created - 600')"
)


def test_release_unused_asks_and_spares_what_is_kept(open_notebook, a):
    b = open_notebook("b.ipynb")
    a.do("X = np.ones(1000); y = np.ones(10); z = np.ones(4)")
    a.do("%shm_publish X\n%shm_publish y --keep\n%shm_publish z")
    b.do("%shm_attach z\nw = np.ones(5)\n%shm_publish w")
    a.do(OLDER)
    outcome = a("%shm_release --unused")
    assert outcome.stdout == "not in use; to release them: %shm_release --unused --yes\n"
    table = outcome.results[0]["text/plain"]
    assert [line.split()[0] for line in table.splitlines()[1:-1]] == ["X"]
    assert a.value("jshm.info('X').version") == 1
    a.restart()
    a.do("%load_ext jshm\nimport jshm")
    assert "only copy" in a("%shm_release --unused").results[0]["text/plain"]
    # The data of a kernel that was restarted, and what was published just now, stay.
    a.do(
        "import numpy as np; new = np.ones(6); old = np.ones(2)\n%shm_publish old\n"
        + OLDER
        + "\n%shm_publish new"
    )
    spared = (
        r"--yes leaves X \(only copy\), new \(published .*\); "
        r"to release by name: %shm_release X new\n"
    )
    outcome = a("%shm_release --unused")
    command = "not in use; to release them: %shm_release --unused --yes\n"
    assert re.fullmatch(command + spared, outcome.stdout)
    table = outcome.results[0]["text/plain"]
    assert [line.split()[0] for line in table.splitlines()[1:-1]] == ["X", "new", "old"]
    done = a.do("%shm_release --unused --yes")
    assert re.fullmatch(r"old released · 16 B freed\n" + spared, done)
    assert sorted(a.value("[i.name for i in jshm.segments()]")) == ["X", "new", "w", "y", "z"]
    assert a.do("%shm_release X new").splitlines()[0] == "X released · 8.0 kB freed"
    assert "nothing to release" in a.do("%shm_release --unused --yes")
    b.do("%shm_detach z")
    theirs = a.do("%shm_release --unused --yes --all")
    spared = "--yes leaves z (only copy); to release by name: %shm_release z\n"
    assert theirs == f"w released · 40 B freed\n{spared}"


def test_waiting_for_a_publisher_that_comes_later(open_notebook, a):
    b = open_notebook("b.ipynb")
    slip = b.fail("%shm_attach late other --wait 0.3")
    assert "waited 0.3 s" in slip.evalue
    waits = "%%capture told\njshm.publish('b_waits', [1])\n%shm_attach late --wait 60"
    b.client.execute(waits)
    a.do("jshm.wait('b_waits')\nlate = np.arange(7)\n%shm_publish late")
    assert b.value("told.stdout").startswith("late ← v1 from a.ipynb")
    assert b.value("late.tolist()") == list(range(7))


def test_an_attach_error_stops_run_all(open_notebook, store_dir):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("%load_ext jshm"),
            nbformat.v4.new_code_cell("%shm_attach nothing_there"),
            nbformat.v4.new_code_cell("reached = True"),
        ]
    )
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="nothing is shared"):
        client.execute()
    assert notebook.cells[2].execution_count is None


def test_variables_are_what_python_makes_of_them(a):
    a.do("हिन्दी = np.ones(2); ﬁ = np.ones(3)")
    assert a.do("%shm_publish हिन्दी ﬁ").startswith("हिन्दी v1 ")
    assert a.value("sorted(i.name for i in jshm.segments())") == ["fi", "हिन्दी"]
    a.do("del ﬁ\n%shm_publish हिन्दी --as ﬁle\n%shm_attach ﬁle\n%shm_attach fi --as ﬁ")
    assert a.value("(ﬁle.tolist(), fi.tolist())") == [[1.0] * 2, [1.0] * 3]
    assert "deleted fi" in a.do("%shm_detach ﬁ")
    a.do("%%shm_once ﬀ\nﬀ = np.ones(1)")
    assert a.value("jshm.is_shared(ff)") is True
    a.do("été = np.ones(2)\n%shm_publish été")
    (shown,) = a("%shm_list e\u0301te\u0301").results
    assert "été" in shown["text/plain"]


def test_the_user_s_own_underscores_are_kept(a):
    a.do("X = np.arange(8.0); _backup = X\n%shm_publish X --move")
    assert a.value("(_backup is X, jshm.is_shared(_backup))") == [True, True]
    a.do("Z = np.arange(4.0)\n%shm_publish Z\n%shm_attach Z\n_half = Z[:2]")
    assert "still mapped here by: _half" in a.do("%shm_detach Z")
    assert a.value("_half.tolist()") == [0.0, 1.0]
    a.do("_hidden = np.ones(1); shown = np.ones(1)")
    assert "_hidden" not in a.do("%shm_publish '*' --as all/")


def test_move_takes_the_very_version_that_was_published(a):
    """Another process may publish the next one in between."""
    a.do(
        """
from jshm import api
attach_published, held = api.attach_published, []
def between(store, done, mode):
    if held is not None:
        held.append(jshm.attach("X"))
    store.publish({"X": np.zeros(2)})
    return attach_published(store, done, mode)
api.attach_published = between
X = np.arange(4.0)
%shm_publish X --move
"""
    )
    assert a.value("(jshm.is_shared(X), X.tolist())") == [True, [0.0, 1.0, 2.0, 3.0]]
    slip = a.fail("held = None; X = np.arange(3.0)\n%shm_publish X --writable")
    assert slip.ename == "UsageError"
    assert "your own array stays private" in slip.evalue
    assert a.value("(jshm.is_shared(X), X.tolist())") == [False, [0.0, 1.0, 2.0]]


def test_release_all_widens_globs_and_not_what_is_written_out(open_notebook, a):
    b = open_notebook("b.ipynb")
    a.do("X = np.ones(3)\njshm.publish({'exp/1': X, 'exp/2': X, 'Y': X})")
    b.do("mine = np.ones(3)\n%shm_publish mine --as exp/mine\n%shm_publish mine")
    for line in (
        "%shm_release Y --all",
        "%shm_release 'exp/*' Y --all",
        "%shm_release mine Y --all",
    ):
        assert "Y belongs to a.ipynb" in b.fail(line).evalue
    names = "sorted(i.name for i in jshm.segments())"
    assert b.value(names) == ["Y", "exp/1", "exp/2", "exp/mine", "mine"]
    assert b.do("%shm_release mine 'exp/*' --all").count("released") == 4
    assert b.value(names) == ["Y"]
    assert "no shared name matches" in b.fail("%shm_release 'exp/*' --all").evalue
    assert "Y released" in b.do("%shm_release Y --all --force")


def test_detach_spares_private_work_and_takes_what_is_named(open_notebook, a):
    b = open_notebook("b.ipynb")
    a.do("X = np.zeros(200_000)\n%shm_publish X")
    b.do("%shm_attach X\n%shm_attach X --as mine --mode c\n%shm_attach X --as same --mode c")
    b.do("mine[0] = 42; part = X[5:]")
    said = b.do("%shm_detach X")
    assert "deleted X, same" in said
    assert "still mapped here by: mine, part" in said
    assert b.value("mine[0]") == 42
    assert "deleted part" in b.do("%shm_detach part")
    assert "unmapped here" in b.do("%shm_detach mine")


def test_a_failed_magic_keeps_nothing_alive(a):
    a.do("X = np.ones(1_000_000)\n%shm_publish X")
    a.fail("%shm_detach X")
    assert "8.0 MB of private memory returned" in a.do("%shm_publish X --move")


def test_a_kept_name_stays_kept(a):
    a.do("X = np.ones(3)\n%shm_publish X --keep\n%shm_publish X")
    assert a.value("(jshm.info('X').version, jshm.info('X').keep)") == [2, True]
