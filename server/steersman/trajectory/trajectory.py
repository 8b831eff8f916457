"""A trajectory, one response as it is sampled, and the protocol by which searches run many."""

from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

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
        whole: Drawn from whole distributions: without top-p, top-k and min-p.
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
    whole: bool = False
    max_tokens: int | None = None
    bare: bool = False
    after: int = 0

    @property
    def forked(self) -> bool:
        """True if it goes on from another trajectory, or with tokens that nobody drew."""
        return self.prefix is not None or bool(self.suffix)

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
    sampling: Any = None
    """Record of the sampler that it is sampled by, a `steersman.sampling.sampler.Record`; None
    without one."""
    steps: AsyncGenerator[Piece[OutputT], None] | None = field(default=None, repr=False)
    """Runs it, and records each piece as it comes."""
    excerpts: "Excerpt[OutputT] | None" = field(default=None, repr=False)
    """Makes pieces of some of its tokens, in the engine's way: for `excerpt`."""
    _token_ends: list[int] = field(default_factory=list, repr=False)  # tokens after each piece
    _text_ends: list[int] = field(default_factory=list, repr=False)  # characters after each piece

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
        self._token_ends.append(len(self.token_ids))
        self._text_ends.append(len(piece.text) + (self._text_ends[-1] if self._text_ends else 0))
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

    def within(self, begin: int, end: int) -> list[tuple[Piece[OutputT], int, int]]:
        """The pieces that have some tokens, each with the bounds of these tokens in the piece.

        Args:
            begin: Index of the first token.
            end: Index after the last one.

        """
        first, found = bisect_right(self._token_ends, begin), []
        for index in range(first, len(self.pieces)):
            begins = self._token_ends[index - 1] if index else 0
            if begins >= end:
                break
            piece = self.pieces[index]
            first_of_it, last = max(0, begin - begins), min(end - begins, len(piece.token_ids))
            if first_of_it < last:
                found.append((piece, first_of_it, last))
        return found

    def excerpt(self, begin: int, end: int, text: int, finish_reason: str | None) -> Piece[OutputT]:
        """The piece that has some of its tokens, for a response that is put together.

        Args:
            begin: Index of the first token.
            end: Index after the last one.
            text: Characters of the response's text that are in the pieces before.
            finish_reason: The end of the response; None while it goes on.

        """
        assert self.excerpts is not None, "no response is put together from this record"
        return self.excerpts(self, begin, end, text, finish_reason)

    def in_steps(self, tokens: int) -> int:
        """Number of the first tokens that come in whole pieces, up to a number of tokens."""
        pieces = bisect_right(self._token_ends, tokens)
        return self._token_ends[pieces - 1] if pieces else 0

    def text_of(self, tokens: int, begin: int) -> str:
        """The text of the pieces that lie within the first tokens, from a character on.

        Args:
            tokens: The number of these tokens.
            begin: Index of the character.

        """
        pieces = bisect_right(self._token_ends, tokens)
        first = bisect_right(self._text_ends, begin)
        begins = self._text_ends[first - 1] if first else 0
        text = "".join([piece.text for piece in self.pieces[first:pieces]])
        return text[begin - begins :]


Excerpt = Callable[[Trajectory[OutputT], int, int, int, str | None], Piece[OutputT]]
"""Makes the piece that has some tokens of a trajectory: see `Trajectory.excerpt`."""


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
