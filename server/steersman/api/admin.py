"""Changes to a running server: permission, the upload's size, and the answers to refusals."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from steersman.api import body, keys, request_id
from steersman.api.refusal import Refusal
from steersman.artifacts.artifact import ArtifactError, HostError, UnknownArtifactError
from steersman.artifacts.directory import DirectoryError
from steersman.errors import ControlError
from steersman.keys.key import Key, Scope
from steersman.keys.ring import Keys
from steersman.observe.requests import log_refusal


class ArtifactRoute(APIRoute):
    """A route whose errors are answered in OpenAI's format."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except ArtifactError as error:
                refusal = ControlError(error.message, param=error.field, status=_status(error))
            except HostError as error:
                refusal = _failure(error)
            except ControlError as error:
                refusal = error
            return Refusal(refusal)

        return answer


def closed(noun: str) -> APIRouter:
    """Routes for things that a server without steering does not keep; each answers with the reason.

    Args:
        noun: The word for one of them, in messages.

    """
    routes = APIRouter(
        prefix=f"/v1/control/{noun}s", route_class=ArtifactRoute, include_in_schema=False
    )

    @routes.api_route("", methods=["GET"])
    @routes.api_route("/{name:path}", methods=["GET", "PUT", "DELETE"])
    async def refuse() -> None:
        raise ControlError(
            f"this server has no {noun}s: it was started with --no-steering",
            param=None,
            status=403,
        )

    return routes


def _failure(error: HostError) -> ControlError:
    """The answer to a change that the engine could not make, which a client need not try again."""
    why = "has no memory left for it" if error.full else "could not do it"
    return ControlError(
        f"nothing has changed: the engine {why} ({error.message})",
        param=None,
        status=HTTPStatus.INSUFFICIENT_STORAGE if error.full else HTTPStatus.INTERNAL_SERVER_ERROR,
        headers={"x-should-retry": "false"},  # OpenAI's clients go by it
    )


def _status(error: ArtifactError) -> int:
    if isinstance(error, UnknownArtifactError):
        return 404
    return 500 if isinstance(error, DirectoryError) else 400


@dataclass(frozen=True, slots=True)
class Admin:
    """Permission to change a server, and the size of an upload.

    Attributes:
        keys: The server's keys; without one for admins no client may change anything.
        max_bytes: Size of an upload.
        unauthorized: Called with the status of a request whose key opens no change.

    """

    keys: Keys
    max_bytes: int
    unauthorized: Callable[[int], None] = lambda status: None

    def authorize(self, request: Request, noun: str) -> None:
        """Let a request through that has an admin key.

        Args:
            request: The request.
            noun: The word for the things that it would change.

        Raises:
            ControlError: It has not: HTTP 401, or 403.

        """
        key: Key | None = None
        try:
            key = self._key(request, noun)
            self._let(key, noun)
        except ControlError as error:
            self.unauthorized(error.status)
            own = request_id.identified(request.scope)[1]
            log_refusal(own.value, error, key.name if key is not None else None)
            raise

    def _key(self, request: Request, noun: str) -> Key:
        if not self.keys.has_admin:
            raise ControlError(
                f"the {noun}s of this server are read-only: start it with --admin-api-key to "
                "change them",
                param=None,
                status=403,
            )
        given = keys.bearer(request.headers)
        if given is None:
            raise keys.unknown(f"changing {noun}s needs the admin key: Authorization: Bearer KEY")
        key = self.keys.find(given)
        if key is None:
            raise keys.unknown("the admin key is wrong")
        return key

    def _let(self, key: Key, noun: str) -> None:
        if Scope.ADMIN not in key.scopes:
            raise ControlError(
                f"this is an ordinary API key: changing {noun}s needs the admin key",
                param=None,
                status=403,
            )

    async def upload(self, request: Request) -> bytes | None:
        """The body of an upload; None if the client hung up before its end.

        Raises:
            ControlError: It is too large.

        """
        try:
            if body.declared(request.headers) > self.max_bytes:
                raise body.BodyTooLargeError(self.max_bytes)
            return await body.read(request.receive, self.max_bytes)
        except body.BodyTooLargeError:
            raise ControlError(
                f"the file is over this server's limit of {self.max_bytes} bytes", param="body"
            ) from None
