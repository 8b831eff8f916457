"""Asks the questions of a run, a bounded number at a time."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

import openai

from steersman.evaluate.answers import after_thinking
from steersman.evaluate.error import EvaluationError
from steersman.evaluate.placeholders import fill
from steersman.evaluate.records import Record, ResponseLog
from steersman.evaluate.schedule import Question
from steersman.evaluate.spec import RunSpec
from steersman_client import AsyncSteersman, ControlledChatCompletion


async def served_model(client: AsyncSteersman, wanted: str | None) -> str:
    """The name to ask the server for: `wanted`, or the first model that it serves.

    Raises:
        EvaluationError: The server does not answer, or does not serve it.

    """
    try:
        names = [model.id async for model in client.models.list()]
    except openai.APIError as error:
        raise EvaluationError(f"{client.base_url} does not answer: {error.message}") from error
    if wanted is None and names:
        return names[0]
    if wanted is None or wanted not in names:
        raise EvaluationError(f"{client.base_url} serves {', '.join(names)}, not {wanted}")
    return wanted


async def ask_all(
    client: AsyncSteersman,
    model: str,
    spec: RunSpec,
    questions: Iterable[Question],
    log: ResponseLog,
    advance: Callable[[], None],
) -> None:
    """Ask every question, record each response as it comes, and call `advance` after each.

    Raises:
        EvaluationError: A request could not be answered; the rest have been given up.

    """
    waiting = iter(questions)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(spec.concurrency):
                group.create_task(_ask_in_turn(client, model, spec, waiting, log, advance))
    except* EvaluationError as errors:
        first = errors
        while isinstance(first.exceptions[0], ExceptionGroup):
            first = first.exceptions[0]
        raise first.exceptions[0] from None


async def _ask_in_turn(
    client: AsyncSteersman,
    model: str,
    spec: RunSpec,
    waiting: Iterator[Question],
    log: ResponseLog,
    advance: Callable[[], None],
) -> None:
    for question in waiting:
        log.add(await _ask(client, model, spec, question))
        advance()


async def _ask(client: AsyncSteersman, model: str, spec: RunSpec, question: Question) -> Record:
    control = fill(spec.controls[question.control], question.problem)
    text = "\n".join(part for part in (question.problem.question, spec.instruction) if part)
    started = time.perf_counter()
    try:
        completion = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": text}],
            seed=question.seed,
            temperature=spec.temperature,
            max_tokens=spec.max_tokens,
            control=control,
            extra_body=spec.request,
        )
    except openai.APIStatusError as error:
        raise EvaluationError(_refusal(question.control, error)) from error
    except openai.APIConnectionError as error:
        raise EvaluationError(f"{client.base_url} does not answer: {error}") from error
    seconds = time.perf_counter() - started
    if control is not None and completion.control is None:
        raise EvaluationError(
            f"the response under control {question.control!r} has no receipt: "
            f"{client.base_url} is not a Steersman server"
        )
    return await _record(question, completion, seconds)


async def _record(
    question: Question, completion: ControlledChatCompletion, seconds: float
) -> Record:
    choice = completion.choices[0]
    usage = completion.usage
    if usage is None:
        raise EvaluationError("the server's response has no usage")
    details = usage.completion_tokens_details
    content = choice.message.content or ""
    reasoning = (choice.message.model_extra or {}).get("reasoning")
    # A comparison can take long; the other requests' clocks are running.
    right = await asyncio.to_thread(question.problem.is_right, after_thinking(content))
    return Record(
        control=question.control,
        problem=question.problem.id,
        group=question.problem.group,
        sample=question.sample,
        seed=question.seed,
        right=right,
        finish_reason=choice.finish_reason,
        thinking_tokens=details.reasoning_tokens if details else None,
        completion_tokens=usage.completion_tokens,
        latency_seconds=seconds,
        receipt=completion.control,
        content=content,
        reasoning=reasoning,
    )


def _refusal(control: str, error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    message = body.get("message") or error.message
    if error.status_code != 400:
        return f"the server answered HTTP {error.status_code} under control {control!r}: {message}"
    param = body.get("param")
    return f"the server refuses control {control!r}: {param + ': ' if param else ''}{message}"
