"""`/v1/control/...`: what this server can do, and the presets it keeps."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from steersman.capabilities import Capabilities, Digests
from steersman.keys.key import KeyFacts
from steersman.keys.usage import PASS
from steersman.plan import Planner


def router(planner: Planner, digests: Callable[[], Digests]) -> APIRouter:
    """The routes that describe a server's controls.

    Args:
        planner: Knows what the server can do.
        digests: Of what it has loaded.

    """
    routes = APIRouter(prefix="/v1/control", tags=["control"])

    @routes.get("/capabilities")
    def capabilities() -> Capabilities:
        """Capabilities of this server: model, thinking tokens, methods and limits."""
        admitted = PASS.get()
        now = {
            "digests": digests(),
            "key": None if admitted is None else KeyFacts.of(admitted.key),
        }
        return planner.capabilities.model_copy(update=now)

    @routes.get("/profiles")
    def profiles() -> dict[str, Any]:
        """The profiles that `control.profile` and the model suffix can name."""
        return {
            "object": "list",
            "data": [
                {"id": name, "object": "control.profile", **profile.model_dump(mode="json")}
                for name, profile in planner.profiles.items()
            ],
        }

    return routes
