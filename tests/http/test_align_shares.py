"""Shares of responses in chains on the real engine, against plain samples with weights."""

from typing import Any

from steersman_client import ControlSpec, Monitor, Steersman

PROMPT: dict[str, Any] = {"model": "reasoner", "prompt": "8*7-4+11=", "max_tokens": 6}
SAMPLES = 384
CHAINS = 8
STEPS = 48
BURN_IN = 8
DIGIT = {"name": "verify", "data": {"regex": r"^\D*[0-4]"}}


def plain(client: Steersman, temperature: float, of: str) -> list[tuple[str, Any]]:
    """Plain samples, each with its monitor."""
    found = []
    for first in range(0, SAMPLES, 32):
        answer = client.completions.create(
            **PROMPT,
            n=32,
            seed=10_000 + first,
            temperature=temperature,
            top_p=1.0,
            control=ControlSpec(monitor=Monitor(tokens=True, of=of)),
        )
        assert answer.control is not None
        tracks = answer.control.entropy_by_choice
        assert tracks is not None
        found += [
            (choice.text, track) for choice, track in zip(answer.choices, tracks, strict=True)
        ]
    return found
