"""Progress of long commands, on a terminal and in a log."""

import io
import re
import threading

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from steersman.progress import Progress, duration, line

WAIT_SECONDS = 30


class Log(io.StringIO):
    """A file that is no terminal, and tells when a pattern is found in what was written."""

    def __init__(self, awaited: str = "") -> None:
        super().__init__()
        self.seen = threading.Event()
        self._awaited = awaited

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._awaited and re.search(self._awaited, self.getvalue()):
            self.seen.set()
        return written


def a_line(total: int | None, before: int, done: int, seconds: float, unit: str = "items") -> str:
    """Line of a task that has taken so many seconds."""
    now = [0.0]
    bars = Bars(get_time=lambda: now[0], disable=True)
    bars.add_task("sampling", total=total, completed=before, unit=unit, before=before)
    bars.update(bars.tasks[0].id, completed=done)
    now[0] = seconds
    return line(bars.tasks[0])


def test_a_line_has_done_total_and_the_time_left() -> None:
    assert a_line(1600, 0, 400, 60) == "sampling: 400 of 1,600 (25 %), 1 min 0 s, 3 min 0 s left"


def test_the_time_left_is_by_the_work_of_this_run_alone() -> None:
    assert a_line(100, 80, 90, 60) == "sampling: 90 of 100 (90 %), 1 min 0 s, 1 min 0 s left"


def test_a_step_in_which_nothing_is_done_yet_tells_no_time_left() -> None:
    assert a_line(100, 80, 80, 60) == "sampling: 80 of 100 (80 %), 1 min 0 s"
    assert a_line(None, 0, 0, 5, unit="") == "sampling: 5 s"


def test_bytes_are_told_as_such() -> None:
    found = a_line(2_000_000, 0, 500_000, 1, unit="bytes")
    assert found == "sampling: 500.0 kB of 2.0 MB (25 %), 1 s, 3 s left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500.4, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_lines_while_a_step_goes_on_and_one_at_its_end() -> None:
    log = Log(awaited=r"sampling: 3 of 8 \(38 %\)")
    with Progress(Console(file=log), every=0.01) as progress:
        progress.step("starting")
        progress.step("sampling", 8, done=2)
        progress.advance()
        assert log.seen.wait(WAIT_SECONDS)
    lines = log.getvalue().splitlines()
    assert lines[0] == "starting"
    assert "sampling: 2 of 8" in lines
    assert any(re.fullmatch(r"sampling: 3 of 8 \(38 %\), \d+ s, \d+ s left", one) for one in lines)
    assert re.fullmatch(r"sampling: done in \d+ s", lines[-1])


def test_a_log_gets_lines_although_nothing_is_done() -> None:
    log = Log(awaited=r"(starting reasoner: .* s\n){2}")
    with Progress(Console(file=log), every=0.01) as progress:
        progress.step("starting reasoner")
        assert log.seen.wait(WAIT_SECONDS)


def test_short_steps_are_a_line_each() -> None:
    log = Log()
    with Progress(Console(file=log)) as progress:
        progress.step("copying [files]", 3)
        progress.update(3)
        progress.step("checking")
    assert log.getvalue() == "copying [files]: 0 of 3\nchecking\n"


def test_a_failed_step_is_not_called_done() -> None:
    log = Log(awaited=r"sampling: 1 of 2 \(50 %\)")

    def fail() -> None:
        with Progress(Console(file=log), every=0.01) as progress:
            progress.step("sampling", 2)
            progress.update(1)
            assert log.seen.wait(WAIT_SECONDS)
            raise RuntimeError

    threads = threading.active_count()
    with pytest.raises(RuntimeError):
        fail()
    assert "done" not in log.getvalue()
    assert threading.active_count() == threads


def test_a_terminal_gets_bars_and_no_lines() -> None:
    log = Log()
    console = Console(file=log, force_terminal=True, width=100, color_system=None)
    with Progress(console, every=0.0) as progress:
        progress.step("sampling", 8)
        progress.update(8)
    assert "✓ sampling" in log.getvalue()
    assert "8 of 8" in log.getvalue()
    assert "left" not in log.getvalue()
