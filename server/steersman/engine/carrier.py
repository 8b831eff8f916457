"""The control of one engine call, put into each of its lines, and what the engine says of them."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.sampling_params import SamplingParams

from steersman.engine.reports import Reports, read_counts
from steersman.steering.configuration import KEY, Configuration
from steersman.thinking.governing import Governing
from steersman.trajectory.line import Line
from steersman.trajectory.track import Track


@dataclass(frozen=True, slots=True)
class Carrier:
    """Controls that travel to the engine with a request; without any, the request is unchanged.

    Attributes:
        reports: Where the workers' reports arrive.
        configuration: What is added to the residual stream, and where; None for nothing.
        governing: The limits of the thinking phase; None for none.
        monitored: Whether the entropy of each token is wanted.
        origin: Tokens of the prompt.
        opened: Whether the prompt leaves the thinking phase open.
        begun: Generated tokens that a request begins after: they are read with its prompt.
        stops: Tokens each of which ends a response of the model.
        vocabulary: Tokens that the model has.
        longest: Tokens that a prompt and its response can have.

    """

    reports: Reports | None = None
    configuration: Configuration | None = None
    governing: Governing | None = None
    monitored: bool = False
    origin: int = 0
    opened: bool = False
    begun: int = 0
    stops: Sequence[int] = ()
    vocabulary: int = 2**31
    longest: int = 0

    @property
    def watched(self) -> bool:
        """True if the engine measures each token."""
        return self.governing is not None or self.monitored

    @contextlib.contextmanager
    def lines(self, lines: list[Line[Any]], params: SamplingParams) -> Iterator[SamplingParams]:
        """Sampling parameters that control some lines, for as long as these run.

        What the engine says of each token is in `line.track` as it comes; when they end, what it
        counted is in `line.steered`.

        Args:
            lines: The choices of one engine request, in their order.
            params: Those of the request.

        """
        if self.reports is None or (self.configuration is None and not self.watched):
            yield params
            return
        report = self.reports.open(len(lines))
        if self.watched:
            for index, line in enumerate(lines):
                choice = index if len(lines) > 1 else None
                line.track = Track(values=report.values[index], key=report.key, choice=choice)
        carrying = params.clone()
        carrying.extra_args = {**(params.extra_args or {}), KEY: self.wire(report.key, params)}
        try:
            yield carrying
        finally:
            self.reports.close(report)
            for line, counts in zip(lines, report.counts, strict=True):
                line.steered = read_counts(counts)

    def wire(self, key: str, params: SamplingParams) -> dict[str, Any]:
        """The form in which it travels.

        Args:
            key: The name under which the engine reports back.
            params: Those of the request.

        """
        configuration, _governing = self.configuration, self.governing
        return {
            "key": key,
            "origin": self.origin,
            "opened": self.opened,
            "steering": None if configuration is None else configuration.wire(self.origin),
            "governing": self._governing(params) if self.watched else None,
        }

    def _governing(self, params: SamplingParams) -> dict[str, Any]:
        thinking = self.governing
        begin = self.origin + self.begun
        most = self.longest - begin
        tokens = most if params.max_tokens is None else min(params.max_tokens, most)
        measured = self.monitored or (thinking is not None and thinking.needs_entropy)
        return {
            "measured": measured,
            "end": begin + tokens,
            "stops": [] if thinking is None else list(self.stops_of(params)),
            "thinking": None if thinking is None else thinking.wire(),
        }

    def stops_of(self, params: SamplingParams) -> tuple[int, ...]:
        """The tokens each of which ends a response: the model's, unless they are ignored, and the
        request's own."""
        model = () if params.ignore_eos else self.stops
        named = {*model, *(params.stop_token_ids or ())}
        return tuple(sorted(token for token in named if 0 <= token < self.vocabulary))
