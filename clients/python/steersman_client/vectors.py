"""`client.control.vectors`: the steering vectors of a server."""

from pathlib import Path
from typing import Any, Literal

import anyio
from openai import AsyncOpenAI, HttpxBinaryResponseContent, OpenAI

from steersman_client.admin import Stored, as_admin, path, upload_options

VectorFormat = Literal["safetensors", "gguf"]

_PATH = "/control/vectors"


class ControlVectorMetadata(Stored):
    """Metadata of a vector file."""

    site: str
    """Where the vector is added: `layer` is the output of a decoder layer."""
    method: str
    """How it was made."""
    model: str | None = None
    """Name of the model it was made for."""
    model_digest: str | None = None
    """Digest of that model; with it, a server with another model refuses the vector."""
    created_from: str | None = None
    """The data it was made from."""
    description: str = ""
    strength: float = 1.0
    """Multiplier when a request names none."""
    phase: str = "all"
    """Steered phase when a request names none."""
    at: str = "all"
    """Steered tokens of the phase when a request names none."""
    layers: tuple[int, ...] | None = None
    """Layers steered when a request names none; all that the vector has when null."""
    strength_range: tuple[float, float] | None = None
    """Recommended strengths, low and high."""
    residual_norms: dict[int, float] | None = None
    """Mean Euclidean norm of the residual stream by layer, once calibrated."""
    provenance: dict[str, Any] | None = None
    """How it came about."""
    calibration: dict[str, Any] | None = None
    """How layers, strength and range were found."""


class ControlVector(Stored):
    """A vector that `control.steer` can name."""

    id: str
    """Its name."""
    digest: str
    """Of everything that changes what is applied: 16 hex digits."""
    metadata: ControlVectorMetadata
    layers: tuple[int, ...]
    """Decoder layers, from 0."""
    hidden_size: int
    norms: dict[int, float]
    """Euclidean norm of the vector by layer."""
    size: int
    """Bytes of its safetensors file."""


class DeletedControlVector(Stored):
    """Confirmation that a vector was deleted."""

    id: str
    deleted: bool


class Vectors:
    """`client.control.vectors`.

    `upload` and `delete` take the server's admin key: the argument, else STEERSMAN_ADMIN_API_KEY,
    else the key of the client.
    """

    def __init__(self, client: OpenAI) -> None:
        self._client = client

    def list(self) -> tuple[ControlVector, ...]:
        """GET /control/vectors: all vectors of the server, by name."""
        return _listed(self._client.get(_PATH, cast_to=dict[str, Any]))

    def retrieve(self, name: str) -> ControlVector:
        """GET /control/vectors/{name}: one vector, without its values."""
        answer = self._client.get(path(_PATH, name), cast_to=dict[str, Any])
        return ControlVector.model_validate(answer)

    def upload(
        self, name: str, file: bytes | Path, *, admin_key: str | None = None
    ) -> ControlVector:
        """PUT /control/vectors/{name}: put a file there, safetensors or GGUF.

        Args:
            name: The vector's name. A vector that has it is replaced.
            file: Content of the file, or its path.
            admin_key: The server's admin key.

        """
        content = file if isinstance(file, bytes) else file.read_bytes()
        answer = self._client.put(
            path(_PATH, name),
            content=content,
            cast_to=dict[str, Any],
            options=upload_options(admin_key),
        )
        return ControlVector.model_validate(answer)

    def delete(self, name: str, *, admin_key: str | None = None) -> DeletedControlVector:
        """DELETE /control/vectors/{name}. Requests that use the vector go on with it."""
        answer = self._client.delete(
            path(_PATH, name), cast_to=dict[str, Any], options=as_admin(admin_key)
        )
        return DeletedControlVector.model_validate(answer)

    def download(self, name: str, *, format: VectorFormat = "safetensors") -> bytes:
        """GET /control/vectors/{name}?format=...: the file of a vector."""
        return self._client.get(
            path(_PATH, name),
            cast_to=HttpxBinaryResponseContent,
            options={"params": {"format": format}},
        ).content


class AsyncVectors:
    """`client.control.vectors` of the async client; takes the same keys as `Vectors`."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client

    async def list(self) -> tuple[ControlVector, ...]:
        """GET /control/vectors: all vectors of the server, by name."""
        return _listed(await self._client.get(_PATH, cast_to=dict[str, Any]))

    async def retrieve(self, name: str) -> ControlVector:
        """GET /control/vectors/{name}: one vector, without its values."""
        answer = await self._client.get(path(_PATH, name), cast_to=dict[str, Any])
        return ControlVector.model_validate(answer)

    async def upload(
        self, name: str, file: bytes | Path, *, admin_key: str | None = None
    ) -> ControlVector:
        """PUT /control/vectors/{name}: put a file there, safetensors or GGUF.

        Args:
            name: The vector's name. A vector that has it is replaced.
            file: Content of the file, or its path.
            admin_key: The server's admin key.

        """
        content = file if isinstance(file, bytes) else await anyio.Path(file).read_bytes()
        answer = await self._client.put(
            path(_PATH, name),
            content=content,
            cast_to=dict[str, Any],
            options=upload_options(admin_key),
        )
        return ControlVector.model_validate(answer)

    async def delete(self, name: str, *, admin_key: str | None = None) -> DeletedControlVector:
        """DELETE /control/vectors/{name}. Requests that use the vector go on with it."""
        answer = await self._client.delete(
            path(_PATH, name), cast_to=dict[str, Any], options=as_admin(admin_key)
        )
        return DeletedControlVector.model_validate(answer)

    async def download(self, name: str, *, format: VectorFormat = "safetensors") -> bytes:
        """GET /control/vectors/{name}?format=...: the file of a vector."""
        answer = await self._client.get(
            path(_PATH, name),
            cast_to=HttpxBinaryResponseContent,
            options={"params": {"format": format}},
        )
        return answer.content


def _listed(answer: dict[str, Any]) -> tuple[ControlVector, ...]:
    return tuple(ControlVector.model_validate(vector) for vector in answer["data"])
