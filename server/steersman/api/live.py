"""Monitor values in streams: each chunk carries the entropies of its tokens."""

from typing import TYPE_CHECKING, Any

from steersman.request import Endpoint, Request
from steersman.scope import ControlScope

if TYPE_CHECKING:
    from steersman.thinking.report import LiveTrack


class LiveValues:
    """Puts `control.live` into the chunks of one stream.

    Args:
        scope: The request.
        request: The facts of its body.

    """

    def __init__(self, scope: ControlScope, request: Request) -> None:
        self._scope = scope
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
        ledger = self._scope.ledger
        run = ledger.runs[-1 if self._responses else index // self._choices]
        line = run.returned[index % self._choices]
        if line.track is None:
            return None
        # A tool loop of the Responses API begins anew with each of its runs.
        key = len(ledger.runs) if self._responses else index
        if key not in self._tracks:
            self._tracks[key] = self._scope.live(index, run)
        track = self._tracks[key]
        new = slice(track.tokens, line.delivered)
        if not line.track.token_ids[new]:
            return None
        live = track.advance(line.track.token_ids[new], line.track.values[new])
        return live.model_dump(mode="json", exclude_none=True)
