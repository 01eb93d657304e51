"""The README works when pasted, and the tutorials run, as live notebooks."""

from __future__ import annotations

import os
import re
import tempfile

import nbformat
import pytest

from .notebook import Notebook, Outcome

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_BLOCK = re.compile(
    r"<!-- notebook: (?P<notebook>\S+) -->\n```python\n(?P<code>.*?)```\n```text\n(?P<output>.*?)```",
    re.DOTALL,
)
# What may differ from run to run: times, and how far apart table columns are because of them.
_VOLATILE = (
    (re.compile(r"just now|\d+(\.\d+)? (s|min|h|days) ago"), "AGO"),
    (re.compile(r"\d+(\.\d+)? (µs|ms|s)\b"), "DURATION"),
    (re.compile(r"\d\d:\d\d"), "CLOCK"),
    (re.compile(r"[ \t]+"), " "),
)
# The size of a pickle depends on the versions of Python and of libraries.
_OBJECT = re.compile(r"v\d+ · (function|class|DataFrame|dict|[A-Z]\w+ )")
_SIZE = re.compile(r"(?<![(.\d])\d+(\.\d)? [kMG]?B")


def settled(text: str) -> list[str]:
    for pattern, name in _VOLATILE:
        text = pattern.sub(name, text)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return [_SIZE.sub("SIZE", line) if _OBJECT.search(line) else line for line in lines]


def shown(outcome: Outcome) -> str:
    """Return what a cell shows to people, as plain text."""
    return outcome.stdout + outcome.stderr + "".join(
        result["text/plain"] + "\n" for result in outcome.results
    )  # fmt: skip


def test_the_readme_pasted_into_two_notebooks_shows_what_it_says(open_notebook, monkeypatch):
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        blocks = list(_BLOCK.finditer(file.read()))
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


def test_the_tutorials_run_together(store_dir):
    with tempfile.TemporaryDirectory(prefix="jt-") as directory:
        opened = []
        try:
            for name in ("01-publish.ipynb", "02-attach.ipynb"):
                notebook = Notebook(f"/home/someone/{name}", directory, store_dir)
                opened.append(notebook)
                path = os.path.join(ROOT, "notebooks", name)
                for cell in nbformat.read(path, as_version=4).cells:
                    if cell.cell_type == "code":
                        outcome = notebook(cell.source)
                        assert outcome.ok, f"{name}: {cell.source}\n{outcome.traceback}"
                        assert settled(shown(outcome)) == settled(_stored(cell)), cell.source
        finally:
            for notebook in opened:
                notebook.close()


def _stored(cell: nbformat.NotebookNode) -> str:
    return "".join(
        output.text if output.output_type == "stream" else output.data["text/plain"] + "\n"
        for output in cell.outputs
    )


@pytest.mark.parametrize("name", ["01-publish.ipynb", "02-attach.ipynb"])
def test_the_tutorials_say_nothing_of_the_machine_they_ran_on(name):
    with open(os.path.join(ROOT, "notebooks", name), encoding="utf-8") as file:
        text = file.read()
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert not re.search(r"/home/|/root|/tmp|/dev/shm|\x1b", text)
