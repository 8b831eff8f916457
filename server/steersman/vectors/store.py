"""The vectors of a server."""

from functools import partial
from pathlib import Path

from steersman import vectors
from steersman.artifacts.artifact import Host, Kind
from steersman.artifacts.store import MAX_BYTES, Store
from steersman.capabilities import Model
from steersman.vectors import file
from steersman.vectors.vector import Vector, check

MAX_VECTORS = 256


class VectorStore(Store[Vector]):
    """Vectors by name.

    Args:
        model: The served model, which every vector must fit.
        host: The engine.
        directory: Where vectors are kept over a restart; None keeps them in memory alone.
        shipped: A directory of vectors to begin with, which is never written.
        max_bytes: Size of one file.
        max_vectors: Names that the store may have.

    """

    def __init__(
        self,
        model: Model,
        host: Host[Vector],
        directory: Path | None = None,
        shipped: Path | None = None,
        *,
        max_bytes: int = MAX_BYTES,
        max_vectors: int = MAX_VECTORS,
    ) -> None:
        kind = Kind(
            "vector",
            (".safetensors", ".gguf"),
            vectors.parse,
            file.write,
            partial(_check, model),
        )
        super().__init__(
            kind, host, directory, shipped, max_bytes=max_bytes, max_entries=max_vectors
        )


def _check(model: Model, vector: Vector) -> None:
    check(vector, model)
