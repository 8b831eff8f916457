"""Chains on a terminal."""

import io

from rich.console import Console

from steersman.chains.record import Record
from steersman.chains.screen import Screen, chains, curve
from steersman_client import ChainStep
from tests.unit.chains.server import STEPS


def record() -> Record:
    made = Record()
    made.add(map(ChainStep.model_validate, STEPS))
    return made


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_curve_has_a_bar_for_each_value_or_for_several() -> None:
    assert curve([0, 3.5, 7], [0, 8], 10) == "▁▄█"
    assert curve([0, 0, 8, 8, 0, 8], [0, 8], 3) == "▁█▅"
    assert curve([1, None, 2], [1, 2], 10) == "▁ █"
    assert curve([1, None, None], [1, 2], 3) == "▁  "
    assert curve([5, 5], [5, 5], 10) == "▅▅"
    assert curve([None], [], 10) == " "
    assert curve([], [], 10) == ""
    assert len(curve([*range(1000)], [0, 999], 7)) == 7


def test_a_row_has_the_last_state_and_the_way_there() -> None:
    console = terminal(100)
    console.print(chains(record(), 2, 100))
    _, first, second = written(console).splitlines()
    assert first.split() == ["0", "2", "of", "2", "-6.00", "▁▁", "30", "██", "50%"]
    assert second.split() == ["1", "2", "of", "2", "-2.50", "█", "20", "▁▄", "50%"]


def test_rows_of_long_chains_fit_a_narrow_terminal() -> None:
    long = Record()
    long.add(
        ChainStep(
            chain=k % 3,
            step=k // 3,
            accepted=True,
            target=-1234.5 - k,
            tokens=k,
            acceptance=0.5,
        )
        for k in range(12_000)
    )
    for width in (60, 80, 300):
        console = terminal(width)
        console.print(chains(long, 4096, width))
        lines = written(console).splitlines()
        assert len(lines) == 4
        assert max(map(len, lines)) <= width
        assert all("4000 of 4096" in line and "50%" in line for line in lines[1:])
        assert "…" not in written(console)


def test_a_terminal_is_drawn_in_place() -> None:
    console = terminal(100)
    with Screen(console, 2) as screen:
        waiting = written(console)
        assert "are drawn" in waiting
        grown = Record()
        for step in record().steps:
            grown.add([step])
            screen.show(grown)
    assert "\x1b[2K" in written(console)  # a line is erased before it is drawn again
    assert "2 of 2" in written(console)
    assert "chain 0, step" not in written(console)
