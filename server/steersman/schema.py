"""A control against its schema: a `ControlSpec`, or one clear error that names the field."""

from typing import Any

from pydantic import ValidationError

from steersman.errors import ControlError
from steersman_client import ControlSpec


def fields(control: object) -> dict[str, Any]:
    """The fields of a control as it came in a request.

    Raises:
        ControlError: It is no object.

    """
    if not isinstance(control, dict):
        raise ControlError(f"control must be an object, not {_json_type(control)}", param="control")
    return control


def read(control: dict[str, Any]) -> ControlSpec:
    """Check the fields of a control, each for itself.

    Raises:
        ControlError: An unknown field, a wrong type or a value out of range.

    """
    try:
        return ControlSpec.model_validate(control)
    except ValidationError as error:
        path, message = _explain(error)
        raise ControlError(f"{path}: {message}", param=path) from None


def _explain(error: ValidationError) -> tuple[str, str]:
    """The path of the first wrong field, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    loc = first["loc"]
    # Pydantic puts the tag of a tagged union between the field and what is inside it.
    where = [part for i, part in enumerate(loc) if not (i == 1 and loc[0] == "search")]
    path = "control" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in where)
    context = first.get("ctx", {})
    match first["type"]:
        case "extra_forbidden":
            message = "unknown field"
        case "missing":
            message = "is required"
        case "union_tag_not_found":
            path, message = f"{path}.method", "is required"
        case "union_tag_invalid":
            path = f"{path}.method"
            message = f"unknown method {context['tag']!r}; known: {context['expected_tags']}"
        case _:
            reason = first["msg"].removeprefix("Value error, ")
            message = reason[0].lower() + reason[1:]
    return path, message


def _json_type(value: object) -> str:
    names = {bool: "a boolean", str: "a string", list: "an array"}
    return names.get(type(value), "a number")
