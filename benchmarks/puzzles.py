"""Puzzles of the built-in reasoner, as prompts of benchmarks."""

import random
from collections.abc import Sequence
from pathlib import Path

from steersman.puzzles.problems import KINDS, TRAINED, Problem, problems


def chosen(count: int) -> list[Problem]:
    """Some held-out problems of all kinds and grades, mixed."""
    cells = [(kind, grade) for kind in KINDS for grade in TRAINED]
    each = -(-count // len(cells))
    found = [problem for cell in cells for problem in problems(*cell, "held_out", 0, each)]
    random.Random(0).shuffle(found)
    return found[:count]


def prompts(directory: Path, asked: Sequence[Problem]) -> list[list[int]]:
    """Tokens of problems, each a chat of one message.

    Args:
        directory: Of the model, whose tokenizer and chat template they are for.
        asked: The problems.

    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": problem.prompt}],
            add_generation_prompt=True,
            return_dict=False,
        )
        for problem in asked
    ]
