"""The check of a JSON schema (draft 2020-12), before it is used.

The library's own check takes milliseconds for each part of a schema, which is too long for the
event loop; this one is a plain walk.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from steersman.reward.pattern import compiled

LONGEST = 2**16
"""Characters of a schema."""
MOST_PATTERNS = 64
"""Patterns of a schema."""

_DRAFT = "https://json-schema.org/draft/2020-12/schema"

_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
_ONE = frozenset(
    ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
) | {"unevaluatedItems", "unevaluatedProperties"}
"""Keywords with a schema."""
_SEVERAL = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
"""Keywords with a list of schemas."""
_NAMED = frozenset(("$defs", "definitions", "dependentSchemas", "properties"))
"""Keywords with schemas under names."""
_REFUSED = frozenset(("patternProperties",))
"""The library searches for these by Python's own expressions, whose time nothing bounds."""


def check(schema: dict[str, Any]) -> None:
    """Refuse a schema that cannot be used.

    Raises:
        ValueError: It is no schema, is too long, is of another draft, refers to something outside
            of itself, or has a pattern that is refused. The message says where.

    """
    try:
        length = len(json.dumps(schema))
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if length > LONGEST:
        raise ValueError(f"is over {LONGEST} characters long")
    anchors: set[str] = set()
    references: list[tuple[str, str]] = []
    patterns = 0
    for where, keyword, value in _keywords(schema):
        fault = _fault(keyword, value, where)
        if fault is not None:
            raise ValueError(f"{where}.{keyword} {fault}")
        if keyword == "pattern":
            patterns += 1
            if patterns > MOST_PATTERNS:
                raise ValueError(f"has over {MOST_PATTERNS} patterns")
            compiled(value)
        elif keyword in ("$anchor", "$dynamicAnchor"):
            anchors.add(value)
        elif keyword in ("$ref", "$dynamicRef"):
            references.append((f"{where}.{keyword}", value))
    for where, reference in references:
        if not reference.startswith("#"):
            raise ValueError(f"{where}: {reference!r} is not within the schema (#...)")
        name = unquote(reference[1:])
        if name not in anchors and not isinstance(_found(schema, name), dict | bool):
            raise ValueError(f"{where}: {reference!r} leads to no schema")


def _keywords(schema: object) -> Iterator[tuple[str, str, Any]]:
    """All keywords of a schema and of those in it: the path of theirs, the keyword, its value."""
    waiting = [("$", schema)]
    while waiting:
        where, one = waiting.pop()
        if isinstance(one, bool):
            continue
        if not isinstance(one, dict):
            raise ValueError(f"{where} is no schema")
        for keyword, value in one.items():
            yield where, keyword, value
            within = f"{where}.{keyword}"
            if keyword in _ONE:
                waiting.append((within, value))
            elif keyword in _SEVERAL:
                waiting.extend((f"{within}[{index}]", part) for index, part in enumerate(value))
            elif keyword in _NAMED:
                waiting.extend((f"{within}.{name}", part) for name, part in value.items())


def _fault(keyword: str, value: Any, where: str) -> str | None:
    """The fault of a keyword by itself, if it has one."""
    if keyword == "$schema" and value != _DRAFT:
        return f"must be {_DRAFT}"
    if keyword in _REFUSED or (keyword == "$id" and where != "$"):
        return "is not supported"
    for keywords, holds, expected in _EXPECTED:
        if keyword in keywords and not holds(value):
            return f"must be {expected}"
    return None


def _found(schema: object, pointer: str) -> object:
    """The part of a schema that a JSON pointer (RFC 6901) leads to; None if there is none."""
    if pointer and not pointer.startswith("/"):
        return None
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, dict) and key in schema:
            schema = schema[key]
        elif isinstance(schema, list) and key.isdecimal() and int(key) < len(schema):
            schema = schema[int(key)]
        else:
            return None
    return schema


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_types(value: object) -> bool:
    given = value if isinstance(value, list) else [value]
    return bool(given) and all(isinstance(one, str) and one in _TYPES for one in given)


_Check = tuple[frozenset[str], Callable[[Any], bool], str]
_EXPECTED: tuple[_Check, ...] = (
    (_SEVERAL, lambda value: isinstance(value, list) and bool(value), "a list of schemas"),
    (_NAMED, lambda value: isinstance(value, dict), "an object of schemas"),
    (frozenset(("type",)), _are_types, f"of {', '.join(sorted(_TYPES))}, or a list of these"),
    (frozenset(("enum",)), lambda value: isinstance(value, list), "a list"),
    (frozenset(("required",)), _are_strings, "a list of strings"),
    (
        frozenset(("dependentRequired",)),
        lambda value: isinstance(value, dict) and all(map(_are_strings, value.values())),
        "an object of lists of strings",
    ),
    (frozenset(("uniqueItems",)), lambda value: isinstance(value, bool), "a boolean"),
    (
        frozenset(("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum")),
        _is_number,
        "a number",
    ),
    (frozenset(("multipleOf",)), lambda value: _is_number(value) and value > 0, "above 0"),
    (
        frozenset(("maxLength", "minLength", "maxItems", "minItems", "maxContains"))
        | {"minContains", "maxProperties", "minProperties"},
        _is_count,
        "a whole number from 0 on",
    ),
    (
        frozenset(("$ref", "$dynamicRef", "$anchor", "$dynamicAnchor", "$id", "pattern")),
        lambda value: isinstance(value, str),
        "a string",
    ),
)
"""Keywords whose values have to be of a kind."""
