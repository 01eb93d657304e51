"""Classes and functions of a script that a worker publishes belong to the script for every reader."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """\
import dataclasses, enum, json, multiprocessing as mp, sys
FACTOR = 2
class Mode(enum.Enum):
    FAST = 1
@dataclasses.dataclass
class Cfg:
    mode: Mode = Mode.FAST
    def scale(self, x): return x * FACTOR
def scale(x): return x * FACTOR
def work(_):
    import jshm
    jshm.publish({"scale": scale, "cfg": Cfg(), "Cfg": Cfg}, keep=True)
def look(_=None):
    import jshm
    f, cfg, kind = jshm.attach(["scale", "cfg", "Cfg"])
    return [f(21), cfg == Cfg(), cfg.mode is Mode.FAST, kind is Cfg, cfg.scale(1)]
if __name__ == "__main__":
    import jshm
    context = mp.get_context(sys.argv[1])
    with context.Pool(1) as pool:
        pool.map(work, [0])
    with context.Pool(1) as pool:
        (there,) = pool.map(look, [0])
    jshm.publish("back", Cfg(), keep=True)
    print(json.dumps([there, look()]))
"""
READER = """\
import json, multiprocessing, jshm
def scale(x): return "the reader's own"
class Cfg: pass
import warnings
warnings.simplefilter("ignore", jshm.DefinitionWarning)
f, cfg = jshm.attach(["scale", "cfg"])
print(json.dumps([f(21), f.__module__, cfg.scale(1), type(cfg).__module__, isinstance(cfg, Cfg)]))
"""


def output(*command: str) -> object:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_attached_class_is_the_class_of_the_script(
    store_dir: str, tmp_path: Path, method: str
) -> None:
    assert store_dir
    (tmp_path / "script.py").write_text(SCRIPT)
    same = [42, True, True, True, 2]
    assert output(str(tmp_path / "script.py"), method) == [same, same]
    assert output("-c", READER) == [42, "__main__", 2, "__main__", False]
