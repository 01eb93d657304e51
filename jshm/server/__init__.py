"""The face that a Jupyter server sees: REST, events, and the end of its session."""

from .app import JshmExtension

__all__ = ["JshmExtension"]
