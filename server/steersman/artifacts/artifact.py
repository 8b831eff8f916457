"""Artifacts: named contents of a store that the engine loads, and their errors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from steersman.capabilities import Model


class ArtifactError(Exception):
    """An artifact that cannot be used as asked.

    Args:
        message: The fault, and what would be allowed, in one line.
        field: The field at fault: `vector`, `layers[3]`, `metadata.strength`, `name`, `body`.

    """

    def __init__(self, message: str, *, field: str | None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class HostError(RuntimeError):
    """A change that the engine could not make; all is as it was before.

    Args:
        message: The fault, in one line.
        full: Whether a rank has no memory for it.

    """

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.full = full


class UnknownArtifactError(ArtifactError):
    """A name that the store does not have."""


class Refusal(Protocol):
    """Makes the error that a bad file is refused with."""

    def __call__(self, message: str, *, field: str | None) -> Exception:
        """The error.

        Args:
            message: The fault, and what would be allowed, in one line.
            field: The field at fault.

        """
        ...


class Artifact(Protocol):
    """A vector or an edit."""

    @property
    def digest(self) -> str:
        """Digest of its effect: equal digests have equal effects."""
        ...


A = TypeVar("A", bound=Artifact)
A_contra = TypeVar("A_contra", bound=Artifact, contravariant=True)


@dataclass(frozen=True, slots=True)
class Kind(Generic[A]):
    """Functions for one kind of artifact: reading, writing and checking its files.

    Attributes:
        noun: The word for one of them, in messages.
        suffixes: Of its files; the first is of those that the store writes.
        parse: Reads a file; raises `ArtifactError`.
        write: Its file.
        check: Raises `ArtifactError` for one that a model cannot use.

    """

    noun: str
    suffixes: tuple[str, ...]
    parse: Callable[[bytes], A]
    write: Callable[[A], bytes]
    check: Callable[[A, Model], None]


class Host(Protocol[A_contra]):
    """The ranks of the engine, all of which load an artifact before a request can use it."""

    async def load(self, artifact: A_contra, /) -> None:
        """Put an artifact on every rank, or on none.

        Raises:
            HostError: A rank could not take it.

        """
        ...

    async def unload(self, digest: str, /) -> None:
        """Remove an artifact from every rank."""
        ...
