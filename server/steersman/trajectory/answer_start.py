"""Beginning of the answer of a response, found while its tokens come."""

from collections.abc import Sequence

from steersman.trajectory.phases import Markers, closes_at


class AnswerStart:
    """Looks for the first token of the answer of one response.

    It goes by the definition of `steersman.trajectory.phases`. Tokens that may yet become the
    marker which opens the phase count as such until one of them differs.

    Args:
        markers: The model's thinking markers; None for a model without a thinking phase.
        opened: Whether the prompt leaves the thinking phase open.

    """

    def __init__(self, markers: Markers | None, opened: bool) -> None:
        self._markers = markers
        self._thinking = opened
        self._closed = False
        self._tokens: list[int] = []

    def begun(self, token_ids: Sequence[int]) -> bool:
        """Take the next tokens, and tell whether the answer has begun with them.

        Args:
            token_ids: The tokens after those that were taken before. None of the answer may have
                been among those.

        """
        if self._markers is None:
            return bool(token_ids)
        return any(self._begins(token_id, self._markers) for token_id in token_ids)

    def _begins(self, token_id: int, markers: Markers) -> bool:
        self._tokens.append(token_id)
        if self._closed:
            return True
        if not self._thinking:
            seen = tuple(self._tokens)
            self._thinking = seen == markers.start
            return seen != markers.start[: len(seen)]
        if token_id in markers.implicit:
            return True
        self._closed = closes_at(self._tokens, markers, len(self._tokens) - 1)
        return False
