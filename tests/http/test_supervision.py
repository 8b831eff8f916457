"""The engine dies: requests in flight end, health says so, the process exits for a supervisor."""

import os
import signal
import threading
from typing import Any

import httpx

from tests.http.server import Server

CHAT = "/v1/chat/completions"


def test_a_dead_engine_ends_the_server(server: Server) -> None:
    body: dict[str, Any] = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 4000,
        "ignore_eos": True,
        "temperature": 1.0,
    }
    search = {"control": {"search": {"method": "first_finish", "n": 4}}}
    answers: dict[str, httpx.Response] = {}

    def ask(name: str, fields: dict[str, Any]) -> None:
        with server.client() as http:
            answers[name] = http.post(CHAT, json=body | fields)

    asks = {"plain": {}, "search": search, "stream": search | {"stream": True}}
    threads = [threading.Thread(target=ask, args=item) for item in asks.items()]
    for thread in threads:
        thread.start()
    with (
        server.client() as http,
        http.stream("POST", CHAT, json=body | {"control": {}, "stream": True}) as stream,
    ):
        lines = stream.iter_lines()
        first = next(lines)
        engine = server.children()
        for pid in engine:
            os.kill(pid, signal.SIGKILL)
        rest = "".join(lines)
    for thread in threads:
        thread.join(30)

    assert engine
    assert first.startswith("data: {")
    assert '"error"' in rest
    assert answers["plain"].status_code == 500
    assert answers["search"].status_code == 500
    assert "message" in answers["search"].json()["error"]
    assert '"error"' in answers["stream"].text
    assert httpx.get(f"{server.url}/health").status_code == 503
    assert server.wait(30) == 1
