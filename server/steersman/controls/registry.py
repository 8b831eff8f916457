"""All controls of a server, in the order in which they are planned."""

from steersman.controls.control import Control
from steersman.controls.events import EventsControl
from steersman.controls.limits import LimitsControl
from steersman.controls.monitor import MonitorControl
from steersman.controls.sampler import SamplerControl
from steersman.controls.search import SearchControl
from steersman.controls.steering import SteeringControl
from steersman.controls.thinking import ThinkingControl

CONTROLS: tuple[Control, ...] = (
    ThinkingControl(),
    SteeringControl(),
    MonitorControl(),
    SamplerControl(),
    SearchControl(),
    EventsControl(),
    LimitsControl(),
)
"""Steering is planned after the governor, which moves the strength of a vector; limits are planned
last, over all of them."""
