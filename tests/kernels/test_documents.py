"""The code of the README and the tutorials runs in live notebooks."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

from .notebook import Notebook, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_BLOCK = re.compile(
    r"<!-- notebook: (?P<notebook>\S+) -->\n```python\n(?P<code>.*?)```\n```text\n(?P<output>.*?)```",
    re.DOTALL,
)
# Text that differs from run to run: times, and the widths of table columns that contain them.
_VOLATILE = (
    (re.compile(r"just now|\d+(\.\d+)? (s|min|h|days) ago"), "AGO"),
    (re.compile(r"\d+(\.\d+)? (µs|ms|s)\b"), "DURATION"),
    (re.compile(r"\d\d:\d\d"), "CLOCK"),
    (re.compile(r"[ \t]+"), " "),
    # A helper runs a cell before the first one of a notebook.
    (re.compile(r"In\[\d+\]"), "In[N]"),
    (re.compile(r"In\[N\] of (\S+) [0-9a-f]{8}"), r"In[N] of \1 DIGEST"),
)
# What the README's page on how jshm is built names besides jshm's code.
_NOT_OURS = {
    "BEGIN",
    "IMMEDIATE",
    "SELECT",
    "MAP_PRIVATE",
    "MAP_SHARED",
    "flock",
    "pwrite",
    "r",
    "c",
}
# The size of a pickle depends on the versions of Python and of libraries.
_OBJECT = re.compile(r"v\d+ · (function|class|DataFrame|dict|[A-Z]\w+ )")
_SIZE = re.compile(r"(?<![(.\d])\d+(\.\d)? [kMG]?B")


def settled(text: str) -> list[str]:
    for pattern, name in _VOLATILE:
        text = pattern.sub(name, text)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return [
        _SIZE.sub("SIZE", line) if _OBJECT.search(line) or " kB" in line else line for line in lines
    ]


def shown(outcome: Outcome) -> str:
    """Return the output of a cell as plain text; a saved notebook has no widgets."""
    return outcome.stdout + outcome.stderr + "".join(
        result["text/plain"] + "\n" for result in outcome.results if _WIDGET not in result
    )  # fmt: skip


def test_the_readme_s_blocks_show_the_outputs_beside_them(open_notebook, monkeypatch, tmp_path):
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        blocks = list(_BLOCK.finditer(file.read()))
    monkeypatch.chdir(tmp_path)  # a block writes a file into the working directory
    assert len(blocks) >= 10
    opened: dict[str, Notebook] = {}
    for block in blocks:
        name = block["notebook"]
        if name not in opened:
            opened[name] = open_notebook(name, bare=True)
        outcome = opened[name](block["code"])
        expected = settled(block["output"])
        assert settled(shown(outcome)) == expected, block["code"]
        assert outcome.ok is not expected[-1].startswith("UsageError"), block["code"]


def test_every_code_block_of_the_readme_is_run():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        text = file.read()
    assert text.count("```python\n") == len(list(_BLOCK.finditer(text)))


def test_the_code_that_the_readme_names_exists():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        section = file.read().partition("## How it is built")[2].partition("\n## ")[0]
    tree, _, rest = section.partition("```text\n")[2].partition("```")
    package = Path(ROOT, "jshm")
    for line in tree.splitlines():
        if line.startswith("  ") and (found := re.match(r"[\w.]+", line.strip())):
            assert list(package.rglob(found[0])), line
    source = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    named = re.findall(r"`([\w./]+)`", rest)
    assert len(named) > 50
    for name in named:
        if name.endswith(".py"):
            assert list(package.rglob(name)) or Path(ROOT, name).exists(), name
        elif re.fullmatch(r"[\w.]+", name) and name not in _NOT_OURS:
            last = name.rpartition(".")[2]
            assert re.search(rf"(def|class) {last}\b|\"{last}\"", source), name


TUTORIALS = [
    ("01-publish.ipynb", "02-attach.ipynb"),
    ("03-functions.ipynb", "03-functions-partner.ipynb"),
    ("04-browser.ipynb",),
    ("05-live.ipynb", "05-live-partner.ipynb"),
]
_WIDGET = "application/vnd.jupyter.widget-view+json"


def in_turns(books: list[nbformat.NotebookNode]) -> Iterator[tuple[int, nbformat.NotebookNode]]:
    """Yield the index of the notebook, and the cell: a tag sends the reader to the other notebook."""
    todo, turn = [list(book.cells) for book in books], 0
    while todo[turn]:
        cell = todo[turn].pop(0)
        yield turn, cell
        if "go-to-the-other" in cell.metadata.get("tags", ()) or (not todo[turn] and turn == 0):
            turn = (turn + 1) % len(books)
    assert not any(todo), "cells that the reader is never sent to"


@pytest.mark.parametrize("names", TUTORIALS, ids=lambda names: names[0])
def test_the_tutorials_run_together(store_dir, names):
    with tempfile.TemporaryDirectory(prefix="jt-") as directory:
        opened = []
        try:
            for name in names:
                opened.append(Notebook(f"/home/someone/{name}", directory, store_dir))
            books = [nbformat.read(os.path.join(ROOT, "notebooks", n), as_version=4) for n in names]
            for turn, cell in in_turns(books):
                if cell.cell_type != "code":
                    continue
                outcome = opened[turn](cell.source)
                fails = "raises-exception" in cell.metadata.get("tags", ())
                assert outcome.ok is not fails, f"{names[turn]}: {cell.source}\n{outcome.traceback}"
                said = shown(outcome)
                if fails and outcome.ename != "UsageError":
                    said += _error(outcome.ename, outcome.evalue, outcome.traceback)
                assert settled(said) == settled(_stored(cell)), cell.source
        finally:
            for notebook in opened:
                notebook.close()


def _error(name: str, value: str, traceback: str) -> str:
    """Return the cells that an error came through, and its message."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", traceback)
    places = re.findall(r"^File <.*", plain, re.MULTILINE)
    return "\n".join([*places, f"{name}: {value}"])


def _stored(cell: nbformat.NotebookNode) -> str:
    return "".join(
        output.text
        if output.output_type == "stream"
        else _error(output.ename, output.evalue, "\n".join(output.traceback))
        if output.output_type == "error"
        else output.data["text/plain"] + "\n"
        for output in cell.outputs
    )


@pytest.mark.parametrize("name", [name for names in TUTORIALS for name in names])
def test_the_tutorials_contain_no_paths_of_a_machine(name):
    with open(os.path.join(ROOT, "notebooks", name), encoding="utf-8") as file:
        text = file.read()
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert not re.search(r"/home/|/root|/tmp|/dev/shm|\x1b", text)
