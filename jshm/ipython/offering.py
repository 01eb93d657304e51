"""Offers from other notebooks: shown before a cell, or bound at once if the user chose that."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from .. import variables
from ..errors import JshmError
from ..store.names import variable_for
from ..system.weak import WeakKeys
from ..text import printable, size_text
from ..variables import bind_attached
from . import following
from .magics import explain, group_option

if TYPE_CHECKING:
    from ..store.base import Attached, Offer, SegmentInfo, Store
    from ..store.identity import Identity

Namespace = dict[str, Any]
EVERYBODY = ""
# Notebooks whose offers are bound at once; `EVERYBODY` means all.
accepted: set[str] = set()
# The offers that were shown, for each store: name and time.
_shown: WeakKeys[Store, set[tuple[str, float]]] = WeakKeys()


def look(namespace: Namespace, store: Store) -> list[str]:
    """Bind the offers that are accepted at once; return the lines that tell about new offers."""
    if not store.can("offers"):
        return []
    offers = store.offers.received()
    before = _shown.get(store, set())
    _shown[store] = {_key(offer) for offer in offers}
    new = [offer for offer in offers if _key(offer) not in before]
    lines = {
        _key(offer): _obstacle(namespace, store, offer)
        if is_accepted(offer.sender)
        else offer_line(offer, store)
        for offer in new
    }
    accepted_now = [offer.info.name for offer in new if not lines[_key(offer)]]
    found = dict(zip(accepted_now, following.attach_each(store, accepted_now), strict=True))
    return [
        lines[_key(offer)] or _accept(namespace, store, offer, found[offer.info.name])
        for offer in new
    ]


def look_again(store: Store) -> None:
    """Treat all offers as new again."""
    _shown.pop(store, set())


def is_accepted(sender: Identity) -> bool:
    """Return whether the offers of a notebook are bound at once."""
    if EVERYBODY in accepted:
        return True
    return any(
        word in (sender.kernel_id, sender.label) or f"/{sender.notebook}".endswith(f"/{word}")
        for word in accepted
    )


def described(info: SegmentInfo) -> str:
    """Return the description of an offered name that both notebooks show."""
    live = " · LIVE" if info.writable else ""
    return f"{info.name} v{info.version} · {info.summary} · {size_text(info.nbytes)}{live}"


def offer_line(offer: Offer, store: Store) -> str:
    """Return the line that shows an offer, and the magic that accepts it."""
    return printable(
        f"{offer.sender.label} offers {described(offer.info)}: %shm_accept {offer.info.name}"
        f"{group_option(store.group)}"
    )


def _obstacle(namespace: Namespace, store: Store, offer: Offer) -> str:
    """Return the line that tells why an offer is not bound; '' if it can be bound."""
    name = offer.info.name
    try:
        variable = variable_for(name)
        if name in following.followers(store) and variable in following.followers(store)[name]:
            store.offers.answer([name])
            return f"{offer.sender.label} offers {name}, which {variable} follows"
    except (JshmError, OSError) as error:
        return _not_bound(offer, store, error)
    if variable in namespace and not variables.is_from_jshm(variable, namespace[variable]):
        return f"{offer_line(offer, store)} --as … ({variable} is your own variable)"
    if hasattr(builtins, variable):
        return f"{offer_line(offer, store)} --as … ({variable} is a Python builtin)"
    return ""


def _accept(
    namespace: Namespace, store: Store, offer: Offer, attached: Attached | Exception
) -> str:
    """Bind an offered value; return the line that tells the user."""
    if isinstance(attached, Exception):
        return _not_bound(offer, store, attached)
    try:
        variable = variable_for(offer.info.name)
        following.stop([variable])
        line = bind_attached(namespace, variable, attached, "r")
        store.offers.answer([offer.info.name])
    except (JshmError, OSError) as error:
        return _not_bound(offer, store, error)
    return printable(line)


def _not_bound(offer: Offer, store: Store, error: Exception) -> str:
    return printable(f"{offer_line(offer, store)} (not bound: {explain(error, group=store.group)})")


def _key(offer: Offer) -> tuple[str, float]:
    return offer.info.name, offer.created
