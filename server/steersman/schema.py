"""A control against its schema: a `ControlSpec`, or one clear error that names the field."""

import functools
import operator
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, create_model

from steersman.errors import ControlError, path_of, reason_of
from steersman.plugins import Method
from steersman.sampling.registry import samplers
from steersman.search.registry import policies
from steersman_client import ControlSpec


@functools.cache
def control_spec() -> type[ControlSpec]:
    """The schema of `control` on this server: the client's, with the methods that run here."""
    fields: dict[str, Any] = {
        "search": (_union(policies().values()), None),
        "sampler": (_union(samplers().values()), None),
    }
    spec = create_model("ControlSpec", __base__=ControlSpec, **fields)
    spec.__doc__ = ControlSpec.__doc__
    return spec


def _union(methods: Iterable[Method]) -> Any:
    """One of the specs, by its `method`, or None."""
    specs: list[type[BaseModel]] = [method.spec for method in methods]
    if len(specs) == 1:
        return specs[0] | None
    return Annotated[functools.reduce(operator.or_, specs), Field(discriminator="method")] | None


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
        return control_spec().model_validate(control)
    except ValidationError as error:
        path, message = _explain(error)
        raise ControlError(f"{path}: {message}", param=path) from None


def _explain(error: ValidationError) -> tuple[str, str]:
    """The path of the first wrong field, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    where = list(first["loc"])
    if len(where) > 1 and where[1] in _tags(str(where[0])):
        del where[1]  # Pydantic puts the tag of a tagged union between the field and its content
    path = path_of("control", where)
    context = first.get("ctx", {})
    match first["type"]:
        case "union_tag_not_found":
            path, message = f"{path}.method", "is required"
        case "union_tag_invalid":
            path = f"{path}.method"
            message = f"unknown method {context['tag']!r}; known: {context['expected_tags']}"
        case "literal_error" if where[1:] == ["method"]:
            message = f"unknown method {first['input']!r}; known: {context['expected']}"
        case _:
            message = reason_of(first)
    return path, message


def _tags(name: str) -> set[object]:
    """The methods among which a field chooses by their tags; none for any other field."""
    methods = {"search": {*policies()}, "sampler": {*samplers()}}.get(name, set())
    return {*methods} if len(methods) > 1 else set()


def _json_type(value: object) -> str:
    names = {bool: "a boolean", str: "a string", list: "an array"}
    return names.get(type(value), "a number")
