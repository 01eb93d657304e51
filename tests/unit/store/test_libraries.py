"""Libraries that change attached data: some copy before they write, the others need ``mode='c'``."""

from __future__ import annotations

import inspect
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jshm

if TYPE_CHECKING:
    from jshm.store.local.store import LocalStore

X = np.abs(np.random.default_rng(0).normal(size=(60, 8)))
Y = (X[:, 0] > X[:, 1]).astype(int)


def learners() -> list[Any]:
    """Return scikit-learn's estimators with `partial_fit`."""
    from sklearn.utils import all_estimators

    found = []
    for _, kind in all_estimators():
        if hasattr(kind, "partial_fit"):
            try:
                found.append(kind())
            except TypeError:  # it needs another estimator
                continue
    return found


def teach(learner: Any) -> None:
    known = inspect.signature(learner.partial_fit).parameters
    more = {"classes": [0, 1]} if "classes" in known else {}
    learner.partial_fit(X, Y, **more)


def outcome(learner: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(learner).items() if isinstance(value, np.ndarray)}


@pytest.mark.filterwarnings("ignore")
def test_models_are_trained_further_in_mode_c(store: LocalStore) -> None:
    taught = learners()
    assert len(taught) > 15
    for learner in taught:
        if hasattr(learner, "random_state"):
            learner.set_params(random_state=0)
        teach(learner)
        jshm.publish("model", learner)
        before = jshm.dumps(jshm.attach("model"))
        theirs, copy = jshm.attach("model", mode="c"), pickle.loads(pickle.dumps(learner))
        teach(theirs)
        teach(copy)
        expected = outcome(copy)
        for name, value in outcome(theirs).items():
            np.testing.assert_allclose(value, expected[name])
        assert jshm.dumps(jshm.attach("model")) == before


def test_xarray(store: LocalStore) -> None:
    xr = pytest.importorskip("xarray")
    jshm.publish("x", xr.Dataset({"a": ("n", np.arange(4.0))}))
    with pytest.raises(ValueError, match="view"):
        jshm.attach("x")["a"][0] = 5
    ours = jshm.attach("x", mode="c")
    ours["a"][0] = 5
    ours["a"] += 1
    assert ours["a"].values.tolist() == [6, 2, 3, 4]
    assert jshm.attach("x")["a"].values.tolist() == [0, 1, 2, 3]


def test_polars(store: LocalStore) -> None:
    """It copies before it writes."""
    pl = pytest.importorskip("polars")
    jshm.publish("x", pl.DataFrame({"a": np.arange(4.0), "s": list("abcd")}))
    for mode in ("r", "c"):
        ours = jshm.attach("x", mode=mode)
        ours[0, "a"] = 5
        ours[1, "s"] = "z"
        assert ours.rows()[:2] == [(5.0, "a"), (1.0, "z")]
        assert jshm.attach("x").rows()[:2] == [(0.0, "a"), (1.0, "b")]


@pytest.mark.filterwarnings("ignore")
def test_torch(store: LocalStore) -> None:
    """It has no read-only tensors: a write is private, and the next attach does not see it."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(100, 10)
    weight = net.weight.detach().clone()
    jshm.publish("net", net)
    for mode in ("c", "r"):
        ours = jshm.attach("net", mode=mode)
        optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
        ours(torch.ones(5, 100)).sum().backward()
        optimizer.step()
        assert torch.allclose(ours.weight, weight - 0.5)
        assert torch.equal(jshm.attach("net").weight, weight)
