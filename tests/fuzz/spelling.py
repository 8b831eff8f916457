"""A body as vLLM's lax schema reads it: `"n": "2"` is `"n": 2`, and must be answered like it."""

from collections.abc import Mapping
from typing import Any

_TRUE = {"1", "true", "t", "yes", "y", "on"}
_FALSE = {"0", "false", "f", "no", "n", "off"}


def canonical(body: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same body, its fields of the types that the schema names.

    Args:
        body: The body.
        fields: JSON schemas of its fields, by name.

    """
    return {
        name: _canonical(value, _types(fields[name])) if name in fields else value
        for name, value in body.items()
    }


def _types(schema: Mapping[str, Any]) -> set[str]:
    inner = (_types(part) for part in schema.get("anyOf", ()))
    return {schema.get("type", "")}.union(*inner) - {"", "null"}


def _canonical(value: Any, types: set[str]) -> Any:
    if types == {"boolean"}:
        return _boolean(value)
    if types == {"integer"}:
        return _integer(value)
    if types == {"number"} and isinstance(value, str):
        return _number(value)
    return value


def _boolean(value: Any) -> Any:
    word = str(value).lower()
    if isinstance(value, int | float) and value in {0, 1}:
        return bool(value)
    if isinstance(value, str) and word in _TRUE | _FALSE:
        return word in _TRUE
    return value


def _integer(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and value.strip().removeprefix("-").isdecimal() and len(value) < 20:
        return int(value)
    return value


def _number(value: str) -> Any:
    try:
        return float(value)
    except ValueError:
        return value
