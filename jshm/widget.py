"""The widget in a notebook's cell: a list of what is shared, with previews and buttons (``%shm_browser``).

It shows the same view as the panel in JupyterLab, over a comm instead of REST. Its kernel answers it only
between cells; the panel always gets an answer.
"""

from __future__ import annotations

import contextlib
import functools
import html
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from IPython.display import display

from .browse import wire
from .browse.labels import Notebooks
from .browse.listing import SORT_KEYS, Query
from .browse.service import Service
from .browse.tables import as_html
from .errors import InvalidNameError, JshmError
from .pickling.source import shell
from .segment.file import check_mode
from .store import default_store
from .store.names import as_variable, is_variable
from .system.weak import WeakSet
from .variables import bind_attached, user_namespace

if TYPE_CHECKING:
    from collections.abc import Callable

_STATIC = Path(__file__).parent / "static"
_MOST_ROWS = 50
_HINT = "Share a variable: %shm_publish X"
_MOST = 1000
# Shown if jshm was installed from source without Node, so without its front end.
_MISSING = """export default { render({ el }) { el.textContent =
  "jshm was installed without its front end: install Node 20 and install jshm again. " +
  "%shm_list and the jshm command work."; } };"""


def _bundle(name: str, otherwise: str) -> str:
    try:
        return (_STATIC / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return otherwise


class SegmentBrowser(anywidget.AnyWidget):
    """A list of what is shared on this machine, with previews and buttons to attach and release.

    Parameters
    ----------
    filter : str
        Show only names that have all these words in their name, notebook, note or type.
    selected : str
        The name whose details are open; ``''`` for none.
    confirm_release : bool
        Ask before a release.
    magic_code : bool
        Copy code as ``%shm_attach X`` instead of Python.

    Notes
    -----
    All parameters are traits: a notebook can set them and react to them::

        browser = jshm.SegmentBrowser(filter="exp1/")
        browser.observe(lambda change: print(change.new), "selected")

    The list is sent on request and is not part of the widget's state. A saved notebook has a snapshot of
    it as plain HTML, with names but without paths.

    A release can be undone for ten seconds: the front end asks for it only after that time. If the widget
    is closed in the meantime, nothing is released.
    """

    _esm = _bundle("widget.js", _MISSING)
    _css = _bundle("widget.css", "")

    filter = traitlets.Unicode("").tag(sync=True)
    selected = traitlets.Unicode("").tag(sync=True)
    confirm_release = traitlets.Bool(default_value=True).tag(sync=True)
    magic_code = traitlets.Bool(default_value=False).tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._service: Service | None = None
        self._lock = threading.RLock()  # messages may come in other threads (subshells)
        self._sent: object = None
        self.on_msg(SegmentBrowser._answer)
        _watch(self)

    # -- messages --------------------------------------------------------------------------------

    def _answer(self, message: Any, _buffers: object) -> None:
        """Answer `{id, method, params}` with `{id, result}` or `{id, error}`."""
        if not isinstance(message, dict) or "id" not in message:
            return
        reply: dict[str, Any] = {"id": message["id"]}
        try:
            with self._lock:
                method = _METHODS[message["method"]]
                reply["result"] = method(self, **message.get("params", {}))
        except JshmError as error:
            reply["error"] = wire.problem(error)
        except Exception as error:  # noqa: BLE001 - of the attached object's code; the front end waits for an answer
            reply["error"] = wire.failure("refused", f"{type(error).__name__}: {error}")
        self.send(reply)

    def _get_service(self) -> Service:
        if self._service is None:
            self._service = Service(default_store(), Notebooks())
        return self._service

    def _list(self, query: dict[str, Any]) -> dict[str, Any]:
        page = self._get_service().page(_query(query))
        self._sent = default_store().state()
        return page

    def _info(self, name: str) -> dict[str, Any]:
        return self._get_service().info(name)

    def _preview(self, name: str, version: int | None = None) -> dict[str, Any]:
        return self._get_service().preview(name, version)

    def _release(
        self, names: list[str], versions: dict[str, int] | None = None
    ) -> list[dict[str, Any]]:
        return self._get_service().release(names, versions)

    def _attach(self, name: str, variable: str, mode: str) -> str:
        variable = as_variable(variable)
        if not is_variable(variable):
            raise InvalidNameError(f"{variable!r} cannot be a variable")
        mode = check_mode(mode)
        (attached,) = default_store().attach([name], mode)
        return bind_attached(user_namespace(), variable, attached, mode)

    def _notify(self) -> None:
        """Tell the front end if the list may have changed."""
        if self.comm is None or self._service is None:
            return
        with contextlib.suppress(JshmError, OSError), self._lock:
            default_store().flush()
            state = default_store().state()
            if state != self._sent:
                self._sent = state
                self.send({"changed": True})

    # -- display ---------------------------------------------------------------------------------

    def _ipython_display_(self) -> None:
        """Display the widget, and a snapshot for a notebook that is no longer live.

        A live widget hides the snapshot by its style sheet. They are two outputs: of a single one, a front
        end that does not find the widget's model would show an error and not the snapshot.
        """
        bundle = self._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display(data, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
        with contextlib.suppress(JshmError, OSError):
            text = "jshm: a snapshot; `%shm_list` is live"
            snapshot = {"text/html": _snapshot(self.filter), "text/plain": text}
            display(snapshot, raw=True)  # type: ignore[no-untyped-call]


def _query(query: dict[str, Any]) -> Query:
    """Return a query from a message, or raise an error."""
    sort = query["sort"]
    offset, limit = int(query["offset"]), int(query["limit"])
    if sort not in SORT_KEYS or offset < 0 or not 1 <= limit <= _MOST:
        raise ValueError(f"not a valid query: {query!r:.200}")
    return Query(
        str(query["filter"]), sort, bool(query["descending"]), bool(query["grouped"]),
        bool(query["unused"]), offset, limit,
    )  # fmt: skip


def _snapshot(words: str) -> str:
    """Return the current list as static HTML, without paths."""
    infos = default_store().segments()
    wanted = words.casefold().split()
    infos = [i for i in infos if all(w in f"{i.name} {i.publisher}".casefold() for w in wanted)]
    more = len(infos) - _MOST_ROWS
    rest = f"<p>… and {more:,} more</p>" if more > 0 else ""
    clock = html.escape(time.strftime("%H:%M"))
    return (
        f'<div class="jshm-snapshot">{as_html(infos[:_MOST_ROWS], hint=_HINT)}{rest}'
        f"<p><em>snapshot {clock}, not live</em></p></div>"
    )


_METHODS: dict[str, Callable[..., Any]] = {
    "list": SegmentBrowser._list,  # noqa: SLF001
    "info": SegmentBrowser._info,  # noqa: SLF001
    "preview": SegmentBrowser._preview,  # noqa: SLF001
    "release": SegmentBrowser._release,  # noqa: SLF001
    "attach": SegmentBrowser._attach,  # noqa: SLF001
}


# -- after each cell -------------------------------------------------------------------------------


_browsers: WeakSet[SegmentBrowser] = WeakSet()


def _watch(browser: SegmentBrowser) -> None:
    """Notify a browser after each cell while it exists."""
    _browsers.add(browser)
    _register()


@functools.lru_cache(maxsize=1)
def _register() -> None:
    running = shell()
    if running is not None:
        running.events.register("post_run_cell", _after_cell)


def _after_cell(_result: object = None) -> None:
    for browser in list(_browsers):
        browser._notify()  # noqa: SLF001
