"""The operator's file of keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from steersman import named
from steersman.keys.key import Key, KeyLimits, Scope, digest


class KeyFileError(Exception):
    """Keys that cannot be used; the message is one line and holds no key."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    key: Annotated[str, Field(pattern=r"^[!-~]+$")] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    scopes: Annotated[frozenset[Scope], Field(min_length=1)] = frozenset({Scope.USE})
    limits: KeyLimits = KeyLimits()
    priority: int | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "_Entry":
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("give either key or sha256")
        return self

    def read(self) -> Key:
        own = bytes.fromhex(self.sha256) if self.sha256 is not None else digest(self.key or "")
        return Key(self.name, own, self.scopes, self.limits, self.priority)


_ENTRY = TypeAdapter(_Entry)


def load(path: Path) -> tuple[Key, ...]:
    """Read a file of keys: a list of `name`, `key` or `sha256`, `scopes`, `limits`, `priority`.

    Raises:
        KeyFileError: It cannot be read, or is no such list.

    """
    entries = named.document(path, KeyFileError)
    if not isinstance(entries, list) or not entries:
        raise KeyFileError(f"{path}: expected a list of keys")
    return tuple(_keys(path, entries))


def _keys(path: Path, entries: list[object]) -> Iterator[Key]:
    for place, entry in enumerate(entries):
        try:
            key = _ENTRY.validate_python(entry)
        except ValidationError as error:
            raise KeyFileError(f"{path}: {named.first_fault(f'[{place}]', error)}") from None
        if not named.usable(key.name):
            raise KeyFileError(
                f"{path}: [{place}].name: use lower-case letters, digits, '-', '_' and '.'"
            )
        yield key.read()
