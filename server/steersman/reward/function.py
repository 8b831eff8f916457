"""A function of the operator's as a reward: the type `python`."""

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from steersman.reward.candidate import Candidate, Measure
from steersman.reward.reward import Reward, RewardSpec
from steersman.reward.threads import Threads

_Measure = Annotated[Measure, Field(strict=False)]


class FunctionSpec(RewardSpec):
    """Options of the reward `python`."""

    type: Literal["python"] = "python"
    function: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
    """Where it is: `module:object`."""
    needs: Annotated[tuple[_Measure, ...], Field(strict=False)] = ()
    """Measurements at the tokens that it looks at."""


class AnyData(BaseModel):
    """Data that the function alone understands."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Function(Reward[FunctionSpec]):
    """Calls the function with a list of candidates; it gives back as many numbers.

    A coroutine function is awaited, any other runs in a thread.
    """

    spec = FunctionSpec
    data = AnyData

    def __init__(self, options: FunctionSpec) -> None:
        super().__init__(options)
        self._function = _load(options.function)
        self._threads = Threads()

    @property
    def needs(self) -> frozenset[Measure]:
        return frozenset(self.options.needs)

    async def score(self, candidates: Sequence[Candidate]) -> Sequence[float]:
        if _is_async(self._function):
            scores: Sequence[float] = await self._function(list(candidates))
            return scores
        return await self._threads.run(self._function, list(candidates))


def _load(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"function {place!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"function {place!r} is not callable")
    return found


def _is_async(function: Callable[..., Any]) -> bool:
    call = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
