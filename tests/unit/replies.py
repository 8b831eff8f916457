"""HTTP replies by a function, from a free port of this machine."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply.

    Attributes:
        status: HTTP status.
        content: Its body.
        kind: Type of the body.
        missing: Bytes of the body that never come.
        headers: Further headers.

    """

    status: int
    content: bytes
    kind: str = "application/json"
    missing: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[str, Mapping[str, str], bytes], Reply]
"""From the path, the headers (their names in lower case) and the body of a request."""


@contextmanager
def replying(answer: Answer) -> Iterator[str]:
    """A server; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply(b"")

        def do_POST(self) -> None:
            self._reply(self.rfile.read(int(self.headers["content-length"])))

        def _reply(self, payload: bytes) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = answer(self.path, headers, payload)
            self.send_response(reply.status)
            self.send_header("content-type", reply.kind)
            self.send_header("content-length", str(len(reply.content)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.content[: len(reply.content) - reply.missing])
            self.close_connection = reply.missing > 0

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()
