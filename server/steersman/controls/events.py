"""The control `events`: news of the branches, in a stream beside the answer."""

from dataclasses import dataclass
from typing import Any

from steersman.controls.control import Control, Part, Planning
from steersman.controls.sampler import SamplerPart
from steersman.controls.search import SearchPart
from steersman.errors import ControlError
from steersman_client import Event


@dataclass(frozen=True, slots=True)
class EventsPart(Part):
    """Events of one stream.

    Attributes:
        kinds: Their kinds.

    """

    kinds: frozenset[Event]


class EventsControl(Control):
    """Events in streams."""

    fields = ("events",)
    part = EventsPart
    always = True

    def plan(self, planning: Planning) -> EventsPart | None:
        request = planning.request
        kinds = set(planning.spec.events)
        if kinds and not request.stream:
            raise ControlError(
                "events are parts of a stream: set stream, or leave them out",
                param="control.events",
            )
        if kinds and request.prompts > 1:
            raise ControlError(
                f"events tell of one prompt, and there are {request.prompts}",
                param="control.events",
            )
        if "trials" in kinds and planning.part(SamplerPart) is None:
            raise ControlError("trials are those of control.sampler", param="control.events")
        searched = planning.part(SearchPart)
        if "steps" in kinds and (searched is None or not searched.policy.makes_steps):
            raise ControlError("steps are those of a search by chains", param="control.events")
        search: Any = planning.spec.search
        if request.stream and getattr(search, "stream_leader", False):
            kinds.add("leader")
        return EventsPart(frozenset(kinds)) if kinds else None
