"""The benchmarks run, from end to end, and say what they measured; nothing is judged here."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import jshm
from jshm.text import age_text

from .benchmarks import archive, calls, chart
from .benchmarks.exchange import SMALL
from .benchmarks.hosted import Hosted, end_all, hosted_rivals, marked, processes_of
from .benchmarks.measure import JSHM, LIMIT, Result, Target, Unavailable, percentile, turns
from .benchmarks.report import document, readme, renewed
from .benchmarks.servers import SERVERS
from .benchmarks.workspace import SHM, prefix

if TYPE_CHECKING:
    from pathlib import Path

    from jshm.store.base import Store

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULT = Result(
    "publish <1 GiB> again (limit: a copy)",
    {JSHM: 0.1, LIMIT: 0.09, "a & b": 25.0, "fast": 0.05},
    (Target("≤ 2 × a copy", 1.1, 2), Target("≤ 1 × a copy", 1.1, 1)),
    key=chart.KEY,
)


@pytest.mark.xdist_group("benchmarks")
def test_everything_is_measured(tmp_path: Path) -> None:
    results, drawing = tmp_path / "results.json", tmp_path / "chart.svg"
    tiny = "--size 1000000 --large 2000000 --names 20 --rounds 1 --processes 2 --seconds 0.1"
    command = [sys.executable, "-m", "tests.benchmarks", *tiny.split()]
    process = subprocess.Popen(
        [*command, "--burst", "0", "--no-servers", "--json", results, "--chart", drawing],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert not [name for name in os.listdir(SHM) if name.startswith(prefix(process.pid))]
    run = archive.load(str(results))
    assert {
        "publish",
        "again",
        "exchange",
        "born",
        "attach",
        "follow",
        "list",
        "import",
        "wake",
    } <= {result.key for result in run.results}
    assert all(seconds > 0 for result in run.results for seconds in result.seconds.values())
    assert all(result.what in output for result in run.results)
    assert all(f"| {each.what} | {each.python} |" in output for each in run.calls)
    assert ET.fromstring(drawing.read_text()).tag.endswith("svg")


def test_calls_are_counted_the_same_each_time(store: Store) -> None:
    first, again = calls.measure(), calls.measure()
    assert first == again
    publish, attach, second = first
    assert [each.what for each in first] == ["publish", "attach, first", "attach, again"]
    assert publish.python > publish.crossings > publish.files > 1
    assert publish.python > attach.python > second.python > 0


def test_a_call_between_two_files_is_a_crossing() -> None:
    error = jshm.InvalidNameError("no name")
    counted = calls.count("a message", lambda: str(error))
    assert (counted.crossings, counted.files) == (1, 2)  # errors.py calls text.py once
    assert counted.python > 1
    within = calls.count("an age", lambda: age_text(0))
    assert (within.crossings, within.files) == (0, 1)
    assert calls.count("nothing", int).python == 0


def test_a_run_that_was_kept_is_the_same(tmp_path: Path) -> None:
    run = archive.Run("a machine", [RESULT])
    archive.save(run, str(tmp_path / "run.json"))
    assert archive.load(str(tmp_path / "run.json")) == run
    assert (RESULT.title, RESULT.limit) == ("publish <1 GiB> again", "a copy")
    text = document(run)
    assert "| **100 ms** | 0.90 × | 250 × | 0.50 × |" in text
    assert "| 1.1 | yes |" in text
    assert "| 1.1 | **no** |" in text


def test_rivals_and_what_only_jshm_does_are_two_tables() -> None:
    both = replace(RESULT, key="again")
    alone = Result("list (limit: read it): p50", {JSHM: 2e-5, LIMIT: 1e-5}, key="list")
    assert readme([RESULT, both, alone]).splitlines() == [
        "|  | publish <1 GiB> again (limit: a copy) |",
        "| --- | ---: |",
        "| jshm | **100 ms** |",
        "| limit | 0.90 × |",
        "| a & b | 250 × |",
        "| fast | 0.50 × |",
        "",
        "|  | jshm | the limit | which is |",
        "| --- | ---: | ---: | ---: |",
        "| list: p50 | **20.0 µs** | 0.50 × | read it |",
    ]


def test_the_readme_s_tables_are_renewed() -> None:
    run = archive.Run("a machine", [replace(RESULT, key="again")])
    text = "# jshm\n<!-- measured -->\nold\n<!-- end of what was measured -->\nmore\n"
    once = renewed(text, run)
    assert "old" not in once
    assert "| jshm | **100 ms** |" in once
    assert once.endswith("(a machine.)\n<!-- end of what was measured -->\nmore\n")
    assert renewed(once, run) == once
    with pytest.raises(LookupError, match="no place for the tables"):
        renewed("# jshm", run)
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as readme_file:
        assert renewed(readme_file.read(), run)


def test_jshm_is_drawn_first_and_the_limit_as_a_line() -> None:
    drawing = chart.draw([RESULT], "2 cores")
    tree = ET.fromstring(drawing)
    texts = ["".join(each.itertext()) for each in tree.iter() if each.tag.endswith("}text")]
    assert texts.index(JSHM) < texts.index("fast") < texts.index("a & b")
    assert "250 × · 25 s" in texts
    lines = [each.get("class") for each in tree.iter() if each.tag.endswith("}line")]
    assert lines.count("limit") == 1
    with pytest.raises(LookupError, match="nothing to draw"):
        chart.draw([], "2 cores")


def test_a_slow_rival_takes_part_in_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.benchmarks.measure._SLOW", 0)
    assert {name: len(taken) for name, taken in turns({"slow": int}, 7).items()} == {"slow": 3}
    monkeypatch.setattr("tests.benchmarks.measure._SLOW", 60)
    assert len(turns({"fast": int}, 7)["fast"]) == 7


def test_percentiles() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, p) for p in (0, 50, 99, 100)] == [1, 51, 100, 100]


def test_a_rival_that_is_not_installed_is_skipped_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(label: str, place: str, nbytes: int) -> Hosted:
        raise Unavailable("No module named 'ray'")

    monkeypatch.setattr("tests.benchmarks.hosted.Hosted", start)
    with hosted_rivals(str(tmp_path), SMALL) as hosted:
        assert hosted == []
    assert capsys.readouterr().out.count("skipped (No module named 'ray'") == len(SERVERS)


def test_a_hosted_rival_is_asked_over_there(tmp_path: Path) -> None:
    try:
        hosted = Hosted("Redis", str(tmp_path), SMALL)
    except Unavailable as error:
        pytest.skip(f"Redis: {error}")
    try:
        assert all(seconds > 0 for seconds in hosted.burst(SMALL, 0)())
    finally:
        hosted.end()


def test_all_that_a_hosted_rival_started_ends_with_it(tmp_path: Path) -> None:
    place = str(tmp_path)
    program = "sleep 60 & env -i sleep 60 & setsid sleep 60 & echo started; wait"
    with subprocess.Popen(
        ["sh", "-c", program], stdout=subprocess.PIPE, start_new_session=True, env=marked(place)
    ) as leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"started\n"
        assert len(processes_of(leader.pid, place)) == 4
        end_all(leader, place)
        assert not processes_of(leader.pid, place)


def test_a_failing_rival_is_left_out_and_the_others_continue(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> int:
        raise Unavailable("it ended")

    assert turns({"fails": fail, "works": int}, 2) == {"works": [0, 0]}
    assert capsys.readouterr().out == "left out: it ended\n"
