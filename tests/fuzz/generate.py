"""Batches of requests, each from a seed alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.fuzz import values
from tests.fuzz.bodies import CHAT, COMPLETIONS, RESPONSES, SCHEMAS, Bodies
from tests.fuzz.mutation import mutated, respelled
from tests.fuzz.sound import Sound, mostly
from tests.fuzz.surface import Surface
from tests.fuzz.wire import Case, requests

_ENDPOINTS = (CHAT, CHAT, CHAT, COMPLETIONS, COMPLETIONS, RESPONSES)
_SOUND, _LAX, _WILD = "sound", "lax", "wild"
_ODD_CONTROL, _ODD_BODY, _ODD = "odd control", "odd body", "odd"
_WAYS = (*[_SOUND] * 5, *[_ODD_CONTROL] * 3, _LAX, _LAX, _ODD_BODY, _ODD, _WILD)


class Generator:
    """Requests to one server.

    Args:
        surface: The server.

    """

    def __init__(self, surface: Surface) -> None:
        sound = Sound(surface)
        bodies = Bodies(surface, sound)
        self._strategy = _cases(
            {endpoint: bodies.of(endpoint) for endpoint in SCHEMAS}, sound.named("ControlSpec")
        )

    def batch(self, seed: int, count: int) -> Sequence[Case]:
        """Up to so many requests, no two the same; always these for this seed and server."""
        made: dict[Case, None] = {}

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count,  # some are the same: hypothesis varies what it has made
            database=None,
            phases=[Phase.generate],
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(self._strategy)
        def collect(case: Case) -> None:
            made[case] = None

        collect()
        return list(made)


@st.composite
def _cases(
    draw: DrawFn, bodies: Mapping[str, SearchStrategy[dict[str, Any]]], control: SearchStrategy[Any]
) -> Case:
    endpoint = draw(st.sampled_from(_ENDPOINTS))
    body = draw(bodies[endpoint])
    body["control"] = draw(control)
    if isinstance(body["control"], dict) and body["control"].get("events"):
        body["stream"] = draw(mostly(st.just(True), st.booleans()))  # only a stream has any
    way = draw(st.sampled_from(_WAYS))
    if way == _WILD:
        body["control"] = draw(values.anything())
    if way == _LAX:
        body = draw(respelled(body))
    if way in {_ODD_CONTROL, _ODD} and body["control"]:
        body = draw(mutated(body, "control"))
    if way in {_ODD_BODY, _ODD}:
        body = draw(mutated(body))
    if draw(mostly(st.just(False), st.just(True), rarely=20)):
        body.pop("control", None)
    return draw(requests(endpoint, body))
