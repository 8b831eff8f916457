"""Form of `control` on the wire."""

from types import MappingProxyType
from typing import Any

import pytest

from steersman_client import ControlSpec, FirstFinish, Steer, Thinking, control_body
from steersman_client.params import with_control


def test_only_what_was_set_is_sent() -> None:
    spec = ControlSpec(
        steer=(Steer(vector="efficiency", strength=0.6, layers=(3, 4)),),
        search=FirstFinish(method="first_finish", k=1),
    )
    assert control_body(spec) == {
        "control": {
            "steer": [{"vector": "efficiency", "strength": 0.6, "layers": [3, 4]}],
            "search": {"method": "first_finish", "k": 1},
        }
    }


def test_an_explicit_none_is_sent() -> None:
    spec = ControlSpec(profile="concise", search=None, thinking=Thinking(exit=None))
    assert control_body(spec) == {
        "control": {"profile": "concise", "search": None, "thinking": {"exit": None}}
    }


def test_a_mapping_is_sent_as_it_is() -> None:
    control = MappingProxyType({"from_the_future": {"x": None}, "steer": "not checked here"})
    assert control_body(control) == {"control": dict(control)}


@pytest.mark.parametrize("params", [{}, {"control": None}])
def test_no_control_leaves_the_arguments_alone(params: dict[str, Any]) -> None:
    assert with_control({"model": "m", **params}) == {"model": "m"}


def test_extra_body_is_kept() -> None:
    extra_body = {"top_k": 5}
    params = with_control({"extra_body": extra_body, "control": {"profile": "concise"}})
    assert params == {"extra_body": {"top_k": 5, "control": {"profile": "concise"}}}
    assert extra_body == {"top_k": 5}


def test_control_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        with_control({"control": {}, "extra_body": {"control": {}}})
