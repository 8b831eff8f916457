"""Ends of a server: its engine dies, or it is told to stop while requests are in flight."""

import contextlib
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.http.server import API_KEY, Server
from tests.http.waiting import SECONDS, suspended, wait_for_rest, wait_until

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("killed", ["core", "worker"])
def test_a_killed_engine_ends_the_server(server: Server, killed: str) -> None:
    """Whichever of its processes is killed, the others end by themselves."""
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
        os.kill(_engine(server)[killed], signal.SIGKILL)
        rest = "".join(lines)
        health = http.get("/health")
    for thread in threads:
        thread.join(SECONDS)

    assert first.startswith("data: {")
    assert '"error"' in rest
    assert health.status_code == 503
    assert answers["plain"].status_code == 500
    assert answers["search"].status_code == 500
    assert "message" in answers["search"].json()["error"]
    assert '"error"' in answers["stream"].text
    assert server.wait(SECONDS) == 1
    wait_until(lambda: not server.children())


def _engine(server: Server) -> dict[str, int]:
    """Process ids of the engine core, which is started by the server, and of its worker."""
    (core,) = (one for one in psutil.Process(server.process_id).children() if one.children())
    (worker,) = core.children()
    return {"core": core.pid, "worker": worker.pid}


def test_a_dead_engine_is_the_end_whatever_is_still_open(reasoner: Server, tmp_path: Path) -> None:
    """Neither a reward that hangs nor half a body holds up the exit, whatever a drain may take."""
    waiting, answers = _judging(reasoner, tmp_path)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
    with socket.create_connection(("127.0.0.1", reasoner.port)) as half:
        half.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        os.kill(_engine(reasoner)["core"], signal.SIGKILL)
        assert reasoner.wait(SECONDS) == 1
    waiting.join(SECONDS)
    assert answers[0].status_code == 503
    assert "the engine has died" in answers[0].json()["error"]["message"]
    wait_until(lambda: not reasoner.children())


def _catches_the_signal(process_id: int) -> bool:
    status = Path(f"/proc/{process_id}/status").read_text()
    (caught,) = re.findall(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize("engine", [False, True])
def test_a_server_can_be_stopped_while_it_starts(tmp_path: Path, engine: bool) -> None:
    """It ends with all that it has started, be it still importing or with its engine there."""
    server = Server.steersman(("reasoner",), tmp_path / "log")

    def far_enough() -> bool:
        if engine:
            return any(_name(one).startswith("VLLM") for one in server.children())
        return _catches_the_signal(server.process_id)

    server.launch()
    try:
        wait_until(far_enough)
        os.kill(server.process_id, signal.SIGTERM)
        code = server.wait(SECONDS)
        wait_until(lambda: not server.children())
    finally:
        server.stop()
    assert code == 0
    assert "told to stop before the server was ready" in (tmp_path / "log").read_text()


def _name(process_id: int) -> str:
    """Name of a process; empty if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        name: str = psutil.Process(process_id).name()
        return name
    return ""


ASKED: dict[str, Any] = {
    "model": "reasoner",
    "messages": [{"role": "user", "content": "6+9*3-8=?"}],
    "temperature": 1.0,
    "ignore_eos": True,
    "max_tokens": 400,
}


LONG = 4096
"""Steps that take minutes; the most that a chain may make."""


def chain(steps: int, *events: str) -> dict[str, Any]:
    """A control whose request starts branches as long as it takes."""
    search = {"method": "align", "target": {"power": 4.0}, "steps": steps, "look_ahead": 1}
    return {"control": {"search": search, "events": [*events]}}


def test_a_server_that_is_told_to_stop_finishes_what_it_has_begun(reasoner: Server) -> None:
    """It takes nobody else; what goes on for ever gets an error at the second signal."""
    answers: dict[str, httpx.Response] = {}
    sent = threading.Semaphore(0)

    def trace(event: str, _: Mapping[str, Any]) -> None:
        if event == "http11.send_request_body.complete":
            sent.release()

    def ask(name: str, fields: dict[str, Any]) -> None:
        with reasoner.client() as http:
            answers[name] = http.post(CHAT, json=ASKED | fields, extensions={"trace": trace})

    asks = {
        "plain": {},
        "vote": {"control": {"search": {"method": "majority", "n": 4}}},
        "endless": chain(LONG),
    }
    threads = {name: threading.Thread(target=ask, args=(name, asks[name])) for name in asks}
    streamed = {"stream": True}
    with (
        reasoner.client() as http,
        http.stream("POST", CHAT, json=ASKED | streamed | chain(10, "steps")) as short,
        http.stream("POST", CHAT, json=ASKED | streamed | chain(LONG, "steps")) as long,
    ):
        finishing, told = short.iter_lines(), long.iter_lines()
        assert next(finishing).startswith("data: {")
        assert next(told).startswith("data: {")
        engine = reasoner.children()
        with suspended(reasoner):
            for thread in threads.values():
                thread.start()
            for _ in threads:
                assert sent.acquire(timeout=SECONDS)
            wait_for_rest(reasoner)
            os.kill(reasoner.process_id, signal.SIGTERM)
        finished = [*filter(None, finishing)]
        for name in ("plain", "vote"):
            threads[name].join(SECONDS)
        wait_until(lambda: not _listens(reasoner))
        in_flight = "endless" not in answers
        os.kill(reasoner.process_id, signal.SIGTERM)
        last = [*filter(None, told)][-2:]
    threads["endless"].join(SECONDS)

    assert engine
    receipt = next(line for line in reversed(finished) if '"applied"' in line)
    assert json.loads(receipt.removeprefix("data: "))["control"]["applied"]["search"]["steps"] == 10
    assert finished[-1] == "data: [DONE]"
    assert answers["plain"].json()["usage"]["completion_tokens"] == 400
    assert answers["vote"].json()["control"]["applied"]["search"]["method"] == "majority"
    assert in_flight
    assert answers["endless"].status_code == 503
    assert "shutting down" in answers["endless"].json()["error"]["message"]
    assert any("shutting down" in line for line in last)
    assert reasoner.wait(SECONDS) == 0
    assert reasoner.children() == []


def test_a_hung_reward_does_not_hold_up_the_end(reasoner: Server, tmp_path: Path) -> None:
    """It has 600 seconds; whoever waits for it gets an error at the second signal."""
    waiting, answers = _judging(reasoner, tmp_path)
    os.kill(reasoner.process_id, signal.SIGTERM)
    wait_until(lambda: not _listens(reasoner))
    told_before = bool(answers)
    os.kill(reasoner.process_id, signal.SIGTERM)
    waiting.join(SECONDS)

    assert not told_before
    assert answers[0].status_code == 503
    assert "reward 'hung': the server is shutting down" in answers[0].json()["error"]["message"]
    assert reasoner.wait(SECONDS) == 0
    assert reasoner.children() == []


JUDGED: dict[str, Any] = {
    "model": "reasoner",
    "messages": [{"role": "user", "content": "6+9*3-8=?"}],
    "temperature": 1.0,
    "max_tokens": 400,
}
"""Ends by itself: only a response whose thinking is closed is given to a reward."""


def _judging(server: Server, directory: Path) -> tuple[threading.Thread, list[httpx.Response]]:
    """A request whose reward hangs by now, and its answer, once there is one."""
    begun = directory / "begun"
    reward = {"name": "hung", "data": {"begun": str(begun)}}
    search = {"method": "align", "target": {"reward": reward}, "steps": 4}
    answers: list[httpx.Response] = []

    def ask() -> None:
        with server.client() as http:
            answers.append(http.post(CHAT, json=JUDGED | {"control": {"search": search}}))

    waiting = threading.Thread(target=ask)
    waiting.start()
    wait_until(begun.exists)
    return waiting, answers


def _listens(server: Server) -> bool:
    try:
        httpx.get(f"{server.url}/health")
    except httpx.TransportError:
        return False
    return True
