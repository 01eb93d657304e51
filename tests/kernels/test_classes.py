"""A shared class is the same class after a restart and in another notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .notebook import Notebook

    Open = Callable[..., Notebook]

CELL = """\
import dataclasses, enum
class Mode(enum.Enum):
    FAST = 1
    def shout(self): return self.name + "!"
@dataclasses.dataclass
class Cfg:
    mode: Mode
    lr: float = 0.1
    def scaled(self, by=2): return self.lr * by
class Model:
    calls = 0
    def fit(self, cfg):
        type(self).calls += 1
        self.cfg = cfg
        return self
"""


def test_after_a_restart(open_notebook: Open) -> None:
    notebook, other = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    notebook.do(CELL)
    notebook.do("cfg = Cfg(Mode.FAST); model = Model().fit(cfg)")
    notebook.do("%shm_publish cfg model")
    notebook.restart()
    notebook.do("%load_ext jshm\nimport pickle")
    notebook.do("# run again, a line further down\n" + CELL)
    assert "Warning" not in notebook("%shm_attach cfg model").stderr
    assert notebook.value("[cfg == Cfg(Mode.FAST), cfg.mode is Mode.FAST, isinstance(model, Model)]") == [
        True, True, True,
    ]  # fmt: skip
    assert notebook.value("[pickle.loads(pickle.dumps(cfg)) == cfg, Model.calls]") == [True, 0]
    # Another notebook has not run the cell yet; then it does.
    other.do("%shm_attach cfg model")
    assert other.value("[cfg.scaled(), cfg.mode.shout(), type(model.cfg) is type(cfg)]") == [
        0.2, "FAST!", True,
    ]  # fmt: skip
    other.do(CELL)
    other.do("%shm_attach cfg model")
    assert other.value("[cfg == Cfg(Mode.FAST), isinstance(model, Model)]") == [True, True]


def test_another_definition_is_reported_in_one_line(open_notebook: Open) -> None:
    notebook, other = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    notebook.do(CELL + "cfg = Cfg(Mode.FAST)\n%shm_publish cfg")
    other.do(CELL.replace("by=2", "by=3"))
    outcome = other("%shm_attach cfg")
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("DefinitionWarning: the class Cfg that was shared differs"), line
    assert "in: scaled." in line
    assert other.value("[cfg.scaled(), isinstance(cfg, Cfg), cfg.mode is Mode.FAST]") == [
        0.2, False, True,
    ]  # fmt: skip
    assert other("%shm_attach cfg").stderr == ""


def test_state_is_not_reset(open_notebook: Open) -> None:
    notebook, other = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    notebook.do(CELL + "m1 = Model()\nm2 = Model()\n%shm_publish m1")
    notebook.do("Model.calls = 5\n%shm_publish m2")
    other.do("%shm_attach m1\ntype(m1).calls = 7\ntype(m1).fit = lambda self, cfg: 'patched'")
    other.do("%shm_attach m2")
    assert other.value("[type(m2) is type(m1), m1.calls, m2.fit(0)]") == [True, 7, "patched"]


def test_a_module_beside_both_notebooks(open_notebook: Open, tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text(
        CELL + "import threading, functools\nlock = threading.Lock()\n"
        "@functools.lru_cache\ndef load(n): return [n]\n"
        "class Locked:\n    def get(self):\n        with lock: return self.__class__\n"
    )
    notebook, other = open_notebook("a.ipynb"), open_notebook("b.ipynb")
    for one in (notebook, other):
        one.do(f"%cd -q {tmp_path}")
    notebook.do("import utils\ncfg = utils.Cfg(utils.Mode.FAST)\nlocked = utils.Locked()\n"
                "load = utils.load\nfit = lambda: utils.load(1)")  # fmt: skip
    notebook.do("%shm_publish cfg locked load fit")
    other.do("%shm_attach cfg locked load fit\nimport utils")
    assert other.value(
        "[cfg == utils.Cfg(utils.Mode.FAST), locked.get() is utils.Locked, load is utils.load,"
        " fit() is utils.load(1)]"
    ) == [True, True, True, True]
