"""JSON schemas (draft 2020-12) that requests bring. Nothing is fetched, and patterns are RE2's."""

import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry

from steersman.reward.pattern import compiled

_NOTHING: Registry[Any] = Registry()
"""No schemas but the one at hand: the library's own registry fetches what it does not have."""


def _pattern(
    validator: Any, pattern: str, instance: object, schema: object
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not compiled(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator = extend(Draft202012Validator, {"pattern": _pattern})


def matches(schema: dict[str, Any], text: str) -> bool:
    """Tell whether a text is JSON that a schema holds of.

    Args:
        schema: A schema that was checked.
        text: The text; a Markdown fence around the JSON is left out.

    """
    try:
        instance = json.loads(_unfenced(text), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return bool(_Validator(schema, registry=_NOTHING).is_valid(instance))


def _unfenced(text: str) -> str:
    text = text.strip()
    first, _, rest = text.partition("\n")
    if first.rstrip() in ("```", "```json") and rest.endswith("```"):
        return rest.removesuffix("```")
    return text


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")
