"""`/v1/control/edits`: edits of the model's weights, live for all requests or on offer to them."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from steersman.api.admin import Admin, ArtifactRoute
from steersman.artifacts.artifact import UnknownArtifactError
from steersman.artifacts.store import Entry, check_name
from steersman.edits import file
from steersman.edits.edit import Edit
from steersman.edits.store import NOUN, EditStore, LiveEdits
from steersman.errors import ControlError

# Names take in slashes, so that a wrong name is answered here and not by another route.
_ONE = "/{name:path}"
_FORMAT = "safetensors"


def router(live: LiveEdits, offered: EditStore | None, admin: Admin) -> APIRouter:
    """The routes of the edits.

    Args:
        live: Edits that the weights have.
        offered: Edits that requests can choose; None on a server without rows for them.
        admin: Who may change them.

    """
    routes = APIRouter(prefix="/v1/control/edits", tags=["control"], route_class=ArtifactRoute)
    # One change at a time, so that a name stays either live or on offer.
    changing = asyncio.Lock()

    def find(name: str) -> tuple[Entry[Edit], bool]:
        entries = {entry.name: (entry, False) for entry in offered or ()}
        entries |= {entry.name: (entry, True) for entry in live.entries}
        if name not in entries:
            known = ", ".join(sorted(entries)) or "none"
            raise UnknownArtifactError(
                f"unknown edit {name[:80]!r}; this server has: {known}", field="name"
            )
        return entries[name]

    @routes.get("")
    async def list_edits() -> dict[str, Any]:
        """The edits that are live, and those that `control.thinkedit` can name."""
        data = [_describe(entry, live=True) for entry in live.entries]
        data += [_describe(entry, live=False) for entry in offered or ()]
        return {"object": "list", "data": data}

    @routes.get(_ONE)
    async def retrieve_edit(
        name: str,
        format: Annotated[
            str | None, Query(description="safetensors, for the file itself.")
        ] = None,
    ) -> Response:
        """One edit: a description, or its file."""
        entry, is_live = find(name)
        if format is None:
            return JSONResponse(_describe(entry, live=is_live))
        if format != _FORMAT:
            raise ControlError(f"unknown format {format[:80]!r}; known: {_FORMAT}", param="format")
        content = await asyncio.to_thread(file.write, entry.artifact)
        disposition = f'attachment; filename="{name}.{_FORMAT}"'
        return Response(
            content, 200, {"content-disposition": disposition}, "application/octet-stream"
        )

    @routes.put(_ONE)
    async def put_edit(
        name: str,
        request: Request,
        apply: Annotated[
            str,
            Query(description="false puts it on offer to requests and leaves the weights alone."),
        ] = "true",
    ) -> Response:
        """Apply an edit's file to the weights of all ranks, or offer it. Needs the admin key."""
        admin.authorize(request, NOUN)
        check_name(name, NOUN)
        if apply not in ("true", "false"):
            raise ControlError(f"{apply[:80]!r} is neither true nor false", param="apply")
        if apply == "false" and offered is None:
            raise ControlError(
                "this server has no rows for edits on offer: start it with --edit-rows",
                param="apply",
            )
        content = await admin.upload(request)
        if content is None:
            return Response(status_code=400)  # for nobody: the client has hung up
        async with changing:
            _refuse_both(name, live, offered, apply=apply == "true")
            if apply == "true":
                entry = await live.put(name, content)
            else:
                assert offered is not None
                entry = await offered.put(name, content)
        described = _describe(entry, live=apply == "true")
        return JSONResponse(described, 201 if entry.new else 200)

    @routes.delete(_ONE)
    async def delete_edit(name: str, request: Request) -> dict[str, Any]:
        """Take an edit back, from the weights or from offer. Needs the admin key."""
        admin.authorize(request, NOUN)
        async with changing:
            _, is_live = find(name)
            if is_live:
                await live.delete(name)
            else:
                assert offered is not None
                await offered.delete(name)
        return {"id": name, "object": "control.edit", "deleted": True}

    return routes


def _refuse_both(name: str, live: LiveEdits, offered: EditStore | None, *, apply: bool) -> None:
    """A name is either live or on offer."""
    if apply and offered is not None and name in offered.names:
        raise ControlError(f"edit {name!r} is on offer to requests: delete it first", param="name")
    if not apply and name in live:
        raise ControlError(f"edit {name!r} is live: delete it first", param="name")


def _describe(entry: Entry[Edit], *, live: bool) -> dict[str, Any]:
    edit = entry.artifact
    return {
        "id": entry.name,
        "object": "control.edit",
        "digest": edit.digest[:16],
        "live": live,
        "metadata": edit.metadata.model_dump(mode="json"),
        "layers": list(edit.layers),
        "heads": edit.heads,
        "hidden_size": edit.hidden_size,
        "parameters": edit.parameters,
        "size": entry.size,
    }
