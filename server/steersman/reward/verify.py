"""Verification: the response against facts that its request gives."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from steersman.bounded import Bounded, BoundedError
from steersman.evaluate.answers import Comparer
from steersman.reward import json_schema, pattern, schema_check
from steersman.reward.candidate import Candidate
from steersman.reward.reward import Reward, RewardSpec
from steersman.reward.threads import Threads

_SECONDS = 1.0
"""Processor time for one comparison with a reference or a schema; over it, it does not hold."""


class VerifySpec(RewardSpec):
    """Options of the reward `verify`."""

    type: Literal["verify"] = "verify"
    timeout: float = Field(default=120.0, gt=0)
    """More than others have: the first comparison has to start a process."""


class Range(BaseModel):
    """Bounds of a number, both included."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    min: Annotated[int | None, Field(ge=0)] = None
    max: Annotated[int | None, Field(ge=0)] = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        return self

    def holds(self, number: int) -> bool:
        return (self.min or 0) <= number and (self.max is None or number <= self.max)


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    schema_check.check(schema)
    return schema


def _regex(expression: str) -> str:
    pattern.compiled(expression)
    return expression


class VerifyData(BaseModel):
    """Facts that a response is held against; at least one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    reference: Annotated[str | None, Field(min_length=1, max_length=4096)] = None
    """The right answer: a number, an expression or words."""
    json_schema: Annotated[
        Annotated[dict[str, Any], AfterValidator(_schema)] | None, Field(alias="schema")
    ] = None
    """A JSON schema, draft 2020-12, that the response must be JSON of."""
    regex: Annotated[str, AfterValidator(_regex)] | None = None
    """An expression of RE2 that the response must contain a match of."""
    words: Range | None = None
    """Words of the response: runs without white space."""
    tokens: Range | None = None
    """Tokens of the response."""

    @model_validator(mode="after")
    def _has_a_fact(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("verify needs one of reference, schema, regex, words and tokens")
        return self


class Verify(Reward[VerifySpec]):
    """The share of the given facts that hold of a response: 1 for all, 0 for none.

    References and schemas are looked at in processes of their own, within limits of time.
    """

    spec = VerifySpec
    data = VerifyData

    def __init__(self, options: VerifySpec, seconds: float = _SECONDS) -> None:
        super().__init__(options)
        self._comparer = Comparer(seconds)
        self._matches = Bounded(json_schema.matches, seconds)
        self._threads = Threads(most_given_up=64)  # each of them ends by itself, and soon

    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        return [await self._score(candidate) for candidate in candidates]

    async def close(self) -> None:
        self._comparer.close()
        self._matches.close()

    async def _score(self, candidate: Candidate) -> float:
        data: VerifyData = candidate.data
        text = candidate.text
        held: list[bool] = []
        if data.reference is not None:
            run = self._threads.run(self._comparer.equivalent, data.reference, text)
            held.append(await run)
        if data.json_schema is not None:
            held.append(await self._threads.run(self._valid, data.json_schema, text))
        if data.regex is not None:
            held.append(pattern.compiled(data.regex).search(text) is not None)
        if data.words is not None:
            held.append(data.words.holds(len(text.split())))
        if data.tokens is not None:
            held.append(data.tokens.holds(candidate.tokens))
        return sum(held) / len(held)

    def _valid(self, schema: dict[str, Any], text: str) -> bool:
        try:
            return self._matches(schema, text)
        except BoundedError:
            return False
