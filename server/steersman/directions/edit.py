"""From chosen heads to an edit, and from an edit to a model directory: `steersman directions edit`.

See `steersman.edits.edit` for the formula and its source.
"""

import math
import shutil
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from steersman.directions.error import DirectionError
from steersman.directions.heads import Heads, Progress, unit_directions
from steersman.edits import projection
from steersman.edits.checkpoint import CONSOLIDATED, Checkpoint
from steersman.edits.edit import Edit, EditError, EditMetadata
from steersman.models.cache import MANIFEST
from steersman.models.catalog import CONTROLS
from steersman.vectors.vector import Vector


def make(
    checkpoint: Checkpoint, vector: Vector, heads: Heads, *, weight: float, description: str = ""
) -> Edit:
    """The edit of the chosen heads.

    Args:
        checkpoint: The model's weights.
        vector: The direction that the heads were chosen by.
        heads: The chosen heads.
        weight: How much of what they write along it is taken away: all of it at 1.
        description: For readers.

    Raises:
        DirectionError: No head is chosen, the weight is not finite, or vector, heads and the
            model's weights do not belong together.

    """
    if not math.isfinite(weight):
        raise DirectionError(f"weight={weight}: must be finite", field="weight")
    _check(checkpoint, vector, heads)
    units = unit_directions(vector)
    projections = {}
    for layer, chosen in heads.chosen.items():
        output = checkpoint.weight(layer)[:, projection.columns(chosen, heads.head_dim)].double()
        written = torch.from_numpy(units[layer]).double() @ output
        projections[layer] = written.float().view(len(chosen), heads.head_dim).numpy()
    metadata = EditMetadata(
        method="thinkedit",
        model=heads.model,
        model_digest=heads.model_digest,
        created_from=vector.metadata.created_from,
        description=description,
        weight=weight,
        heads=heads.chosen,
        head_dim=heads.head_dim,
        dtype=checkpoint.dtype(min(heads.chosen)),
        weights={layer: heads.weights[layer] for layer in heads.chosen},
        provenance={**heads.provenance, "vector": heads.vector},
    )
    return Edit({layer: units[layer] for layer in heads.chosen}, projections, metadata)


def _check(checkpoint: Checkpoint, vector: Vector, heads: Heads) -> None:
    if not heads.chosen:
        raise DirectionError("no head is chosen", field="heads")
    if heads.vector != vector.digest:
        raise DirectionError(
            f"the heads were chosen by the vector with digest {heads.vector[:16]}, this one's is "
            f"{vector.digest[:16]}",
            field="heads",
        )
    for layer, chosen in heads.chosen.items():
        if layer not in checkpoint.layers:
            raise DirectionError(f"the model has no layer {layer}", field="heads")
        if not chosen or max(chosen) * heads.head_dim >= checkpoint.columns(layer):
            raise DirectionError(f"layer {layer} has no heads {list(chosen)}", field="heads")
        if heads.weights.get(layer) != checkpoint.sha256(layer):
            raise DirectionError(
                f"the weights of layer {layer} are not those that the heads were chosen on",
                field="heads",
            )
    if len(dtypes := sorted({checkpoint.dtype(layer) for layer in heads.chosen})) > 1:
        raise DirectionError(
            f"the output weights are of {' and '.join(dtypes)}: one edit is of one dtype",
            field="model",
        )


def apply(
    edit: Edit, checkpoint: Checkpoint, out: Path, progress: Progress = lambda *_: None
) -> None:
    """Write a copy of a model directory in which the edited weights take the place of the others.

    The copy is there whole or not at all. It keeps files, dtypes and shards as they are.

    Args:
        edit: An edit made from these very weights.
        checkpoint: The model's weights.
        out: The new directory; nothing or an empty directory is there.
        progress: Told of each file.

    Raises:
        DirectionError: Something is there, or the directory cannot be written.
        EditError: The edit was made from other weights, or has been applied to these already.

    """
    weights = edited(edit, checkpoint)
    _check_target(checkpoint.directory, out)
    partial: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        # These speak of the weights as they were.
        left_out = shutil.ignore_patterns(MANIFEST, CONTROLS)
        files = [path for path in checkpoint.directory.rglob("*") if path.is_file()]
        parts = (path.relative_to(checkpoint.directory).parts for path in files)
        total = sum({MANIFEST, CONTROLS}.isdisjoint(names) for names in parts)
        copied = count(1)

        def copy_file(source: str, target: str) -> None:
            shutil.copy2(source, target)
            progress("copying files", next(copied), total)

        progress("copying files", 0, total)
        shutil.copytree(
            checkpoint.directory,
            partial,
            ignore=left_out,
            copy_function=copy_file,
            dirs_exist_ok=True,
        )
        for layer, weight in weights.items():
            stored = checkpoint.stored(layer)
            copy = partial / stored.path.relative_to(checkpoint.directory)
            copy.chmod(0o644)
            with copy.open("r+b") as file:
                file.seek(stored.offset)
                file.write(weight.view(torch.uint8).numpy().tobytes())
        partial.chmod(0o755)
        partial.replace(out)
    except OSError as error:
        raise DirectionError(f"cannot write {out}: {error}", field="out") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _check_target(model: Path, out: Path) -> None:
    target = out.resolve()
    if target == model.resolve() or model.resolve() in target.parents:
        raise DirectionError(f"{out} is in the model's own directory", field="out")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DirectionError(f"{out} is there already, and not an empty directory", field="out")
    if others := sorted(path.name for path in model.glob(CONSOLIDATED)):
        raise DirectionError(
            f"{others[0]} holds the model's weights once more and would not be edited: remove it, "
            "or write an edit's file",
            field="model",
        )


def edited(edit: Edit, checkpoint: Checkpoint) -> Mapping[int, Tensor]:
    """The edited output weights by layer, [hidden_size, columns], in the checkpoint's dtype.

    Raises:
        EditError: The edit was made from other weights, or has been applied to these already.

    """
    weights = {}
    for layer, heads in edit.metadata.heads.items():
        direction = torch.tensor(edit.directions[layer])
        written = torch.tensor(edit.projections[layer]).flatten()
        columns = projection.columns(heads, edit.metadata.head_dim)
        if layer not in checkpoint.layers or max(columns) >= checkpoint.columns(layer):
            raise EditError(f"the model has no heads {list(heads)} at layer {layer}", field="edit")
        weight = checkpoint.weight(layer)
        amount = edit.metadata.weight
        if checkpoint.sha256(layer) != edit.metadata.weights[layer]:
            projection.verify(weight, direction, written, columns, amount, layer)
            raise EditError(
                f"the weights of layer {layer} are not those that the edit was made from: the "
                "model has been changed since",
                field=f"layers[{layer}]",
            )
        dtype = getattr(torch, edit.metadata.dtype)
        weights[layer] = projection.edited(weight, direction, written, columns, amount, dtype)
    return weights
