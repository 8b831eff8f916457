"""Controls of engine requests that no HTTP request has planned, as of benchmarks."""

from typing import Any

from steersman.controls.monitor import MonitorPart
from steersman.controls.steering import SteeringPart
from steersman.controls.thinking import ThinkingPart
from steersman.frontend.carrier import Carrier
from steersman.steering.configuration import Configuration
from steersman.steering.plan import Steering
from steersman.thinking.governing import Governing
from steersman.trajectory.phases import Markers

_NO_MARKERS = Markers(start=(), end=(), start_text="", end_text="")


def unplanned(
    configuration: Configuration | None = None,
    governing: Governing | None = None,
    *,
    monitored: bool = False,
    processed: bool = False,
    **fields: Any,
) -> Carrier:
    """A carrier without a plan.

    Args:
        configuration: Steering; None for none.
        governing: Limits of the thinking phase; None for none.
        monitored: Whether each token's raw distribution is measured.
        processed: Whether the one that it is really drawn from is.
        fields: The remaining ones of `Carrier`.

    """
    parts = (
        SteeringPart(Steering((), configuration)) if configuration is not None else None,
        ThinkingPart(governing, _NO_MARKERS) if governing is not None else None,
        MonitorPart(tokens=False, markers=None) if monitored else None,
        MonitorPart(tokens=False, markers=None, of="processed") if processed else None,
    )
    return Carrier(parts=tuple(part for part in parts if part is not None), **fields)
