"""`client.control.edits`: the edits of a server's model."""

from pathlib import Path
from typing import Any

import anyio
from openai import AsyncOpenAI, HttpxBinaryResponseContent, OpenAI, RequestOptions

from steersman_client.admin import Stored, as_admin, path, upload_options

_PATH = "/control/edits"
_FILE: RequestOptions = {"params": {"format": "safetensors"}}


class ControlEditMetadata(Stored):
    """Metadata of an edit's file."""

    method: str
    """How it was made."""
    model: str | None = None
    """Name of the model it was made from."""
    model_digest: str | None = None
    """Digest of that model; with it, a server with another model refuses the edit."""
    created_from: str | None = None
    """The data it was made from."""
    description: str = ""
    weight: float
    """Share of the heads' output along the direction that is taken away: all of it at 1."""
    heads: dict[int, tuple[int, ...]]
    """The edited query heads by layer."""
    head_dim: int
    """Columns of the output weight that belong to one head."""
    dtype: str
    """Number type to which edited weights are rounded."""
    weights: dict[int, str]
    """SHA-256 of each edited layer's output weight before the edit."""
    provenance: dict[str, Any] | None = None
    """How it came about."""


class ControlEdit(Stored):
    """An edit that is live, or that `control.thinkedit` can name."""

    id: str
    """Its name."""
    digest: str
    """Of everything that changes what is applied: 16 hex digits."""
    live: bool
    """Whether the model's weights have it; else it is on offer to requests."""
    metadata: ControlEditMetadata
    layers: tuple[int, ...]
    """Decoder layers, from 0."""
    heads: int
    """Number of edited heads."""
    hidden_size: int
    parameters: int
    """Number of parameters that it changes."""
    size: int
    """Bytes of its file."""


class DeletedControlEdit(Stored):
    """Confirmation that an edit was deleted."""

    id: str
    deleted: bool


class Edits:
    """`client.control.edits`.

    `upload` and `delete` take the server's admin key: the argument, else STEERSMAN_ADMIN_API_KEY,
    else the key of the client.
    """

    def __init__(self, client: OpenAI) -> None:
        self._client = client

    def list(self) -> tuple[ControlEdit, ...]:
        """GET /control/edits: all edits of the server, the live ones first."""
        answer = self._client.get(_PATH, cast_to=dict[str, Any])
        return tuple(ControlEdit.model_validate(edit) for edit in answer["data"])

    def retrieve(self, name: str) -> ControlEdit:
        """GET /control/edits/{name}: one edit, without its values."""
        answer = self._client.get(path(_PATH, name), cast_to=dict[str, Any])
        return ControlEdit.model_validate(answer)

    def upload(
        self, name: str, file: bytes | Path, *, apply: bool = True, admin_key: str | None = None
    ) -> ControlEdit:
        """PUT /control/edits/{name}: apply an edit to the model's weights, or offer it.

        Args:
            name: The edit's name. An edit that has it is replaced.
            file: Content of the file, or its path.
            apply: Whether every request gets it from now on; else those that choose it.
            admin_key: The server's admin key.

        """
        content = file if isinstance(file, bytes) else file.read_bytes()
        answer = self._client.put(
            path(_PATH, name),
            content=content,
            cast_to=dict[str, Any],
            options={**upload_options(admin_key), "params": {"apply": apply}},
        )
        return ControlEdit.model_validate(answer)

    def delete(self, name: str, *, admin_key: str | None = None) -> DeletedControlEdit:
        """DELETE /control/edits/{name}: take it back, from the weights or from offer."""
        answer = self._client.delete(
            path(_PATH, name), cast_to=dict[str, Any], options=as_admin(admin_key)
        )
        return DeletedControlEdit.model_validate(answer)

    def download(self, name: str) -> bytes:
        """GET /control/edits/{name}?format=safetensors: the file of an edit."""
        answer = self._client.get(
            path(_PATH, name), cast_to=HttpxBinaryResponseContent, options=_FILE
        )
        return answer.content


class AsyncEdits:
    """`client.control.edits` of the async client; takes the same keys as `Edits`."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client

    async def list(self) -> tuple[ControlEdit, ...]:
        """GET /control/edits: all edits of the server, the live ones first."""
        answer = await self._client.get(_PATH, cast_to=dict[str, Any])
        return tuple(ControlEdit.model_validate(edit) for edit in answer["data"])

    async def retrieve(self, name: str) -> ControlEdit:
        """GET /control/edits/{name}: one edit, without its values."""
        answer = await self._client.get(path(_PATH, name), cast_to=dict[str, Any])
        return ControlEdit.model_validate(answer)

    async def upload(
        self, name: str, file: bytes | Path, *, apply: bool = True, admin_key: str | None = None
    ) -> ControlEdit:
        """PUT /control/edits/{name}: apply an edit to the model's weights, or offer it.

        Args:
            name: The edit's name. An edit that has it is replaced.
            file: Content of the file, or its path.
            apply: Whether every request gets it from now on; else those that choose it.
            admin_key: The server's admin key.

        """
        content = file if isinstance(file, bytes) else await anyio.Path(file).read_bytes()
        answer = await self._client.put(
            path(_PATH, name),
            content=content,
            cast_to=dict[str, Any],
            options={**upload_options(admin_key), "params": {"apply": apply}},
        )
        return ControlEdit.model_validate(answer)

    async def delete(self, name: str, *, admin_key: str | None = None) -> DeletedControlEdit:
        """DELETE /control/edits/{name}: take it back, from the weights or from offer."""
        answer = await self._client.delete(
            path(_PATH, name), cast_to=dict[str, Any], options=as_admin(admin_key)
        )
        return DeletedControlEdit.model_validate(answer)

    async def download(self, name: str) -> bytes:
        """GET /control/edits/{name}?format=safetensors: the file of an edit."""
        answer = await self._client.get(
            path(_PATH, name), cast_to=HttpxBinaryResponseContent, options=_FILE
        )
        return answer.content
