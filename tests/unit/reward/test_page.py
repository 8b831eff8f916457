"""The examples of the page on rewards."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import TypeAdapter

from steersman.reward.rewards import Rewards
from steersman_client import Rewards as RewardsField
from tests.unit.reward.made_up import answer

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).resolve().parents[3] / "docs/rewards.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


async def test_the_examples_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_rewards")
    for block in blocks("python"):
        exec(block, module.__dict__)
    monkeypatch.setitem(sys.modules, "my_rewards", module)
    path = tmp_path / "rewards.yaml"
    path.write_text("".join(blocks("yaml")))
    rewards = Rewards.load(path)
    assert rewards.names == ("brief", "likelihood", "sure", "verify")

    field: TypeAdapter[Any] = TypeAdapter(RewardsField)
    forms = [
        rewards.asked(field.validate_json(one), "control.search.reward") for one in blocks("json")
    ]
    assert [len(one.terms) for one in forms] == [1, 1, 2]
    brief = rewards.asked(field.validate_python("brief"), "control.search.reward")
    assert await brief.score([answer("a b c")]) == (-3,)
