"""From a model and problems to a direction at every layer: `steersman directions extract`."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from steersman.arguments import parse
from steersman.directions import efficiency, segments, thinkedit
from steersman.directions.contrast import Contrast
from steersman.directions.error import DirectionError
from steersman.directions.log import SampleLog
from steersman.directions.offline import Means, OfflineEngine
from steersman.directions.sample import Sample
from steersman.engine.capture import SITES
from steersman.engine.settings import Settings
from steersman.evaluate.problems import Problem
from steersman.steering.configuration import Phase, Place
from steersman.trajectory.phases import Markers, thinking_span
from steersman.vectors.vector import Vector, VectorMetadata, model_digest

Method = Literal["thinkedit", "efficiency", "segments"]
_PLACES: dict[Method, tuple[Phase, Place]] = {
    "thinkedit": ("all", "all"),
    "efficiency": ("thinking", "all"),
    "segments": ("thinking", "boundary"),
}
"""Where the directions of each method are added, by default: phase, and tokens of it."""

Progress = Callable[[str, int, int], None]
"""Told of each step: its name, the part done, and the whole."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Sampling of the responses.

    Attributes:
        samples: Of each problem.
        temperature: Of the sampling, without top-p or top-k.
        max_tokens: Of a response.
        seed: The same seed on the same machine gives the same responses.

    """

    samples: int = 4
    temperature: float = 1.0
    max_tokens: int = 4096
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Extraction:
    """Extracted vectors and the contrast behind them.

    Attributes:
        vectors: By site.
        facts: Provenance: counts, thresholds, norms and separation by layer.

    """

    vectors: dict[str, Vector]
    facts: dict[str, Any]


def check(
    method: Method, options: dict[str, Any], problems: Sequence[Problem], drawing: Drawing
) -> None:
    """Refuse options that no responses could make good, before any are drawn.

    Raises:
        DirectionError: An option of the method is out of range or contradicts another, or the
            problems or the way of drawing are not what the method needs.

    """
    try:
        # Of no samples all that is said, besides that there are none, is about the options.
        choose(method, [], [], options)
    except DirectionError as error:
        if error.field != "samples":
            raise
    if method != "efficiency":
        return
    if drawing.samples < 2 or not drawing.temperature:
        raise DirectionError(
            "efficiency compares different responses to the same problem: --samples must be at "
            "least 2 and --temperature above 0",
            field="samples",
        )
    unverifiable = [problem.id for problem in problems if not problem.verifiable]
    if unverifiable:
        raise DirectionError(
            f"--problems: {len(unverifiable)} of {len(problems)} problems have no answer that can "
            f"be verified, the first is {unverifiable[0]}: efficiency compares right responses",
            field="problems",
        )


def draw(
    model: str,
    arguments: Sequence[str],
    problems: Sequence[Problem],
    drawing: Drawing,
    log: Path,
    progress: Progress,
    *,
    texts: bool,
) -> tuple[list[Sample], list[str]]:
    """Sample responses and grade them, or go on with those of an earlier run.

    Args:
        model: A built-in model, a Hugging Face id or a directory.
        arguments: Further arguments of the engine.
        problems: The problems to ask.
        drawing: How.
        log: Where the samples are kept.
        progress: Told of each sample.
        texts: Whether the vocabulary is wanted. Without it, no engine is started if all samples
            are there.

    Returns:
        The samples, and the text of every token of the vocabulary if it is wanted.

    Raises:
        DirectionError: The model has no thinking phase, a prompt is too long for it, or the file
            has other samples.
        steersman.arguments.ArgumentError: The engine cannot have these arguments.

    """
    # Refuses now what the engine that captures could not have.
    parse([model, *arguments], Settings(capture=True))
    asked = [(problem, number) for problem in problems for number in range(drawing.samples)]
    book = SampleLog(log, drawn_with(model, arguments, problems, drawing))
    left = asked[len(book.samples) :]
    if not left and not texts:
        return book.samples, []
    with OfflineEngine(model, arguments) as engine:
        markers = engine.markers
        if markers is None:
            raise DirectionError(
                "the model has no thinking phase that is known here: name its parser with "
                "--reasoning-parser",
                field="model",
            )
        prompts = {problem.id: engine.prompt(problem.question) for problem in problems}
        _check_lengths(prompts, engine.model.max_model_len)
        progress("sampling", len(book.samples), len(asked))
        responses = engine.respond(
            [prompts[problem.id] for problem, _ in left],
            [drawing.seed + index for index in range(len(book.samples), len(asked))],
            temperature=drawing.temperature,
            max_tokens=drawing.max_tokens,
        )
        for (problem, _), response in zip(left, responses, strict=True):
            book.add([_graded(engine, markers, problem, prompts[problem.id], response)])
            progress("sampling", len(book.samples), len(asked))
        return book.samples, engine.texts() if texts else []


def _check_lengths(prompts: Mapping[str, Sequence[int]], longest: int) -> None:
    for problem, prompt in prompts.items():
        if len(prompt) >= longest:
            raise DirectionError(
                f"--problems: the prompt of {problem} has {len(prompt)} tokens, and the model "
                f"reads and writes {longest} in all",
                field="problems",
            )


def drawn_with(
    model: str, arguments: Sequence[str], problems: Sequence[Problem], drawing: Drawing
) -> dict[str, Any]:
    """Everything that the samples depend on."""
    content = json.dumps([(p.id, p.question, p.answer, p.verifiable) for p in problems])
    return {
        "model": model,
        "arguments": [*arguments],
        **asdict(drawing),
        "problems": hashlib.sha256(content.encode()).hexdigest(),
    }


def _graded(
    engine: OfflineEngine,
    markers: Markers,
    problem: Problem,
    prompt: Sequence[int],
    response: Sequence[int],
) -> Sample:
    opened = engine.opens_thinking(prompt)
    sample = Sample.of(problem.id, prompt, response, correct=None, markers=markers, opened=opened)
    if not problem.verifiable:
        return sample
    return replace(sample, correct=problem.is_right(_answer(engine, markers, sample, opened)))


def _answer(engine: OfflineEngine, markers: Markers, sample: Sample, opened: bool) -> str:
    """The text after the thinking phase; none while that is open."""
    span = thinking_span(sample.response, markers, opened=opened)
    if span is None:
        return engine.text(sample.response, special=False)
    return (
        ""
        if span.closing is None
        else engine.text(sample.response[span.closing.stop :], special=False)
    )


def choose(
    method: Method, samples: Sequence[Sample], texts: Sequence[str], options: dict[str, Any]
) -> Contrast:
    """The contrast of a method.

    Raises:
        DirectionError: The samples do not make one; the message says what would.

    """
    match method:
        case "thinkedit":
            return thinkedit.contrast(samples, **options)
        case "efficiency":
            return efficiency.contrast(samples, **options)
        case "segments":
            return segments.contrast(samples, texts, **options)


def capture(
    model: str, arguments: Sequence[str], method: Method, contrast: Contrast, progress: Progress
) -> Extraction:
    """Run the contrast through the model and take the means at every layer, at both sites."""
    with OfflineEngine(model, arguments, capture=True) as engine:
        # A sample on both sides is run once.
        total = len({id(one.sample) for one in (*contrast.plus, *contrast.minus)})
        progress("capturing", 0, total)
        for done, _ in enumerate(engine.capture(contrast), 1):
            progress("capturing", done, total)
        means = engine.means(contrast)
        served = engine.model
    facts = {**contrast.facts, "sites": {site: _by_layer(found) for site, found in means.items()}}
    vectors = {
        site: Vector(
            dict(enumerate(found.direction)),
            VectorMetadata(
                site="attn" if site == "attn" else "layer",
                method=method,
                model=model,
                model_digest=model_digest(served),
                phase=_PLACES[method][0],
                at=_PLACES[method][1],
                residual_norms={i: round(float(norm), 4) for i, norm in enumerate(found.norms)},
                provenance=facts,
            ),
        )
        for site, found in means.items()
    }
    return Extraction({site: vectors[site] for site in SITES if site in vectors}, facts)


def _by_layer(means: Means) -> dict[str, list[float]]:
    return {
        "norms": [round(float(value), 4) for value in means.norms],
        "separation": [round(float(value), 4) for value in means.separation],
    }
