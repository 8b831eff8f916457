"""`steersman directions edit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steersman.console import fail, output
from steersman.directions.cli.shared import progress, reason, write
from steersman.directions.error import DirectionError
from steersman.edits.edit import EditError
from steersman.vectors import parse
from steersman.vectors.vector import VectorError

if TYPE_CHECKING:
    from steersman.edits.checkpoint import Checkpoint
    from steersman.edits.edit import Edit

_SUFFIX = ".safetensors"


def edit(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A built-in model, a hub id or a directory.")],
    out: Annotated[
        Path,
        typer.Option(help="The edit's file, if it ends in .safetensors; else a model directory."),
    ],
    vector: Annotated[
        Path | None,
        typer.Option(help="The direction that the heads were chosen by.", dir_okay=False),
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option(help="The file of `steersman directions heads`.", dir_okay=False),
    ] = None,
    weight: Annotated[
        float, typer.Option(help="How much of what the heads write along it is taken away.")
    ] = 1.0,
    description: Annotated[str, typer.Option(help="For readers of the edit.")] = "",
    artifact: Annotated[
        Path | None,
        typer.Option(help="An edit's file to apply, instead of a new edit.", dir_okay=False),
    ] = None,
) -> None:
    """Take away what the chosen heads write along a direction (ThinkEdit).

    Writes a small file that a server applies while it runs, or a model directory with the edited
    weights.
    """
    if context.args:
        fail(f"unrecognized arguments: {' '.join(context.args)}")
    if artifact is None and (vector is None or heads is None):
        fail("a new edit needs --vector and --heads; --artifact applies one that there is")
    if artifact is not None and (vector or heads or weight != 1 or description):
        fail("--artifact is an edit already: leave out --vector, --heads, --weight, --description")
    if not out.absolute().parent.is_dir():
        fail(f"--out {out}: there is no directory {out.absolute().parent}")

    from steersman.arguments import ArgumentError
    from steersman.directions import edit as editing
    from steersman.directions.heads import Heads
    from steersman.directions.offline import describe
    from steersman.edits import file
    from steersman.edits.checkpoint import Checkpoint
    from steersman.models import ModelError

    try:
        described, directory = describe(model)
        checkpoint = Checkpoint(directory, described.layers, described.hidden_size)
        if artifact is not None:
            made = file.read(_content(artifact, "--artifact"))
        else:
            assert vector is not None
            assert heads is not None
            made = editing.make(
                checkpoint,
                parse(_content(vector, "--vector")),
                Heads.read(_content(heads, "--heads")),
                weight=weight,
                description=description,
            )
        if out.suffix == _SUFFIX:
            editing.edited(made, checkpoint)  # refuses another model's
            write({out: file.write(made)})
        else:
            with progress() as show:
                editing.apply(made, checkpoint, out, show)
    except VectorError as error:
        fail(f"--vector: {error}")
    except (ArgumentError, DirectionError, EditError, ModelError) as error:
        fail(reason(error))
    _show(made, checkpoint, out)


def _content(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{option} {path}: cannot be read: {error.strerror}")


def _show(edit: "Edit", checkpoint: "Checkpoint", out: Path) -> None:
    chosen = "; ".join(
        f"layer {layer}: {', '.join(map(str, heads))}"
        for layer, heads in edit.metadata.heads.items()
    )
    share = edit.parameters / checkpoint.parameters
    for line in (
        f"heads: {chosen}",
        f"changed: {edit.heads} heads, {edit.parameters:,} parameters, {share:.2%} of the model",
        f"digest: {edit.digest[:16]}",
        f"edit: {out}" if out.suffix == _SUFFIX else f"model: {out}",
    ):
        output.print(line, highlight=False, soft_wrap=True)
