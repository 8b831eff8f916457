"""What the governor did and the monitor saw, read from the track of a line."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steersman.steering.configuration import CLASSES
from steersman.steering.plan import PlannedTerm
from steersman.thinking.governing import Governing
from steersman.trajectory.phases import Markers, Span, thinking_span
from steersman.trajectory.track import CLOSED_BY, Track, Value
from steersman_client import AppliedBalance, AppliedThinking, Entropy, Live, PhaseEntropy

LEAST_LOGPROB = -9999.0
"""Stands for a log-probability of minus infinity, as in vLLM's responses: JSON has no infinity."""
_DIGITS = 6
_ENTROPY, _STRENGTH, _CLOSED_BY, _FORCED = (
    Value._fields.index(name) for name in ("entropy", "strength", "closed_by", "forced")
)
"""Columns of `Track.table`."""


def applied(
    track: Track,
    markers: Markers,
    governing: Governing,
    *,
    opened: bool,
    balance: PlannedTerm | None = None,
    steered: Sequence[int] = (),
    probes: int = 0,
) -> AppliedThinking:
    """What became of the thinking phase of a line.

    Args:
        track: The line's.
        markers: The model's thinking markers.
        governing: What was asked of the governor.
        opened: Whether the prompt left the thinking phase open.
        balance: The vector whose strength it moved.
        steered: Tokens of the line that were steered, for each of `CLASSES`.
        probes: How often it was asked for its answer.

    """
    span = thinking_span(track.token_ids, markers, opened=opened)
    table = track.table()
    return AppliedThinking(
        tokens=len(span.thinking) if span else 0,
        closed_by=CLOSED_BY[int(table[-1, _CLOSED_BY])] if len(table) else None,
        closed_at=span.closing.start if span and span.closing else None,
        forced_tokens=int(table[:, _FORCED].sum()),
        probes=probes if governing.probing else None,
        balance=_balance(balance, governing, table[:, _STRENGTH], span, steered)
        if balance
        else None,
    )


def _balance(
    balance: PlannedTerm,
    governing: Governing,
    strengths: NDArray[np.float64],
    span: Span | None,
    steered: Sequence[int],
) -> AppliedBalance:
    assert governing.law is not None
    begin, end = (span.thinking.start, span.thinking.stop) if span else (0, 0)
    thinking = strengths[begin:end].tolist()
    changes: list[tuple[int, float]] = []
    for index, strength in enumerate(thinking, begin):
        if not changes or changes[-1][1] != strength:
            changes.append((index, strength))
    # Last there are the edited tokens; nothing at all if the line broke off.
    counts = zip(CLASSES, steered, strict=False)
    return AppliedBalance(
        vector=balance.name,
        digest=balance.vector.digest[:16],
        law=governing.law.kind,
        mean_strength=round(fmean(thinking), _DIGITS) if thinking else None,
        tokens=sum(count for kind, count in counts if balance.term.applies(*kind)),
        track=tuple((index, round(strength, _DIGITS)) for index, strength in changes),
    )


def phase_entropies(
    track: Track, markers: Markers | None, *, opened: bool
) -> dict[Literal["thinking", "answer"], NDArray[np.float64]]:
    """Entropies, in nats, of a line's tokens by phase. Markers, and what stands before the one that
    opens the thinking phase, are in neither.

    Args:
        track: The line's.
        markers: The model's thinking markers; without any, all is the answer.
        opened: Whether the prompt left the thinking phase open.

    """
    entropies = track.table()[:, _ENTROPY]
    span = thinking_span(track.token_ids, markers, opened=opened) if markers else None
    if span is None:
        return {"thinking": entropies[:0], "answer": entropies}
    thinking = entropies[span.thinking.start : span.thinking.stop]
    answer = entropies[span.closing.stop :] if span.closing else entropies[:0]
    return {"thinking": thinking, "answer": answer}


def entropy(track: Track, markers: Markers | None, *, opened: bool, tokens: bool) -> Entropy:
    """What the monitor saw of a line.

    Args:
        track: The line's.
        markers: The model's thinking markers; None for a model without a thinking phase.
        opened: Whether the prompt left the thinking phase open.
        tokens: Whether every token is listed.

    """
    phases = phase_entropies(track, markers, opened=opened)
    thinking, answer = _phase(phases["thinking"]), _phase(phases["answer"])
    # PEAR, arXiv 2510.08026: H_think - a H_answer, here with a = 1 and cut off at 0.
    pear = _mean(thinking) - _mean(answer)
    return Entropy(
        thinking=thinking,
        answer=answer,
        pear=round(0.0 if pear < 0 else pear, _DIGITS),  # NaN stays
        tokens=_listed(track.token_ids, track.values) if tokens else None,
    )


def _mean(phase: PhaseEntropy | None) -> float:
    """The mean of a phase, 0 for one without tokens, NaN where the model's numbers overflowed."""
    if phase is None:
        return 0.0
    return math.nan if phase.mean is None else phase.mean


def _phase(entropies: NDArray[np.float64]) -> PhaseEntropy | None:
    tokens = len(entropies)
    if not tokens:
        return None
    ordered = entropies.copy()
    ordered.sort()
    return PhaseEntropy(
        mean=round(float(ordered.sum()) / tokens, _DIGITS),
        p95=round(_percentile(ordered, 0.95), _DIGITS),
        max=round(float(ordered[-1]), _DIGITS),
        tokens=tokens,
    )


def _percentile(ordered: NDArray[np.float64], share: float) -> float:
    """Linear between neighbours, as NumPy's, which takes far longer for so few values."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    low, high = float(ordered[below]), float(ordered[above])
    return low + (place - below) * (high - low)


def _listed(
    token_ids: Sequence[int], values: Sequence[bytes]
) -> tuple[tuple[int, float, float], ...]:
    """(id, log-probability, entropy) of each token, of which there may be fewer than values."""
    unpacked = map(Value.of, values)
    return tuple(
        # A grammar's mask may have left nothing for a token that was put there all the same.
        (
            token_id,
            round(max(value.logprob, LEAST_LOGPROB), _DIGITS),
            round(value.entropy, _DIGITS),
        )
        for token_id, value in zip(token_ids, unpacked, strict=False)
    )


@dataclass(slots=True)
class LiveTrack:
    """Reads one choice as it is streamed; each token is looked at once.

    Attributes:
        markers: The model's thinking markers; None for a model without a thinking phase.
        opened: Whether the prompt left the thinking phase open.
        index: Of the choice.
        listed: Whether reports list their tokens.
        tokens: Tokens seen so far.

    """

    markers: Markers | None
    opened: bool
    index: int = 0
    listed: bool = False
    tokens: int = 0
    _phase: Literal["before", "thinking", "answer"] = field(init=False)
    _sum: float = field(default=0.0, init=False)
    _count: int = field(default=0, init=False)
    # The last tokens: as many as the longer marker has.
    _last: deque[int] = field(init=False)

    def __post_init__(self) -> None:
        if self.markers is None:
            self._phase = "answer"
        else:
            self._phase = "thinking" if self.opened else "before"
        longest = max(len(self.markers.start), len(self.markers.end)) if self.markers else 0
        self._last = deque(maxlen=longest)

    def advance(self, token_ids: Sequence[int], values: Sequence[bytes]) -> Live:
        """Take the next tokens; the state after them.

        Args:
            token_ids: New tokens.
            values: The packed `Value` of each of them.

        """
        for token_id, content in zip(token_ids, values, strict=True):
            self._take(token_id, Value.of(content).entropy)
        self.tokens += len(token_ids)
        return Live(
            index=self.index,
            phase="thinking" if self._phase == "thinking" else "answer",
            entropy=round(self._sum / self._count, _DIGITS) if self._count else 0.0,
            tokens=_listed(token_ids, values) if self.listed else None,
        )

    def _take(self, token_id: int, entropy: float) -> None:
        self._sum += entropy
        self._count += 1
        if self.markers is None or self._phase == "answer":
            return
        self._last.append(token_id)
        if self._ends_in(self.markers.end):
            self._begin("answer")
        elif self._phase == "before" and self._ends_in(self.markers.start):
            self._begin("thinking")

    def _begin(self, phase: Literal["thinking", "answer"]) -> None:
        # What was counted so far, the marker included, belongs to the phase before or to none.
        self._phase, self._sum, self._count = phase, 0.0, 0

    def _ends_in(self, marker: Sequence[int]) -> bool:
        return [*self._last][-len(marker) :] == [*marker]
