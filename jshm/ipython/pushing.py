"""``%shm_push`` and ``%shm_accept``: offer something to another notebook, and take what is offered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from IPython.core.error import UsageError
from IPython.core.magic import line_magic, magics_class

from .. import handouts
from ..segment import file as segment
from ..segment.file import check_mode
from ..store import chosen_group, default_store, open_stores
from ..store.names import as_variable, is_glob, nearest
from ..text import say
from . import arguments, kernels, offering
from .arguments import Parser, expand
from .base import one_line, warn_of_short_life
from .calling import Caller, caller
from .sharing import SharingMagics
from .targets import targets_of

if TYPE_CHECKING:
    import argparse

    from ..store.base import SegmentInfo, Store

# Elements that are compared at once: they fit into a processor's cache.
_BLOCK = 1 << 15


@magics_class
class PushingMagics(SharingMagics):
    """Offer and accept."""

    @line_magic
    @one_line
    def shm_push(self, line: str) -> None:
        """Offer something to another notebook that runs: it is told before its next cell.

        ::

            %shm_push X --to analysis.ipynb     publish X, if need be, and offer it
            %shm_push exp1/X --to analysis      what is shared already, by part of a notebook's path
            %shm_push X y --to 1f0c             several, by the first characters of a kernel's id

        Nothing happens in the other notebook until it says %shm_accept X (or said %shm_accept --auto).
        An offer keeps no memory. It waits while that kernel is restarted, and goes when it is
        answered, when the name is released, when the kernel is shut down, or after a day.

        A variable is published as the next version of its name, unless it is that already: attached
        from it, or an array with the same content.

        Options::

            --to NOTEBOOK   its name, a part of its path, or its kernel's id
            --as NAME       another name; several variables, or a trailing slash: a prefix
            --replace       publish also if the name belongs to another notebook
            --group NAME    offer to a member of a Unix group, in the store that the members share
        """
        parser = Parser("shm_push", "VARIABLE")
        parser.add_argument("--to", metavar="NOTEBOOK")
        parser.add_argument("--as", dest="name")
        parser.flag("--replace")
        args = parser.parse(line)
        if not args.names:
            parser.error("what? For example: %shm_push X --to analysis.ipynb")
        if not args.to:
            parser.error(f"to whom? For example: %shm_push {args.names[0]} --to analysis.ipynb")
        here = caller()
        here.refuse_value("shm_push", "the other notebook accepts what is offered")
        store = default_store()
        recipient = kernels.find(args.to, store)
        mine = [i.name for i in store.segments() if i.mine and i.state == "current"]
        known = {*self._data(here), *mine}
        written = [word for word in args.names if word not in mine]
        arguments.check_words(parser, written, known, here.sees())
        words = expand(args.names, known, "variable or name of this notebook")
        names = arguments.destinations(words, args.name)
        values = self._to_publish(store, dict(zip(names, words, strict=True)), args.name, here)
        published = store.publish(values, replace=args.replace) if values else []
        values.clear()
        group = chosen_group.get()
        how = f" --group {group}" if group else ""
        for info in store.offers.make(names, recipient.identity):
            new = " · published" if info.name in {done.info.name for done in published} else ""
            say(
                f"{offering.described(info)}{new} → {recipient.label}: %shm_accept {info.name}{how}"
            )
        if not recipient.loaded:
            say(f"{recipient.label} sees it once it runs %load_ext jshm")
        for done in published[:1]:
            warn_of_short_life(done.info)

    def _to_publish(
        self, store: Store, words: dict[str, str], chosen: str | None, here: Caller
    ) -> dict[str, Any]:
        """Return by name the variables that are not yet what is shared under it."""
        found = {}
        seen = here.sees()
        for name, word in words.items():
            variable = as_variable(word)
            here.check_readable(variable)
            if variable in seen:
                value = seen[variable]
                if not _is_shared_as(store, name, value):
                    found[name] = value
            elif chosen is not None:
                arguments.lookup(seen, variable, self._data(here), here)  # raises
            else:
                store.info(name)  # raises, and says which is near
        return found

    @line_magic
    @one_line
    def shm_accept(self, line: str) -> Any:
        """Bind what another notebook offers to this one.

        ::

            %shm_accept                         list what is offered
            %shm_accept X                       attach it: read-only, nothing copied
            %shm_accept X --as data --mode c    as in %shm_attach
            %shm_accept --decline X
            %shm_accept --auto                  bind whatever is offered before the next cell
            %shm_accept --auto train.ipynb      … by this notebook
            %shm_accept --auto off              only show it, as in the beginning

        With --auto a variable that jshm did not bind is never overwritten: then the offer is only shown.
        What is offered is an object (a function, a model)? Binding it runs its publisher's code.

        Options::

            --as VARIABLE    the variable to bind
            --mode r|c|r+    as in %shm_attach
            --follow         as in %shm_attach
            --trust          also the objects of a group
            --group NAME     what is offered in the store that the members of a Unix group share
        """
        parser = Parser("shm_accept", "NAME")
        parser.add_argument("--as", dest="variable")
        parser.add_argument("--mode", default="r")
        parser.add_argument("--auto", nargs="?", const="", metavar="NOTEBOOK")
        for option in ("--decline", "--follow", "--trust"):
            parser.flag(option)
        args = parser.parse(line)
        if not args.names or args.decline:
            caller().refuse_value("shm_accept", "or name what to accept")
        if args.auto is not None:
            if args.names or args.decline:
                parser.error("--auto is about offers to come: it takes a notebook and no names")
            self._accept_at_once(args.auto)
            return None
        store = default_store()
        offers = {offer.info.name: offer for offer in store.offers.received()}
        if args.names:
            known = {name: offer.info for name, offer in offers.items()}
            names = self._offered(args.names, known)
            if args.decline:
                store.offers.answer(names)
                say(f"declined: {', '.join(names)}")
                return None
            return self._accept(store, names, args)
        if args.decline:
            parser.error("which offer? %shm_accept lists them")
        elif not store.identity.connection_file:
            say("only kernels of notebooks are offered anything; here: %shm_attach NAME")
        else:
            lines = [offering.offer_line(offer, store) for offer in offers.values()]
            say(*(lines or ["nothing is offered to this notebook"]))
        return None

    def _offered(self, words: list[str], known: dict[str, SegmentInfo]) -> list[str]:
        names = expand(words, known, "name that is offered")
        for name in names:
            if name not in known:
                close = nearest(name, known)
                hint = f"did you mean {' or '.join(close)}?" if close else f"%shm_attach {name}?"
                raise UsageError(f"{name} is not offered to this notebook; {hint}")
        return names

    def _accept(self, store: Store, names: list[str], args: argparse.Namespace) -> Any:
        several = len(args.names) > 1 or any(map(is_glob, args.names))
        targets = targets_of(names, args.variable, caller(), several=several)
        mode = check_mode(args.mode)
        value = self._bind(store, names, targets, mode, trust=args.trust, follow=args.follow)
        store.offers.answer(names)
        return value

    def _accept_at_once(self, notebook: str) -> None:
        if notebook == "off":
            offering.accepted.clear()
            say("what is offered is shown before the next cell, and not bound")
            return
        offering.accepted.add(notebook)
        who = notebook or "any notebook"
        say(f"what {who} offers is bound before the next cell, until %shm_accept --auto off")
        for store in open_stores():
            offering.look_again(store)
            say(*offering.look(self._variables, store))


def _is_shared_as(store: Store, name: str, value: Any) -> bool:
    """Tell whether a value is what is shared under a name now."""
    found = store.current([name]).get(name)
    if found is None:
        return False
    identity = found.segment
    if found.kind != "array":
        return handouts.segments_of(value)[:1] == (found.value_id,)
    if type(value) is not np.ndarray:
        return False
    mapping = segment.find(value)
    shared = store.attach([name])[0].value
    if shared.dtype != value.dtype or shared.shape != value.shape:
        return False
    # What was written past its read-only flag is not at the place that is attached now.
    is_view = mapping is not None and mapping.segment == identity and mapping.mode != "c"
    if is_view and (_place(value) == _place(shared) or found.writable):
        return True
    return _same_bytes(value, shared)


def _place(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return array.__array_interface__["data"][0], array.strides


def _same_bytes(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Compare two arrays of one type and shape exactly, also what is no number."""
    # As rows, where both are columns: then they are read as they lie.
    if one.flags.f_contiguous and other.flags.f_contiguous:
        one, other = one.T, other.T
    flat = [a.reshape(-1) if a.flags.c_contiguous else a.flat for a in (one, other)]
    return all(
        flat[0][start : start + _BLOCK].tobytes() == flat[1][start : start + _BLOCK].tobytes()
        for start in range(0, one.size, _BLOCK)
    )
