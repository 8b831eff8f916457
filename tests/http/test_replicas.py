"""Replicas behind a router: a prompt stays where it is cached, and a lost replica is no silence."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from steersman.edits import file as edit_file
from steersman_client import ControlSpec, Steer, Steersman, receipt_of
from tests.engine.edits import random_edit
from tests.http.replicas import Replicas
from tests.http.server import ADMIN_KEY, API_KEY, Server
from tests.http.test_following import ask, changed, digests, noise
from tests.http.waiting import SOON, wait_until

pytestmark = pytest.mark.replicas

CHAT = "/v1/chat/completions"
REQUESTS = "steersman_requests_total"
RUNNING = "vllm:num_requests_running"
OVER = 30.0
"""Seconds after which a router must have stopped to send requests to a lost replica."""


def asked(question: str, **fields: Any) -> dict[str, Any]:
    return {
        "model": "reasoner",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 64,
        "control": {"search": {"method": "majority", "n": 4}},
        **fields,
    }


def test_a_prompt_goes_to_the_replica_that_has_it_cached(replicas: Replicas) -> None:
    before = [one.metric(REQUESTS) for one in replicas.each]
    question = "Compute 3+4*5-6 and then think about " + "it again and again " * 8
    with replicas.client() as http:
        for _ in range(6):
            assert http.post(CHAT, json=asked(question)).status_code == 200
    grown = sorted(
        one.metric(REQUESTS) - was for one, was in zip(replicas.each, before, strict=True)
    )
    assert grown == [0, 6]


def test_what_is_changed_on_one_replica_comes_to_the_other(replicas: Replicas) -> None:
    urls = [f"{one.url}/v1" for one in replicas.each]
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(Steersman(base_url=url, api_key=API_KEY, max_retries=0))
            for url in urls
        )
        before = digests(first)
        assert before == digests(second)

        first.control.vectors.upload("ours", noise(), admin_key=ADMIN_KEY)
        assert changed(before, digests(first)) == {"all", "vectors"}
        wait_until(lambda: digests(second) == digests(first))
        steered = ask(second, control=ControlSpec(steer=(Steer(vector="ours"),)))
        assert receipt_of(steered).applied.steer[0].tokens

        edit = edit_file.write(random_edit({0: (1, 4)}, weight=14.0, seed=3))
        first.control.edits.upload("ours", edit, apply=True, admin_key=ADMIN_KEY)
        assert "live_edits" in changed(before, digests(first))
        wait_until(lambda: digests(second) == digests(first))
        assert [one.edit for one in receipt_of(ask(second, control={})).applied.edits] == ["ours"]

        second.control.edits.delete("ours", admin_key=ADMIN_KEY)
        second.control.vectors.delete("ours", admin_key=ADMIN_KEY)
        wait_until(lambda: digests(first) == digests(second) == before)


def test_a_lost_replica_is_an_error_or_another_answer_but_never_silence(replicas: Replicas) -> None:
    lost, left = replicas.each
    before = left.metric(REQUESTS, outcome="ok")
    long = {"max_tokens": 900, "ignore_eos": True, "n": 2, "control": {"monitor": {}}}

    def stream(number: int) -> str:
        body = asked(f"{number}+{number}=?", stream=True, **long)
        with replicas.client() as http:
            try:
                with http.stream("POST", CHAT, json=body, timeout=120) as answer:
                    text = "".join(answer.iter_text())
            except httpx.HTTPError:
                return "cut off"
            if answer.status_code != 200 or '"error"' in text:
                return "error"
            return "answered" if text.rstrip().endswith("data: [DONE]") else "silence"

    with ThreadPoolExecutor(16) as pool:
        streams = [pool.submit(stream, number) for number in range(16)]
        for one in (lost, left):
            wait_until(lambda one=one: one.metric(RUNNING) > 0)
        kill(lost)
        ends = [one.result(timeout=300) for one in streams]
    assert "silence" not in ends
    assert set(ends) & {"cut off", "error"}, "nothing ran on the lost replica"
    assert "answered" in ends

    with replicas.client() as http:
        wait_until(lambda: http.post(CHAT, json=asked("5+5=?")).status_code == 200, OVER)
        for number in range(8):
            answer = http.post(CHAT, json=asked(f"{number}+1=?"))
            assert answer.status_code == 200
            assert answer.json()["control"]["applied"]["search"]["launched"] == 4
    assert left.metric(REQUESTS, outcome="ok") > before + 8
    assert left.wait_for_metric(RUNNING, 0, SOON)


def kill(server: Server) -> None:
    """End a server and its engine as the kernel does when memory is short."""
    for process in _processes(server):
        process.kill()


def _processes(server: Server) -> Iterator[psutil.Process]:
    for process_id in (server.process_id, *server.children()):
        yield psutil.Process(process_id)
