"""Magics inside functions, and magics whose value is assigned."""

from __future__ import annotations

import pytest

MAPPED = "sum(1 for line in open('/proc/self/maps') if '/segments/' in line)"


@pytest.fixture
def a(open_notebook):
    return open_notebook("a.ipynb")


@pytest.fixture
def b(open_notebook, a):
    a.do("X = np.arange(4.0); y = np.ones((2, 3)); d = {'k': [1, 2]}\n%shm_publish X y d")
    return open_notebook("b.ipynb")


LOCALS = {
    "function": "def f(local):\n    %shm_publish local\nf(np.ones(2))",
    "nested": "def f():\n    def g():\n        local = np.ones(2)\n        %shm_publish local\n    g()\nf()",
    "captured": (
        "def f():\n    local = np.ones(2)\n    def g():\n        local\n        %shm_publish local\n"
        "    g()\nf()"
    ),
    "method": "class A:\n    def m(self):\n        local = np.ones(2)\n        %shm_publish local\nA().m()",
    "loop": "def f():\n    for local in [np.ones(2)]:\n        %shm_publish local\nf()",
    "comprehension": (
        "def f():\n    return [get_ipython().run_line_magic('shm_publish', 'local')"
        " for local in [np.ones(2)]]\nf();"
    ),
    "around a comprehension": (
        "def f():\n    local = np.ones(2)\n    return [get_ipython().run_line_magic('shm_publish', n)"
        " for n in ['local']]\nf();"
    ),
    "class": "class A:\n    local = np.ones(2)\n    %shm_publish local",
    "async": "async def f():\n    local = np.ones(2)\n    %shm_publish local\nawait f()",
    "timed line": "def f():\n    local = np.ones(2)\n    %time %shm_publish local\nf()",
    "timed cell": "%%time\ndef f():\n    local = np.ones(2)\n    %shm_publish local\nf()",
    "in a comprehension of the cell": (
        "[get_ipython().run_line_magic('shm_publish', 'local') for local in [np.ones(2)]];"
    ),
}


@pytest.mark.parametrize("kind", LOCALS)
def test_local_variables_are_published(a, kind):
    a.do("local = 'of the notebook'")
    assert "local v1 · float64 (2,)" in a.do(LOCALS[kind])
    assert a.value("jshm.attach('local').tolist()") == [1.0, 1.0]


def test_a_glob_and_a_push_see_what_is_local(open_notebook, a):
    open_notebook("b.ipynb")
    a.do("feature_a = np.ones(1)")
    code = "def f():\n    feature_a = np.ones(5); feature_b = np.ones(6)\n    {}\nf()"
    said = a.do(code.format("%shm_publish 'feature_*'"))
    assert [line.split(" →")[0] for line in said.splitlines()] == [
        "feature_a v1 · float64 (5,) · 40 B",
        "feature_b v1 · float64 (6,) · 48 B",
    ]
    assert "published" in a.do(
        "def f():\n    mine = np.ones(3)\n    %shm_push mine --to b.ipynb\nf()"
    )
    assert a.value("jshm.attach('mine').shape") == [3]


def test_never_a_variable_that_python_would_not_mean(a):
    """The global of that name is another's value."""
    a.do("far = later = np.zeros(1)")
    slip = a.fail(
        "def outer():\n    far = np.ones(2)\n    def inner():\n        %shm_publish far\n"
        "    inner()\nouter()"
    )
    assert slip.evalue == (
        "far is a variable of outer(), which inner() can read only if its own code uses it: put a line "
        "`far` above the magic"
    )
    slip = a.fail("def f():\n    %shm_publish later\n    later = 1\nf()")
    assert slip.evalue == "later is a variable of f() and has no value yet"
    assert a.value("jshm.segments()") == []


def test_a_magic_that_cannot_work_in_a_function_fails_before_it_starts(b):
    for option in ("--move", "--writable"):
        slip = b.fail(f"def f():\n    m = np.ones(1)\n    %shm_publish m {option}\nf()")
        assert f"m is a variable of f(), and {option} cannot rebind it" in slip.evalue
        assert "m = %shm_attach m; nothing was published" in slip.evalue
    slip = b.fail("def f():\n    X = 1\n    %shm_attach X\nf()")
    assert "Write X = %shm_attach X; nothing was attached" in slip.evalue
    slip = b.fail("def f():\n    Q = %shm_attach X\n    %shm_detach Q\nf()")
    assert "write del Q; nothing was detached" in slip.evalue
    slip = b.fail("def f():\n    Q = %shm_attach X --follow\nf()")
    assert "--follow rebinds variables of the notebook" in slip.evalue
    assert b.value("([i.name for i in jshm.segments()], 'X' in globals())") == [
        ["X", "d", "y"],
        False,
    ]


def test_a_function_s_effects_on_the_notebook_are_reported(b):
    said = b.do("def f():\n    %shm_attach X\n    return X.sum()\ntotal = f()")
    assert said.endswith(" · read-only, nothing copied · bound in the notebook, not in f()\n")
    assert b.value("(total, X.sum())") == [6.0, 6.0]
    assert "X detached · deleted X" in b.do("def f():\n    %shm_detach X\nf()")
    said = b.do("def f():\n    get_ipython().run_cell_magic('shm_once', 'o', 'o = 1')\nf()")
    assert said.endswith("the next run attaches them · bound in the notebook, not in f()\n")
    b.do("mine = np.ones(1)\ndef f():\n    global mine\n    %shm_publish mine --move\nf()")
    assert b.value("jshm.is_shared(mine)") is True


def test_an_assignment_binds_what_it_says(b):
    said = b.do("Z = %shm_attach X")
    assert said.startswith("Z ← X v1 from a.ipynb")
    assert b.value("(type(Z).__name__, jshm.is_shared(Z), 'X' in globals())") == [
        "ndarray",
        True,
        False,
    ]
    b.do("A, B = %shm_attach X y\nboth = %shm_attach X y\ndata = {}\ndata['k'] = %shm_attach X")
    b.do("class Box: pass\nbox = Box()\nbox.x = %shm_attach d")
    b.do("first = second = get_ipython().run_line_magic('shm_attach', 'X')")
    expression = (
        "(A.shape, B.shape, [v.shape for v in both], data['k'].tolist(), box.x, second is first)"
    )
    assert b.value(expression) == [[4], [2, 3], [[4], [2, 3]], [0, 1, 2, 3], {"k": [1, 2]}, True]
    b.do("for name in ['X', 'y']:\n    item = %shm_attach $name")
    assert b.value("item.shape") == [2, 3]
    said = b.do("def f():\n    Q = %shm_attach X\n    return Q.sum()\nprint(f())")
    assert said.startswith("Q ← X v1 from a.ipynb")
    assert said.endswith("nothing copied\n6.0\n")
    assert b.value("'Q' in globals()") is False
    assert b.do("Z = %shm_attach X --follow").endswith("followed\n")
    b.do("%time W = %shm_attach y")
    assert b.value("W.shape") == [2, 3]


def test_assignments_that_say_too_much(b):
    assert "leave one of them out" in b.fail("Z = %shm_attach X --as W").evalue
    slip = b.fail("A, B, C = %shm_attach X y")
    assert slip.evalue == ("2 names (X, y) cannot be assigned to 3 variables; nothing was attached")
    assert b.fail("A, B = %shm_attach X X").evalue.startswith(
        "one name (X) cannot be assigned to 2"
    )
    b.do("X = np.ones(3)")
    for line, told in (
        ("X = %shm_publish X", "attach the shared copy: X = %shm_attach X"),
        ("X = %shm_list", "jshm.segments()"),
        ("X = %shm_info y", 'jshm.info("y")'),
        ("X = %shm_push X --to a.ipynb", "leave the assignment out"),
        ("X = %shm_detach X", "leave the assignment out"),
        ("X = %shm_release X", "jshm.release"),
        ("X = %shm_accept", "name what to accept"),
        ("X = %shm_browser", "jshm.SegmentBrowser()"),
    ):
        slip = b.fail(line).evalue
        assert "returns nothing, so X would be None" in slip
        assert told in slip
    assert b.value("(X.tolist(), jshm.info('X').publisher)") == [[1.0] * 3, "a.ipynb"]


def test_only_the_variable_keeps_an_assigned_value(b):
    b.do("Z = %shm_attach X")
    b("%shm_attach X --as V")
    b("%time %shm_attach X --as V")
    assert b.value(f"(list(Out), {MAPPED})") == [[1], 1]  # what the process id was
    assert "deleted" in b.do("%shm_detach Z")
    assert b.value(f"('Z' in globals(), {MAPPED})") == [False, 0]
    for code in ("Z = %shm_attach X\ndel Z", "def f():\n    Z = %shm_attach X\nf()"):
        b.do(code)
        assert b.value(MAPPED) == 0, code
    b.do("Z = %shm_attach d")
    assert "deleted Z" in b.do("%shm_detach Z")


EXPRESSIONS = (
    "D['k']", "X[:10]", "model.coef_", "f(3)", "[1,2]", "X[0, 1]", "X[X > 0]", "X @ X", "np.ones((2, 3))",
    "lambda: 3", 'D["it\'s"]', "X if D else y", "3",
)  # fmt: skip


@pytest.mark.parametrize("magic", ["%shm_publish", "%shm_push"])
def test_expressions_are_explained(open_notebook, a, magic):
    open_notebook("b.ipynb")
    a.do("X = np.ones(3); y = X; D = {'k': X}; model = type('M', (), {'coef_': X}); f = len")
    a.do("X0 = X1 = np.ones(2)")  # as a pattern, X[:10] would be both
    to = " --to b.ipynb" if magic == "%shm_push" else " --keep"
    for text in EXPRESSIONS:
        slip = a.fail(f"{magic} {text}{to}")
        assert slip.evalue == f"{magic} takes variables: write Y = {text} first, then {magic} Y", (
            text
        )
    assert a.fail(f"{magic} X D['k']{to}").evalue.count("Y = D['k']") == 1
    assert "write W = D['k'] first" in a.fail(f"{magic} W=D['k']{to}").evalue
    assert f"takes no commas: {magic} X y" in a.fail(f"{magic} X, y{to}").evalue
    a.do("Y = 1")
    assert "write Z = D['k'] first" in a.fail(f"{magic} D['k']{to}").evalue
    assert a.value("jshm.segments()") == []


def test_patterns_stay_patterns(a):
    a.do("xa = np.ones(1); xb = np.ones(2); x = 3; ab_1 = np.ones(3)")
    assert [line[:2] for line in a.do("%shm_publish x[ab]").splitlines()] == ["xa", "xb"]
    assert "ab_1 v1" in a.do("%shm_publish ab_[12]")
    assert "ab_1 v2" in a.do("%shm_publish 'ab_[1:]'")
    assert "no variable with an array or a table matches" in a.fail("%shm_publish 'no[12]'").evalue
    assert "no variable with an array or a table matches" in a.fail("%shm_publish no_*").evalue


def test_expressions_elsewhere(b):
    b.do("D = {}")
    slip = b.fail("%%shm_once D['k']\nD['k'] = 1").evalue
    assert slip == (
        "%%shm_once takes variables that the cell makes: write Y = D['k'] into the cell, and "
        "%%shm_once Y"
    )
    for part in ("X[:2]", "d['k']", "X.T"):
        slip = b.fail(f"%shm_attach {part}").evalue
        assert slip == (
            f"%shm_attach takes names: attach {part[0]}, which copies nothing, and use {part}"
        )
    slip = b.fail("%shm_attach X --as D['k']").evalue
    assert slip == "--as takes a variable's name: write D['k'] = %shm_attach X"


def test_shared_and_private_values(b):
    def memory() -> str:
        rows = b("%shm_info big").results[0]["text/plain"].splitlines()
        return next((row for row in rows if row.startswith("Memory here")), "")

    b.do("big = np.ones(1_000_000)\n%shm_publish big\ndel big")
    assert memory() == ""
    b.do("%shm_attach big")
    assert memory().endswith("0 B of shared pages, not copied · nothing private")
    b.do("big.sum()")
    assert memory().endswith("8.0 MB of shared pages, not copied · nothing private")
    b.do("mine = %shm_attach big --mode c\nmine[0] = mine[-1] = 2")
    assert memory().endswith("not copied · 8.2 kB private: pages that were changed here")
    assert " private + " in b("%shm_info big").results[0]["text/plain"]
