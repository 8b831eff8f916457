"""A controlled response on its way out: the receipt is written into it, progress beside it."""

import asyncio
import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Send

from steersman.api.broken import error_event
from steersman.api.chunks import ChunkHead
from steersman.api.live import LiveValues
from steersman.api.stream import ReceiptStream
from steersman.request import Endpoint
from steersman.scope import ControlScope


class Answer:
    """The outgoing half of one controlled HTTP request.

    JSON responses are held until they are complete; event streams pass through chunk by chunk.
    Errors are left as they are.

    Args:
        scope: The request.
        receive: Of ASGI.
        send: Of ASGI.
        live: Adds the monitor's values to the chunks of a stream; None to add nothing.
        news: Events that are due at the end of a stream; None without events.
        head: The common fields of the chunks of its stream; None where they are not known.

    """

    def __init__(
        self,
        scope: ControlScope,
        receive: Receive,
        send: Send,
        live: LiveValues | None = None,
        news: Callable[[int], bytes] | None = None,
        head: ChunkHead | None = None,
    ) -> None:
        self._scope = scope
        self._live = live
        self._news = news
        self._head = head
        self._receive = receive
        self._send = send
        self._lock = asyncio.Lock()
        self._start: Message | None = None
        self._body: list[bytes] = []
        self._stream: ReceiptStream | None = None
        self.status = 0
        self.complete = False
        self.disconnected = False
        self.sent = 0
        """Messages sent so far: a reporter of progress sees from it if the stream is idle."""

    @property
    def streaming(self) -> bool:
        return self._stream is not None and not self.complete

    @property
    def answered(self) -> bool:
        """True once an answer was sent. A stream's error comes after its status, as an event."""
        return self.status == 200 and (self._stream is None or self._stream.answered)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.complete:
            self.disconnected = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] == "http.response.body" and self._stream is not None:
            await self._send_chunk(self._stream, message)
        elif message["type"] == "http.response.body" and self._start is not None:
            await self._hold(self._start, message)
        else:
            self.complete = not message.get("more_body", False)
            await self._send(message)

    async def interject(self, event: Callable[[], bytes], created: int | None = None) -> None:
        """Send a whole event of our own between two of the stream's.

        Args:
            event: Makes the event, once it can be sent; empty for none.
            created: When the stream began, if the event says so: all later ones will say the same.

        """
        async with self._lock:
            if self._stream is None or self.complete or self._stream.over:
                return
            if data := event():
                if created is not None:
                    self._stream.created = created
                await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def break_off(self) -> bool:
        """End a Responses stream that an exception broke off; False if there is none to end."""
        stream, request = self._stream, self._scope.plan.request
        if stream is None or self.complete or request.endpoint is not Endpoint.RESPONSES:
            return False
        async with self._lock:
            self.complete = True
            failure = self._scope.ledger.failure
            body = stream.close() + (b"" if stream.over else error_event(failure, stream.events))
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
        return True

    def _ending(self) -> bytes:
        """The chunk that ends all choices where a limit has ended them before their first token."""
        stopped = self._scope.ledger.stopped_by is not None
        if not stopped or self._head is None or self._stream is None:
            return b""
        created = self._stream.created or int(time.time())
        branches = self._scope.ledger.returned
        return self._head.ending(created, sum(1 for _ in branches))

    async def _begin(self, message: Message) -> None:
        self.status = message["status"]
        content_type = MutableHeaders(raw=message["headers"]).get("content-type", "")
        if content_type.startswith("text/event-stream"):
            live = self._live.put if self._live is not None else None
            self._stream = ReceiptStream(self._scope.receipt, live, self._news, self._ending)
        elif self.status == 200 and content_type.startswith("application/json"):
            self._start = message
            return
        await self._send(message)

    async def _send_chunk(self, stream: ReceiptStream, message: Message) -> None:
        more = message.get("more_body", False)
        data = stream.feed(message.get("body", b""))
        if not more:
            data += stream.close()
        if data or not more:
            async with self._lock:
                self.complete = not more
                self.sent += 1
                await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _hold(self, start: Message, message: Message) -> None:
        self._body.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        body = self._with_receipt(b"".join(self._body))
        MutableHeaders(raw=start["headers"])["content-length"] = str(len(body))
        self.complete = True
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})

    def _with_receipt(self, body: bytes) -> bytes:
        if not body.startswith(b"{"):
            return body  # FastAPI's answer to a request whose client is gone
        # An answer can be long, and its closing brace is all that has to be known of it.
        receipt = self._scope.receipt().model_dump_json(exclude_none=True).encode()
        return body.rstrip()[:-1] + b',"control":' + receipt + b"}"
