"""Options that several commands on directions have."""

from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[str, typer.Argument(help="A built-in model, a hub id or a directory.")]
ProblemsOption = Annotated[
    Path,
    typer.Option(
        help="YAML list of problem sets, as in an evaluation run.", exists=True, dir_okay=False
    ),
]
MaxTokensOption = Annotated[int, typer.Option(min=1, help="Longest response.")]
TemperatureOption = Annotated[float, typer.Option(min=0, help="Of the sampling.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the sampling.")]
