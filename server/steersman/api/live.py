"""Monitor values in streams: each chunk carries the entropies of its tokens."""

from typing import Any

from steersman.controls.monitor import MonitorPart
from steersman.request import Endpoint
from steersman.scope import ControlScope
from steersman.thinking.report import LiveTrack


class LiveValues:
    """Puts `control.live` into the chunks of one stream.

    Args:
        scope: The request.
        monitor: The monitor that it asked for.

    """

    def __init__(self, scope: ControlScope, monitor: MonitorPart) -> None:
        request = scope.plan.request
        self._ledger = scope.ledger
        self._monitor = monitor
        self._choices = request.choices
        self._responses = request.endpoint is Endpoint.RESPONSES
        self._tracks: dict[int, LiveTrack] = {}

    def put(self, chunk: dict[str, Any]) -> bool:
        """Add the values of the tokens that a chunk brings; whether it brings any."""
        if self._responses:
            index = 0 if str(chunk.get("type")).endswith(".delta") else None
        else:
            index = chunk["choices"][0]["index"] if chunk.get("choices") else None
        if index is None or (live := self._advance(index)) is None:
            return False
        chunk.setdefault("control", {})["live"] = live
        return True

    def _advance(self, index: int) -> dict[str, Any] | None:
        generations = self._ledger.generations
        generation = generations[-1 if self._responses else index // self._choices]
        trajectory = generation.returned[index % self._choices]
        if trajectory.track is None:
            return None
        # A tool loop of the Responses API begins anew with each of its turns.
        key = len(generations) if self._responses else index
        if key not in self._tracks:
            opened, monitor = generation.reading.opened, self._monitor
            self._tracks[key] = LiveTrack(
                monitor.markers, opened, index, monitor.tokens, monitor.of
            )
        track = self._tracks[key]
        new = slice(track.tokens, trajectory.delivered)
        if not trajectory.track.token_ids[new]:
            return None
        live = track.advance(trajectory.track.token_ids[new], trajectory.track.values[new])
        return live.model_dump(mode="json", exclude_none=True)
