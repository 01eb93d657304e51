"""The wheel: it has the panel, the widget and the server's configuration, and needs no Node."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import jshm

ROOT = Path(__file__).parent.parent
EXTENSION = "share/jupyter/labextensions/jshm"


def without_node() -> dict[str, str]:
    """Return an environment without Node and npm."""
    places = os.environ["PATH"].split(os.pathsep)
    kept = [
        p for p in places if not any(os.path.exists(os.path.join(p, n)) for n in ("node", "npm"))
    ]
    return {**os.environ, "PATH": os.pathsep.join(kept), "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of what was built from TypeScript before."""
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(target), str(ROOT)],
        check=True, capture_output=True, env=without_node(),
    )  # fmt: skip
    (found,) = target.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it, and nothing of this tree; libraries are borrowed."""
    home = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)],
        check=True, env=without_node(), cwd=home,
    )  # fmt: skip
    (site,) = home.glob("lib/python*/site-packages")
    # As a path only: what is editable here stays here.
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return home


def run(fresh: Path, *words: str) -> str:
    done = subprocess.run(
        [str(fresh / "bin" / "python"), *words],
        capture_output=True, text=True, env=without_node(), cwd=fresh, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_wheel_has_all_that_users_need_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    data = f"jshm-{jshm.__version__}.data/data"
    for needed in (
        "jshm/static/widget.js",
        "jshm/static/widget.css",
        "jshm/server/openapi.yaml",
        "jshm/server/events.yaml",
        "jshm/py.typed",
        f"{data}/etc/jupyter/jupyter_server_config.d/jshm.json",
        f"{data}/{EXTENSION}/package.json",
        f"{data}/{EXTENSION}/install.json",
        f"{data}/{EXTENSION}/static/style.js",
        f"{data}/{EXTENSION}/schemas/jshm/plugin.json",
    ):
        assert needed in names
    assert [n for n in names if re.search(rf"{EXTENSION}/static/remoteEntry\.\w+\.js$", n)]
    allowed = re.compile(r"jshm/.*\.(py|typed|js|css|yaml|ipynb)$|jshm-[\d.]+\.(data|dist-info)/")
    assert [n for n in names if not allowed.match(n)] == []
    unwanted = re.compile(r"node_modules|build_log|\.tsx?$|\.map$")
    assert [n for n in names if unwanted.search(n)] == []


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= 560_000  # three quarters are Python sources
    assert (ROOT / "jshm" / "static" / "widget.js").stat().st_size <= 64_000


def test_it_works_in_a_fresh_environment_without_node(fresh: Path) -> None:
    where = run(fresh, "-c", "import jshm; print(jshm.__file__)")
    assert str(fresh) in where
    assert run(fresh, "-m", "jshm", "--version").strip() == f"jshm {jshm.__version__}"
    shown = run(
        fresh, "-c",
        "import jshm.widget as w; print(len(w._bundle('widget.js', '')) > 10_000)",
    )  # fmt: skip
    assert shown.split()[0] == "True"


def test_a_server_and_lab_find_it(fresh: Path) -> None:
    listed = run(fresh, "-m", "jupyter_server.extension.serverextension", "list")
    assert re.search(r"jshm\W+(\x1b\[\d+m)?enabled", listed)
    assert re.search(rf"jshm {re.escape(jshm.__version__)} .*OK", listed)
    code = (
        "import json; from jupyterlab_server.config import get_federated_extensions;"
        f"print(json.dumps(get_federated_extensions([{str(fresh / 'share/jupyter/labextensions')!r}])))"
    )
    found = json.loads(run(fresh, "-c", code).splitlines()[-1])["jshm"]
    assert found["version"] == jshm.__version__
    assert found["install"]["packageName"] == "jshm"


def test_the_version_is_the_same_everywhere() -> None:
    package = json.loads((ROOT / "labextension" / "package.json").read_text())
    lock = json.loads((ROOT / "labextension" / "package-lock.json").read_text())
    assert (
        package["version"] == lock["version"] == lock["packages"][""]["version"] == jshm.__version__
    )


def test_the_lockfile_names_no_host() -> None:
    assert "://" not in (ROOT / "labextension" / "package-lock.json").read_text()
    settings = (ROOT / "labextension" / ".npmrc").read_text()
    assert "registry=" not in settings
