"""`steersman directions extract`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from steersman.console import fail, output
from steersman.directions.cli.options import (
    MaxTokensOption,
    ModelOption,
    ProblemsOption,
    SeedOption,
    TemperatureOption,
)
from steersman.directions.cli.shared import (
    Thresholds,
    problem_sets,
    progress,
    reason,
    threshold_options,
    write,
)
from steersman.directions.error import DirectionError
from steersman.evaluate.error import EvaluationError
from steersman.vectors import file
from steersman.vectors.vector import Vector, VectorError

if TYPE_CHECKING:
    from steersman.directions.sample import Sample

_SUFFIX = ".safetensors"


class Method(StrEnum):
    """Method of choosing the two sides of a direction."""

    THINKEDIT = "thinkedit"
    EFFICIENCY = "efficiency"
    SEGMENTS = "segments"


_MethodOption = Annotated[Method, typer.Option(help="How the two sides are chosen.")]
_OutOption = Annotated[Path, typer.Option(help="The vector file to write.")]
_SamplesOption = Annotated[int, typer.Option(min=1, help="Responses to each problem.")]
_SamplesFileOption = Annotated[
    Path | None,
    typer.Option(help="Where responses are kept, to go on with or use again; OUT.jsonl."),
]
_ThresholdsOption = Annotated[
    Thresholds, typer.Option(help="thinkedit: what makes a trace long or short.")
]
_LongOption = Annotated[
    float | None, typer.Option(help="thinkedit: above this many tokens, or percentile.")
]
_ShortOption = Annotated[
    float | None, typer.Option(help="thinkedit: below this many tokens, or percentile.")
]
_ClosingOnlyOption = Annotated[
    bool, typer.Option(help="segments: of the ends before work, only those of thinking itself.")
]
_WithinProblemsOption = Annotated[
    bool, typer.Option(help="segments: compare ends of the same problem alone.")
]
_RecheckOption = Annotated[
    list[str] | None,
    typer.Option(help="segments: what a re-check begins with; may be given several times."),
]
_LeastOption = Annotated[int, typer.Option(min=1, help="Fewest samples that make a side.")]


def extract(
    context: typer.Context,
    model: ModelOption,
    method: _MethodOption,
    problems: ProblemsOption,
    out: _OutOption,
    samples: _SamplesOption = 4,
    max_tokens: MaxTokensOption = 4096,
    temperature: TemperatureOption = 1.0,
    seed: SeedOption = 0,
    samples_file: _SamplesFileOption = None,
    thresholds: _ThresholdsOption = Thresholds.TOKENS,
    long: _LongOption = None,
    short: _ShortOption = None,
    closing_only: _ClosingOnlyOption = False,
    within_problems: _WithinProblemsOption = False,
    recheck: _RecheckOption = None,
    least: _LeastOption = 10,
) -> None:
    """Sample a model's responses, choose two sides, and take the difference of their means.

    Writes OUT for steering at the output of decoder layers and, where the model shows it,
    OUT with .attn before its suffix for the residual stream after attention. Further options are
    the engine's: any argument of `vllm serve`.
    """
    options: dict[str, Any] = {"least": least}
    if method is Method.THINKEDIT:
        options |= threshold_options(thresholds, long, short)
    elif long is not None or short is not None or thresholds is not Thresholds.TOKENS:
        fail(f"--thresholds, --long and --short are for thinkedit, not for {method}")
    if method is Method.SEGMENTS:
        options |= {"closing_only": closing_only, "within_problems": within_problems}
        options |= {"recheck": recheck} if recheck else {}
    elif closing_only or within_problems or recheck:
        fail(f"--closing-only, --within-problems and --recheck are for segments, not for {method}")
    log = samples_file or out.with_suffix(".jsonl")
    _check_files(out, log)

    from steersman.arguments import ArgumentError
    from steersman.directions import extract as extraction
    from steersman.evaluate.answers import Comparer
    from steersman.evaluate.problems import load
    from steersman.models import ModelError

    drawing = extraction.Drawing(samples, temperature, max_tokens, seed)
    drawn: list[Sample] = []
    try:
        with Comparer() as comparer, progress() as show:
            asked = load(problem_sets(problems), comparer, unverifiable=True)
            extraction.check(method.value, options, asked, drawing)
            drawn, texts = extraction.draw(
                model,
                context.args,
                asked,
                drawing,
                log,
                show,
                texts=method is Method.SEGMENTS,
            )
            contrast = extraction.choose(method.value, drawn, texts, options)
            found = extraction.capture(model, context.args, method.value, contrast, show)
    except EvaluationError as error:
        fail(f"--problems: {error}")
    except (ArgumentError, DirectionError, ModelError, VectorError) as error:
        kept = f" ({len(drawn)} responses are kept in {log})" if drawn else ""
        fail(f"{reason(error)}{kept}")
    paths = {
        site: out if site == "layer" else out.with_suffix(f".{site}{out.suffix}")
        for site in found.vectors
    }
    write({paths[site]: file.write(vector) for site, vector in found.vectors.items()})
    for site, path in paths.items():
        output.print(f"{site}: {path}", highlight=False, soft_wrap=True)
    _show(found.vectors["layer"], found.facts)


def _check_files(out: Path, log: Path) -> None:
    """Refuse files that could not be written in the end."""
    if out.suffix != _SUFFIX:
        fail(f"--out {out}: must end in {_SUFFIX}")
    if log == out:
        fail(f"--samples-file {log}: is the same file as --out")
    for option, path in (("--out", out), ("--samples-file", log)):
        if not path.parent.is_dir():
            fail(f"{option} {path}: there is no directory {path.parent}")
        if path.is_dir():
            fail(f"{option} {path}: is a directory")


def _show(vector: Vector, facts: dict[str, Any]) -> None:
    for side in ("plus", "minus"):
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts[side].items())
        output.print(f"{side}: {told}", highlight=False, soft_wrap=True)
    layers = Table("layer", "norm", "norm of the residual stream", "separation")
    found = facts["sites"]["layer"]
    for layer, norm in vector.norms.items():
        stream, separation = found["norms"][layer], found["separation"][layer]
        layers.add_row(str(layer), f"{norm:.4g}", f"{stream:.4g}", f"{separation:.3f}")
    output.print(layers)
