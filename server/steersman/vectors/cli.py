"""`steersman vectors`: look into vector files, convert and combine them."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from steersman.console import fail, output
from steersman.vectors import FORMATS, parse
from steersman.vectors.combine import combine as combine_vectors
from steersman.vectors.vector import Vector, VectorError, VectorMetadata

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look into files of steering vectors, convert and combine them.",
)

VectorFile = Annotated[
    Path, typer.Argument(help="A vector file: safetensors or GGUF.", exists=True, dir_okay=False)
]


@app.command()
def show(file: VectorFile) -> None:
    """Show the metadata of a vector file, and the norm of each layer."""
    vector = _read(file)
    facts = Table("", str(file), show_header=True)
    facts.add_row("digest", vector.digest[:16])
    facts.add_row("hidden size", str(vector.hidden_size))
    for name, value in vector.metadata.model_dump(exclude={"residual_norms"}).items():
        facts.add_row(name.replace("_", " "), _text(value))
    output.print(facts, markup=False)

    residual = vector.metadata.residual_norms or {}
    layers = Table("layer", "norm", *(["residual stream", "norm of it"] if residual else []))
    for layer, norm in vector.norms.items():
        row = [str(layer), f"{norm:.4g}"]
        if layer in residual:
            row.append(f"{residual[layer]:.4g}")
            row.append(f"{norm / residual[layer]:.1%}" if residual[layer] else "")
        layers.add_row(*row)
    output.print(layers)


@app.command()
def convert(
    file: VectorFile,
    out: Annotated[Path, typer.Argument(help="Where to: a .safetensors or .gguf file.")],
    model: Annotated[str | None, typer.Option(help="Name of the model it was made for.")] = None,
    model_digest: Annotated[
        str | None, typer.Option(help="Digest of that model; a server refuses it for others.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="How it was made.")] = None,
    created_from: Annotated[str | None, typer.Option(help="The data it was made from.")] = None,
    description: Annotated[str | None, typer.Option(help="What it does.")] = None,
    strength: Annotated[float | None, typer.Option(help="Strength if none is asked for.")] = None,
    phase: Annotated[
        Literal["all", "thinking", "answer"] | None, typer.Option(help="Phase that is steered.")
    ] = None,
    at: Annotated[
        Literal["all", "boundary"] | None, typer.Option(help="Tokens of it that are steered.")
    ] = None,
) -> None:
    """Convert a vector file; options take the place of what its metadata say."""
    given = {
        "model": model,
        "model_digest": model_digest,
        "method": method,
        "created_from": created_from,
        "description": description,
        "strength": strength,
        "phase": phase,
        "at": at,
    }
    vector = _read(file)
    try:
        changed = _with(vector, {k: v for k, v in given.items() if v is not None})
    except VectorError as error:
        fail(error.message)
    _write(changed, out)


@app.command()
def combine(
    terms: Annotated[
        list[str], typer.Argument(metavar="FILE=FACTOR...", help="Vector files and factors.")
    ],
    out: Annotated[Path, typer.Option(help="Where to: a .safetensors or .gguf file.")],
) -> None:
    """Add vectors up, each times its factor, to one that can be calibrated and steered by name."""
    files = []
    for term in terms:
        path, _, factor = term.rpartition("=")
        try:
            files.append((Path(path), float(factor)))
        except ValueError:
            fail(f"{term}: must be FILE=FACTOR")
    try:
        made = combine_vectors([(_read(path), factor) for path, factor in files])
    except VectorError as error:
        fail(error.message)
    _write(made, out)


def _write(vector: Vector, out: Path) -> None:
    write = FORMATS.get(out.suffix.removeprefix("."))
    if write is None:
        fail(f"{out}: the suffix must be .{' or .'.join(FORMATS)}")
    try:
        content = write(vector)
        out.write_bytes(content)
    except VectorError as error:
        fail(error.message)
    except OSError as error:
        fail(f"{out}: {error.strerror}")
    output.print(f"{out}: {len(content)} bytes", highlight=False, markup=False, soft_wrap=True)


def _read(path: Path) -> Vector:
    try:
        return parse(path.read_bytes())
    except VectorError as error:
        fail(f"{path}: {error.message}")
    except OSError as error:
        fail(f"{path}: {error.strerror}")


def _with(vector: Vector, changes: dict[str, Any]) -> Vector:
    metadata = VectorMetadata.of({**vector.metadata.model_dump(), **changes})
    return Vector(vector.layers, metadata)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " to ".join(f"{bound:g}" for bound in value)
    return "" if value is None else str(value)
