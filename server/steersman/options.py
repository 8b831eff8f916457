"""Options of `steersman serve`, with their help."""

from pathlib import Path
from typing import Annotated

import typer

Profiles = Annotated[
    Path | None,
    typer.Option(help="YAML file of named control presets.", exists=True, dir_okay=False),
]
Rewards = Annotated[
    Path | None,
    typer.Option(help="YAML file of named rewards.", exists=True, dir_okay=False),
]
MaxBranches = Annotated[
    int, typer.Option(min=1, help="Engine requests that one controlled request may start.")
]
MaxForks = Annotated[
    int,
    typer.Option(
        min=1,
        help="Engine requests of one controlled request that may be in flight, forks included: "
        "over it they wait.",
    ),
]
MaxControlTokens = Annotated[
    int, typer.Option(min=1, help="Tokens that one controlled request may sample in all.")
]
MaxBodyBytes = Annotated[int, typer.Option(min=1, help="Size of a request body.")]
MaxSteeringNorm = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="Norm of what steering may add, in multiples of the residual stream's.",
    ),
]
Steering = Annotated[bool, typer.Option(help="Put the steering op into the model's layers.")]
Vectors = Annotated[
    Path | None,
    typer.Option(help="Directory of steering vectors.", exists=True, file_okay=False),
]
Edits = Annotated[
    Path | None,
    typer.Option(help="Directory of edits that requests can choose.", exists=True, file_okay=False),
]
Edit = Annotated[
    list[Path] | None,
    typer.Option(
        help="Edit to apply to the model's weights; several times for several.",
        exists=True,
        dir_okay=False,
    ),
]
EditRows = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=256,
        help="Edits that requests can choose from; 0 leaves their op out, as if there is none.",
    ),
]
ModelControls = Annotated[
    bool,
    typer.Option(help="Serve vectors, edits and profiles of the model directory's `control`."),
]
AdminApiKey = Annotated[
    str | None,
    typer.Option(
        help="Key for changing vectors and edits while the server runs.",
        envvar="STEERSMAN_ADMIN_API_KEY",
    ),
]
SteeringRows = Annotated[
    int, typer.Option(min=1, help="Distinct sums of vectors that can be in use at a time.")
]
SteeringWait = Annotated[
    float, typer.Option(min=0, help="Seconds that a request waits for such a row.")
]
MaxVectorBytes = Annotated[int, typer.Option(min=1, help="Size of an uploaded vector or edit.")]
