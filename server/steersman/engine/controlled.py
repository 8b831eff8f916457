"""All that a rank does beside a model runner's steps: steering, and governing."""

from typing import TYPE_CHECKING, Any

from steersman.engine.batch import Arrival, Batch, Counted, listed
from steersman.engine.governor import Governor
from steersman.engine.worker import WorkerSteering

if TYPE_CHECKING:
    from collections.abc import Mapping


class Controlled:
    """The controlled requests of one rank.

    Args:
        steering: Adds to the residual stream.
        governor: Watches what is drawn, and decides about it.

    """

    def __init__(self, steering: WorkerSteering, governor: Governor) -> None:
        self.steering = steering
        self.governor = governor
        self._keys: dict[str, str] = {}
        # Whom the last step said something of: by their places, and as that travels.
        self._places: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
        self._listed = (b"", b"")

    def arrive(self, arrival: Arrival) -> None:
        """A request comes into the batch, or comes back to it."""
        control: Mapping[str, Any] = arrival.control
        self._keys[arrival.request_id] = control["key"]
        self._places = ({}, {})  # an id can come again, with another key
        if control["steering"] is not None:
            self.steering.arrive(arrival)
        if control["governing"] is not None:
            self.governor.arrive(arrival)

    def preempt(self, request_id: str) -> None:
        """A request leaves, to come back."""
        self.steering.finish(request_id)
        self.governor.preempt(request_id)

    def finish(self, request_id: str) -> None:
        """A request has left for good."""
        self._keys.pop(request_id, None)
        self.steering.finish(request_id)
        self.governor.finish(request_id)

    def settle(self, key: str, choice: int | None) -> None:
        """The answer of a request is known: its thinking may close.

        Args:
            key: That under which the request reports.
            choice: Which of its choices; None if it has but one. vLLM names the request of each of
                several `{choice}_...`.

        """
        for request_id, own in self._keys.items():
            if own == key and (choice is None or request_id.startswith(f"{choice}_")):
                self.governor.settle(request_id)

    def begin(self, batch: Batch) -> None:
        """The token spans of a step are final."""
        self.governor.begin(batch)
        self.steering.begin(batch, self.governor.moving)

    def rest(self) -> None:
        """Do nothing in the next forward pass."""
        self.governor.rest()
        self.steering.rest()

    def counted(self) -> Counted | None:
        """What the step says of its controlled requests."""
        steered, counts = self.steering.counted()
        watched, track = self.governor.taken()
        if not steered and not watched:
            return None
        if steered is not self._places[0] or watched is not self._places[1]:
            self._places = (steered, watched)
            self._listed = (listed(steered, self._keys), listed(watched, self._keys))
        return Counted(self._listed[0], counts, self._listed[1], track)
