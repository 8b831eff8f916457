"""The message to the engine, of the wishes of all controls."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import pytest
from vllm import SamplingParams

from steersman.controls.control import Part
from steersman.controls.monitor import MonitorPart
from steersman.controls.thinking import ThinkingPart
from steersman.frontend.carrier import Carrier
from steersman.thinking.governing import Governing
from tests.unit.servers import MARKERS

WANTED = ("measured", "processed", "confidence")
RAW = MonitorPart(tokens=False, markers=None)
PROCESSED = MonitorPart(tokens=False, markers=None, of="processed")
THINKING = ThinkingPart(Governing(budget=5), MARKERS)


class Asks(Part):
    """A control that needs the confidence and nothing else."""

    def wire(self, origin: int) -> Mapping[str, Any]:
        return {"confidence": True}


def governing(*parts: Part) -> Any:
    carrier = Carrier(parts=parts, origin=3, longest=100)
    return carrier.wire("k", SamplingParams(max_tokens=9))["governing"]


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ((RAW,), {"measured"}),
        ((PROCESSED,), {"processed"}),
        ((Asks(),), {"confidence"}),
        ((THINKING,), set()),
        ((THINKING, PROCESSED), {"processed"}),
        ((THINKING, RAW, PROCESSED, Asks()), {*WANTED}),
    ],
)
def test_what_one_control_needs_is_measured(parts: tuple[Part, ...], wanted: set[str]) -> None:
    for order in permutations(parts):
        found = governing(*order)
        assert {name for name in WANTED if found[name]} == wanted
        assert (found["thinking"] is None) == (THINKING not in parts)
        assert found["end"] == 12


def test_without_such_controls_nothing_is_watched() -> None:
    assert governing(Part()) is None
