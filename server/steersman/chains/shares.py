"""Shares of the answers among the states of chains."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from steersman.trajectory.answers import canonical
from steersman.trajectory.phases import Markers, split


@dataclass(frozen=True, slots=True)
class Texts:
    """Reading of responses of which a client has the texts alone.

    They are split as the server splits their tokens (`steersman.trajectory.phases`), with a
    character in place of a token.

    Attributes:
        markers: The markers of the thinking phase, as characters; None for a model without one.

    """

    markers: Markers | None = None

    @classmethod
    def between(cls, start: str, end: str) -> Self:
        """Reading by the texts that open and close the thinking phase."""
        markers = Markers(
            start=_characters(start), end=_characters(end), start_text=start, end_text=end
        )
        return cls(markers)

    def answers(self, texts: Sequence[str]) -> list[str]:
        """The answer of each response to one prompt in its normal form, empty without one."""
        # The prompt has opened the phase if some response closes what it has not opened.
        opened = any(self._closes_first(text) for text in texts)
        return [
            canonical(split(_characters(text), text, self.markers, opened=opened).answer or "")
            for text in texts
        ]

    def _closes_first(self, text: str) -> bool:
        if self.markers is None:
            return False
        before, end, _ = text.partition(self.markers.end_text)
        return bool(end) and self.markers.start_text not in before


def shares(answers: Sequence[str]) -> dict[str, float]:
    """Share of each answer, most frequent first."""
    return {answer: count / len(answers) for answer, count in Counter(answers).most_common()}


def largest(found: Mapping[str, float], most: int) -> dict[str, float]:
    """The first shares under names to show, and the sum of the others.

    Args:
        found: Shares, largest first; that of no answer has an empty name.
        most: Shares to show, the others together being one.

    """
    named = [(answer or "(no answer)", share) for answer, share in found.items()]
    if len(named) <= most:
        return dict(named)
    others = named[most - 1 :]
    return {
        **dict(named[: most - 1]),
        f"({len(others)} others)": sum(share for _, share in others),
    }


def _characters(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))
