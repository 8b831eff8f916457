"""A key: who holds it, what it opens, and how much its holder may use."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, PositiveInt


class Scope(StrEnum):
    """A part of the server that a key opens."""

    USE = "use"
    """Asking the model, and reading what the server says of itself."""
    METRICS = "metrics"
    """Reading `/metrics`."""
    ADMIN = "admin"
    """Changing the server: vectors, edits, vLLM's own routes of operators."""


class KeyLimits(BaseModel):
    """Limits of all requests with one key, on one server; none where null."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    concurrency: PositiveInt | None = None
    """Requests at once."""
    fan_out: PositiveInt | None = None
    """Branches of one request: its prompts times their branches or choices."""
    tokens_per_minute: PositiveInt | None = None
    """Tokens that the engine samples for the key, those that are not returned among them."""

    def __bool__(self) -> bool:
        """True if there is any limit."""
        return any(value is not None for _, value in self)


@dataclass(frozen=True, slots=True)
class Key:
    """A key, known by its digest.

    Attributes:
        name: Its name in messages and metrics.
        digest: SHA-256 of the key.
        scopes: The parts of the server that it opens.
        limits: Limits of its requests.
        priority: vLLM's priority of its requests; None leaves it to each request.

    """

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[Scope] = frozenset({Scope.USE})
    limits: KeyLimits = field(default_factory=KeyLimits)
    priority: int | None = None


class KeyFacts(BaseModel):
    """A key, as its holder is told of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    scopes: tuple[Scope, ...]
    limits: KeyLimits
    priority: int | None = None
    """vLLM's priority of its requests; null leaves it to each request."""

    @classmethod
    def of(cls, key: Key) -> "KeyFacts":
        return cls(
            name=key.name,
            scopes=tuple(scope for scope in Scope if scope in key.scopes),
            limits=key.limits,
            priority=key.priority,
        )


def digest(key: str) -> bytes:
    """SHA-256 of a key."""
    return hashlib.sha256(key.encode()).digest()
