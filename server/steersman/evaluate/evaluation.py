"""A whole run: `steersman eval`."""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console

from steersman.evaluate import driver, optional, placeholders, problems
from steersman.evaluate import spec as specs
from steersman.evaluate.answers import Comparer
from steersman.evaluate.error import EvaluationError
from steersman.evaluate.problems import Problem
from steersman.evaluate.records import ResponseLog
from steersman.evaluate.report import Report, summarise
from steersman.evaluate.schedule import Question, questions
from steersman.evaluate.spec import RunSpec
from steersman.local import LocalServer, ServerError
from steersman.progress import Progress
from steersman_client import AsyncSteersman

# A search over long traces on a busy machine takes its time.
_REQUEST_SECONDS = 3600.0


class Manifest(BaseModel):
    """Versions, model and problems that the records in a directory were made with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    """Of everything that answers depend on but the model's weights."""
    model: str
    """Name that the server gives the model."""


def run_evaluation(run: Path, out: Path | None, url: str | None, console: Console) -> Path:
    """Do a run, or go on with it where it stopped, and write its report.

    Args:
        run: The YAML file.
        out: Directory for `responses.jsonl`, the report and its plots; `evaluations/NAME` in the
            working directory when None.
        url: Address of a running server, in place of the run's own server or address.
        console: For progress and the conclusion.

    Returns:
        The path of `report.md`.

    Raises:
        EvaluationError: The run cannot be done, or not be finished now.

    """
    spec = specs.load(run, url)
    optional.require(*optional.ALWAYS)
    directory = out or Path("evaluations") / spec.name
    with Comparer() as comparer:
        asked = problems.load(spec.problems, comparer)
        placeholders.check(spec.controls, asked)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            log = ResponseLog(directory / "responses.jsonl")
        except OSError as error:
            raise EvaluationError(f"{directory}: cannot be written: {error}") from error
        with log:
            _answer(spec, asked, log, directory, console)
            model = _read_manifest(directory).model
            report = summarise(spec, model, asked, log.records.values())
            return _write(report, log, directory, console)


def digest(spec: RunSpec, asked: Sequence[Problem]) -> str:
    """Of everything that answers depend on but the model's weights."""
    fixed = spec.model_dump(
        mode="json", exclude={"name", "url", "problems", "baseline", "concurrency"}
    )
    content = [fixed, [(problem.id, problem.question, problem.answer) for problem in asked]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _answer(
    spec: RunSpec, asked: Sequence[Problem], log: ResponseLog, directory: Path, console: Console
) -> None:
    """Have every question of the run answered that is not yet."""
    fingerprint = digest(spec, asked)
    if log.records and _read_manifest(directory).digest != fingerprint:
        raise EvaluationError(
            f"{directory}: holds the responses of a different run; choose another --out"
        )
    everything = questions(spec, asked)
    waiting = [question for question in everything if question.key not in log.records]
    if not waiting:
        return
    try:
        with Progress(console) as progress, _served(spec, directory, progress) as address:
            asyncio.run(_ask(spec, address, waiting, fingerprint, log, directory, progress))
    except (EvaluationError, KeyboardInterrupt) as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        raise EvaluationError(
            f"{reason} ({len(log.records)} of {len(everything)} responses are done; "
            "the same command goes on from there)"
        ) from error


@contextmanager
def _served(spec: RunSpec, directory: Path, progress: Progress) -> Iterator[str]:
    if spec.url is not None:
        yield spec.url.rstrip("/").removesuffix("/v1")
        return
    progress.step(f"starting {spec.model}")
    try:
        with LocalServer.steersman(
            [str(spec.model), *spec.server], directory / "server.log"
        ) as server:
            yield server.url
    except ServerError as error:
        raise EvaluationError(str(error)) from error


async def _ask(
    spec: RunSpec,
    address: str,
    waiting: Sequence[Question],
    fingerprint: str,
    log: ResponseLog,
    directory: Path,
    progress: Progress,
) -> None:
    async with AsyncSteersman(base_url=f"{address}/v1", timeout=_REQUEST_SECONDS) as client:
        model = await driver.served_model(client, spec.model if spec.url is not None else None)
        if not log.records:
            manifest = Manifest(digest=fingerprint, model=model)
            _write_text(directory / "run.json", manifest.model_dump_json() + "\n")
        elif (before := _read_manifest(directory).model) != model:
            raise EvaluationError(f"the run was begun with the model {before}, this is {model}")
        done = len(log.records)
        progress.step(spec.name, done + len(waiting), done=done)
        await driver.ask_all(client, model, spec, waiting, log, progress.advance)


def _read_manifest(directory: Path) -> Manifest:
    path = directory / "run.json"
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise EvaluationError(f"{path}: does not say what the responses are of") from error


def _write(report: Report, log: ResponseLog, directory: Path, console: Console) -> Path:
    from steersman.evaluate import markdown, plots

    drawn = plots.draw(report, log.records.values(), directory)
    _write_text(directory / "report.json", json.dumps(asdict(report), indent=2) + "\n")
    page = directory / "report.md"
    _write_text(page, markdown.render(report, drawn))
    for sentence in markdown.conclusion(report):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return page


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
