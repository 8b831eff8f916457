"""Slots that are given out and taken back."""

import pytest
import torch

from steersman.engine.slots import Slots


def fail(slots: Slots, key: str) -> None:
    with slots.writing(key):
        raise ValueError("no memory")


def test_a_key_keeps_its_slot_until_it_is_taken_back() -> None:
    slots = Slots(2, torch.device("cpu"))
    assert (slots.give("a"), slots.give("b"), slots.give("a"), slots.full) == (0, 1, 0, True)
    assert slots.take_back("a") == 0
    assert ("a" in slots, slots.full, slots.give("c")) == (False, False, 0)
    assert slots.of(["b", "a", "c"]).tolist() == [1, -1, 0]


def test_a_slot_whose_row_could_not_be_written_is_free_again() -> None:
    slots = Slots(1, torch.device("cpu"))
    with pytest.raises(ValueError, match="no memory"):
        fail(slots, "a")
    assert "a" not in slots
    with slots.writing("b") as slot:
        assert slot == 0


def test_a_slot_that_was_there_stays_when_its_row_cannot_be_written() -> None:
    slots = Slots(1, torch.device("cpu"))
    slots.give("a")
    with pytest.raises(ValueError, match="no memory"):
        fail(slots, "a")
    assert slots["a"] == 0
