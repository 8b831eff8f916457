"""All that travels between the front end and the engine's processes: each message, both its ends.

A request's message goes with its sampling parameters to the engine core, which keys the prefix
cache by it, and on to every worker. A step's message comes back with the first output of the step.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from steersman_kernels.layout import LawKind

KEY = "steersman"
"""The name of either message among vLLM's own: in `SamplingParams.extra_args`, and in the field of
an output that reaches the front end as it is."""


class SteeringMessage(msgspec.Struct, frozen=True):
    """Steering, and the edit, of a request.

    Attributes:
        digest: Digest of the configuration: equal ones share blocks of the prefix cache.
        first: Position of the first token that may be steered.
        sums: Each bank row that is needed: its digest, and its addends, each a vector's digest, a
            strength and layers.
        rows: By class of token, the index of its sum; -1 for none.
        edit: Digest and strength of the edit; None for none.

    """

    digest: str
    first: int
    sums: Sequence[tuple[str, Sequence[Any]]]
    rows: Sequence[int]
    edit: tuple[str, float] | None = None


class Law(msgspec.Struct, frozen=True):
    """Law by which the strength of a balanced vector follows the thinking phase.

    Attributes:
        kind: `proportional` to the error of the entropy, or ReBalance's (arXiv 2603.12372) function
            of the `confidence`.
        target: Set point of `proportional`: mean entropy of a sentence, in nats.
        gain: Strength for a nat of error.
        integral_gain: Strength for a nat of summed errors.
        base: Strength before the first sentence has ended, and of `confidence` at its middle.
        low: The smallest strength.
        high: The largest strength.
        confidence: Mean top probability of a sentence, low and high.
        variance: Variance of that between two sentences, low and high.

    """

    kind: LawKind
    target: float
    gain: float
    integral_gain: float
    base: float
    low: float
    high: float
    confidence: tuple[float, float]
    variance: tuple[float, float]


class ThinkingMessage(msgspec.Struct, frozen=True):
    """Limits of a thinking phase: see `steersman.thinking.governing.Governing`."""

    budget: int | None
    grace: int
    minimum: int
    nudge: Sequence[int]
    window: int
    entropy_below: float
    on_loop: bool
    min_answer: int
    law: Law | None = None


class GoverningMessage(msgspec.Struct, frozen=True):
    """A watched request.

    Attributes:
        measured: Whether the raw distributions are measured.
        end: Position after the last token that the request can have.
        stops: Tokens each of which ends the response.
        thinking: Limits of the thinking phase; None if it is watched only.
        processed: Whether the processed distributions are measured: those that tokens are really
            drawn from.
        confidence: Whether the mean log-probability of the likeliest tokens is.

    """

    measured: bool
    end: int
    stops: Sequence[int]
    thinking: ThinkingMessage | None = None
    processed: bool = False
    confidence: bool = False


class RequestMessage(msgspec.Struct, frozen=True):
    """The control of one engine request.

    Attributes:
        key: The name under which the engine reports on it.
        origin: Tokens of the prompt; a fork has generated tokens after them.
        opened: Whether the prompt leaves the thinking phase open.
        steering: What is added to the residual stream; None for nothing.
        governing: What is watched; None for nothing.

    """

    key: str = ""
    origin: int = 0
    opened: bool = False
    steering: SteeringMessage | None = None
    governing: GoverningMessage | None = None
    weights: bytes | None = None
    """Of a request whose residual stream is summed up, by an engine in the same process: the bytes
    of [sides, tokens] float32."""

    def encoded(self) -> dict[str, Any]:
        """Plain values, as vLLM takes them along."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def decoded(cls, content: "Mapping[str, Any] | RequestMessage") -> "RequestMessage":
        """The message out of plain values.

        Raises:
            msgspec.ValidationError: They are none of a message.

        """
        return content if isinstance(content, cls) else msgspec.convert(content, cls)


def read(params: Any) -> RequestMessage | None:
    """The message that came with sampling parameters, which keep it decoded; None without one.

    Args:
        params: vLLM's `SamplingParams`; None for a request that has none.

    """
    extra: dict[str, Any] = (params.extra_args if params is not None else None) or {}
    content = extra.get(KEY)
    if content is None:
        return None
    message = RequestMessage.decoded(content)
    extra[KEY] = message  # asked for at every block of the prefix cache
    return message


class StepMessage(msgspec.Struct, array_like=True, frozen=True):
    """Measurements of a step.

    Attributes:
        steered: The steered requests, as `listed` packs them: each one's row of the counts.
        counts: Their table of `steersman_kernels.layout.STEERED_COUNTS`.
        watched: The watched requests, packed alike: each one's row of the track.
        track: Their table of `steersman_kernels.layout.VALUE`.

    """

    steered: bytes
    counts: bytes
    watched: bytes
    track: bytes

    @classmethod
    def of(
        cls,
        steered: bytes,
        counts: NDArray[Any] | None,
        watched: bytes,
        track: NDArray[Any] | None,
    ) -> "StepMessage":
        """The message of a step, its tables on the host."""
        return cls(steered, _bytes(counts), watched, _bytes(track))

    def encoded(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Plain values, as vLLM takes them along."""
        return self.steered, self.counts, self.watched, self.track

    @classmethod
    def decoded(cls, content: Sequence[bytes]) -> "StepMessage":
        """The message out of plain values."""
        return cls(*content)


def _bytes(table: NDArray[Any] | None) -> bytes:
    return b"" if table is None else table.tobytes()


def listed(request_ids: Iterable[str], keys: Mapping[str, str]) -> bytes:
    """Requests by the engine's id in the order of their rows, each with its key, packed: a batch
    stays the same for many steps, and each of these takes it through three processes."""
    return msgspec.msgpack.encode([(id_, keys[id_]) for id_ in request_ids])


def unlisted(content: bytes, width: int) -> dict[str, tuple[str, slice]]:
    """The key of each request that was packed, and where its row is in a table of such rows.

    Args:
        content: What `listed` returned.
        width: Bytes of a row.

    """
    return {
        id_: (key, slice(row * width, (row + 1) * width))
        for row, (id_, key) in enumerate(msgspec.msgpack.decode(content))
    }
