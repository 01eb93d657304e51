"""Attached tables can be changed like any others: pandas copies what it changes, and shared data stay."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm

if TYPE_CHECKING:
    from collections.abc import Callable

    from jshm.store.local.store import LocalStore

pytestmark = pytest.mark.filterwarnings(
    "ignore:The inplace keyword", "ignore:Setting an item of incompatible dtype"
)
pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
if int(pd.__version__.split(".")[0]) < 3:
    pd.options.mode.copy_on_write = (
        True  # without it, pandas 2 copies nothing, and needs `mode="c"`
    )

ROWS = 40


def frame() -> Any:
    """A table with a column of every kind of block, several of some."""
    n = np.arange(ROWS)
    made = pd.DataFrame(
        {
            "f": n * 1.5, "g": np.where(n % 3, n, np.nan), "h": n[::-1] / 7,
            "i": n, "j": n % 5, "small": (n % 7).astype("int8"),
            "b": n % 2 == 0,
            "t": pd.date_range("2020-01-01", periods=ROWS, freq="h"),
            "tz": pd.date_range("2020-01-01", periods=ROWS, freq="h", tz="Europe/Berlin"),
            "d": pd.to_timedelta(n, unit="s"),
            "p": pd.period_range("2020-01", periods=ROWS, freq="M"),
            "c": pd.Categorical(np.array(["u", "v", "w"])[n % 3]),
            "n": pd.array([None if k % 4 == 0 else k for k in n.tolist()], dtype="Int64"),
            "m": pd.array((n % 3 == 0).tolist(), dtype="boolean"),
            "s": [f"text {k}" for k in n],
            "a": pd.array(n.tolist(), dtype=pd.ArrowDtype(pa.int64())),
            "o": [{k} for k in n.tolist()],
        }
    )  # fmt: skip
    made["z"] = n + 0.25  # a second block of floats
    return made


def numbers() -> Any:
    """A table of one block."""
    return pd.DataFrame(np.arange(ROWS * 4.0).reshape(ROWS, 4), columns=list("wxyz"))


def levels() -> Any:
    """A table with an index of several levels."""
    index = pd.MultiIndex.from_product([list("abcd"), range(ROWS // 4)], names=["k", "l"])
    return pd.DataFrame({"x": np.arange(ROWS * 1.0), "y": np.arange(ROWS)}, index=index)


CHANGES = {
    "loc": "x.loc[3, 'f'] = -1",
    "loc of an integer": "x.loc[3, 'i'] = -1",
    "loc of a bool": "x.loc[3, 'b'] = True",
    "loc of a date": "x.loc[3, 't'] = pd.Timestamp('1999')",
    "loc of a date with a zone": "x.loc[3, 'tz'] = pd.Timestamp('1999', tz='UTC')",
    "loc of a duration": "x.loc[3, 'd'] = pd.Timedelta('1D')",
    "loc of a period": "x.loc[3, 'p'] = pd.Period('1999-01', 'M')",
    "loc of a category": "x.loc[3, 'c'] = 'w'",
    "loc of a nullable": "x.loc[3, 'n'] = 99",
    "loc of a nullable that is missing": "x.loc[3, 'n'] = pd.NA",
    "loc of a nullable bool": "x.loc[3, 'm'] = pd.NA",
    "loc of a text": "x.loc[3, 's'] = 'other'",
    "loc of Arrow": "x.loc[3, 'a'] = -5",
    "loc of an object": "x.loc[3, 'o'] = None",
    "loc of a row": "x.loc[3, ['f', 'i']] = [1, 2]",
    "loc of a slice": "x.loc[3:7, 'f'] = 0",
    "loc of several columns": "x.loc[3:7, ['f', 'g', 'z']] = 0",
    "loc of a mask": "x.loc[x.f > 5, 'g'] = 0",
    "loc of a mask, all": "x.loc[x.i > -1, 'f'] = np.arange(len(x))",
    "loc of a column": "x.loc[:, 'f'] = 1.0",
    "loc of a new column": "x.loc[:, 'new'] = 1.0",
    "loc of one block": "x.loc[2, 'small'] = 3",
    "loc of another type": "x.loc[2] = x.loc[5]",
    "iloc": "x.iloc[3, 0] = -1",
    "iloc of a column": "x.iloc[:, 1] = 7.0",
    "iloc of a slice": "x.iloc[2:5, 0:3] = 7.0",
    "iloc of the last": "x.iloc[-1, x.columns.get_loc('z')] = 0.0",
    "iloc of a date": "x.iloc[3, 7] = x.iloc[4, 7]",
    "at": "x.at[3, 'f'] = -1",
    "at of a date": "x.at[3, 't'] = pd.Timestamp('1999')",
    "at of a category": "x.at[3, 'c'] = 'u'",
    "iat": "x.iat[3, 0] = -1",
    "iat of an integer": "x.iat[3, 3] = -1",
    "a column": "x['f'] = 1.0",
    "a column of its own": "x['f'] = x['f'] * 2",
    "a column from another": "x['f'] = x['g']; x.loc[0, 'f'] = 5",
    "a new column": "x['new'] = x['f'] + x['g']",
    "several columns": "x[['f', 'g']] = x[['g', 'f']].to_numpy()",
    "a category's column": "x['c'] = x['c'].cat.rename_categories(str.upper)",
    "a column of another type": "x['i'] = x['i'].astype(float)",
    "an attribute": "x.f = 3.0",
    "a mask": "x[['f', 'g', 'h']] = x[['f', 'g', 'h']].mask(x.i > 3)",
    "a boolean table": "y = x[['f', 'g', 'h']]; y[y > 5] = 0; x[['f', 'g', 'h']] = y",
    "a column in place": "x['f'] += 1",
    "an integer column in place": "x['i'] *= 2",
    "a shift in place": "x['t'] += pd.Timedelta('1h')",
    "power in place": "x['h'] **= 2",
    "update": "x.update(pd.DataFrame({'f': [100.0, 200.0], 'i': [7, 8]}))",
    "update of dates": "x.update(pd.DataFrame({'t': [pd.Timestamp('1999')]}))",
    "fillna": "x['g'] = x['g'].fillna(0)",
    "fillna in place": "y = x[['f', 'g']]; y.fillna(0, inplace=True); x['g'] = y['g']",
    "fillna of nullable": "y = x[['n']]; y.fillna(0, inplace=True); x['n'] = y['n']",
    "fillna of some": "x.fillna({'g': -1, 'n': 5}, inplace=True)",
    "ffill": "y = x[['g', 'n']]; y.ffill(inplace=True); x['g'] = y['g']",
    "bfill": "y = x[['g', 'n']]; y.bfill(inplace=True); x['n'] = y['n']",
    "interpolate": "y = x[['g']]; y.interpolate(inplace=True); x['g'] = y['g']",
    "replace": "y = x[['f', 'i']]; y.replace(3, 33, inplace=True); x[['f', 'i']] = y",
    "replace in all": "x.replace({'j': {1: 11}}, inplace=True)",
    "clip": "y = x[['f', 'h']]; y.clip(1, 3, inplace=True); x[['f', 'h']] = y",
    "where": "y = x[['f', 'h']]; y.where(y > 2, 0, inplace=True); x[['f', 'h']] = y",
    "mask in place": "y = x[['f', 'h']]; y.mask(y > 2, 0, inplace=True); x[['f', 'h']] = y",
    "sort_values": "x.sort_values('h', inplace=True)",
    "sort_values of several": "x.sort_values(['j', 'h'], ascending=[False, True], inplace=True)",
    "sort_index": "x.sort_index(ascending=False, inplace=True)",
    "sort and set": "x.sort_values('h', inplace=True); x.iloc[0, 0] = -1",
    "drop": "x.drop(columns=['f', 'o'], inplace=True); x.loc[0, 'g'] = 3",
    "drop rows": "x.drop(index=[1, 2], inplace=True); x.loc[0, 'g'] = 3",
    "dropna": "x.dropna(subset=['g'], inplace=True); x.iloc[0, 0] = 3",
    "drop_duplicates": "x.drop_duplicates('j', inplace=True); x.iloc[0, 0] = 3",
    "insert": "x.insert(1, 'new', x['f']); x.loc[2, 'new'] = 0; x.loc[3, 'f'] = 0",
    "pop": "y = x.pop('f'); y.iloc[0] = 5; x['f'] = y",
    "del": "del x['f']; x.loc[0, 'g'] = 1",
    "rename": "x.rename(columns={'f': 'F'}, inplace=True); x.loc[0, 'F'] = 1",
    "names": "x.columns = [name.upper() for name in x.columns]; x.loc[0, 'F'] = 1",
    "an index": "x.index = x['i'] + 1; x.loc[3, 'i'] = 0",
    "set_index": "x.set_index('t', inplace=True); x.iloc[0, 0] = 1",
    "set_index, kept": "x.set_index('i', drop=False, inplace=True); x.iloc[0, 3] = 70",
    "reset_index": "x.set_index('t', inplace=True); x.reset_index(inplace=True); x.iloc[0, 1] = 2",
    "set_axis": "x = x.set_axis(range(5, 45)); x.iloc[0, 0] = -1",
    "reindex": "x = x.reindex(range(3, 50)); x.iloc[0, 0] = -1",
    "eval": "x.eval('f = f + g', inplace=True)",
    "query": "x.query('f > 5', inplace=True); x.iloc[0, 0] = -1",
    "assign": "x = x.assign(f=0, new=lambda d: d.g); x.loc[0, 'new'] = 1",
    "a view of rows": "y = x[:5]; y.loc[0, 'f'] = 9; x.loc[1, 'f'] = y.loc[0, 'f']",
    "a view of a column": "y = x['f']; y.iloc[0] = 9; x.loc[1, 'f'] = y.iloc[0]",
    "a view of columns": "y = x[['f', 'g']]; y.iloc[0, 0] = 9; x.loc[1, 'f'] = y.iloc[0, 0]",
    "a column that outlives": "y = x['f']; del x; y.iloc[0] = 9; x = y.to_frame()",
    "a shallow copy": "y = x.copy(deep=False); y.loc[0, 'f'] = 9; x.loc[1, 'f'] = 8",
    "a deep copy": "x = x.copy(); x.loc[0, 'f'] = 9; x['i'] += 1",
    "twice": "x.loc[0, 'f'] = 1; x.loc[1, 'f'] = 2; x.loc[0, 'g'] = 3",
    "astype": "x = x.astype({'i': 'float64'}); x.loc[0, 'i'] = 0.5; x.loc[0, 'f'] = 2",
    "convert_dtypes": "x = x.drop(columns='o').convert_dtypes(); x.loc[0, 'f'] = 5",
    "infer_objects": "x = x.infer_objects(); x.loc[0, 'f'] = 5",
    "concat": "x = pd.concat([x, x], ignore_index=True); x.loc[0, 'f'] = 5",
    "concat of columns": "x = pd.concat([x[['f']], x[['i']]], axis=1); x.loc[0, 'f'] = 5",
    "merge": "x = x.merge(x[['i', 'h']], on='i'); x.loc[0, 'f'] = 5",
    "join": "x = x.join(x[['h']].rename(columns={'h': 'H'})); x.loc[0, 'h'] = 5",
    "groupby": "x['f'] = x.groupby('j')['f'].transform('mean'); x.loc[0, 'g'] = 1",
    "apply": "x['f'] = x['f'].apply(lambda v: v + 1)",
    "to_numpy": "y = x[['f', 'g']].to_numpy(copy=True); y[:] = 0; x[['f', 'g']] = y",
    "a part of a category": "x['c'] = x['c'].cat.add_categories('new'); x.loc[0, 'c'] = 'new'",
    "iterating": "for k in range(5):\n    x.loc[k, 'f'] = x.loc[k, 'g']",
    "attrs": "x.attrs['mine'] = 1; x.loc[0, 'f'] = 2",
}
OF_NUMBERS = {
    "all in place": "x += 1",
    "all in place, of all kinds": "x -= 1; x *= 2; x /= 3; x **= 2",
    "a boolean table": "x[x > 9] = 0",
    "all": "x[:] = 0.0",
    "all, by loc": "x.loc[:, :] = 1.0",
    "all, by iloc": "x.iloc[:, :] = np.ones(x.shape)",
    "rows": "x[2:5] = 0.0",
    "a row": "x.loc[3] = 1",
    "a new row": "x.loc[1000] = 1; x.loc[0, 'w'] = 2",
    "fillna of all": "x.iloc[0, 0] = np.nan; x.fillna(5, inplace=True)",
    "one column of a block": "x.loc[0, 'x'] = 1",
    "the transpose": "y = x.T; y.iloc[0, 0] = 9; x.loc[1, 'w'] = y.iloc[0, 0]",
    "swapped": "x[['w', 'x']] = x[['x', 'w']].to_numpy()",
    "where": "x.where(x > 5, -1, inplace=True)",
    "a part": "x.iloc[::2] = 0",
}
OF_LEVELS = {
    "loc": "x.loc[('b', 2), 'x'] = -1",
    "a slice": "x.loc[pd.IndexSlice['a':'b', 2:4], 'y'] = 0",
    "an outer key": "x.loc['c', 'x'] = 5.0",
    "reset_index": "x.reset_index(inplace=True); x.loc[0, 'l'] = 9",
    "droplevel": "x = x.droplevel('k'); x.iloc[0, 0] = 1",
    "unstack": "x = x.unstack('k'); x.iloc[0, 0] = 1",
    "swaplevel": "x = x.swaplevel(); x.iloc[0, 1] = 1",
    "sort_index": "x.sort_index(ascending=False, inplace=True); x.iloc[0, 1] = 4",
}
OF_COLUMN = [
    "x[0] = x[5]",
    "x.iloc[2] = x.iloc[3]",
    "x[1:4] = x.iloc[0]",
    "x[x == x.iloc[1]] = x.iloc[0]",
    "x.sort_values(inplace=True, ascending=False); x.iloc[0] = x.iloc[-1]",
    "x.where(x.index > 2, x.iloc[0], inplace=True)",
    "x.update(pd.Series({2: x.iloc[9]}))",
    "x.drop(0, inplace=True); x.iloc[0] = x.iloc[1]",
    "x.name = 'other'; x.iloc[0] = x.iloc[1]",
    "y = x[2:6]; y.iloc[0] = x.iloc[0]; x.iloc[9] = y.iloc[1]",
    "x.dropna(inplace=True); x.iloc[0] = x.iloc[1]",
]
TABLES = [(frame, CHANGES), (numbers, OF_NUMBERS), (levels, OF_LEVELS)]


def changed(table: Any, change: str) -> Any:
    space = {"x": table, "pd": pd, "np": np}
    exec(change, space)
    return space["x"]


@pytest.mark.parametrize(
    ("make", "change"),
    [pytest.param(make, change, id=f"{make.__name__}, {name}")
     for make, changes in TABLES for name, change in changes.items()],
)  # fmt: skip
def test_changes_of_tables_leave_shared_data_alone(
    store: LocalStore, make: Callable[[], Any], change: str
) -> None:
    jshm.publish("x", make())
    other = jshm.attach("x")
    pd.testing.assert_frame_equal(changed(jshm.attach("x"), change), changed(make(), change))
    pd.testing.assert_frame_equal(other, make())
    pd.testing.assert_frame_equal(jshm.attach("x"), make())


@pytest.mark.parametrize("column", [name for name in frame().columns if name != "o"])
def test_changes_of_columns_leave_shared_data_alone(store: LocalStore, column: str) -> None:
    jshm.publish("x", frame()[column])
    for change in OF_COLUMN:
        got, expected = changed(jshm.attach("x"), change), changed(frame()[column].copy(), change)
        pd.testing.assert_series_equal(got, expected)
        pd.testing.assert_series_equal(jshm.attach("x"), frame()[column])


def test_only_changed_blocks_are_copied(store: LocalStore) -> None:
    jshm.publish("x", numbers())
    x = jshm.attach("x")
    shared = jshm.attach("x")
    assert all(np.shares_memory(x[name], shared[name]) for name in x)
    x.loc[0, "y"] = -1
    assert [np.shares_memory(x[name], shared[name]) for name in x] == [True, True, False, True]
    jshm.publish("again", x)
    assert jshm.attach("again").equals(x)


def test_in_mode_c_nothing_is_copied(store: LocalStore) -> None:
    jshm.publish("x", frame())
    x = jshm.attach("x", mode="c")
    before = x["h"].to_numpy()
    x.loc[3, "h"] = -1
    x.loc[3, "t"] = pd.Timestamp("1999")
    assert np.shares_memory(x["h"], before)
    assert x.loc[3, "h"] == -1
    pd.testing.assert_frame_equal(jshm.attach("x"), frame())


def test_memory_is_freed_with_the_table(store: LocalStore) -> None:
    jshm.publish("x", numbers())
    x = jshm.attach("x")
    gone = weakref.ref(x)
    x.loc[0, "y"] = -1
    column = x["w"]
    del x
    gc.collect()
    assert gone() is None
    assert [h.here for h in jshm.info("x").holders] == [True]
    column.iloc[0] = 7.0  # the last shared block becomes a copy
    gc.collect()
    store.flush()
    assert jshm.info("x").holders == ()


class Model:
    """An object that contains tables."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.by = {"column": table["w"], "groups": table.groupby("x")}


def test_tables_within_objects(store: LocalStore) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import StandardScaler

    fitted = make_column_transformer((StandardScaler(), ["w", "x"])).fit(numbers())
    jshm.publish("model", {"model": Model(numbers()), "list": [numbers()], "fitted": fitted})
    for _ in range(2):
        got = jshm.attach("model")
        model, (listed,) = got["model"], got["list"]
        pd.testing.assert_frame_equal(model.table, numbers())
        model.table.loc[0, "w"] = -1
        model.by["column"].iloc[1] = -1
        model.by["groups"].obj.loc[2, "x"] = 5.0
        listed += 1
        assert model.table.loc[0, "w"] == model.by["column"].iloc[1] == -1
        pd.testing.assert_frame_equal(listed, numbers() + 1)
        listed[["w", "x"]] = got["fitted"].transform(listed)


def test_tables_from_dumps(store: LocalStore) -> None:
    """Over read-only buffers too; over writable ones nothing is copied."""
    buffers: list[Any] = []
    data = jshm.dumps(frame(), buffer_callback=buffers.append)
    copies = [bytes(buffer.raw()) for buffer in buffers]
    x = jshm.loads(data, buffers=copies)
    x.loc[0, "f"] = -1
    x.loc[0, "n"] = 5
    pd.testing.assert_frame_equal(jshm.loads(data, buffers=copies), frame())
    y = jshm.loads(jshm.dumps(numbers()))
    before = y["w"].to_numpy()
    y.loc[0, "w"] = -1
    assert np.shares_memory(y["w"], before)
