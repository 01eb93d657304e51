"""Text from outside controls no terminal, forges no line, and is printed in any encoding."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jshm
from jshm import cli
from jshm.store import default_store
from jshm.text import encodable, printable, say, shown

from ..support.processes import Child

if TYPE_CHECKING:
    from pathlib import Path

# Sets a terminal's title, writes backwards, begins another line, and is in few encodings.
EVIL = "ev\x1b]0;title\x07\u202eil\r\nX released\x00\x9b31m\u2028·→é大"
# All that commands a terminal or forges a line, but for the end of ours.
COMMANDS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

PUBLISH = f"""
import jshm, numpy as np, warnings
from dataclasses import replace
from jshm.store.local import process
warnings.simplefilter("ignore")
EVIL = {EVIL!r}
discover = process.discover
def evil(*known):
    return replace(
        discover(*known), notebook="/x/" + EVIL.replace("/", ""), program="kernel",
        connection_file="/tmp/" + EVIL, kernel_id=EVIL,
    )
process.discover = evil
def f(x):
    return x
f.__doc__, f.__name__, f.__qualname__ = EVIL, "f" + EVIL, "f" + EVIL
jshm.publish("X", np.arange(3.0), note=EVIL, keep=True)
jshm.publish("S", np.zeros(3, [(EVIL, "i4"), ("b", "f8")]), keep=True)
jshm.publish({{"O": {{EVIL: 1, "a": np.zeros(2000)}}}}, keep=True, note="n" * 10_000)
jshm.publish("F", f, keep=True)
shared = [1]
jshm.publish({{"a": shared, "b": [shared]}}, keep=True)
"""
COMMAND_LINES = [
    ["list"], ["list", EVIL], ["list", "X*"], ["list", "--json"],
    *(["info", name] for name in ("X", "S", "O", "F", "a", EVIL, "\udcff")),
    ["release", "X"], ["release", EVIL], ["release", "q*\x1b"], ["path", EVIL],
    ["--group", "g\x1b\udcff", "list"], [EVIL], ["list", "--x\x1b"], ["list", "a", EVIL],
    ["check"], ["gc"], ["check", "--fix"], ["release", "X", "--force"], ["list"], ["--help"],
]  # fmt: skip
LINES = [
    "%shm_list", "%shm_info X S O F a", "%shm_attach X S a b", "%shm_attach F --as g",
    "%shm_attach O --follow",
    "Z = %shm_attach X", "%shm_publish X", "%shm_publish X --as y --note '\x1b]0;x\x07'",
    "%shm_publish X --replace", "%shm_publish X --as größe/大", "%shm_attach '\x1b*'", "%shm_attach \x1b]",
    "%shm_attach X --as '\x1b]'", "%shm_publish '\x1bx'", "%shm_publish X --bad\x1b",
    "%shm_info X --version \x1b",
    "%shm_push X --to '\x1b]0;'", "%shm_accept", "%shm_accept --auto '\x1b]'", "%shm_accept \x1b",
    "%shm_release S", "%shm_release '\x1b'", "%shm_detach '\x1b'", "%shm_detach X",
    "%shm_list --group 'g\x1b'",
    "%%shm_once W\nW = 1", "%%shm_once W\nW = 1", "%shm_release --unused --all", "print(jshm.segments())",
    "print(jshm.info('S'))", "print(jshm.lock('größe'), jshm.SharedNumpyArray.as_shared(jshm.attach('S')))",
    "jshm.attach('\x1b]0;x')", "bad = {'a': open('/dev/null')}", "%shm_publish bad",
    "%shm_release S --force", "%shm_list",
]  # fmt: skip
IN_A_TERMINAL = f"""
import sys, jshm
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance(colors="NoColor", simple_prompt=True, history_length=0)
shell.history_manager.enabled = False
shell.run_cell("%load_ext jshm\\nimport jshm")
for line in {LINES!r}:
    found = shell.run_cell(line)
    error = found.error_in_exec or found.error_before_exec
    if error is not None and not isinstance(error, jshm.JshmError):
        assert type(error).__name__ == "UsageError", (line, error)
sys.stdout.flush()
"""
ENCODINGS: dict[str, dict[str, str]] = {
    "UTF-8": {"PYTHONIOENCODING": "utf-8"},
    "ASCII": {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
    "C": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.fixture
def evil(store_dir: str, tmp_path: Path) -> str:
    """A store in which everything that somebody may choose is evil."""
    with Child(tmp_path, "evil.py") as child:
        child.run(PUBLISH)
    for name in (b"zz\x1b[31m\n", b"\xff\x1b[31m.npy"):
        with open(os.path.join(os.fsencode(store_dir), b"segments", name), "wb"):
            pass
    return store_dir


def run(encoding: str, words: list[str], where: Path, **env: str) -> tuple[int, str]:
    """Run Python; return its exit code and what it printed, which must be harmless."""
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, check=False, timeout=100,
        env={**os.environ, **ENCODINGS[encoding], **env, "IPYTHONDIR": str(where)},
    )  # fmt: skip
    codec = ENCODINGS[encoding].get("PYTHONIOENCODING", "ascii")
    out = done.stdout.decode(codec)  # or it was not what the terminal takes
    err = done.stderr.decode(errors="surrogateescape" if codec == "utf-8" else "replace")
    assert "UnicodeEncodeError" not in out + err, out + err
    return done.returncode, out + err


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_command_line(evil: str, tmp_path: Path, encoding: str) -> None:
    code = """
import sys, json
from jshm.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit:
        pass
"""
    returned, text = run(encoding, ["-c", code, json.dumps(COMMAND_LINES)], tmp_path)
    assert returned == 0, text
    assert not COMMANDS.search(text), ascii(text)
    assert "Traceback" not in text
    assert not re.search("^X released$", text, re.MULTILINE)
    assert "title" in text
    if encoding in ("ASCII", "C"):
        assert "6 names - " in text
        assert text.isascii()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_magics(evil: str, tmp_path: Path, encoding: str) -> None:
    script = tmp_path / "magics.py"
    script.write_text(IN_A_TERMINAL, encoding="utf-8")
    returned, text = run(encoding, [str(script)], tmp_path)
    assert returned == 0, text
    # IPython shows what was typed in tracebacks; that is not ours.
    lines = [line for line in text.split("\n") if "jshm.attach('" not in line]
    assert [line for line in lines if COMMANDS.search(line)] == []
    assert "X <-" in text or "X ←" in text


def test_names_of_a_damaged_registry(evil: str, capsys: pytest.CaptureFixture[str]) -> None:
    default_store().close()
    con = sqlite3.connect(f"{evil}/registry.db")
    con.execute("UPDATE versions SET name = ? WHERE name = 'X'", (EVIL,))
    con.execute("UPDATE names SET name = ? WHERE name = 'X'", (EVIL,))
    con.execute("UPDATE segments SET descr = ? WHERE kind = 'object'", (EVIL * 100_000,))
    con.commit()
    con.close()
    for words in (["list"], ["info", "O"], ["check"], ["info", "nothing"], ["check", "--fix"]):
        cli.main(words)
        said = "".join(capsys.readouterr())
        assert not COMMANDS.search(said), (words, ascii(said[:300]))
        assert len(said) < 200_000, "a long text is cut"


def test_the_path_of_a_file_is_exact_for_programs(
    store_dir: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = os.fsencode(store_dir) + b"/gr\xf6\xdfe\x1b"
    env = {**os.environ, "JSHM_DIR": os.fsdecode(place), **ENCODINGS["ASCII"]}
    code = "import jshm; jshm.publish('X', [1], keep=True)"
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    path = subprocess.run(
        [sys.executable, "-m", "jshm", "path", "X"], env=env, check=True, capture_output=True
    ).stdout
    assert os.path.exists(path.rstrip(b"\n"))
    listed = subprocess.run(
        [sys.executable, "-m", "jshm", "info", "X"], env=env, check=True, capture_output=True
    ).stdout
    assert b"\x1b" not in listed


# -- the words themselves --------------------------------------------------------------------------


class Stream(io.StringIO):
    def __init__(self, encoding: str | None) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> Any:
        return self._encoding


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "a · b → é大…"), ("latin-1", "a · b -> é\\u5927..."),
        ("ascii", "a - b -> \\xe9\\u5927..."), ("cp1252", "a · b -> é\\u5927…"),
        (None, "a · b → é大…"), ("no such", "a · b → é大…"),
    ],
)  # fmt: skip
def test_characters_that_a_terminal_lacks_are_replaced(encoding: str | None, expected: str) -> None:
    stream = Stream(encoding)
    say("a · b → é大…", stream=stream)
    assert stream.getvalue() == f"{expected}\n"


@given(st.text())
def test_each_line_stays_one(text: str) -> None:
    for encoding in ("utf-8", "ascii", "latin-1", "utf-16"):
        stream = Stream(encoding)
        say(text, "next", stream=stream)
        first, second, rest = stream.getvalue().split("\n")
        assert (second, rest) == ("next", "")
        assert not COMMANDS.search(first)
        first.encode(encoding)
    assert printable(printable(text)) == printable(text)
    assert encodable(text, Stream("utf-8")).encode("utf-8", "surrogatepass") is not None


@pytest.mark.parametrize(
    "kind", sorted(n for n in dir(jshm) if n.endswith(("Error", "Warning", "Timeout")))
)
def test_errors_and_warnings_say_it_harmlessly(kind: str) -> None:
    error = getattr(jshm, kind)(EVIL + "x" * 1_000_000)
    assert not COMMANDS.search(str(error))
    assert len(str(error)) <= 20_000
    if isinstance(error, Warning):
        assert not COMMANDS.search(warnings.formatwarning(error, type(error), "f", 1, ""))


def test_reprs_say_it_harmlessly(store: Any) -> None:
    array = np.zeros(2, [(EVIL, "i4")])
    jshm.publish("X", array, note=EVIL)
    for value in (
        jshm.info("X"),
        jshm.SharedNumpyArray.as_shared(jshm.attach("X")),
        jshm.lock("größe"),
    ):
        assert not COMMANDS.search(repr(value))
    assert shown(EVIL).count("\n") == 0
