"""Every control that cannot be served is refused with the field that is wrong."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.capabilities import Methods, Steering
from steersman.controls.search import SearchPart
from steersman.controls.steering import SteeringPart
from steersman.edits.edit import Edit, EditError, EditMetadata
from steersman.errors import ControlError
from steersman.plan import Plan, Planner
from steersman.profiles import Profile, ProfileError
from steersman.request import Endpoint, Request
from steersman.steering import plan as steering
from steersman_client import FirstFinish
from tests.unit.servers import planner

CHAT = Request(Endpoint.CHAT, temperature=1.0)


def first_finish(**fields: Any) -> dict[str, Any]:
    return {"search": {"method": "first_finish", **fields}}


def searched(plan: Plan) -> FirstFinish:
    part = plan.part(SearchPart)
    assert part is not None
    assert isinstance(part.spec, FirstFinish)
    return part.spec


def refusal(control: object, request: Request = CHAT, **server: Any) -> ControlError:
    with pytest.raises(ControlError) as caught:
        planner(**server).plan(control, request)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("control", "param"),
    [
        (7, "control"),
        ("fast", "control"),
        ([], "control"),
        (True, "control"),
        ({"serach": {}}, "control.serach"),
        ({"search": 1}, "control.search"),
        ({"search": {}}, "control.search.method"),
        ({"search": {"method": "last_finish"}}, "control.search.method"),
        ({"search": {"method": "beam"}}, "control.search.method"),
        (first_finish(n=0), "control.search.n"),
        (first_finish(n=-1), "control.search.n"),
        (first_finish(n="4"), "control.search.n"),
        (first_finish(n=4.5), "control.search.n"),
        (first_finish(n=True), "control.search.n"),
        (first_finish(n=9), "control.search.n"),
        (first_finish(n=2, k=3), "control.search.k"),
        (first_finish(k=0), "control.search.k"),
        (first_finish(min_thinking=-1), "control.search.min_thinking"),
        (first_finish(require_answer="yes"), "control.search.require_answer"),
        (first_finish(depth=2), "control.search.depth"),
        ({"profile": "slow"}, "control.profile"),
        ({"profile": 3}, "control.profile"),
        ({"steer": [{"vector": "v"}]}, "control.steer"),
        ({"steer": {"vector": "v"}}, "control.steer"),
        ({"steer": [{"strength": 1.0}]}, "control.steer[0].vector"),
        (
            {"steer": [{"vector": "v"}, {"vector": "v", "strength": math.nan}]},
            "control.steer[1].strength",
        ),
        ({"steer": [{"vector": "v", "layers": [1, -2]}]}, "control.steer[0].layers[1]"),
        ({"thinking": {"budget": 10}}, "control.thinking"),
        ({"thinking": {"budget": -1}}, "control.thinking.budget"),
        ({"monitor": {"tokens": True}}, "control.monitor"),
        ({"sampler": {"method": "cautious"}}, "control.sampler"),
        ({"limits": {"max_seconds": 0}}, "control.limits.max_seconds"),
        ({"limits": {"max_sampled_tokens": 0}}, "control.limits.max_sampled_tokens"),
        ({"limits": {"tokens": 5}}, "control.limits.tokens"),
        ({"events": ["progress"]}, "control.events"),
        ({"events": ["turns"]}, "control.events[0]"),
    ],
)
def test_a_wrong_control_names_its_field(control: object, param: str) -> None:
    assert refusal(control).param == param


def test_an_unsupported_part_says_so() -> None:
    assert "not supported by this server" in refusal({"thinking": {"budget": 10}}).message
    assert "unknown method 'beam'" in refusal({"search": {"method": "beam"}}).message


@pytest.mark.parametrize(
    ("search", "request_", "param"),
    [
        ({"n": 4}, Request(Endpoint.CHAT, temperature=0.0), "temperature"),
        ({"n": 4}, Request(Endpoint.CHAT, choices=5), "n"),
        ({"n": 4, "k": 2}, Request(Endpoint.CHAT, choices=2), "control.search.k"),
        ({"n": 4}, Request(Endpoint.CHAT, beam_search=True), "use_beam_search"),
        ({"n": 4}, Request(Endpoint.RESPONSES, background=True), "background"),
        ({"n": 4}, Request(Endpoint.COMPLETIONS, prompts=3), "control.search.n"),
        ({"n": 4}, Request(Endpoint.CHAT, max_tokens=251), "max_tokens"),
        (
            {"n": 4},
            Request(Endpoint.RESPONSES, max_tokens=400, max_tokens_field="max_output_tokens"),
            "max_output_tokens",
        ),
        (
            {"n": 2, "stream_leader": True},
            Request(Endpoint.COMPLETIONS, stream=True, prompts=2),
            "control.search.stream_leader",
        ),
        (
            {"n": 2, "stream_leader": True},
            Request(Endpoint.RESPONSES, stream=True),
            "control.search.stream_leader",
        ),
    ],
)
def test_a_conflict_with_the_rest_of_the_request(
    search: dict[str, Any], request_: Request, param: str
) -> None:
    assert refusal(first_finish(**search), request_).param == param


def test_branches_of_a_greedy_default_are_all_the_same() -> None:
    request = Request(Endpoint.CHAT)
    assert refusal(first_finish(n=2), request, greedy=True).param == "temperature"
    assert planner(greedy=False).plan(first_finish(n=2), request).part(SearchPart)
    assert planner(greedy=True).plan(first_finish(n=1), request).part(SearchPart)


def test_min_thinking_needs_a_thinking_phase() -> None:
    control = first_finish(min_thinking=5)
    assert refusal(control, thinking=False).param == "control.search.min_thinking"
    assert searched(planner().plan(control, CHAT)).min_thinking == 5


def test_limits_are_met_exactly() -> None:
    plan = planner().plan(first_finish(n=8), Request(Endpoint.CHAT, max_tokens=125))
    assert plan.branches(1) == 8
    # A response cannot outgrow the model's context, so that is what a larger limit stands for.
    planner().plan({}, Request(Endpoint.CHAT, max_tokens=10**9))


def test_an_empty_control_is_a_plain_plan() -> None:
    for control in (None, {}):
        request = Request(Endpoint.CHAT, choices=3)
        plan = planner().plan(control, request)
        assert plan == Plan(request, 1000)
        assert plan.method == "plain"
        assert plan.branches(3) == 3


def test_a_profile_is_merged_under_the_request() -> None:
    plan = planner().plan({"profile": "fast", "search": {"n": 5}}, CHAT)
    assert plan.profile == "fast"
    assert (searched(plan).n, searched(plan).min_thinking) == (5, 2)


def test_a_null_switches_a_part_of_the_profile_off() -> None:
    plan = planner().plan({"profile": "fast", "search": None}, CHAT)
    assert (plan.profile, plan.parts) == ("fast", ())


def test_the_model_suffix_names_a_profile() -> None:
    assert planner().plan(None, CHAT, profile_suffix="fast").profile == "fast"
    assert planner().plan({"profile": "fast"}, CHAT, profile_suffix="fast").profile == "fast"
    with pytest.raises(ControlError) as caught:
        planner().plan({"profile": "plain"}, CHAT, profile_suffix="fast")
    assert caught.value.param == "control.profile"


def test_profiles_are_checked_at_start_up() -> None:
    planner().check_profiles()
    bad = {"deep": Profile(control={"thinking": {"budget": 3}})}
    with pytest.raises(ProfileError, match=r"'deep': control\.thinking: .*not supported"):
        planner(profiles=bad).check_profiles()


EDIT = Edit(
    {1: np.eye(1, 8, dtype=np.float32)[0]},
    {1: np.ones((1, 4), np.float32)},
    EditMetadata(weight=1.0, heads={1: (0,)}, head_dim=4, dtype="float32", weights={1: "0" * 64}),
)
CALM = Profile(control={"thinkedit": {"edit": "calm", "strength": 0.5}})


class Drawer:
    def get(self, name: str) -> Edit:
        if name != "calm":
            raise EditError(f"unknown edit {name!r}; this server has: calm", field="name")
        return EDIT


def editing() -> Planner:
    """A planner for a server with an edit on offer, and a profile that chooses it."""
    bare = planner(
        profiles={"calm": CALM},
        methods=Methods(thinkedit=("project",)),
    )
    steered = Steering(rows=1, bytes=0, runner="V1", model_digest="", edit_rows=1)
    capabilities = bare.capabilities.model_copy(update={"steering": steered})
    return replace(bare, capabilities=capabilities, edits=Drawer())


@pytest.mark.parametrize(
    ("control", "param", "message"),
    [
        ({"edit": "x"}, "control.thinkedit.edit", "unknown edit 'x'; this server has: calm"),
        ({}, "control.thinkedit.edit", "required"),
        ({"edit": ""}, "control.thinkedit.edit", "at least 1 character"),
        ({"edit": "calm", "strength": math.inf}, "control.thinkedit.strength", "finite"),
        ({"edit": "calm", "strength": math.nan}, "control.thinkedit.strength", "finite"),
        ({"edit": "calm", "strength": "1"}, "control.thinkedit.strength", "number"),
        ({"edit": "calm", "weight": 1}, "control.thinkedit.weight", "unknown field"),
        ("calm", "control.thinkedit", "valid dictionary"),
    ],
)
def test_a_wrong_choice_of_an_edit(control: object, param: str, message: str) -> None:
    with pytest.raises(ControlError, match=message) as caught:
        editing().plan({"thinkedit": control}, CHAT)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_server_without_rows_for_edits_says_how_to_have_them() -> None:
    error = refusal({"thinkedit": {"edit": "calm"}})
    assert error.param == "control.thinkedit"
    assert error.message == (
        "thinkedit is not supported by this server: start it with --edits or --edit-rows"
    )


def test_an_edit_needs_prompts_of_tokens() -> None:
    request = Request(Endpoint.COMPLETIONS, embeddings=True)
    with pytest.raises(ControlError) as caught:
        editing().plan({"thinkedit": {"edit": "calm"}}, request)
    assert caught.value.param == "prompt_embeds"
    assert editing().plan({}, request).parts == ()


def steered(plan: Plan) -> steering.Steering:
    part = plan.part(SteeringPart)
    assert part is not None
    return part.steering


def test_an_edit_goes_with_a_search_on_every_endpoint() -> None:
    for endpoint in Endpoint:
        control = {"thinkedit": {"edit": "calm"}, **first_finish(n=2)}
        plan = editing().plan(control, Request(endpoint, temperature=1.0))
        assert plan.part(SearchPart) is not None
        assert steered(plan).edits == (EDIT,)


def test_a_profiles_edit_is_merged_under_the_request() -> None:
    editing().check_profiles()
    for control, strength in (
        ({}, 0.5),
        ({"thinkedit": {"strength": -2.0}}, -2.0),
        ({"thinkedit": None}, None),
    ):
        plan = editing().plan({"profile": "calm", **control}, CHAT)
        chosen = steered(plan).edit if plan.parts else None
        assert (chosen.strength if chosen else None) == strength


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["profile", "search", "steer", "method", "n", "k", "thinking", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_whatever_comes_is_planned_or_refused(control: object) -> None:
    try:
        planned: Plan | ControlError = planner().plan(control, CHAT)
    except ControlError as error:
        planned = error
    assert isinstance(planned, Plan) or (planned.param and planned.message)
