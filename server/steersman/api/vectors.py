"""`/v1/control/vectors`: the steering vectors of a server, to list, fetch, put and delete."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from steersman.api.admin import Admin, ArtifactRoute
from steersman.api.download import attachment
from steersman.artifacts.files import Entry, check_name
from steersman.artifacts.store import Store
from steersman.errors import ControlError
from steersman.vectors import FORMATS
from steersman.vectors.vector import Vector

# Names take in slashes, so that a wrong name is answered here and not by another route.
_ONE = "/{name:path}"


def router(store: Store[Vector], admin: Admin) -> APIRouter:
    """The routes of the vectors.

    Args:
        store: The server's vectors.
        admin: Who may change them.

    """
    routes = APIRouter(prefix="/v1/control/vectors", tags=["control"], route_class=ArtifactRoute)

    @routes.get("")
    async def list_vectors() -> dict[str, Any]:
        """The vectors that `control.steer` can name."""
        return {"object": "list", "data": [_describe(entry) for entry in store]}

    @routes.get(_ONE)
    async def retrieve_vector(
        name: str,
        format: Annotated[
            str | None, Query(description="safetensors or gguf, for the file itself.")
        ] = None,
    ) -> Response:
        """One vector: a description, or its file."""
        entry = store.entry(name)
        if format is None:
            return JSONResponse(_describe(entry))
        if format not in FORMATS:
            raise ControlError(
                f"unknown format {format[:80]!r}; known: {', '.join(FORMATS)}", param="format"
            )
        content = await asyncio.to_thread(FORMATS[format], entry.artifact)
        return attachment(content, f"{name}.{format}")

    @routes.put(_ONE)
    async def put_vector(name: str, request: Request) -> Response:
        """Put a vector file, safetensors or GGUF, under a name. Needs the admin key."""
        admin.authorize(request, store.noun)
        check_name(name, store.noun)
        content = await admin.upload(request)
        if content is None:
            return Response(status_code=400)  # for nobody: the client has hung up
        entry = await store.put(name, content)
        return JSONResponse(_describe(entry), 201 if entry.new else 200)

    @routes.delete(_ONE)
    async def delete_vector(name: str, request: Request) -> dict[str, Any]:
        """Delete a vector. Requests that use it go on with it. Needs the admin key."""
        admin.authorize(request, store.noun)
        await store.delete(name)
        return {"id": name, "object": "control.vector", "deleted": True}

    return routes


def _describe(entry: Entry[Vector]) -> dict[str, Any]:
    vector = entry.artifact
    return {
        "id": entry.name,
        "object": "control.vector",
        "digest": vector.digest[:16],
        "metadata": vector.metadata.model_dump(mode="json"),
        "layers": list(vector.layers),
        "hidden_size": vector.hidden_size,
        "norms": {str(layer): norm for layer, norm in vector.norms.items()},
        "size": entry.size,
    }
