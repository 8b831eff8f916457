"""A server as the fuzzer sees it, made from the client's schema and without a server."""

from steersman_client import ControlSpec
from tests.fuzz.bodies import SCHEMAS
from tests.fuzz.surface import Surface

_REF = "#/components/schemas/{model}"
_SCHEMA = ControlSpec.model_json_schema(ref_template=_REF)
_FIELDS = {
    "n": {"type": "integer"},
    "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    "temperature": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    "stream": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    "user": {"type": "string"},
}
SURFACE = Surface(
    schemas={
        **_SCHEMA["$defs"],
        "ControlSpec": _SCHEMA,
        **{name: {"type": "object", "properties": _FIELDS} for name in SCHEMAS.values()},
    },
    names={"vector": ["closing"], "profile": ["concise"], "edit": ["steady"]},
    methods={"steer": ["add"], "sampler": ["cautious"], "search": ["first_finish"]},
    limits={"max_branches": 16, "max_control_tokens": 1000},
    model="reasoner",
    special_tokens=(339, 340),
)
