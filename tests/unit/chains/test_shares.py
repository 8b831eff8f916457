"""Answers of texts, and their shares."""

import pytest

from steersman.chains.shares import Texts, largest, shares

READING = Texts.between("<think>", "</think>")


@pytest.mark.parametrize(
    ("reading", "texts", "answers"),
    [
        (READING, [r"<think>\boxed{1}</think>is \boxed{2}"], ["2"]),
        (READING, [r"<think>\boxed{1}"], [""]),
        (READING, ["so it is\n**Two.**"], ["**two.**"]),
        (READING, ["<think>1</think>a</think>b"], ["a</think>b"]),
        # The prompt has opened the phase: then a response without a marker has no answer.
        (READING, [r"\boxed{1}</think>\boxed{2}", r"\boxed{3}"], ["2", ""]),
        (READING, [r"<think>1</think>\boxed{2}", r"\boxed{3}"], ["2", "3"]),
        (Texts(), [r"<think>\boxed{1}"], ["1"]),
        (READING, [], []),
    ],
)
def test_answers_are_what_follows_the_thinking(
    reading: Texts, texts: list[str], answers: list[str]
) -> None:
    assert reading.answers(texts) == answers


def test_shares_are_of_all_states() -> None:
    found = shares(["8", "9", "8", ""])
    assert [*found.items()] == [("8", 0.5), ("9", 0.25), ("", 0.25)]
    assert shares([]) == {}


def test_what_is_rare_is_shown_together() -> None:
    found = {"8": 0.5, "": 0.25, "9": 0.125, "7": 0.125}
    assert largest(found, 4) == {"8": 0.5, "(no answer)": 0.25, "9": 0.125, "7": 0.125}
    assert largest(found, 3) == {"8": 0.5, "(no answer)": 0.25, "(2 others)": 0.25}
