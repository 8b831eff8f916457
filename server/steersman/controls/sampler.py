"""The control `sampler`: how each trajectory is sampled."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from steersman.controls.control import Control, Part, Planning
from steersman.sampling.registry import samplers
from steersman.sampling.sampler import Sampler
from steersman.trajectory.reading import Reading
from steersman.trajectory.trajectory import OutputT, Source


@dataclass(frozen=True, slots=True)
class SamplerPart(Part):
    """A sampler for each trajectory.

    Attributes:
        sampler: Its method.
        spec: The fields of the method.

    """

    sampler: Sampler[Any]
    spec: BaseModel

    def wrap(self, source: Source[OutputT], reading: Reading) -> Source[OutputT]:
        return self.sampler.wrap(self.spec, source, reading)


class SamplerControl(Control):
    """The samplers. Without any the field does not exist."""

    fields = ("sampler",)
    part = SamplerPart
    always = True

    def plan(self, planning: Planning) -> SamplerPart | None:
        spec: Any = getattr(planning.spec, "sampler", None)
        if spec is None:
            return None
        sampler = samplers()[spec.method]
        sampler.check(spec, planning.request, planning.capabilities)
        return SamplerPart(sampler, spec)
