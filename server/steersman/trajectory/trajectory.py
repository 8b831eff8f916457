"""A trajectory, one response as it is sampled, and the protocol by which searches run many."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from steersman.trajectory.track import Track

OutputT = TypeVar("OutputT")
OutputT_co = TypeVar("OutputT_co", covariant=True)

ABORTED = "abort"
FAILED = "error"


@dataclass(frozen=True, slots=True)
class Piece(Generic[OutputT_co]):
    """Addition of one engine step to a trajectory.

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


@dataclass(frozen=True, slots=True)
class Prefix(Generic[OutputT]):
    """Generated tokens that a trajectory begins after.

    Attributes:
        trajectory: The trajectory that they are the first tokens of.
        tokens: Number of them.

    """

    trajectory: "Trajectory[OutputT]"
    tokens: int


@dataclass(frozen=True, slots=True)
class Start(Generic[OutputT]):
    """Beginning of a trajectory.

    Attributes:
        branch: Its index among the trajectories of its prompt. The request's seed plus the branch
            is its seed, as for the choices of vLLM's own `n`.
        prefix: Tokens that it begins after, and that are part of it; None to begin at the prompt.
        suffix: Tokens put behind those, as a marker that closes the thinking phase.
        seed: Its seed in place of the request's and the branch's.
        temperature: Its temperature in place of the request's.
        max_tokens: Tokens to sample in place of what the request leaves.
        bare: Sampled with nothing of the request's but its prompt, steering and edits: no limits
            of the thinking phase, no monitor, penalties, grammar or stop strings. It holds its own
            tokens alone.
        after: Tokens that were sampled one after another before this trajectory could begin, on
            the longest way to it.

    """

    branch: int
    prefix: Prefix[OutputT] | None = None
    suffix: tuple[int, ...] = ()
    seed: int | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    bare: bool = False
    after: int = 0

    @property
    def begun(self) -> int:
        """Generated tokens that it begins after."""
        return (self.prefix.tokens if self.prefix else 0) + len(self.suffix)


@dataclass(slots=True, eq=False)
class Trajectory(Generic[OutputT]):
    """Record of one response as it is sampled. Iterating over it runs it; its fields can be read
    meanwhile.

    Args:
        start: How it begins.

    """

    start: Start[OutputT]
    pieces: list[Piece[OutputT]] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    """Tokens of its pieces."""
    tokens: int = 0
    """Tokens of the response, with those that it began after."""
    prefill_tokens: int = 0
    finish_reason: str | None = None
    seed: int | None = None
    """The seed that it is sampled with; None if the request names none."""
    steered: tuple[int, ...] = ()
    """Tokens steered, for each of the classes of a steering configuration, and last the tokens that
    went through an edit; set at the end."""
    track: Track | None = None
    """Measurements at each token; None if it is neither governed nor monitored."""
    forks: "list[Trajectory[OutputT]]" = field(default_factory=list)
    """Trajectories that went on after some of its tokens, since their first piece."""
    delivered: int = 0
    """Tokens that the client has been given, or is about to be."""
    kept: int = 0
    """Tokens of its own that became part of another trajectory, before this one was aborted."""
    steps: AsyncGenerator[Piece[OutputT], None] | None = field(default=None, repr=False)
    """Runs it, and records each piece as it comes."""

    @property
    def branch(self) -> int:
        return self.start.branch

    def __aiter__(self) -> AsyncGenerator[Piece[OutputT], None]:
        assert self.steps is not None, "this record is not run through iteration"
        return self.steps

    async def run(self) -> None:
        """Run it to its end."""
        async for _ in self:
            pass

    def add(self, piece: Piece[OutputT]) -> None:
        """Record a step and keep it."""
        self.pieces.append(piece)
        self.token_ids.extend(piece.token_ids)
        self.advance(len(piece.token_ids), piece.finish_reason)

    def advance(self, tokens: int, finish_reason: str | None) -> None:
        """Record a step whose piece is kept elsewhere."""
        self.tokens += tokens
        self.finish_reason = finish_reason

    @property
    def sampled_tokens(self) -> int:
        """Tokens that were sampled for it."""
        return self.tokens if self.start.bare else max(0, self.tokens - self.start.begun)

    @property
    def sequential_tokens(self) -> int:
        """Tokens sampled one after another on the longest way to its last token."""
        return self.start.after + self.sampled_tokens

    @property
    def running(self) -> bool:
        return self.finish_reason is None

    @property
    def finished(self) -> bool:
        """True if it came to an end of its own."""
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
        return self.text_from(0)

    def text_from(self, pieces: int) -> str:
        """The text of all but the first pieces."""
        return "".join([piece.text for piece in self.pieces[pieces:]])


class Source(Protocol[OutputT]):
    """Starts trajectories on one prompt, which share the prompt's cache."""

    def start_all(self, starts: Sequence[Start[OutputT]]) -> Sequence[Trajectory[OutputT]]:
        """Admit trajectories: all, or none. Each runs while it is iterated over, and is aborted
        when its iteration is cancelled.

        A source may let only so many run at a time. A trajectory that has begun keeps its place
        until it ends: whoever waits for its fork has to go on iterating over it meanwhile.

        Raises:
            Exception: The engine has no room for them.
            ValueError: A start that this source cannot carry out; the message says why.

        """
        ...

    async def stop(self, trajectories: Sequence[Trajectory[OutputT]]) -> None:
        """Abort those that run, in one call; each still yields, as its last piece, whatever it
        had sampled."""
        ...

    async def close_thinking(self, trajectory: Trajectory[OutputT]) -> None:
        """Let the thinking phase of a governed trajectory close."""
        ...
