"""Variables that share state: one magic publishes them, and one attach in another notebook restores that."""

from __future__ import annotations

import pytest

from .test_shared_objects import a, b, desk, info, settled, shared_desk

__all__ = ["a", "b", "desk", "shared_desk"]  # fixtures

pytestmark = pytest.mark.xdist_group("together")

CODE = """
UNSET = object()
count = 0
class Model:
    def __init__(self, v=UNSET):
        self.v = v
def is_unset(m):
    return m.v is UNSET
def inc():
    global count
    count += 1
def get():
    return count
model = Model()
"""


def test_published_in_one_line_and_attached_in_one(a, b):
    a.do(CODE)
    said = a.do("%shm_publish model is_unset inc get")
    assert said.splitlines()[4:] == [
        "model and is_unset share state: attach them together to keep that: %shm_attach model is_unset",
        "inc and get share state: attach them together to keep that: %shm_attach inc get",
    ]
    b.do("%shm_attach model is_unset inc get")
    assert b.value("[is_unset(model), inc(), inc(), get()]") == [True, None, None, 2]
    assert info(b, "inc")["Shares state with"] == "get"
    # One by one each is whole, and says what is missing.
    said = b.do("%shm_attach inc\n%shm_attach get")
    assert [line.split(" · ")[1] for line in said.splitlines()] == [
        "shares state with get, not attached with it",
        "shares state with inc, not attached with it",
    ]
    assert b.value("[inc(), get()]") == [None, 0]
    # A variable is let go of alone.
    assert "deleted inc" in b.do("%shm_detach inc")
    assert b.value("['inc' in globals(), get()]") == [False, 0]


def test_no_message_where_nothing_is_shared(a, b):
    a.do("def helper(x): return x + 1\ndef f(x): return helper(x)\ndef g(x): return helper(x) + 1")
    assert len(a.do("%shm_publish f g").splitlines()) == 2
    assert " · " not in b.do("%shm_attach f")
    assert "Shares state with" not in info(b, "f")


def test_an_array_and_a_function_that_uses_it_are_written_once(a, b):
    a.do("X = np.arange(100_000.0)\ndef f(): return X")
    assert "refers to X v" in a.do("%shm_publish X f")
    b.do("%shm_attach f X")
    assert b.value("[f() is X, float(X.sum())]") == [True, 4999950000.0]
    assert b.value("mapped()") == 1


def test_a_cell_that_runs_once(a, b):
    cell = "%%shm_once first second\nfirst = {'w': np.arange(1000.0)}\nsecond = [first]"
    for notebook in (a, a, b):
        notebook.do(cell)
        assert notebook.value("second[0] is first")
        notebook.do("del first, second")


def test_followed_together(a, b):
    a.do("x = [1]; y = {'x': x}")
    a.do("%shm_publish x y")
    b.do("%shm_attach x y --follow")
    assert b.value("y['x'] is x")
    a.do("x = [2]; y = {'x': x}")
    a.do("%shm_publish x y")
    assert [settled(line) for line in b.do("pass").splitlines()] == [
        "x → vN, train.ipynb, AGO",
        "y → vN, train.ipynb, AGO",
    ]
    assert b.value("[x, y['x'] is x]") == [[2], True]
    a.do("x = [3]")
    a.do("%shm_publish x")
    assert [settled(line) for line in b.do("pass").splitlines()] == ["x → vN, train.ipynb, AGO"]
    assert b.value("[x, y]") == [[3], {"x": [2]}]


def test_moved_together(a, b):
    a.do("w = np.arange(1000.0); x = {'w': w}; y = [x]")
    a.do("%shm_publish x y --move")
    assert a.value("[y[0] is x, x['w'].flags.writeable]") == [True, False]


def test_a_net_and_its_optimizer(a, b):
    if not a.value("__import__('importlib.util').util.find_spec('torch') is not None"):
        pytest.skip("torch is not installed")
    a.do(
        "import torch\nnet = torch.nn.Linear(2, 1)\nopt = torch.optim.SGD(net.parameters(), lr=0.1)"
    )
    a.do("%shm_publish net opt")
    b.do("%shm_attach net opt --mode c")
    b.do("import torch\nbefore = net.weight.detach().clone()")
    b.do("net(torch.ones(1, 2)).sum().backward(); opt.step()")
    assert b.value("bool((net.weight != before).all())")


def test_pushed_together(a, b):
    a.do("x = [1]; y = {'x': x}; jshm.publish({'x': x, 'y': y})")
    b.do("%shm_accept --auto")
    a.do("%shm_push x y --to eda.ipynb")
    assert len(b.do("pass").splitlines()) == 2
    assert b.value("y['x'] is x")
    b.do("%shm_accept --auto off")
