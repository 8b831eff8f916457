"""One line of generation, and the narrow protocol through which a search runs many of them."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from steersman.trajectory.track import Track

OutputT = TypeVar("OutputT")
OutputT_co = TypeVar("OutputT_co", covariant=True)

ABORTED = "abort"
FAILED = "error"


@dataclass(frozen=True, slots=True)
class Piece(Generic[OutputT_co]):
    """Addition of one engine step to a line.

    Attributes:
        token_ids: New tokens.
        text: Their text. It may lag behind the tokens while a character is incomplete.
        finish_reason: Set on the last piece: `stop`, `length`, `abort`, `error`, ...
        output: The engine's own object, kept so that a winner can be replayed as it came.

    """

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str | None
    output: OutputT_co


@dataclass(slots=True)
class Line(Generic[OutputT]):
    """The record of one sibling: filled by the task that follows it, read by everyone else."""

    branch: int
    pieces: list[Piece[OutputT]] = field(default_factory=list)
    tokens: int = 0
    prefill_tokens: int = 0
    finish_reason: str | None = None
    seed: int | None = None
    """The seed that it is sampled with; None if the request names none."""
    steered: tuple[int, ...] = ()
    """Tokens steered, for each of the classes of a steering configuration, and last the tokens that
    went through an edit; set at the end."""
    track: Track | None = None
    """What was measured at each token; None for a line that is neither governed nor monitored."""
    probes: "list[Line[OutputT]]" = field(default_factory=list)
    """Forks of it that were asked for its answer while it was thinking."""
    delivered: int = 0
    """Tokens that the client has been given, or is about to be."""

    def add(self, piece: Piece[OutputT]) -> None:
        """Record a step and keep it."""
        self.pieces.append(piece)
        self.advance(len(piece.token_ids), piece.finish_reason)

    def advance(self, tokens: int, finish_reason: str | None) -> None:
        """Record a step that somebody else keeps."""
        self.tokens += tokens
        self.finish_reason = finish_reason

    @property
    def finished(self) -> bool:
        """True if the line came to an end of its own."""
        return self.finish_reason is not None and not self.aborted and not self.failed

    @property
    def failed(self) -> bool:
        """True if the engine ended it because of a fault."""
        return self.finish_reason == FAILED

    @property
    def aborted(self) -> bool:
        return self.finish_reason == ABORTED

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def token_ids(self) -> list[int]:
        return [token for piece in self.pieces for token in piece.token_ids]


class Source(Protocol[OutputT]):
    """Starts lines on one prompt. Siblings share the prompt's cache."""

    def follow(self, line: Line[OutputT]) -> AsyncGenerator[Piece[OutputT], None]:
        """Run the branch `line.branch` to its end. Cancelling the consumer aborts it."""
        ...

    async def stop(self) -> None:
        """Abort every running line; each still yields, as its last piece, what it had sampled."""
        ...
