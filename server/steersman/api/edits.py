"""`/v1/control/edits`: edits of the model's weights, live for all requests or on offer to them."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from steersman.api.admin import Admin, ArtifactRoute
from steersman.api.download import attachment
from steersman.artifacts.artifact import UnknownArtifactError
from steersman.artifacts.files import Entry, check_name
from steersman.artifacts.store import Store
from steersman.edits import file
from steersman.edits.edit import Edit
from steersman.edits.store import EDITS, LiveEdits
from steersman.errors import ControlError

# Names take in slashes, so that a wrong name is answered here and not by another route.
_ONE = "/{name:path}"
_FORMAT = "safetensors"


def router(live: LiveEdits, offered: Store[Edit] | None, admin: Admin) -> APIRouter:
    """The routes of the edits.

    Args:
        live: Edits that the weights have.
        offered: Edits that requests can choose; None on a server without rows for them.
        admin: Who may change them.

    """
    edits = _Edits(live, offered, admin)
    routes = APIRouter(prefix="/v1/control/edits", tags=["control"], route_class=ArtifactRoute)
    routes.get("")(edits.list_edits)
    routes.get(_ONE)(edits.retrieve_edit)
    routes.put(_ONE)(edits.put_edit)
    routes.delete(_ONE)(edits.delete_edit)
    return routes


class _Edits:
    """The edits of a server, as its routes see them."""

    def __init__(self, live: LiveEdits, offered: Store[Edit] | None, admin: Admin) -> None:
        self._live, self._offered, self._admin = live, offered, admin
        # One change at a time, so that a name stays either live or on offer.
        self._changing = asyncio.Lock()

    async def list_edits(self) -> dict[str, Any]:
        """The edits that are live, and those that `control.thinkedit` can name."""
        data = [_describe(entry, live=True) for entry in self._live.entries]
        data += [_describe(entry, live=False) for entry in self._offered or ()]
        return {"object": "list", "data": data}

    async def retrieve_edit(
        self,
        name: str,
        format: Annotated[
            str | None, Query(description="safetensors, for the file itself.")
        ] = None,
    ) -> Response:
        """One edit: a description, or its file."""
        entry, is_live = self._find(name)
        if format is None:
            return JSONResponse(_describe(entry, live=is_live))
        if format != _FORMAT:
            raise ControlError(f"unknown format {format[:80]!r}; known: {_FORMAT}", param="format")
        content = await asyncio.to_thread(file.write, entry.artifact)
        return attachment(content, f"{name}.{_FORMAT}")

    async def put_edit(
        self,
        name: str,
        request: Request,
        apply: Annotated[
            str,
            Query(description="false puts it on offer to requests and leaves the weights alone."),
        ] = "true",
    ) -> Response:
        """Apply an edit's file to the weights of all ranks, or offer it. Needs the admin key."""
        self._admin.authorize(request, EDITS.noun)
        check_name(name, EDITS.noun)
        if apply not in ("true", "false"):
            raise ControlError(f"{apply[:80]!r} is neither true nor false", param="apply")
        if apply == "false" and self._offered is None:
            raise ControlError(
                "this server has no rows for edits on offer: start it with --edit-rows",
                param="apply",
            )
        content = await self._admin.upload(request)
        if content is None:
            return Response(status_code=400)  # for nobody: the client has hung up
        async with self._changing:
            _refuse_both(name, self._live, self._offered, apply=apply == "true")
            if apply == "true":
                entry = await self._live.put(name, content)
            else:
                assert self._offered is not None
                entry = await self._offered.put(name, content)
        described = _describe(entry, live=apply == "true")
        return JSONResponse(described, 201 if entry.new else 200)

    async def delete_edit(self, name: str, request: Request) -> dict[str, Any]:
        """Take an edit back, from the weights or from offer. Needs the admin key."""
        self._admin.authorize(request, EDITS.noun)
        async with self._changing:
            _, is_live = self._find(name)
            if is_live:
                await self._live.delete(name)
            else:
                assert self._offered is not None
                await self._offered.delete(name)
        return {"id": name, "object": "control.edit", "deleted": True}

    def _find(self, name: str) -> tuple[Entry[Edit], bool]:
        entries = {entry.name: (entry, False) for entry in self._offered or ()}
        entries |= {entry.name: (entry, True) for entry in self._live.entries}
        if name not in entries:
            known = ", ".join(sorted(entries)) or "none"
            raise UnknownArtifactError(
                f"unknown edit {name[:80]!r}; this server has: {known}", field="name"
            )
        return entries[name]


def _refuse_both(name: str, live: LiveEdits, offered: Store[Edit] | None, *, apply: bool) -> None:
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
