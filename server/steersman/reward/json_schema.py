"""JSON schemas (draft 2020-12) that requests bring. Nothing is fetched, and patterns are RE2's."""

import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from steersman.reward.pattern import compiled

LONGEST = 2**16
"""Characters of a schema."""

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_LOOKED_AT = frozenset(("$ref", "$dynamicRef", "pattern", "patternProperties"))
_NAMED = frozenset(("properties", "$defs", "definitions", "dependentSchemas"))
"""Keywords with schemas under names."""
_PLAIN = frozenset(("const", "enum", "default", "examples"))
"""Keywords with values that are no schemas."""
_NOTHING: Registry[Any] = Registry()
"""No schemas but the one at hand: the library's own registry fetches what it does not have."""


def _pattern(
    validator: Any, pattern: str, instance: object, schema: object
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not compiled(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator = extend(Draft202012Validator, {"pattern": _pattern})


def check(schema: dict[str, Any]) -> None:
    """Refuse a schema that cannot be used.

    Raises:
        ValueError: It is no schema, is too long, is of another draft, refers to something outside
            of itself, or has a pattern that is refused.

    """
    try:
        if len(json.dumps(schema)) > LONGEST:
            raise ValueError(f"is over {LONGEST} characters long")
        if schema.get("$schema", _DRAFT).rstrip("#") != _DRAFT:
            raise ValueError(f"$schema must be {_DRAFT}")
        meta = Draft202012Validator(Draft202012Validator.META_SCHEMA)
        fault = next(meta.iter_errors(schema), None)
        if fault is not None:
            raise ValueError(f"is no JSON schema: {fault.json_path}: {fault.message[:200]}")
        resource: Resource[Any] = DRAFT202012.create_resource(schema)
        resolver = _NOTHING.with_resource("", resource).resolver()
        for keyword, value in _keywords(schema):
            if keyword == "patternProperties":
                raise ValueError("patternProperties is not supported")
            if keyword == "pattern":
                compiled(value)
            if keyword in ("$ref", "$dynamicRef"):
                if not value.startswith("#"):
                    raise ValueError(f"{keyword} {value!r} is not within the schema (#...)")
                _look_up(resolver, value)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _look_up(resolver: Any, reference: str) -> None:
    try:
        resolver.lookup(reference)
    except Unresolvable:
        raise ValueError(f"{reference!r} is nowhere in the schema") from None


def _keywords(schema: object) -> Iterator[tuple[str, Any]]:
    """The keywords that matter here, with their values."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            for keyword, value in one.items():
                if keyword in _LOOKED_AT:
                    yield keyword, value
                if keyword in _NAMED and isinstance(value, dict):
                    waiting.extend(value.values())
                elif keyword not in _PLAIN:
                    waiting.append(value)


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
