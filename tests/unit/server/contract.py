"""Checks answers against ``openapi.yaml``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from openapi_schema_validator import OAS30Validator

import jshm.server

if TYPE_CHECKING:
    from .conftest import Answer

DOCUMENT: dict[str, Any] = yaml.safe_load(
    Path(jshm.server.__file__).with_name("openapi.yaml").read_text()
)
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
PREFIX = "/jshm/api"
# Jupyter answers these before a handler of jshm runs.
_JUPYTER = {401, 403, 405}


def operations() -> list[tuple[str, str]]:
    """Return every path and method."""
    return [(p, m) for p, path in DOCUMENT["paths"].items() for m in path if m in METHODS]


def template(path: str) -> str | None:
    """Return the path of the document that matches the path of a request."""
    for found in sorted(DOCUMENT["paths"], key=lambda p: "{" in p):
        pattern = re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(found))
        if re.fullmatch(pattern, PREFIX + path, re.DOTALL):
            return str(found)
    return None


def responses(method: str, path: str) -> dict[str, Any]:
    """Return the documented responses of a request, by status."""
    found = template(path)
    operation = DOCUMENT["paths"].get(found, {}).get(method.lower(), {})
    return operation.get("responses", {})


def validate(value: Any, schema: dict[str, Any]) -> None:
    """Raise ValidationError if a value does not match a schema of the document."""
    whole = {"allOf": [schema], "components": DOCUMENT["components"]}
    OAS30Validator(whole).validate(value)


def check(method: str, path: str, code: int, answer: Answer) -> None:
    """Check an answer; an error without a documented status must match the general error."""
    found = responses(method, path)
    if not found or code in _JUPYTER:
        return
    assert code < 500 or code in (503, 507), answer
    assert answer.headers["Content-Type"].startswith("application/json"), answer
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    response = found.get(str(code))
    if response is None:
        assert code >= 400, answer
        response = {"$ref": "#/components/responses/Error"}
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    validate(answer.json, response["content"]["application/json"]["schema"])
    if code < 400:
        assert answer.headers["Cache-Control"] == "no-store"
