"""Requests of a soak: every control, on every endpoint, as clients send them. None is refused."""

import json
import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from steersman.puzzles.problems import KINDS, TRAINED, Problem, problems
from tests.fuzz.bodies import CHAT, COMPLETIONS, RESPONSES
from tests.fuzz.wire import Case

MODEL = "reasoner"
MOST_TOKENS = 160
PLAIN = "plain"
_EACH = 16
_CHAT_TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
_RAISED = {"target": {"reward": "likelihood"}, "steps": 4, "chains": 2, "look_ahead": 2}

CONTROLS: Mapping[str, Mapping[str, Any] | None] = {
    PLAIN: None,
    "monitored": {"monitor": {"tokens": True}},
    "monitored as drawn": {"monitor": {"of": "processed"}},
    "steered": {"steer": [{"vector": "closing", "strength": 0.3}]},
    "steered everywhere": {
        "steer": [
            {"vector": "onward", "strength": 0.2, "phase": "all", "at": "all", "prompt": True},
            {"vector": "concise", "strength": 0.2, "phase": "thinking"},
        ]
    },
    "edited": {"thinkedit": {"edit": "steady", "strength": 2.0}},
    "profile": {"profile": "thorough"},
    "budget": {"thinking": {"budget": 32, "grace": 16, "min_answer_tokens": 4}},
    "exit": {"thinking": {"exit": {"entropy_below": 0.05, "window": 32}, "on_loop": "close"}},
    "minimum": {"thinking": {"min": 12, "nudge": "\n"}},
    "certainty": {"thinking": {"certainty": {"every": 16, "agree": 2, "max_tokens": 16}}},
    "balance": {"thinking": {"balance": {"vector": "concise", "target_entropy": 0.2}}},
    "confidence": {"thinking": {"balance": {"vector": "concise", "law": "confidence"}}},
    "first_finish": {"search": {"method": "first_finish", "n": 6}},
    "first_finish votes": {"search": {"method": "first_finish", "n": 6, "k": 3}},
    "majority": {"search": {"method": "majority", "n": 6}, "events": ["progress", "branches"]},
    "align to a power": {"search": {"method": "align", "target": {"power": 4.0}, "steps": 6}},
    "align to likelihood": {"search": {"method": "align", **_RAISED}, "events": ["steps"]},
    "align to an answer": {"search": {"method": "align", "target": {}, "steps": 6}},
    "cautious": {"sampler": {"method": "cautious", "max_trials": 4, "max_trial_tokens": 16}},
    "limited": {
        "search": {"method": "majority", "n": 6},
        "limits": {"max_sampled_tokens": 200, "max_seconds": 2.0},
    },
    "several": {
        "profile": "concise",
        "thinking": {"budget": 64},
        "monitor": {},
        "search": {"method": "first_finish", "n": 4},
    },
}
"""Controls by the name of their kind; none of `PLAIN`."""

_ENDPOINTS = (CHAT, CHAT, COMPLETIONS, RESPONSES)
_SEVERAL = {"steered", "budget", "monitored", PLAIN}
"""Kinds that may be asked for several choices."""


@cache
def _asked() -> tuple[Problem, ...]:
    cells = [(kind, grade) for kind in KINDS for grade in TRAINED]
    found = [one for cell in cells for one in problems(*cell, "held_out", 0, _EACH)]
    return tuple(found)


def drawn(source: random.Random, kinds: Sequence[str] = tuple(CONTROLS)) -> tuple[str, Case]:
    """The kind of a request, one of these, and the request."""
    kind = source.choice(kinds)
    endpoint, problem = source.choice(_ENDPOINTS), source.choice(_asked())
    body: dict[str, Any] = {
        "model": MODEL,
        "temperature": 1.0,
        "stream": source.random() < 0.5,
        ("max_output_tokens" if endpoint == RESPONSES else "max_tokens"): MOST_TOKENS,
    }
    if endpoint == RESPONSES:
        body["input"] = problem.prompt
    else:
        if endpoint == CHAT:
            body["messages"] = [{"role": "user", "content": problem.prompt}]
        else:
            body["prompt"] = _CHAT_TEMPLATE.format(problem.prompt)
        body["seed"] = source.randrange(2**31)
        if kind in _SEVERAL:
            body["n"] = source.choice((1, 1, 2))
    if (control := control_of(kind, problem)) is not None:
        # Only a stream can tell of events.
        if not body["stream"]:
            control.pop("events", None)
        body["control"] = control
    return kind, Case(endpoint, json.dumps(body).encode())


def control_of(kind: str, problem: Problem) -> dict[str, Any] | None:
    """The control of a kind for a problem."""
    control = CONTROLS[kind]
    if control is None:
        return None
    made: dict[str, Any] = json.loads(json.dumps(control))
    if kind == "align to an answer":
        verify = {"name": "verify", "data": {"reference": problem.answer}}
        made["search"]["target"] = {"reward": verify, "beta": 0.5}
    return made
