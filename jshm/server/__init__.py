"""The extension of the Jupyter server: REST, events, and the end of the session."""

from .app import JshmExtension

__all__ = ["JshmExtension"]
