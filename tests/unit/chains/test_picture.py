"""The picture of chains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steersman.chains.asking import Answer
from steersman.chains.picture import chains, draw, formats
from steersman.chains.record import Record
from steersman_client import ChainStep, Receipt
from tests.unit.chains.server import RECEIPT, STEPS

SHARES = {"8": 0.5, "": 0.3, "$x_1$ 中": 0.2}


@pytest.fixture
def answer() -> Answer:
    record = Record()
    record.add(map(ChainStep.model_validate, STEPS))
    return Answer(record, "8", "stop", Receipt.model_validate(RECEIPT), SHARES)


def heights(axes: Any) -> list[list[float]]:
    return [[*map(float, line.get_ydata())] for line in axes.get_lines()]


def test_four_panels(answer: Answer) -> None:
    figure = chains(answer, "4+4=?", "target: 4 log p")
    targets, accepted, lengths, answers = figure.axes
    first, second = heights(targets)
    assert first == [-6.0, -6.0]
    assert np.isnan(second[0])
    assert second[1] == -2.5
    assert [list(line.get_xdata()) for line in targets.get_lines()] == [[1, 2], [1, 2]]
    assert heights(accepted) == [[1.0, 0.5], [0.0, 0.5]]
    assert heights(lengths) == [[30, 30], [12, 20]]
    assert [bar.get_width() for bar in answers.patches] == [0.5, 0.3, 0.2]
    labels = [label.get_text() for label in answers.get_yticklabels()]
    assert labels == ["8", "(no answer)", "$x_1$ 中"]
    assert targets.get_ylabel() == "target: 4 log p"
    assert [text.get_text() for text in targets.get_legend().get_texts()] == ["0", "1"]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_any_answer_can_be_drawn(answer: Answer, suffix: str, tmp_path: Path) -> None:
    assert suffix in formats()
    path = tmp_path / f"chains.{suffix}"
    draw(answer, "What is $4 + \\frac{ ?\n" * 20, "reward: verify", path)
    assert path.stat().st_size > 1000


def test_chains_that_were_stopped_before_their_first_step(tmp_path: Path) -> None:
    draw(Answer(), "?", "target: 4 log p", tmp_path / "none.png")
    assert (tmp_path / "none.png").exists()
