"""`client.control.vectors`: the steering vectors of a server."""

import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import anyio
from openai import AsyncOpenAI, HttpxBinaryResponseContent, OpenAI, RequestOptions
from pydantic import BaseModel, ConfigDict

VectorFormat = Literal["safetensors", "gguf"]

_PATH = "/control/vectors"


class _Part(BaseModel):
    # A newer server may say more than this client knows: keep it, do not refuse it.
    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)


class ControlVectorMetadata(_Part):
    """What the file of a vector says besides its values."""

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


class ControlVector(_Part):
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


class DeletedControlVector(_Part):
    """What is left of a deleted vector."""

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
        answer = self._client.get(_path(name), cast_to=dict[str, Any])
        return ControlVector.model_validate(answer)

    def upload(
        self, name: str, file: bytes | Path, *, admin_key: str | None = None
    ) -> ControlVector:
        """PUT /control/vectors/{name}: put a file there, safetensors or GGUF.

        Args:
            name: The vector's name. What has it is replaced.
            file: Content of the file, or its path.
            admin_key: The server's admin key.

        """
        content = file if isinstance(file, bytes) else file.read_bytes()
        answer = self._client.put(
            _path(name), content=content, cast_to=dict[str, Any], options=_upload(admin_key)
        )
        return ControlVector.model_validate(answer)

    def delete(self, name: str, *, admin_key: str | None = None) -> DeletedControlVector:
        """DELETE /control/vectors/{name}. Requests that use the vector go on with it."""
        answer = self._client.delete(
            _path(name), cast_to=dict[str, Any], options=_as_admin(admin_key)
        )
        return DeletedControlVector.model_validate(answer)

    def download(self, name: str, *, format: VectorFormat = "safetensors") -> bytes:
        """GET /control/vectors/{name}?format=...: the file of a vector."""
        return self._client.get(
            _path(name), cast_to=HttpxBinaryResponseContent, options={"params": {"format": format}}
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
        answer = await self._client.get(_path(name), cast_to=dict[str, Any])
        return ControlVector.model_validate(answer)

    async def upload(
        self, name: str, file: bytes | Path, *, admin_key: str | None = None
    ) -> ControlVector:
        """PUT /control/vectors/{name}: put a file there, safetensors or GGUF.

        Args:
            name: The vector's name. What has it is replaced.
            file: Content of the file, or its path.
            admin_key: The server's admin key.

        """
        content = file if isinstance(file, bytes) else await anyio.Path(file).read_bytes()
        answer = await self._client.put(
            _path(name), content=content, cast_to=dict[str, Any], options=_upload(admin_key)
        )
        return ControlVector.model_validate(answer)

    async def delete(self, name: str, *, admin_key: str | None = None) -> DeletedControlVector:
        """DELETE /control/vectors/{name}. Requests that use the vector go on with it."""
        answer = await self._client.delete(
            _path(name), cast_to=dict[str, Any], options=_as_admin(admin_key)
        )
        return DeletedControlVector.model_validate(answer)

    async def download(self, name: str, *, format: VectorFormat = "safetensors") -> bytes:
        """GET /control/vectors/{name}?format=...: the file of a vector."""
        answer = await self._client.get(
            _path(name), cast_to=HttpxBinaryResponseContent, options={"params": {"format": format}}
        )
        return answer.content


def _listed(answer: dict[str, Any]) -> tuple[ControlVector, ...]:
    return tuple(ControlVector.model_validate(vector) for vector in answer["data"])


def _path(name: str) -> str:
    if name in ("", ".", ".."):
        # HTTP clients resolve these: the request would go somewhere else.
        raise ValueError(f"{name!r} cannot be the name of a vector")
    return f"{_PATH}/{quote(name, safe='')}"


def _as_admin(admin_key: str | None) -> RequestOptions:
    key = admin_key or os.environ.get("STEERSMAN_ADMIN_API_KEY")
    return {"headers": {"Authorization": f"Bearer {key}"}} if key else {}


def _upload(admin_key: str | None) -> RequestOptions:
    options = _as_admin(admin_key)
    return {"headers": {**options.get("headers", {}), "Content-Type": "application/octet-stream"}}
