"""Small values that the evaluation tests build on."""

from typing import Any

from steersman.evaluate.problems import Problem
from steersman.evaluate.records import Record
from steersman.evaluate.spec import RunSpec
from steersman_client import Receipt

SEARCH = {"search": {"method": "first_finish", "n": 4}}


def spec(**changes: Any) -> RunSpec:
    fields = {
        "name": "made-up",
        "model": "tiny",
        "problems": [{"set": "reasoner"}],
        "controls": {"single": None, "search": SEARCH},
        "baseline": "single",
    }
    return RunSpec.model_validate({**fields, **changes})


def problems(count: int) -> list[Problem]:
    """Problems whose answer is their number, in two groups."""
    return [
        Problem(f"p{i}", f"group {i % 2}", f"What is {i}?", str(i), str(i).__eq__)
        for i in range(count)
    ]


def record(control: str = "single", problem: str = "p0", sample: int = 0, **changes: Any) -> Record:
    fields = {
        "control": control,
        "problem": problem,
        "group": "group",
        "sample": sample,
        "seed": 1,
        "right": True,
        "finish_reason": "stop",
        "thinking_tokens": 8,
        "completion_tokens": 10,
        "latency_seconds": 1.0,
        "receipt": None,
        "content": "4",
        "reasoning": "2 + 2",
    }
    return Record.model_validate({**fields, **changes})


def receipt(sampled: int) -> Receipt:
    return Receipt.model_validate({"compute": {"sampled_tokens": sampled}})
