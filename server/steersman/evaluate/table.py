"""The responses under one control as arrays, in which the same place is the same question."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steersman.evaluate.inference import Array
from steersman.evaluate.records import Record


@dataclass(frozen=True, slots=True)
class Table:
    """Every array is [problems, samples], float64.

    Attributes:
        right: 1 for a right answer, 0 for a wrong one.
        thinking: Tokens of the thinking phase; None when a response has no count.
        completion: Tokens of the returned response, thinking included.
        sampled: Tokens sampled in all, losers of a search included.
        seconds: From the request to the response.
        cut_off: 1 for a response that ran into the token limit.

    """

    right: Array
    thinking: Array | None
    completion: Array
    sampled: Array
    seconds: Array
    cut_off: Array


def tabulate(
    records: Iterable[Record], problems: Sequence[str], samples: int
) -> Mapping[str, Table]:
    """A table for each control.

    Args:
        records: Exactly one for each control, problem and sample.
        problems: Ids in the order of the rows.
        samples: Number of columns.

    """
    row = {problem: i for i, problem in enumerate(problems)}
    cells: dict[str, dict[tuple[int, int], Record]] = {}
    for record in records:
        cells.setdefault(record.control, {})[row[record.problem], record.sample] = record
    return {
        control: _table([found[i, j] for i in range(len(row)) for j in range(samples)], samples)
        for control, found in cells.items()
    }


def _table(records: Sequence[Record], samples: int) -> Table:
    def array(values: Iterable[float]) -> Array:
        return np.fromiter(values, dtype=np.float64).reshape(-1, samples)

    thinking = [record.thinking_tokens for record in records]
    counted = [tokens for tokens in thinking if tokens is not None]
    return Table(
        right=array(record.right for record in records),
        thinking=array(counted) if len(counted) == len(thinking) else None,
        completion=array(record.completion_tokens for record in records),
        sampled=array(record.sampled_tokens for record in records),
        seconds=array(record.latency_seconds for record in records),
        cut_off=array(record.finish_reason == "length" for record in records),
    )
