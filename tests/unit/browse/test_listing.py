"""What the panel and the widget list: against a model that is slow and plain, and against real processes."""

from __future__ import annotations

import fnmatch
import gc
import itertools
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jshm
from jshm import errors
from jshm.browse import wire
from jshm.browse.labels import Notebooks, distinct, process
from jshm.browse.listing import MOST_ROWS, SORT_KEYS, Listing, Query
from jshm.browse.service import Service
from jshm.store.base import Holder, SegmentInfo, Space

from ...conftest import make_older
from ...support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jshm.store.local.store import LocalStore

PRELUDE = "import numpy as np, jshm; from jshm.store import default_store; store = default_store()"


PARTS = ("inUse", "idle", "old", "unnamed")


class Still:
    """A store in which nothing happens."""

    def __init__(self, infos: list[SegmentInfo]) -> None:
        self.infos = infos

    def state(self) -> object:
        return len(self.infos)

    def segments(self) -> list[SegmentInfo]:
        return self.infos

    def space(self) -> Space:
        return Space("/nowhere", 10**9, 10**10, 0, 200)

    def flush(self) -> None:
        pass


class Paths:
    """Where notebooks are, by kernel."""

    def __init__(self, found: dict[str, str]) -> None:
        self._found = found

    def path(self, kernel_id: str, _notebook: str) -> str:
        return self._found.get(kernel_id, "")

    @property
    def names(self) -> dict[str, str]:
        return {kernel_id: path.rpartition("/")[2] for kernel_id, path in self._found.items()}


# -- against a model -------------------------------------------------------------------------------

OWNERS = [
    "/home/u/a/train.ipynb",
    "/home/u/b/train.ipynb",
    "/home/u/eda.ipynb",
    "/fit.py",
    "x2",
    "x10",
]
NAMES = st.text("aAbB019ß_.", min_size=1, max_size=5)


def info(name: str, version: int, owner: str, **values: Any) -> SegmentInfo:
    given_values: dict[str, Any] = {
        "kind": "array", "summary": "float64 (3,)", "dtype": np.dtype("f8"), "shape": (3,), "order": "C",
        "nbytes": 24, "publisher": owner.rpartition("/")[2], "publisher_alive": True, "mine": False,
        "created": 1.0, "note": "", "keep": False, "lifetime": "server", "writable": False,
        "overflow": False, "state": "current", "once": "", "segment": f"{name}-{version}",
        "owner": owner, **values,
    }  # fmt: skip
    return SegmentInfo(name=name, version=version, **given_values)


def holder(label: str = "eda.ipynb", pid: int = 1) -> Holder:
    return Holder(label, "r", pid, here=False)


@st.composite
def stores(draw: st.DrawFn) -> list[SegmentInfo]:
    """Return the versions of several names, by name and version, as a store lists them."""
    found = []
    for name in sorted(draw(st.sets(NAMES, max_size=8))):
        owner = draw(st.sampled_from(OWNERS))
        count = draw(st.integers(1, 3))
        released = draw(st.booleans())
        for version in range(1, count + 1):
            newest = version == count
            held = draw(st.integers(0, 2)) if newest and not released else draw(st.integers(1, 2))
            state = ("released" if released else "current") if newest else "old"
            kind = draw(st.sampled_from(["array", "object"]))
            found.append(
                info(
                    name, version, owner, kind=kind, state=state,
                    summary=draw(st.sampled_from(["float64 (3,)", "Function f", "function F", "int8"])),
                    nbytes=draw(st.integers(0, 3)), created=float(draw(st.integers(0, 3))),
                    note=draw(st.sampled_from(["", "train split", "ß"])),
                    holders=tuple(holder(pid=i) for i in range(held)),
                )
            )  # fmt: skip
    return found


queries = st.builds(
    Query,
    filter=st.sampled_from(
        ["", "a", "TRAIN", "float64 (3,)", "train.ipynb b/", "ss", "ß", "fun", "zz"]
    ),
    sort=st.sampled_from(SORT_KEYS),
    descending=st.booleans(),
    grouped=st.booleans(),
    unused=st.booleans(),
)


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return runs of digits as numbers, before all else as text."""
    return [
        (0, int(run), run) if run[0].isdecimal() else (1, 0, run)
        for _, group in itertools.groupby(name.casefold(), str.isdecimal)
        for run in ["".join(group)]
    ]


def model(infos: list[SegmentInfo], query: Query) -> list[SegmentInfo]:
    """Return the newest versions that a query is about, in order, without groups."""
    names = dict.fromkeys(i.name for i in infos)
    found = []
    for name in names:
        versions = [i for i in infos if i.name == name]
        newest = versions[-1]
        if query.unused and (newest.state != "current" or any(v.holders for v in versions)):
            continue
        shown = " ".join((newest.name, label_of(infos, newest.owner), newest.summary, newest.note))
        if all(word.casefold() in shown.casefold() for word in query.filter.split()):
            found.append(newest)
    key: Callable[[SegmentInfo], Any] = {
        "name": lambda i: (
            natural(i.name),
            i.name,
        ),  # the reverse of names that differ in case, too
        "size": lambda i: i.nbytes,
        "age": lambda i: -i.created,
        "type": lambda i: (i.kind, i.summary.casefold()),
        "holders": lambda i: len(i.holders),
    }[query.sort]
    found.sort(key=lambda i: natural(i.name))
    found.sort(key=key, reverse=query.descending)
    return found


def label_of(infos: list[SegmentInfo], owner: str) -> str:
    """Return what a notebook is called: with its folder, if another one's is called the same."""
    others = {i.owner for i in infos} - {owner}
    label = owner.rpartition("/")[2]
    alike = any(other.rpartition("/")[2] == label for other in others)
    return "/".join(owner.split("/")[-2:]) if alike else label


@settings(max_examples=150, deadline=None)
@given(stores(), queries)
def test_order_and_filter(infos: list[SegmentInfo], query: Query) -> None:
    listing = Listing(Still(infos))  # type: ignore[arg-type]
    listing.refresh()
    expected = model(infos, query)
    page = listing.page(replace(query, limit=MOST_ROWS), Notebooks())
    rows = [(row["name"], row["version"]) for row in page["rows"]]
    assert page["total"] == len(expected) == len(rows)
    names = [i.name for i in expected]
    if not query.grouped:
        assert rows == [(i.name, i.version) for i in expected]
        assert page["groups"] == []
        return
    runs = [(g, list(run)) for g, run in itertools.groupby(page["rows"], lambda r: r["group"])]
    assert [group for group, _ in runs] == [group["id"] for group in page["groups"]]
    assert len({group for group, _ in runs}) == len(runs)  # together
    for (owner, run), group in zip(runs, page["groups"], strict=True):
        assert [r["name"] for r in run] == [i.name for i in expected if i.owner == owner]
        assert group["count"] == len(run)
        assert group["nbytes"] == sum(i.nbytes for i in infos if i.name in {r["name"] for r in run})
        assert group["publisher"]["label"] == label_of(infos, owner)
    if query.sort == "name":
        labels = [natural(group["publisher"]["label"]) for group in page["groups"]]
        assert labels == sorted(labels, reverse=query.descending)
    else:
        firsts = [names.index(run[0]["name"]) for _, run in runs]
        assert firsts == sorted(firsts)


@settings(max_examples=60, deadline=None)
@given(stores(), queries, st.integers(1, 4))
def test_parts_make_the_whole(infos: list[SegmentInfo], query: Query, limit: int) -> None:
    listing = Listing(Still(infos))  # type: ignore[arg-type]
    listing.refresh()
    whole = listing.page(replace(query, limit=MOST_ROWS), Notebooks())
    parts = [
        listing.page(replace(query, offset=offset, limit=limit), Notebooks())
        for offset in range(0, whole["total"] + limit, limit)
    ]
    assert [row for part in parts for row in part["rows"]] == whole["rows"]
    for part in parts:
        assert {**part, "rows": [], "offset": 0} == {**whole, "rows": []}


@settings(max_examples=60, deadline=None)
@given(stores())
def test_sums(infos: list[SegmentInfo]) -> None:
    listing = Listing(Still(infos))  # type: ignore[arg-type]
    listing.refresh()
    summary = listing.summary()
    assert summary["used"] == sum(summary[part] for part in PARTS)
    assert summary["used"] == sum(i.nbytes for i in infos)
    held = {i.name for i in infos if i.holders}
    idle = [i for i in infos if i.state == "current" and i.name not in held]
    assert summary["idle"] == sum(i.nbytes for i in idle)
    assert summary["idleNames"] == len(idle)
    assert summary["names"] == sum(i.state == "current" for i in infos)
    unused = listing.page(Query(unused=True), Notebooks())
    assert summary["idleNames"] == unused["total"]


def test_natural_order() -> None:
    names = [
        "run1",
        "run2",
        "run010x",
        "run10",
        "run10b",
        "Run11",
        "x",
        "x1/y2",
        "x1/y10",
        "x٣",
        "x²",
    ]
    listing = Listing(Still([info(n, 1, "/o") for n in sorted(names)]))  # type: ignore[arg-type]
    listing.refresh()
    got = [row["name"] for row in listing.page(Query(), Notebooks())["rows"]]
    assert got == names
    back = [row["name"] for row in listing.page(Query(descending=True), Notebooks())["rows"]]
    assert back == got[::-1]


@given(
    st.dictionaries(
        st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map(
            lambda p: "/" + "/".join([*p, "t.ipynb"])
        )
        | st.sampled_from(["/a/u.ipynb", "4711:x:y", "4711:x:z", "u.ipynb"]),
        st.none(),
        max_size=6,
    )
)
def test_labels_are_distinct(owners: dict[str, None]) -> None:
    plain = {o: "python 4711" if ":" in o else o.rpartition("/")[2] for o in owners}
    got = distinct(plain.items())
    assert set(got) == set(owners)
    assert len(set(got.values())) == len(owners)
    for owner, label in got.items():
        if list(plain.values()).count(plain[owner]) == 1:
            assert label == plain[owner]
        elif ":" not in owner:
            assert owner.endswith(label)


def test_a_renamed_notebook_goes_by_its_new_name() -> None:
    places = Paths({"k": "sub/new.ipynb", "same": "other/old.ipynb"})
    renamed = process("old.ipynb", "k", "/home/old.ipynb", places, alive=True)
    assert (renamed["label"], renamed["path"]) == ("new.ipynb", "sub/new.ipynb")
    assert process("a/old.ipynb", "same", "", places, alive=True)["label"] == "a/old.ipynb"
    assert process("old.ipynb", "?", "", places, alive=False) == {
        "label": "old.ipynb", "path": "", "alive": False, "here": False,
    }  # fmt: skip


def test_the_filter_finds_what_is_shown() -> None:
    infos = [info("X", 1, "/home/old.ipynb", kernel_id="k"), info("Y", 1, "/home/eda.ipynb")]
    listing = Listing(Still(infos))  # type: ignore[arg-type]
    listing.refresh()
    places = Paths({"k": "new.ipynb"})
    assert listing.page(Query(), places)["rows"][0]["publisher"]["label"] == "new.ipynb"
    found = listing.page(Query(filter="new"), places)["rows"]
    assert [row["name"] for row in found] == ["X"]


def test_a_notebook_lives_while_a_kernel_of_it_runs() -> None:
    infos = [
        info(name, 1, f"/{name}.ipynb", kernel_id=name, publisher_alive=name == "c", created=1.0)
        for name in "abc"
    ]
    listing = Listing(Still(infos))  # type: ignore[arg-type]
    listing.refresh()
    page = listing.page(Query(grouped=True), Paths({"b": "b.ipynb"}))
    assert [row["publisher"]["alive"] for row in page["rows"]] == [False, True, True]
    assert [group["publisher"]["alive"] for group in page["groups"]] == [False, True, True]


def test_expired_versions_that_share_memory_count_once() -> None:
    infos = [
        info(name, 1, "/a.py", segment="one", expired=True, nbytes=100, publisher_alive=False)
        for name in ("X", "Y")
    ]
    listing = Listing(Still(infos))  # type: ignore[arg-type]
    listing.refresh()
    summary = listing.summary()
    assert (summary["used"], summary["expired"]) == (100, 100)


def test_what_is_on_disk_is_no_part_of_what_is_used() -> None:
    infos = [info("X", 1, "/a.py", nbytes=100), info("Y", 1, "/a.py", nbytes=10**9, overflow=True)]
    listing = Listing(Still(infos))  # type: ignore[arg-type]
    listing.refresh()
    summary = listing.summary()
    assert (summary["used"], summary["overflow"], summary["names"]) == (100, 10**9, 2)
    assert any("on disk" in notice["text"] for notice in summary["notices"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.SegmentNotFoundError("no X"), "missing"),
        (errors.UnsafeDirectoryError("mode"), "store"),
        (errors.RegistryTimeout("locked"), "store"),
        (errors.NoSpaceError("full"), "store"),
        (errors.NotOwnerError("<b>theirs</b>"), "refused"),
        (errors.InvalidNameError("bad"), "refused"),
        (errors.CorruptSegmentError("bad"), "refused"),
    ],
)
def test_problems(error: Exception, reason: str) -> None:
    assert wire.problem(error) == {"reason": reason, "message": str(error), "remedies": []}


def test_remedies_are_data_and_not_in_the_message() -> None:
    remedy = errors.Remedy("release", ("X",), {"force": True}, "Retire for everyone")
    assert wire.problem(errors.NotOwnerError("X is not yours", remedy=remedy)) == {
        "reason": "refused",
        "message": "X is not yours",
        "remedies": [
            {
                "action": "release",
                "names": ["X"],
                "options": {"force": True},
                "purpose": "Retire for everyone",
            }
        ],
    }


def test_holders_of_one_pid_in_two_containers_are_two() -> None:
    a, b = (Holder(f"{name}.ipynb", "r", 7, here=False) for name in "ab")
    found = wire.holders([a, b, replace(a, mode="r+")], Notebooks())
    assert [(h["label"], h["mode"], h["pid"]) for h in found] == [
        ("a.ipynb", "r+", 7), ("b.ipynb", "r", 7),
    ]  # fmt: skip


# -- a real store ----------------------------------------------------------------------------------


@pytest.fixture
def new(store: LocalStore, tmp_path: Path) -> Iterator[Callable[[str], Child]]:
    children: list[Child] = []

    def start(script: str = "eda.py") -> Child:
        child = Child(tmp_path, script)
        children.append(child)
        child.run(PRELUDE)
        return child

    yield start
    for child in children:
        child.__exit__()
    store.gc()


@pytest.fixture
def service(store: LocalStore) -> Service:
    return Service(store, Notebooks())


def names(service: Service, **query: Any) -> list[str]:
    return [row["name"] for row in service.page(Query(**query))["rows"]]


def test_the_state_changes_when_something_does(
    store: LocalStore, new: Callable[[str], Child]
) -> None:
    eda, train = new("eda.py"), new("train.py")
    for child in (eda, train):
        child.run("store.segments()")
    store.segments()
    listing = Listing(store)
    listing.refresh()
    held: list[Any] = []

    def in_a_thread() -> None:
        thread = threading.Thread(target=lambda: store.publish({"T": np.zeros(3)}))
        thread.start()
        thread.join()

    changes: dict[str, Callable[[], object]] = {
        "published here": lambda: store.publish({"X": np.zeros(100)}),
        "published by a thread": in_a_thread,
        "published there": lambda: eda.run("store.publish({'E': np.zeros(3)}); None"),
        "replaced": lambda: store.publish({"X": np.ones(100)}),
        "attached there": lambda: eda.run("x = store.attach(['X'])[0].value; None"),
        "attached in another mode": lambda: eda.run("c = store.attach(['X'], 'c')[0].value; None"),
        "attached there too": lambda: train.run("x = store.attach(['X'])[0].value; None"),
        "attached here": lambda: held.append(store.attach(["X"])),
        "detached here": lambda: (held.clear(), gc.collect(), store.flush()),
        "detached there": lambda: eda.run("del c; store.flush()"),
        "killed": train.kill,
        "released, and held": lambda: store.release(["X"]),
        "ended": eda.exit,
        "released": lambda: store.release(["T"]),
    }
    for what, change in changes.items():
        before = listing.state
        change()
        assert listing.refresh(), what
        assert listing.state != before, what
        listing.refresh()
        state = listing.state
        assert not any(listing.refresh() for _ in range(5)), f"after {what}"
        assert listing.state == state


def test_the_state_stays_while_nothing_happens(
    store: LocalStore, new: Callable[[str], Child]
) -> None:
    eda = new("eda.py")
    store.publish({"X": np.zeros(100)})
    eda.run("x = store.attach(['X'])[0].value; store.segments(); None")
    listing = Listing(store)
    listing.refresh()
    listing.refresh()
    until = time.monotonic() + 1.3  # longer than the time between two reapings
    seen = set()
    while time.monotonic() < until:
        seen.add(store.state())
        store.segments()
        eda.run("store.segments(); store.flush(); store.info('X'); None")
        assert not listing.refresh()
    assert len(seen) == 1


def test_states_of_two_lists_never_mix(store: LocalStore) -> None:
    a, b = Listing(store), Listing(store)
    a.refresh()
    b.refresh()
    assert a.state != b.state


def test_sums_of_a_real_store(
    store: LocalStore, service: Service, new: Callable[[str], Child]
) -> None:
    """Each byte is in one part of the sum: aliases, old versions, what has no name (any more)."""
    eda = new("eda.py")
    store.publish(
        {"idle": np.zeros(1000, "u1"), "used": np.zeros(200, "u1"), "old": np.zeros(30, "u1")}
    )
    store.publish({"gone": np.zeros(4, "u1")})
    eda.run("v = [store.attach([n])[0].value for n in ('used', 'old', 'gone')]; None")
    store.publish({"old": np.zeros(50_000, "u1")})
    store.release(["gone"])
    alias = store.attach(["idle"])[0].value
    store.publish({"alias": alias})
    del alias
    gc.collect()
    store.flush()
    unnamed = store.allocate((600_000,), "u1")
    got = service.summary()
    # Of `old`, somebody holds an old version: its newest is no name that nobody uses.
    assert {key: got[key] for key in (*PARTS, "used", "names", "idleNames")} == {
        "inUse": 50_200, "old": 30 + 4, "idle": 1000, "unnamed": 600_000,
        "used": 651_234, "names": 4, "idleNames": 2,
    }  # fmt: skip
    store.publish({"object": {"big": unnamed}})
    size = store.info("object").nbytes
    del unnamed
    gc.collect()
    store.flush()
    got = service.summary()
    assert got["used"] == sum(got[part] for part in PARTS) == 651_234 + size
    store.release(["idle"])
    got = service.summary()
    assert (got["used"], got["idle"]) == (651_234 + size, 1000 + size)  # the alias keeps it
    store.release(["alias"])
    got = service.summary()
    assert (got["used"], got["idle"]) == (650_234 + size, size)
    store.release(["object"])
    eda.kill()
    store.gc()
    assert service.summary()["used"] == 50_200


@pytest.mark.skipif(sys.platform != "linux", reason="spares need Linux's leases")
def test_spares_are_neither_used_nor_free(
    store: LocalStore, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spares count apart, and cause no warning."""
    monkeypatch.setenv("JSHM_QUOTA", "1M")
    data = np.zeros(400_000, "u1")
    store.publish({"X": data})
    before = service.summary()
    assert (before["used"], before["spares"], before["free"]) == (400_000, 0, 600_000)
    store.publish({"X": data})
    state, after = service.page(Query())["state"], service.summary()
    assert (after["used"], after["old"]) == (400_000, 0)
    assert 400_000 < after["spares"] < 410_000
    assert after["used"] + after["spares"] + after["free"] == after["capacity"] == 10**6
    monkeypatch.setenv("JSHM_QUOTA", "805k")  # a spare is written into, or goes
    assert service.summary()["notices"] == []
    service.release(["X"])
    assert service.summary()["spares"] == 0
    assert service.page(Query())["state"] != state


def test_spares_that_go_change_the_list(
    store: LocalStore, service: Service, new: Callable[[str], Child]
) -> None:
    train = new("train.py")
    for _ in range(2):
        train.run("store.publish({'X': np.zeros(400_000, 'u1')})")
    page = service.page(Query())
    assert page["summary"]["spares"] > 400_000
    train.run("store.process.spares.give_back()")
    after = service.page(Query())
    assert (after["state"] != page["state"], after["summary"]["spares"]) == (True, 0)
    assert after["rows"] == page["rows"]
    train.run("store.publish({'X': np.zeros(400_000, 'u1')})")
    assert service.summary()["spares"] > 400_000
    train.kill()
    store.gc()
    assert service.summary()["spares"] == 0


def test_a_released_name_is_not_listed(store: LocalStore, service: Service) -> None:
    store.publish({"X": np.zeros(3), "Y": np.zeros(3)})
    service.release(["X"])
    assert names(service) == ["Y"]
    with pytest.raises(errors.SegmentNotFoundError):
        service.info("X")
    store.publish({"X": np.ones(3)})
    (_, row) = sorted(service.page(Query())["rows"], key=lambda row: row["name"] == "X")
    assert (row["version"], row["older"]) == (2, [])


def test_a_newer_version_than_the_user_saw_is_not_released(
    store: LocalStore, service: Service
) -> None:
    store.publish({"X": np.zeros(3), "Y": np.zeros(3), "e/Z": np.zeros(3)})
    store.publish({"X": np.ones(3)})
    assert service.release(["X"], {"X": 1}) == []
    assert [one["name"] for one in service.release(["X", "Y"], {"X": 1, "Y": 1})] == ["Y"]
    assert [one["name"] for one in service.release(["e/*"], {"X": 1})] == ["e/Z"]
    assert names(service) == ["X"]
    with pytest.raises(errors.SegmentNotFoundError):
        service.release(["gone"], {"gone": 1})
    assert [one["name"] for one in service.release(["X"], {"X": 2})] == ["X"]


def test_a_released_name_that_is_held(
    store: LocalStore, service: Service, new: Callable[[str], Child]
) -> None:
    eda = new("eda.py")
    store.publish({"X": np.zeros(100)})
    eda.run("x = store.attach(['X'])[0].value; None")
    (done,) = service.release(["X"])
    assert (done["freed"], done["heldBy"]) == (0, ["eda.py"])
    (row,) = service.page(Query())["rows"]
    assert (row["state"], row["holders"][0]["pid"], row["onlyCopy"]) == ("released", eda.pid, False)
    assert service.info("X")["state"] == "released"
    assert names(service, unused=True) == []
    assert service.summary()["names"] == 0
    eda.kill()
    assert names(service) == []


def test_only_copies_and_kept_names_stay(
    store: LocalStore, service: Service, new: Callable[[str], Child]
) -> None:
    eda = new("eda.py")
    eda.run("store.publish({'only': np.zeros(3), 'e/x': np.zeros(3)}, keep=True); None")
    store.publish({"kept": np.zeros(3)}, keep=True)
    store.publish({"idle": np.zeros(3), "used": np.zeros(3)})
    used = store.attach(["used"])[0].value
    eda.kill()
    make_older(store)
    store.publish({"recent": np.zeros(3)})
    rows = {row["name"]: row for row in service.page(Query())["rows"]}
    assert {n for n, r in rows.items() if r["onlyCopy"]} == {"only", "e/x"}
    assert {n for n, r in rows.items() if not r["publisher"]["alive"]} == {"only", "e/x"}
    assert names(service, unused=True) == ["e/x", "idle", "kept", "only", "recent"]
    assert [one["name"] for one in service.release_unused()] == ["idle"]
    assert [one["name"] for one in service.release(["e/*"])] == ["e/x"]
    assert store.names() == ["kept", "only", "recent", "used"]
    assert used.sum() == 0


def test_patterns_and_names_that_are_gone(store: LocalStore, service: Service) -> None:
    store.publish({n: np.zeros(3) for n in ("a/1", "a/2", "b")})
    with pytest.raises(errors.SegmentNotFoundError):
        service.release(["nothing"])
    assert service.release(["gone", "also"]) == []
    assert [one["name"] for one in service.release(["gone", "b"])] == ["b"]
    done = service.release(["a/*", "a/1"])
    assert sorted(one["name"] for one in done) == ["a/1", "a/2"]


def test_ten_thousand_names() -> None:
    count = 10_000
    infos = [
        info(name, 1, OWNERS[len(name) % 2]) for name in sorted(f"run{i}/x" for i in range(count))
    ]
    listing = Listing(Still(infos))  # type: ignore[arg-type]
    listing.refresh()

    def part(**query: Any) -> list[str]:
        page = listing.page(Query(**query), Notebooks())
        return [row["name"] for row in page["rows"]]

    expected = [f"run{i}/x" for i in range(count)]
    parts = [part(offset=offset, limit=MOST_ROWS) for offset in range(0, count + 1, MOST_ROWS)]
    assert list(itertools.chain(*parts)) == expected
    assert part(limit=10**6) == expected[:MOST_ROWS]
    assert part(offset=count - 3) == expected[-3:]
    assert part(descending=True, limit=2) == expected[:-3:-1]
    assert part(filter="run77 X", limit=4) == [f"run{i}/x" for i in (77, 770, 771, 772)]
    page = listing.page(Query(offset=count - 3, grouped=True), Notebooks())
    assert sum(group["count"] for group in page["groups"]) == page["total"] == count
    assert page["summary"]["used"] == page["summary"]["idle"] == 24 * count


def test_more_names_than_one_part_shows(store: LocalStore, service: Service) -> None:
    count = MOST_ROWS + 200
    store.publish({f"run{i}/x": np.full(1, i) for i in range(count)})
    expected = [f"run{i}/x" for i in range(count)]
    first = service.page(Query(limit=MOST_ROWS))
    rest = service.page(Query(offset=MOST_ROWS, limit=MOST_ROWS))
    assert [row["name"] for row in (*first["rows"], *rest["rows"])] == expected
    assert first["state"] == rest["state"]
    service.release(["run500/x"])
    page = service.page(Query(offset=499, limit=2))
    assert [row["name"] for row in page["rows"]] == ["run499/x", "run501/x"]
    assert (page["total"], page["state"] == first["state"]) == (count - 1, False)
    done = service.release(["run1*/x"])
    assert {one["name"] for one in done} == set(fnmatch.filter(expected, "run1*/x"))
    assert service.summary()["names"] == count - 1 - len(done)


def test_nothing_is_held_by_looking(store: LocalStore, service: Service) -> None:
    store.publish({"X": np.zeros(100), "f": test_nothing_is_held_by_looking})
    for name in ("X", "f"):
        service.preview(name)
        service.info(name)
    service.page(Query(grouped=True))
    assert not any(i.holders for i in jshm.segments())
    (x, _) = service.release(["X", "f"])
    assert x["freed"] == 800
