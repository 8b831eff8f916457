"""Resources that a server keeps by name."""

import os
from urllib.parse import quote

from openai import RequestOptions
from pydantic import BaseModel, ConfigDict


class Stored(BaseModel):
    """Description of a resource that a server keeps."""

    # A newer server may say more than this client knows: keep it, do not refuse it.
    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)


def path(resource: str, name: str) -> str:
    """The path of one thing that a resource keeps.

    Raises:
        ValueError: HTTP clients would send the request somewhere else.

    """
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} cannot be the name of anything")
    return f"{resource}/{quote(name, safe='')}"


def as_admin(admin_key: str | None) -> RequestOptions:
    """Options of a request that changes the server.

    Args:
        admin_key: The server's admin key; STEERSMAN_ADMIN_API_KEY, or the client's key if None.

    """
    key = admin_key or os.environ.get("STEERSMAN_ADMIN_API_KEY")
    return {"headers": {"Authorization": f"Bearer {key}"}} if key else {}


def upload_options(admin_key: str | None) -> RequestOptions:
    """Options of a request that changes the server by a file."""
    options = as_admin(admin_key)
    return {
        **options,
        "headers": {**options.get("headers", {}), "Content-Type": "application/octet-stream"},
    }
