"""Results of governor and monitor, read from the track of a trajectory."""

import math
from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steersman.steering.plan import PlannedTerm
from steersman.thinking.governing import Governing
from steersman.trajectory.phases import Markers, Span, thinking_span
from steersman.trajectory.track import Track
from steersman_client import AppliedBalance, AppliedThinking, Entropy, Live, PhaseEntropy
from steersman_kernels import layout as at
from steersman_kernels.layout import CLASSES, REASONS, Value

LEAST_LOGPROB = -9999.0
"""Stands for a log-probability of minus infinity, as in vLLM's responses: JSON has no infinity."""
_DIGITS = 6

Of = Literal["raw", "processed"]
"""Distribution that a token's entropy and log-probability are of: see `Value`."""
_ENTROPY: dict[Of, int] = {"raw": at.T_ENTROPY, "processed": at.T_PROCESSED_ENTROPY}
_LOGPROB: dict[Of, int] = {"raw": at.T_LOGPROB, "processed": at.T_PROCESSED_LOGPROB}


def applied(
    track: Track,
    markers: Markers,
    governing: Governing,
    *,
    opened: bool,
    stops: Container[int] = (),
    balance: PlannedTerm | None = None,
    steered: Sequence[int] = (),
    probes: int = 0,
) -> AppliedThinking:
    """Outcome of the thinking phase of a trajectory.

    Args:
        track: The trajectory's.
        markers: The model's thinking markers.
        governing: The request's instructions to the governor.
        opened: Whether the prompt left the thinking phase open.
        stops: Tokens each of which ends a response.
        balance: The vector whose strength it moved.
        steered: Tokens of the trajectory that were steered, for each of `CLASSES`.
        probes: How often it was asked for its answer.

    """
    span = thinking_span(track.token_ids, markers, opened=opened)
    table = track.table()
    return AppliedThinking(
        tokens=len(span.thinking) if span else 0,
        closed_by=REASONS[int(table[-1, at.T_CLOSED_BY])] if len(table) else None,
        closed_at=span.closing.start if span and span.closing is not None else None,
        forced_tokens=int(table[:, at.T_FORCED].sum()),
        min_answer_unmet=_unmet(track, span, governing, stops),
        probes=probes if governing.probing else None,
        balance=_balance(balance, governing, table[:, at.T_STRENGTH], span, steered)
        if balance
        else None,
    )


def _unmet(
    track: Track, span: Span | None, governing: Governing, stops: Container[int]
) -> bool | None:
    """True if the answer has fewer tokens than was asked for; None if not, or without an answer."""
    if span is None or span.closing is None or not track.token_ids:
        return None
    answer = len(track.token_ids) - span.closing.stop - (track.token_ids[-1] in stops)
    return True if answer < governing.min_answer else None


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
    # Last there are the edited tokens; nothing at all if the trajectory broke off.
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
    """Raw entropies, in nats, of a trajectory's tokens by phase. Markers are in neither.

    Args:
        track: The trajectory's.
        markers: The model's thinking markers; without any, all is the answer.
        opened: Whether the prompt left the thinking phase open.

    """
    span = thinking_span(track.token_ids, markers, opened=opened) if markers else None
    return _split(track, span, "raw")


def _split(
    track: Track, span: Span | None, of: Of
) -> dict[Literal["thinking", "answer"], NDArray[np.float64]]:
    entropies = track.table()[:, _ENTROPY[of]]
    if span is None:
        return {"thinking": entropies[:0], "answer": entropies}
    thinking = entropies[span.thinking.start : span.thinking.stop]
    answer = entropies[: span.opening.start]
    if span.closing is not None:
        after = entropies[span.closing.stop :]
        answer = np.concatenate((answer, after)) if len(answer) else after
    return {"thinking": thinking, "answer": answer}


def entropy(
    track: Track, markers: Markers | None, *, opened: bool, tokens: bool, of: Of = "raw"
) -> Entropy:
    """Entropies of a trajectory, by phase and token.

    Args:
        track: The trajectory's.
        markers: The model's thinking markers; None for a model without a thinking phase.
        opened: Whether the prompt left the thinking phase open.
        tokens: Whether every token is listed.
        of: Distribution that the entropies and log-probabilities are of.

    """
    span = thinking_span(track.token_ids, markers, opened=opened) if markers else None
    phases = _split(track, span, of)
    thinking, answer = _phase(phases["thinking"]), _phase(phases["answer"])
    pear = None
    if span is not None and span.closing is not None:
        # PEAR, arXiv 2510.08026: H_think - a H_answer, here with a = 1 and cut off at 0.
        difference = _mean(thinking) - _mean(answer)
        pear = round(0.0 if difference < 0 else difference, _DIGITS)  # NaN stays
    return Entropy(
        thinking=thinking,
        answer=answer,
        pear=pear,
        tokens=_listed(track.token_ids, track.values, of) if tokens else None,
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
    token_ids: Sequence[int], values: Sequence[bytes], of: Of
) -> tuple[tuple[int, float, float], ...]:
    """(id, log-probability, entropy) of each token, of which there may be fewer than values."""
    unpacked = map(Value.of, values)
    return tuple(
        # A grammar's mask may have left nothing for a token that was put there all the same.
        (
            token_id,
            round(max(value[_LOGPROB[of]], LEAST_LOGPROB), _DIGITS),
            round(value[_ENTROPY[of]], _DIGITS),
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
        of: Distribution that the entropies and log-probabilities are of.
        tokens: Tokens seen so far.

    """

    markers: Markers | None
    opened: bool
    index: int = 0
    listed: bool = False
    of: Of = "raw"
    tokens: int = 0
    _thinking: bool = field(init=False)
    _over: bool = field(init=False)  # whether no token can change the phase any more
    _sums: dict[bool, float] = field(init=False)  # by whether it is the thinking phase's
    _counts: dict[bool, int] = field(init=False)
    # The last tokens and their entropies: as many as the longer marker has.
    _last: deque[tuple[int, float]] = field(init=False)

    def __post_init__(self) -> None:
        self._thinking = self.markers is not None and self.opened
        self._over = self.markers is None
        self._sums, self._counts = {True: 0.0, False: 0.0}, {True: 0, False: 0}
        longest = max(len(self.markers.start), len(self.markers.end)) if self.markers else 0
        self._last = deque(maxlen=longest)

    def advance(self, token_ids: Sequence[int], values: Sequence[bytes]) -> Live:
        """Take the next tokens; the state after them.

        Args:
            token_ids: New tokens.
            values: The packed `Value` of each of them.

        """
        for token_id, content in zip(token_ids, values, strict=True):
            self._take(token_id, Value.of(content)[_ENTROPY[self.of]])
            self.tokens += 1
        count = self._counts[self._thinking]
        return Live(
            index=self.index,
            phase="thinking" if self._thinking else "answer",
            entropy=round(self._sums[self._thinking] / count, _DIGITS) if count else 0.0,
            tokens=_listed(token_ids, values, self.of) if self.listed else None,
        )

    def _take(self, token_id: int, entropy: float) -> None:
        self._last.append((token_id, entropy))
        self._count(entropy)
        if self._over or self.markers is None:
            return
        start, end = self.markers.start, self.markers.end
        if self._thinking and self.tokens + 1 == len(start) and self._drop_if(start):
            return  # the prompt had opened it
        if not self._thinking and self._drop_if(start):
            self._thinking = True
        elif not self._thinking:
            self._over = token_id in self.markers.implicit or self._ends_in(end)
        elif self._drop_if(end):
            self._thinking, self._over = False, True
        elif token_id in self.markers.implicit:
            self._drop(1)
            self._thinking, self._over = False, True
            self._count(entropy)

    def _count(self, entropy: float) -> None:
        self._sums[self._thinking] += entropy
        self._counts[self._thinking] += 1

    def _drop_if(self, marker: Sequence[int]) -> bool:
        """Take a marker that the last tokens make out of its phase; whether they make it."""
        found = self._ends_in(marker)
        if found:
            self._drop(len(marker))
        return found

    def _drop(self, tokens: int) -> None:
        for _, entropy in [*self._last][-min(tokens, self._counts[self._thinking]) :]:
            self._sums[self._thinking] -= entropy
            self._counts[self._thinking] -= 1

    def _ends_in(self, marker: Sequence[int]) -> bool:
        return [token for token, _ in self._last][-len(marker) :] == [*marker]
