"""Control of one engine request, put into it, and the engine's report on its trajectories."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vllm.sampling_params import SamplingParams

from steersman.controls.control import Part
from steersman.frontend.reports import Reports, read_counts
from steersman.trajectory.track import Track
from steersman.trajectory.trajectory import Trajectory
from steersman.wire import KEY, GoverningMessage, RequestMessage

MEASURED = ("measured", "processed", "confidence")
"""Fields of `GoverningMessage` that ask for measurements: one of a part asks for all."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """Controls that travel to the engine with a request; without any, the request is unchanged.

    Attributes:
        reports: Where the workers' reports arrive.
        parts: The controls.
        origin: Tokens of the prompt.
        opened: Whether the prompt leaves the thinking phase open.
        begun: Generated tokens that a request begins after: they are read with its prompt.
        stops: Tokens each of which ends a response of the model.
        vocabulary: Tokens that the model has.
        longest: Tokens that a prompt and its response can have.

    """

    reports: Reports | None = None
    parts: tuple[Part, ...] = ()
    origin: int = 0
    opened: bool = False
    begun: int = 0
    stops: Sequence[int] = ()
    vocabulary: int = 2**31
    longest: int = 0

    @contextlib.contextmanager
    def carrying(
        self, trajectories: Sequence[Trajectory[Any]], params: SamplingParams
    ) -> Iterator[SamplingParams]:
        """Sampling parameters that control some trajectories, for as long as these run.

        The measurements of each token are in `Trajectory.track` as they come; when they end, what
        the engine counted is in `Trajectory.steered`.

        Args:
            trajectories: The choices of one engine request, in their order.
            params: Sampling parameters of the request.

        """
        fields = self._fields()
        if self.reports is None or not fields:
            yield params
            return
        report = self.reports.open(len(trajectories))
        if _watched(fields):
            for index, trajectory in enumerate(trajectories):
                choice = index if len(trajectories) > 1 else None
                trajectory.track = Track(values=report.values[index], key=report.key, choice=choice)
        carrying = params.clone()
        message = self._message(report.key, params, fields)
        carrying.extra_args = {**(params.extra_args or {}), KEY: message}
        try:
            yield carrying
        finally:
            self.reports.close(report)
            for trajectory, counts in zip(trajectories, report.counts, strict=True):
                trajectory.steered = read_counts(counts)

    def bare(self) -> "Carrier":
        """The same without limits of the thinking phase and without the monitor."""
        return replace(self, parts=tuple(part for part in self.parts if part.bare()))

    def _fields(self) -> dict[str, Any]:
        """The fields of the message to the engine, of all controls."""
        fields: dict[str, Any] = {}
        for part in self.parts:
            own = part.wire(self.origin)
            wanted = {
                name: fields.get(name, False) or own.get(name, False)
                for name in MEASURED
                if name in fields or name in own
            }
            fields.update({**own, **wanted})
        return fields

    def wire(self, key: str, params: SamplingParams) -> dict[str, Any]:
        """The message to the engine, as it travels.

        Args:
            key: The name under which the engine reports back.
            params: Sampling parameters of the request.

        """
        return self._message(key, params, self._fields())

    def _message(
        self, key: str, params: SamplingParams, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        return RequestMessage(
            key=key,
            origin=self.origin,
            opened=self.opened,
            steering=fields.get("steering"),
            governing=self._governing(fields, params) if _watched(fields) else None,
        ).encoded()

    def _governing(self, fields: Mapping[str, Any], params: SamplingParams) -> GoverningMessage:
        thinking = fields.get("thinking")
        begin = self.origin + self.begun
        most = self.longest - begin
        tokens = most if params.max_tokens is None else min(params.max_tokens, most)
        return GoverningMessage(
            **{name: fields.get(name, False) for name in MEASURED},
            end=begin + tokens,
            stops=() if thinking is None else self.stops_of(params),
            thinking=thinking,
        )

    def stops_of(self, params: SamplingParams) -> tuple[int, ...]:
        """The tokens each of which ends a response: the model's, unless they are ignored, and the
        request's own."""
        model = () if params.ignore_eos else self.stops
        named = {*model, *(params.stop_token_ids or ())}
        return tuple(sorted(token for token in named if 0 <= token < self.vocabulary))


def _watched(fields: Mapping[str, Any]) -> bool:
    """True if the engine measures each token."""
    return not fields.keys().isdisjoint(MEASURED)
