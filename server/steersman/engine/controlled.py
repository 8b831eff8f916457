"""Control of the requests of one rank, beside a model runner's steps: steering and governing."""

import logging
from typing import TYPE_CHECKING

from steersman.engine.batch import Arrival, Batch, Counted
from steersman.engine.compat.requests import choice_of
from steersman.engine.governor import Governor
from steersman.engine.health import Health
from steersman.engine.worker import WorkerSteering
from steersman.wire import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Controlled:
    """The controlled requests of one rank.

    A request that cannot be taken in fails alone: it leaves nothing here, its tokens are computed
    without a control, and the step says so, until the scheduler has ended it.

    Args:
        steering: Adds to the residual stream.
        governor: Watches the drawn tokens, and decides about them.
        health: Looks at the logits.
        heard: Whether this rank's word reaches the scheduler.
        alone: Whether there is no other rank.

    """

    def __init__(
        self,
        steering: WorkerSteering,
        governor: Governor,
        health: Health,
        *,
        heard: bool = True,
        alone: bool = True,
    ) -> None:
        self.steering = steering
        self.governor = governor
        self.health = health
        self._heard, self._alone = heard, alone
        self._refused: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        # The requests in the last step message: by their rows, and as that travels.
        self._rows: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
        self._listed = (b"", b"")

    def arrive(self, arrival: Arrival) -> None:
        """A request comes into the batch, or comes back to it."""
        try:
            self._take_in(arrival)
        except Exception as error:  # of any kind: no other request may feel it
            logger.exception("Request %s cannot be controlled", arrival.request_id)
            self.finish(arrival.request_id)
            self._refused[arrival.request_id] = f"it cannot be controlled: {error}"
            if not self._heard:
                self.steering.spoil(arrival.request_id)

    def _take_in(self, arrival: Arrival) -> None:
        message = arrival.message
        arrival = arrival._replace(content=message)
        self._refused.pop(arrival.request_id, None)
        self._rows = ({}, {})  # an id can come again, with another key
        if message.steering is not None or not self._alone:
            # Another rank that cannot take it in is heard through the logits.
            self.health.arrive(arrival.request_id)
        self._keys[arrival.request_id] = message.key
        if message.steering is not None:
            self.steering.arrive(arrival)
        if message.governing is not None:
            self.governor.arrive(arrival)

    def preempt(self, request_id: str) -> None:
        """A request leaves, to come back."""
        self.steering.finish(request_id)
        self.governor.preempt(request_id)

    def finish(self, request_id: str) -> None:
        """A request has left for good."""
        self._keys.pop(request_id, None)
        self._refused.pop(request_id, None)
        self.health.finish(request_id)
        self.steering.finish(request_id)
        self.governor.finish(request_id)

    def settle(self, key: str, choice: int | None) -> None:
        """The answer of a request is known: its thinking may close.

        Args:
            key: The request's key in reports.
            choice: Index of its choice; None if it has but one.

        """
        for request_id, own in self._keys.items():
            if own == key and (choice is None or choice_of(request_id) == choice):
                self.governor.settle(request_id)

    def begin(self, batch: Batch) -> None:
        """The token spans of a step are final."""
        self.health.begin(batch)
        self.governor.begin(batch)
        self.steering.begin(batch, self.governor.moving)

    def rest(self) -> None:
        """Do nothing in the next forward pass."""
        self.health.rest()
        self.governor.rest()
        self.steering.rest()

    def counted(self) -> Counted | None:
        """Measurements of the step for its controlled requests."""
        steered, counts = self.steering.counted()
        watched, track = self.governor.taken()
        looked = self.health.taken()
        if not steered and not watched and not self._refused and looked is None:
            return None
        if steered is not self._rows[0] or watched is not self._rows[1]:
            self._rows = (steered, watched)
            self._listed = (listed(steered, self._keys), listed(watched, self._keys))
        listed_ = self._listed
        return Counted(listed_[0], counts, listed_[1], track, dict(self._refused), looked)
