"""The rewards of one search, scored within its span."""

from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from steersman.reward.candidate import Candidate
from steersman.reward.error import RewardError
from steersman.reward.judge import Judge
from steersman.reward.rewards import Rewards
from steersman.trajectory.trajectory import Piece, Start, Trajectory
from steersman_client import RewardTerm
from tests.unit.reward.made_up import MadeUp
from tests.unit.spans import Kept

pytestmark = pytest.mark.anyio


def ended(text: str) -> Trajectory[Any]:
    made: Trajectory[Any] = Trajectory(Start(0))
    made.add(Piece(tuple(range(len(text))), text, "stop", None))
    return made


async def test_each_scoring_is_a_span() -> None:
    sent = list[str]()

    def length(candidate: Candidate) -> int:
        sent.append(candidate.trace_headers["traceparent"])
        return len(candidate.text)

    made = {"length": MadeUp(length), "broken": MadeUp(lambda _: None)}
    kept, rewards = Kept(), Rewards(made)
    search = kept.tracing.request("chat", {}, {})

    def judge(name: str) -> Judge[Any]:
        return Judge(rewards.asked([RewardTerm(name=name)], "reward"), span=search)

    assert await judge("length").scores([ended("a"), ended("abc")]) == (1, 3)
    with pytest.raises(RewardError):
        await judge("broken").scores([ended("a")])
    search.close()
    good, broken = kept.named("rewards")
    assert dict(good.attributes or {}) == {
        "steersman.rewards": ("length",),
        "steersman.responses": 2,
    }
    assert good.status.status_code is StatusCode.UNSET
    assert good.context is not None
    assert {header.split("-")[2] for header in sent} == {f"{good.context.span_id:016x}"}
    assert broken.status.status_code is StatusCode.ERROR
    assert dict(broken.attributes or {})["error.type"] == "RewardError"
