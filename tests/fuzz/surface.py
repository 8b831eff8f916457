"""Names that a running server knows, and what it can do: what a sound control is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

_LISTS = "/v1/control/"


@dataclass(frozen=True)
class Surface:
    """Routes and schemas that a server offers to requests.

    Attributes:
        schemas: JSON schemas of `/openapi.json`, by name.
        names: Names by the field that takes one: `vector`, `profile`, `edit`, and so on.
        methods: Methods of each part of `control`; empty for a part that the server cannot do.
        limits: Bounds on what one controlled request may ask for.
        model: The served model's name.
        special_tokens: Ids that are worth forcing, forbidding and stopping at.

    """

    schemas: Mapping[str, Any]
    names: Mapping[str, Sequence[str]]
    methods: Mapping[str, Sequence[str]]
    limits: Mapping[str, int]
    model: str
    special_tokens: Sequence[int]

    @classmethod
    def of(cls, http: httpx.Client) -> "Surface":
        """Read it from a server."""
        document = http.get("/openapi.json").raise_for_status().json()
        names: dict[str, list[str]] = {}
        for path, operations in document["paths"].items():
            if not path.startswith(_LISTS) or "{" in path or "get" not in operations:
                continue
            listed = http.get(path).raise_for_status().json()
            if isinstance(listed.get("data"), list):
                noun = path.removeprefix(_LISTS).removesuffix("s")
                names[noun] = [entry["id"] for entry in listed["data"]]
        capabilities = http.get(_LISTS + "capabilities").raise_for_status().json()
        markers = capabilities["thinking_tokens"] or {"start": [], "end": []}
        return cls(
            schemas=document["components"]["schemas"],
            names=names,
            methods=capabilities["methods"],
            limits=capabilities["limits"],
            model=capabilities["model"]["names"][0],
            special_tokens=(*markers["start"], *markers["end"]),
        )

    def properties(self, schema: str) -> dict[str, Any]:
        """The fields of a request, by the name of its schema, without `control`."""
        fields = dict(self.schemas[schema]["properties"])
        fields.pop("control", None)
        return fields
