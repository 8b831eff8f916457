"""Metadata of vectors and edits: the JSON document in their files."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from steersman.artifacts.artifact import ArtifactError

V = TypeVar("V")


class Metadata(BaseModel):
    """Metadata of a file, without fields: each kind of artifact derives its own.

    Attributes:
        refusal: The error of what does not follow the schema.

    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    refusal: ClassVar[type[ArtifactError]] = ArtifactError

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """Metadata from its JSON document.

        Raises:
            ArtifactError: The `refusal`: it is no JSON, or does not follow the schema; the field is
                named.

        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise cls._invalid(error) from None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Metadata of values by field.

        Raises:
            ArtifactError: The `refusal`, as of `read`.

        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise cls._invalid(error) from None

    def write(self) -> str:
        """The JSON document; the same text for equal metadata. Null fields are left out."""
        values = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def _invalid(cls, error: ValidationError) -> ArtifactError:
        """The first thing that is wrong with metadata; of unknown keys, all."""
        errors = error.errors(include_url=False, include_context=False)
        unknown = [str(each["loc"][0]) for each in errors if each["type"] == "extra_forbidden"]
        if unknown:
            message = f"unknown metadata: {', '.join(unknown)}"
            return cls.refusal(message, field=f"metadata.{unknown[0]}")
        first = errors[0]
        path = ".".join(("metadata", *(str(part) for part in first["loc"] if part != "[key]")))
        if first["type"] == "missing":
            return cls.refusal(f"{path} is required", field=path)
        reason = first["msg"].removeprefix("Value error, ")
        return cls.refusal(f"{path}: {reason[0].lower()}{reason[1:]}", field=path)


def by_layer(values: dict[int, V]) -> dict[int, V]:
    """Values by layer, sorted; for fields of metadata."""
    return dict(sorted(values.items()))
