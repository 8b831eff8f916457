"""JSON schemas of requests: refused before they are used, or harmless."""

import urllib.request
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing.exceptions import Unresolvable

from steersman.reward import json_schema
from steersman.reward.schema_check import LONGEST, MOST_PATTERNS, check

TREE = {
    "type": "object",
    "properties": {
        "value": {"type": ["integer", "null"], "minimum": 0, "multipleOf": 2},
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2},
        "pair": {"prefixItems": [True, {"$ref": "#/$defs/a~1b"}]},
        "tag": {"$ref": "#tag"},
        "patternProperties": {"enum": [{"$ref": "elsewhere"}]},
    },
    "required": ["value"],
    "additionalProperties": False,
    "$defs": {"a/b": {"const": 3}, "tag": {"$anchor": "tag", "enum": ["x", "y"]}},
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('{"value": 2, "name": "abc", "children": [{"value": null}]}', True),
        ('```json\n{"value": 2}\n```', True),
        ('{"value": 2, "pair": [1, 3], "tag": "x"}', True),
        ('{"value": 3}', False),
        ('{"value": 2, "name": "A1"}', False),
        ('{"value": 2, "children": [{}]}', False),
        ('{"value": 2, "pair": [1, 4]}', False),
        ('{"value": 2, "tag": "z"}', False),
        ('{"value": 2, "more": 1}', False),
        ('{"value": NaN}', False),
        ("no JSON", False),
        ("[" * 100_000, False),
        ("9" * 5000, False),
        ("", False),
    ],
)
def test_a_schema_tells_what_holds(text: str, holds: bool) -> None:
    check(TREE)
    assert json_schema.matches(TREE, text) is holds


NOTHING: dict[str, Any] = {}
DEEP: dict[str, Any] = {}
for _ in range(900):
    DEEP = {"not": DEEP}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": 3}, r"\$\.type must be of array, "),
        ({"type": "text"}, r"\$\.type must be of"),
        ({"properties": {"a": {"type": []}}}, r"\$\.properties\.a\.type must be of"),
        ({"properties": []}, r"\$\.properties must be an object"),
        ({"properties": {"a": 1}}, r"\$\.properties\.a is no schema"),
        ({"items": 3}, r"\$\.items is no schema"),
        ({"allOf": {}}, r"\$\.allOf must be a list"),
        ({"anyOf": [3]}, r"\$\.anyOf\[0\] is no schema"),
        ({"required": "a"}, "list of strings"),
        ({"dependentRequired": {"a": [1]}}, "lists of strings"),
        ({"enum": 1}, "must be a list"),
        ({"uniqueItems": 1}, "must be a boolean"),
        ({"minimum": True}, "must be a number"),
        ({"multipleOf": 0}, "above 0"),
        ({"maxLength": -1}, "from 0 on"),
        ({"pattern": 1}, "must be a string"),
        ({"pattern": "(?=a)"}, "cannot be parsed by RE2"),
        ({"patternProperties": {}}, "not supported"),
        ({"items": {"$id": "x"}}, "not supported"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "must be https"),
        ({"$schema": 7}, "must be https"),
        ({"$ref": "http://127.0.0.1:9/schema"}, "not within the schema"),
        ({"items": {"$ref": "other.json#/a"}}, r"\$\.items\.\$ref: 'other.json#/a' is not within"),
        ({"$dynamicRef": "file:///etc/passwd"}, "not within the schema"),
        ({"$ref": "#/$defs/none"}, "leads to no schema"),
        ({"$ref": "#/allOf/1", "allOf": [{}]}, "leads to no schema"),
        ({"$ref": "#none"}, "leads to no schema"),
        ({"$ref": "#/title", "title": "a"}, "leads to no schema"),
        ({"description": "a" * LONGEST}, "characters long"),
        ({"allOf": [{"pattern": "a"}] * (MOST_PATTERNS + 1)}, "patterns"),
    ],
)
def test_a_schema_that_cannot_be_used(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(schema)


def test_keywords_that_are_unknown_are_left_alone() -> None:
    check({"x-hint": {"$ref": 3, "patternProperties": 1}, "format": "uuid", "const": {"type": 3}})
    check(DEEP)


def test_whatever_the_check_lets_through_the_library_takes_for_a_schema() -> None:
    check(TREE)
    Draft202012Validator.check_schema(TREE)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def urlopen(request: Any, *_: object, **__: object) -> None:
        asked.append(request.full_url)
        raise OSError("there is no network")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    remote = {"$ref": "http://127.0.0.1:9/schema"}
    with pytest.raises(Unresolvable):
        json_schema.matches(remote, "1")
    assert asked == []
    with pytest.raises(Unresolvable):
        Draft202012Validator(remote).is_valid(1)  # the library by itself
    assert asked == [remote["$ref"]]
