"""Controls that a model directory ships are served with it: the built-in reasoner's profiles."""

from typing import Any

import pytest

from steersman_client import Steersman, receipt_of

ASK: list[Any] = [{"role": "user", "content": "6+9*3-8=?"}]


def test_they_are_listed_beside_the_servers_own(thinker: Steersman) -> None:
    profiles = {profile["id"] for profile in thinker.control.profiles()["data"]}
    assert {"concise", "thorough", "steady", "race"} <= profiles
    assert {"closing", "concise", "onward"} <= {
        vector.id for vector in thinker.control.vectors.list()
    }
    assert "steady" in {edit.id for edit in thinker.control.edits.list()}


@pytest.mark.parametrize(
    ("profile", "vectors"), [("concise", ["concise"]), ("thorough", ["closing", "onward"])]
)
def test_a_profile_steers_line_ends_of_the_thinking_phase(
    thinker: Steersman, profile: str, vectors: list[str]
) -> None:
    answer = thinker.chat.completions.create(
        model=f"reasoner:{profile}", messages=ASK, max_tokens=200, temperature=0
    )

    receipt = receipt_of(answer)
    assert receipt.applied.profile == profile
    assert [term.vector for term in receipt.applied.steer] == vectors
    for term in receipt.applied.steer:
        assert (term.layers, term.at, term.phase) == ((3,), "boundary", "thinking")
        assert term.warning is None
        assert 0 < term.tokens < receipt.compute.returned_tokens


def test_the_edit_goes_through_every_token(thinker: Steersman) -> None:
    answer = thinker.chat.completions.create(
        model="reasoner:steady", messages=ASK, max_tokens=200, temperature=0
    )

    applied = receipt_of(answer).applied.thinkedit
    assert applied is not None
    assert applied.edit == "steady"
    assert answer.usage is not None
    assert applied.tokens == answer.usage.total_tokens - 1


def test_calibrated_vectors_say_how_they_were_found(thinker: Steersman) -> None:
    for vector in thinker.control.vectors.list():
        if vector.id in ("closing", "concise", "onward"):
            assert vector.metadata.calibration is not None
            assert len(vector.metadata.calibration["points"]) >= 4
            assert vector.metadata.strength_range is not None
            assert vector.metadata.provenance is not None
