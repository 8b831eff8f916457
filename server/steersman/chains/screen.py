"""Chains on the terminal, drawn as they walk; in a log, a line for each step."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from steersman.chains.asking import Answer
from steersman.chains.record import Record
from steersman.chains.shares import largest
from steersman_client import AppliedSearch, ChainStep

_LEVELS = "▁▂▃▄▅▆▇█"
_WIDEST = 40
"""Characters of a curve at most."""
_BESIDE = 48
"""Characters of a row beside its two curves."""
_ANSWERS = 8
_BAR = 24
_LABEL = 32


class Screen:
    """The progress of chains; a context manager.

    Args:
        console: Console that shows it.
        steps: Steps of each chain.

    """

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._told = 0
        self._made: Counter[int] = Counter()
        self._live = Live(console=console, auto_refresh=False) if console.is_interactive else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
            self.show(Record())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, record: Record) -> None:
        """Show what is new in a record."""
        if self._live is not None:
            self._live.update(chains(record, self._steps, self._console.width), refresh=True)
            return
        for step in record.steps[self._told :]:
            self._made[step.chain] += 1
            text = line(step, self._made[step.chain], self._steps)
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        self._told = len(record.steps)

    def end(self, answer: Answer) -> None:
        """Show the shares of the answers, and the numbers of the receipt."""
        shown: list[RenderableType] = []
        if answer.answers:
            shown += [bars(answer.answers), ""]
        shown.append(numbers(answer))
        self._console.print(Group(*shown))


def chains(record: Record, steps: int, width: int) -> RenderableType:
    """A row for each chain: steps, target and length over them, share accepted."""
    found = record.chains
    if not found:
        return Text("the first responses are drawn …", style="dim")
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("chain", "step", "target", "", "tokens", "", "accepted"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    room = max(4, min(_WIDEST, (width - _BESIDE) // 2))
    targets = [step.target for step in record.steps if step.target is not None]
    lengths = [step.tokens for step in record.steps]
    for chain, walked in found.items():
        last = walked[-1]
        table.add_row(
            str(chain),
            f"{len(walked)} of {steps}",
            _number(last.target),
            Text(curve([step.target for step in walked], targets, room), style="cyan"),
            str(last.tokens),
            Text(curve([step.tokens for step in walked], lengths, room), style="green"),
            f"{last.acceptance:.0%}",
        )
    return table


def curve(values: Sequence[float | None], among: Sequence[float], width: int) -> str:
    """A line of bars, one for each value, or for the mean of several where there is no room.

    Args:
        values: Numbers in their order; None is left empty.
        among: The numbers that the lowest and the highest bar are those of.
        width: Characters at most.

    """
    low, high = (min(among), max(among)) if among else (0.0, 0.0)
    count = min(width, len(values))
    bounds = [len(values) * place // count for place in range(count + 1)] if count else []
    return "".join(
        _bar([value for value in values[begin:end] if value is not None], low, high)
        for begin, end in pairwise(bounds)
    )


def _bar(values: Sequence[float], low: float, high: float) -> str:
    if not values:
        return " "
    mean = sum(values) / len(values)
    share = (mean - low) / (high - low) if high > low else 0.5
    return _LEVELS[min(len(_LEVELS) - 1, int(share * len(_LEVELS)))]


def line(step: ChainStep, number: int, steps: int) -> str:
    """A step in words.

    Args:
        step: The step.
        number: Its number in its chain, from 1 on.
        steps: Steps of the chain.

    """
    return (
        f"chain {step.chain}, step {number} of {steps}: "
        f"{'accepted' if step.accepted else 'rejected'}, target {_number(step.target)}, "
        f"{step.tokens} tokens, {step.acceptance:.0%} accepted so far"
    )


def bars(answers: Mapping[str, float]) -> RenderableType:
    """Shares of the answers, a bar for each of the largest."""
    table = Table(box=None, pad_edge=False)
    table.add_column("answer", no_wrap=True, max_width=_LABEL)
    table.add_column("share of the states", no_wrap=True)
    for answer, share in largest(answers, _ANSWERS).items():
        bar = "█" * max(1, round(share * _BAR))
        table.add_row(Text(answer), Text(f"{bar} {share:.0%}", style="magenta"))
    return table


def numbers(answer: Answer) -> RenderableType:
    """Numbers of the receipt."""
    table = Table.grid(padding=(0, 2))
    found, receipt = answer.search, answer.receipt
    for name, value in _numbers(found) if found is not None else ():
        table.add_row(name, Text(value))
    if receipt is not None:
        table.add_row("tokens sampled", f"{receipt.compute.sampled_tokens:,}")
        table.add_row("seconds", f"{receipt.compute.wall_ms / 1000:.1f}")
        if receipt.applied.stopped_by:
            table.add_row("stopped by", receipt.applied.stopped_by)
    if answer.finish_reason not in (None, "stop"):
        table.add_row("finish reason", Text(str(answer.finish_reason)))
    return table


def _numbers(found: AppliedSearch) -> list[tuple[str, str]]:
    by_chain = found.acceptance_by_chain or ()
    several = f" ({', '.join(map(_share, by_chain))})" if len(by_chain) > 1 else ""
    targets = map(_number, (found.target_start, found.target_end, found.target_chosen))
    return [
        ("decided by", found.decided_by or "–"),
        ("steps", f"{found.steps or 0:,}"),
        ("accepted", f"{_share(found.acceptance)}{several}"),
        ("target", "first {}, last {}, chosen {}".format(*targets)),
        ("effective samples", _number(found.effective_samples)),
        ("tokens reused", f"{found.reused_tokens or 0:,}"),
        ("tokens drawn anew", f"{found.resampled_tokens or 0:,}"),
        *(("reward failed", error) for error in found.reward_errors or ()),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
