"""Port of a control, one part of a request's `control` field: from its plan to its metrics."""

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from prometheus_client import CollectorRegistry

from steersman.capabilities import Capabilities
from steersman.ledger import Ledger
from steersman.request import Request
from steersman.reward.rewards import Rewards
from steersman.steering.desk import Desk
from steersman.steering.plan import Edits, Vectors
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Source
from steersman_client import ControlSpec

Encode = Callable[[str], Sequence[int]]
"""The token ids of a text, without special tokens around it."""

LABELS = ("method", "profile")
"""Labels that metrics of requests have in common."""
Labels = tuple[str, str]
"""Their values: the search method, or `plain`; and the profile's name in the server's files, or
`none`. Nothing that a client makes up can become one."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """An engine call as vLLM's serving layer makes it, as far as controls depend on it.

    Attributes:
        temperature: Sampling temperature.
        grammar_in_thinking: Whether a grammar binds the thinking.
        changes: The sampling parameters that change what is drawn, beside the temperature and what
            cuts distributions off.

    """

    temperature: float
    grammar_in_thinking: bool
    changes: tuple[str, ...] = ()


class UnplannedError(Exception):
    """An engine call that differs from the plan.

    Args:
        field: The field of the request that does.
        reason: The difference.

    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


class Part:
    """One control of one request, checked and resolved against the server.

    A control overrides the stages that it takes part in.
    """

    @property
    def reads_tokens(self) -> bool:
        """True if it needs prompts of tokens, not of embeddings."""
        return False

    @contextlib.asynccontextmanager
    async def held(self, desk: Desk, within: float | None = None) -> AsyncGenerator[None]:
        """Hold the rows and edits that it needs, for the body of the `async with`.

        Args:
            desk: Hands them out.
            within: Seconds to wait for them at most, if the server would let it wait longer.

        Raises:
            ControlError: They were not free in time.

        """
        yield

    def check_arrival(self, arrived: Arrived) -> None:
        """Refuse an engine call that differs from the plan.

        Raises:
            UnplannedError: The call differs.

        """

    @property
    def method(self) -> str | None:
        """The name under which metrics count the request; None to leave that to another part."""
        return None

    def branches(self, choices: int) -> int | None:
        """Engine requests that run side by side for one prompt; None if it changes nothing.

        Args:
            choices: Responses that are returned for a prompt.

        """
        return None

    @property
    def branches_field(self) -> str:
        """The field of the request that `branches` follows from."""
        return "n"

    def forks(self) -> bool:
        """True if more is sampled for a branch than its own tokens."""
        return False

    def wire(self, origin: int) -> Mapping[str, Any]:
        """Its fields of the message that goes to the engine with each engine request.

        Args:
            origin: Tokens of the prompt.

        """
        return {}

    def bare(self) -> bool:
        """True if it also holds for trajectories that are started bare."""
        return False

    def wrap(self, source: Source[OutputT], reading: Reading) -> Source[OutputT]:
        """Lay a sampler over a source of trajectories."""
        return source

    def applied(self, ledger: Ledger) -> Mapping[str, Any]:
        """Its fields of `applied` in the receipt."""
        return {}

    def reported(self, ledger: Ledger) -> Mapping[str, Any]:
        """Its fields of the receipt beside `applied`."""
        return {}


PartT = TypeVar("PartT", bound=Part)


@dataclass(slots=True)
class Planning:
    """All that a control of one request is planned from.

    Attributes:
        spec: The request's control, each field checked for itself.
        request: The facts of the rest of the body.
        capabilities: The server's methods and limits.
        vectors: The server's vectors.
        edits: The edits that requests can choose; None on a server without rows for them.
        encode: The model's tokens of a text.
        rewards: The server's rewards.
        parts: The controls that are planned so far.

    """

    spec: ControlSpec
    request: Request
    capabilities: Capabilities
    vectors: Vectors
    edits: Edits | None
    encode: Encode
    rewards: Rewards
    parts: list[Part] = field(default_factory=list)

    def part(self, kind: type[PartT]) -> PartT | None:
        """The part of a control that was planned before; None if the request has none."""
        return next((part for part in self.parts if isinstance(part, kind)), None)


class Children:
    """Children of labelled metrics, each looked up once: `labels` takes a lock for that."""

    def __init__(self) -> None:
        self.of = functools.cache(_labelled)
        """Child of a metric with the labels that follow it."""


def _labelled(metric: Any, *labels: str) -> Any:
    return metric.labels(*labels)


class Counting:
    """Counts the parts of one control in the requests that have ended. The base counts nothing."""

    def count(self, part: Any, ledger: Ledger, labels: Labels) -> None:
        """Count a request.

        Args:
            part: Its part of the control.
            ledger: Its books.
            labels: Its method and profile.

        """


class Control(ABC):
    """One control of the server.

    Attributes:
        fields: Its fields of `ControlSpec`.
        part: The class of its parts.
        how_to_start: By field: the way to start a server that can do it.
        always: Whether every server can do it, with any engine.

    """

    fields: ClassVar[tuple[str, ...]]
    part: ClassVar[type[Part]]
    how_to_start: ClassVar[Mapping[str, str]] = {}
    always: ClassVar[bool] = False

    @abstractmethod
    def plan(self, planning: Planning) -> Part | None:
        """Check and resolve its fields; None if the request has nothing of it.

        Raises:
            ControlError: Something that cannot be done as asked.

        """

    def counting(self, registry: CollectorRegistry) -> Counting:
        """Register its metrics."""
        return Counting()
