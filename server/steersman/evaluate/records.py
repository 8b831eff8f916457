"""The record of every response: JSON lines that survive whatever ends the run."""

import fcntl
import math
import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from steersman.evaluate.error import EvaluationError
from steersman_client import Receipt

Key = tuple[str, str, int]
"""Key of a record: control, problem and sample."""


class Record(BaseModel):
    """One graded response."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    control: str
    problem: str
    group: str
    sample: int
    seed: int
    right: bool
    finish_reason: str | None
    thinking_tokens: int | None
    """None when the server does not count them: it has no reasoning parser."""
    completion_tokens: int
    """Tokens of the returned answer, thinking included."""
    latency_seconds: float
    receipt: Receipt | None
    """None for a request without control."""
    content: str
    reasoning: str | None

    @property
    def key(self) -> Key:
        return self.control, self.problem, self.sample

    @property
    def sampled_tokens(self) -> int:
        """Every token that was sampled for this response, losers of a search included."""
        return (
            self.completion_tokens if self.receipt is None else self.receipt.compute.sampled_tokens
        )

    @property
    def entropies(self) -> tuple[float, ...] | None:
        """Entropy at each token of the response, in nats; None unless the request asked for it."""
        seen = self.receipt.entropy if self.receipt is not None else None
        if seen is None or not seen.tokens:
            return None
        return tuple(math.nan if each is None else each for _, _, each in seen.tokens)


class ResponseLog:
    """The file of records: appended to one whole line at a time, by one process.

    Raises:
        EvaluationError: Another process has it open, or a line is no record.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.records = self._read()
        except BlockingIOError as error:
            self._file.close()
            raise EvaluationError(f"{path.parent}: another run is writing to it") from error
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Write a record and keep it."""
        line = record.model_dump_json().encode() + b"\n"
        while line:
            line = line[self._file.write(line) or 0 :]
        self.records[record.key] = record

    def _read(self) -> dict[Key, Record]:
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        # A process that was killed leaves a part of its last line.
        os.ftruncate(self._file.fileno(), whole)
        records: dict[Key, Record] = {}
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                record = Record.model_validate_json(line)
            except ValidationError as error:
                raise EvaluationError(f"{self._path}: line {number} is no record") from error
            if record.key in records:
                raise EvaluationError(f"{self._path}: line {number} is there twice")
            records[record.key] = record
        return records
