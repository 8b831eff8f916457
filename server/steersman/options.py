"""Options of `steersman serve`: for each its default, its bounds and its help."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from steersman.artifacts.files import MAX_BYTES
from steersman.capabilities import Limits
from steersman.observe.logs import LogFormat
from steersman.steering.admission import WAIT_SECONDS

EDIT_ROWS = 8
"""Edits that requests can choose, where there are any and no option gives their number."""


@dataclass(frozen=True, slots=True)
class SteeringOptions:
    """Options of steering and edits.

    Attributes:
        vectors: Directory of vector files.
        edits: Directory of edit files that requests can choose.
        live_edits: Edit files that are applied to the weights.
        live_directory: Directory of further ones, which also keeps those that are put there.
        shipped: The model's own vectors and edits, in directories of these names; never written.
        admin_key: Key for changing vectors and edits; None if no client may.
        max_bytes: Size of an uploaded file.
        rows: Distinct sums of vectors that can be in use at a time.
        edit_rows: Edits that can be on offer at a time; without any, their op is not installed.
        wait_seconds: How long a request waits for a row.

    """

    vectors: Path | None = None
    edits: Path | None = None
    live_edits: tuple[Path, ...] = ()
    live_directory: Path | None = None
    shipped: Path | None = None
    admin_key: str | None = None
    max_bytes: int = MAX_BYTES
    rows: int = 256
    edit_rows: int = 0
    wait_seconds: float = WAIT_SECONDS

    @property
    def engine_edit_rows(self) -> int:
        """Rows for edits on the engine: what was replaced stays until its requests have ended."""
        return 2 * self.edit_rows


@dataclass(frozen=True, slots=True)
class Options:
    """Options that `steersman serve` adds to vLLM's arguments."""

    profiles: tuple[Path, ...] = ()
    """Files of presets; of two with one name, the later counts."""
    limits: Limits = field(default_factory=Limits)
    steering: SteeringOptions | None = field(default_factory=SteeringOptions)
    """None serves without steering."""
    rewards: Path | None = None
    """File of the operator's rewards."""
    keys: Path | None = None
    """File of keys."""
    open_metrics: bool = False
    """True: `/metrics` needs no key."""
    follow: float = 0.0
    """Seconds within which changes of these files take effect; 0 reads them at the start alone."""


LIMITS = Limits()
"""Defaults of the options that limit requests."""
STEERING = SteeringOptions()
"""Defaults of the options of steering."""


def _limit(name: str, least: float) -> Any:
    """An option for a field of `Limits`, which also has its help."""
    description = Limits.model_fields[name].description or ""
    return typer.Option(min=least, help=" ".join(description.split()))


Profiles = Annotated[
    Path | None,
    typer.Option(help="YAML file of named control presets.", exists=True, dir_okay=False),
]
Follow = Annotated[
    float,
    typer.Option(
        min=0,
        help="Seconds within which changed files of --vectors, --edits, --live-edits and "
        "--profiles take effect; 0 reads them at the start alone.",
    ),
]
Rewards = Annotated[
    Path | None,
    typer.Option(help="YAML file of named rewards.", exists=True, dir_okay=False),
]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys", help="YAML file of keys, their scopes and limits.", exists=True, dir_okay=False
    ),
]
OpenMetrics = Annotated[bool, typer.Option(help="Let /metrics be read without a key.")]
Log = Annotated[
    LogFormat, typer.Option("--log-format", help="Form of this server's own log lines.")
]
MaxBranches = Annotated[int, _limit("max_branches", 1)]
MaxForks = Annotated[int, _limit("max_forks", 1)]
MaxControlTokens = Annotated[int, _limit("max_control_tokens", 1)]
MaxBodyBytes = Annotated[int, _limit("max_body_bytes", 1)]
MaxSteeringNorm = Annotated[float, _limit("max_steering_norm", 0.0)]
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
LiveEdits = Annotated[
    Path | None,
    typer.Option(
        help="Directory of edits to apply to the model's weights.", exists=True, file_okay=False
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
