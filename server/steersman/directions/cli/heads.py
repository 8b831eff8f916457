"""`steersman directions heads`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from steersman.console import fail, output
from steersman.directions.cli.shared import (
    Thresholds,
    progress,
    reason,
    threshold_options,
    write,
)
from steersman.directions.error import DirectionError
from steersman.edits.edit import EditError
from steersman.evaluate import optional
from steersman.evaluate.error import EvaluationError
from steersman.vectors import parse
from steersman.vectors.vector import VectorError

if TYPE_CHECKING:
    from steersman.directions.heads import Heads

_SHOWN = 20


def heads(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A built-in model, a hub id or a directory.")],
    vector: Annotated[
        Path,
        typer.Option(help="The .attn file of a thinkedit extraction.", exists=True, dir_okay=False),
    ],
    samples_file: Annotated[
        Path,
        typer.Option(help="The responses that it left.", exists=True, dir_okay=False),
    ],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    share: Annotated[
        float, typer.Option(help="Share of all heads to choose, at least one.")
    ] = 0.05,
    count: Annotated[
        int | None, typer.Option(help="Number of heads to choose, instead of a share.")
    ] = None,
    thresholds: Annotated[
        Thresholds, typer.Option(help="What makes a trace long or short.")
    ] = Thresholds.TOKENS,
    long: Annotated[
        float | None, typer.Option(help="Above this many tokens, or percentile.")
    ] = None,
    short: Annotated[
        float | None, typer.Option(help="Below this many tokens, or percentile.")
    ] = None,
    least: Annotated[int, typer.Option(min=1, help="Fewest samples that make a side.")] = 10,
    plot: Annotated[
        Path | None, typer.Option(help="A picture to draw: the contribution of every head.")
    ] = None,
) -> None:
    """Find the attention heads that contribute most to short reasoning.

    Runs the short ones of the model's responses through it once more, and scores every head by what
    it writes against the direction of reasoning length. Further options are the engine's: any
    argument of `vllm serve`.
    """
    for option, path in (("--out", out), ("--plot", plot)):
        if path is not None and not path.parent.is_dir():
            fail(f"{option} {path}: there is no directory {path.parent}")
    options = {"least": least, **threshold_options(thresholds, long, short)}

    from steersman.arguments import ArgumentError
    from steersman.directions import log
    from steersman.directions.heads import score
    from steersman.models import ModelError

    try:
        plots = optional.load("steersman.directions.plots") if plot is not None else None
        direction = parse(vector.read_bytes())
        samples = log.read(samples_file, model)
        with progress() as show:
            found = score(
                model,
                context.args,
                direction,
                samples,
                options,
                show,
                share=share,
                count=count,
            )
    except VectorError as error:
        fail(f"{vector}: {error}")
    except (ArgumentError, DirectionError, EditError, EvaluationError, ModelError) as error:
        fail(reason(error))
    write({out: found.write().encode()})
    if plots is not None:
        plots.draw(found, plot)
    _show(found)
    output.print(f"heads: {out}", highlight=False, soft_wrap=True)


def _show(heads: "Heads") -> None:
    chosen = [
        (heads.contributions[layer][head], layer, head)
        for layer, numbers in heads.chosen.items()
        for head in numbers
    ]
    table = Table("layer", "head", "contribution to short reasoning")
    for contribution, layer, head in sorted(chosen, reverse=True)[:_SHOWN]:
        table.add_row(str(layer), str(head), f"{contribution:.4g}")
    output.print(table)
    total = sum(map(len, heads.contributions.values()))
    rest = f", the first {_SHOWN} are shown" if len(chosen) > _SHOWN else ""
    output.print(f"{len(chosen)} of {total} heads chosen{rest}", highlight=False, soft_wrap=True)
