"""Likelihood: the model's own measure of its response."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from steersman.reward.candidate import Candidate, Measure
from steersman.reward.reward import LARGEST, Reward, RewardSpec

_MEASURES = {"logprob": Measure.LOGPROB, "entropy": Measure.ENTROPY, "confidence": Measure.TOP}


class LikelihoodSpec(RewardSpec):
    """Options of the reward `likelihood`."""

    type: Literal["likelihood"] = "likelihood"
    by: Literal["logprob", "entropy", "confidence"] = "logprob"
    """The mean over the tokens: of the log-prob; of the entropy, negated; of the largest
    probability."""


class Likelihood(Reward[LikelihoodSpec]):
    """Mean log-prob of the tokens that were drawn, or how certain the model was of them.

    A response without any such token has the lowest score.
    """

    spec = LikelihoodSpec

    @property
    def needs(self) -> frozenset[Measure]:
        return frozenset({_MEASURES[self.options.by]})

    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        return [self._score(candidate) for candidate in candidates]

    def _score(self, candidate: Candidate) -> float:
        values = candidate.measured(_MEASURES[self.options.by])
        if not len(values):
            return -LARGEST
        mean = float(np.mean(values))
        return -mean if self.options.by == "entropy" else mean
