"""A contrast: the tokens whose residual stream is averaged on either side of a direction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from steersman.directions.error import DirectionError
from steersman.directions.sample import Sample


@dataclass(frozen=True, slots=True)
class Weighted:
    """One sample on one side of a contrast.

    Attributes:
        sample: The sample.
        positions: Positions in prompt + response, ascending and at least one. The residual stream
            is averaged where their tokens are read.
        share: Weight of the sample, 1 on average over its side.

    """

    sample: Sample
    positions: tuple[int, ...]
    share: float = 1.0

    @classmethod
    def at(cls, sample: Sample, positions: Sequence[int]) -> Self:
        """The sample at some positions of its response, counted from the response's start."""
        prompt = len(sample.prompt)
        return cls(sample, tuple(prompt + position for position in positions))

    @classmethod
    def over_thinking(cls, sample: Sample) -> Self:
        """The sample at all its thinking tokens, of which it must have one."""
        return cls.at(sample, sample.thinking or ())

    @property
    def tokens(self) -> tuple[int, ...]:
        """Prompt + response up to the last of the positions: what follows does not change them."""
        return (self.sample.prompt + self.sample.response)[: self.positions[-1] + 1]

    @property
    def weight(self) -> float:
        """Weight of each of the positions; they sum to the sample's share."""
        return self.share / len(self.positions)

    @property
    def weights(self) -> NDArray[np.float32]:
        """Weight of each of `tokens`, [tokens]: `weight` at the positions, 0 elsewhere."""
        weights = np.zeros(self.positions[-1] + 1, np.float32)
        weights[list(self.positions)] = self.weight
        return weights


@dataclass(frozen=True, slots=True)
class Contrast:
    """Both sides of a direction, which is mean(plus) - mean(minus), at each layer.

    A side's mean is over its positions within each sample, then over its samples: the weighted sum
    of everything in it, divided by the number of its samples. So a positive strength moves a model
    towards what the samples of `plus` have and those of `minus` have not.

    Attributes:
        plus: Samples of one side, in the order given.
        minus: Samples of the other side; a sample can be on both, at other positions.
        facts: Where it comes from, as JSON: options, counts, mean lengths.

    """

    plus: tuple[Weighted, ...]
    minus: tuple[Weighted, ...]
    facts: dict[str, Any]

    @classmethod
    def of(cls, plus: Sequence[Weighted], minus: Sequence[Weighted], **facts: Any) -> Self:
        """The contrast, with the counts and mean lengths of both sides added to its facts."""
        sides = {"plus": _side(plus), "minus": _side(minus)}
        return cls(tuple(plus), tuple(minus), {**facts, **sides})


def paired(
    plus: Sequence[Weighted], minus: Sequence[Weighted]
) -> tuple[list[Weighted], list[Weighted]]:
    """The samples of problems that are on both sides, in shares that make each problem count once.

    Their contrast is the mean, over problems, of the difference of the problem's own means: what
    tells one problem from another falls out of it.
    """
    sides = (plus, minus)
    counts = [Counter(one.sample.problem for one in side) for side in sides]
    both = counts[0].keys() & counts[1].keys()
    kept = [[one for one in side if one.sample.problem in both] for side in sides]
    first, second = (
        [replace(one, share=len(side) / (len(both) * count[one.sample.problem])) for one in side]
        for side, count in zip(kept, counts, strict=True)
    )
    return first, second


def check_least(least: int) -> None:
    """Refuse a minimum that an empty side would pass.

    Raises:
        DirectionError: It is below 1.

    """
    if least < 1:
        raise DirectionError(f"least={least}: must be at least 1", field="least")


def _side(side: Sequence[Weighted]) -> dict[str, Any]:
    return {
        "samples": len(side),
        "problems": len({one.sample.problem for one in side}),
        "positions": sum(len(one.positions) for one in side),
        "mean_thinking_tokens": round(fmean(one.sample.thinking_tokens for one in side), 1),
    }
