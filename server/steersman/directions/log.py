"""The samples of an extraction on disk, so that an interrupted one goes on where it stopped."""

import json
from pathlib import Path
from typing import Any

from steersman.directions.error import DirectionError
from steersman.directions.sample import Sample


class SampleLog:
    """JSON lines: first what the samples were drawn with, then a sample a line, in order.

    Nothing is written before the first samples are.

    Args:
        path: The file; it need not be there yet.
        drawn_with: Everything that the samples depend on, as JSON.

    Attributes:
        samples: All that are complete in the file.

    Raises:
        DirectionError: The file cannot be read, holds samples that were drawn otherwise, or
            something else.

    """

    def __init__(self, path: Path, drawn_with: dict[str, Any]) -> None:
        self._path = path
        self._header = json.dumps(drawn_with, sort_keys=True).encode() + b"\n"
        content = _content(path) if path.exists() else b""
        complete = _complete(content)
        if not (
            complete.startswith(self._header) if complete else self._header.startswith(content)
        ):
            raise DirectionError(
                f"{path} does not begin with how these samples are drawn: remove it, or name "
                "another file with --samples-file",
                field="samples_file",
            )
        self._bytes = len(complete)
        self.samples = _samples(complete, path)

    def add(self, samples: list[Sample]) -> None:
        """Append samples.

        Raises:
            DirectionError: The file cannot be written.

        """
        lines = [sample.to_json().encode() + b"\n" for sample in samples]
        content = b"".join(lines if self._bytes else [self._header, *lines])
        try:
            with self._path.open("ab") as file:
                file.truncate(self._bytes)  # a line that was cut off
                file.write(content)
        except OSError as error:
            raise DirectionError(
                f"{self._path}: cannot be written: {error.strerror}", field="samples_file"
            ) from error
        self._bytes += len(content)
        self.samples += samples


def read(path: Path, model: str) -> list[Sample]:
    """The samples that an extraction from a model has left, however they were drawn.

    Raises:
        DirectionError: The file cannot be read, or has samples of another model, or something else.

    """
    complete = _complete(_content(path))
    try:
        drawn_from = json.loads(complete.partition(b"\n")[0])["model"]
    except (ValueError, KeyError, TypeError):
        raise DirectionError(
            f"{path} does not begin with how samples were drawn", field="samples_file"
        ) from None
    if drawn_from != model:
        raise DirectionError(
            f"{path} has responses of {drawn_from!r}, not of {model!r}", field="samples_file"
        )
    return _samples(complete, path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DirectionError(
            f"{path}: cannot be read: {error.strerror}", field="samples_file"
        ) from error


def _complete(content: bytes) -> bytes:
    """All whole lines; text after the last newline was cut off, or is empty."""
    return content[: content.rfind(b"\n") + 1]


def _samples(complete: bytes, path: Path) -> list[Sample]:
    lines = complete.split(b"\n")[1:-1]
    return [_read(line, f"{path}: line {number}") for number, line in enumerate(lines, 2)]


def _read(line: bytes, where: str) -> Sample:
    try:
        return Sample.from_json(line)
    except DirectionError as error:
        raise DirectionError(f"{where}: {error.message}", field="samples_file") from error
