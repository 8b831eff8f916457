"""Steering with vectors, as users do it: over HTTP, through the SDK."""

import concurrent.futures
import contextlib
import json
import pickle
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from safetensors.torch import load_file

from steersman.vectors import file, gguf
from steersman.vectors.vector import Vector, VectorMetadata
from steersman_client import ControlSpec, FirstFinish, Steer, Steersman, receipt_of
from tests.http.conftest import STEERING_ROWS
from tests.http.server import ADMIN_KEY, API_KEY, Server
from tests.http.waiting import SECONDS, suspended

MODEL = "reasoner"
ASK: list[Any] = [{"role": "user", "content": "6+9*3-8=?"}]
HIDDEN, LAYERS = 192, 4
WEIGHTS = Path(__file__).parents[2] / "server/steersman/models/reasoner/model.safetensors"
ROWS_IN_USE = "steersman_steering_rows_in_use"
NOISE = np.random.default_rng(0).normal(size=(LAYERS, HIDDEN)).astype(np.float32)


def vector(layers: dict[int, np.ndarray] | None = None, **metadata: Any) -> bytes:
    """A vector file; noise in every layer by default."""
    described = VectorMetadata.model_validate({"site": "layer", "method": "test", **metadata})
    return file.write(Vector(dict(enumerate(NOISE)) if layers is None else layers, described))


def steer(name: str, **fields: Any) -> ControlSpec:
    return ControlSpec(steer=(Steer(vector=name, **fields),))


@contextlib.contextmanager
def uploaded(client: Steersman, name: str, content: bytes) -> Iterator[str]:
    client.control.vectors.upload(name, content, admin_key=ADMIN_KEY)
    try:
        yield name
    finally:
        client.control.vectors.delete(name, admin_key=ADMIN_KEY)


@pytest.fixture
def noise(thinker: Steersman) -> Iterator[str]:
    with uploaded(thinker, "noise", vector()) as name:
        yield name


@pytest.fixture
def threes(thinker: Steersman) -> Iterator[str]:
    """Pulls every token towards "3"."""
    head = load_file(WEIGHTS)["model.embed_tokens.weight"].float().numpy()
    (token,) = _tokens(thinker, "3")
    with uploaded(thinker, "threes", vector({LAYERS - 1: head[token]})) as name:
        yield name


def _tokens(client: Steersman, text: str) -> list[int]:
    answer = client.post(
        f"{str(client.base_url).removesuffix('/v1/')}/tokenize",
        body={"model": MODEL, "prompt": text, "add_special_tokens": False},
        cast_to=dict[str, Any],
    )
    tokens: list[int] = answer["tokens"]
    return tokens


def complete(client: Steersman, control: ControlSpec | None, **options: Any) -> Any:
    arguments = {"max_tokens": 6, "temperature": 0, **options}
    return client.completions.create(model=MODEL, prompt="6+9=", control=control, **arguments)


def test_the_server_says_how_it_steers(thinker: Steersman) -> None:
    capabilities = thinker.control.capabilities()

    assert capabilities["methods"]["steer"] == ["add"]
    assert capabilities["steering"]["rows"] == STEERING_ROWS
    assert capabilities["steering"]["runner"] == "V1"
    assert capabilities["steering"]["bytes"] > 0


@pytest.mark.scale(not_on={"replicas"})  # a router passes no upload on
def test_a_direction_takes_over_with_strength(thinker: Steersman, threes: str) -> None:
    def threes_at(strength: float) -> int:
        answer = complete(thinker, steer(threes, strength=strength, prompt=True))
        return int(answer.choices[0].text.count("3"))

    assert complete(thinker, None).choices[0].text.count("3") < 6
    assert threes_at(1000) == 6


def test_the_receipt_says_what_was_applied(thinker: Steersman, noise: str) -> None:
    answer = thinker.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=80,
        temperature=0,
        control=steer(noise, strength=1e-6, phase="thinking", layers=(1, 3)),
    )

    (applied,) = receipt_of(answer).applied.steer
    digest = thinker.control.vectors.retrieve(noise).digest
    assert applied.model_dump(exclude={"tokens"}) == {
        "vector": noise,
        "digest": digest,
        "layers": (1, 3),
        "strength": 1e-6,
        "phase": "thinking",
        "at": "all",
        "prompt": False,
        "warning": None,
    }
    usage = answer.usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    thought = usage.completion_tokens_details.reasoning_tokens
    assert thought is not None
    # <think> is steered with the thinking phase, </think> with the answer.
    assert applied.tokens == thought + 1


@pytest.mark.scale(not_on={"replicas"})  # a router passes no upload on
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choices", [1, 3])
def test_every_choice_is_steered_and_counted(
    thinker: Steersman, noise: str, stream: bool, choices: int
) -> None:
    options: dict[str, Any] = {"n": choices, "temperature": 1.0, "seed": 3, "max_tokens": 9}
    options["extra_body"] = {"ignore_eos": True}

    answer = complete(thinker, steer(noise, strength=0.1), stream=stream, **options)

    if stream:
        (receipt,) = [chunk.control for chunk in answer if chunk.control is not None]
    else:
        receipt = receipt_of(answer)
    (applied,) = receipt.applied.steer
    assert receipt.compute.sampled_tokens == 9 * choices
    assert applied.tokens == 8 * choices  # a response's last token is never fed to the model


def test_a_stop_string_does_not_lose_the_count(thinker: Steersman, threes: str) -> None:
    control = steer(threes, strength=1000, prompt=True)

    answer = complete(thinker, control, stop=["3333"], max_tokens=50)

    (applied,) = receipt_of(answer).applied.steer
    assert answer.choices[0].finish_reason == "stop"
    assert applied.tokens >= answer.usage.prompt_tokens + 3


@pytest.mark.scale(not_on={"replicas"})  # a router passes no upload on
def test_branches_of_a_search_are_steered(thinker: Steersman, noise: str) -> None:
    search = FirstFinish(method="first_finish", n=4)
    control = steer(noise, strength=0.1).model_copy(update={"search": search})

    answer = thinker.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=200, seed=1, control=control
    )

    receipt = receipt_of(answer)
    assert receipt.applied.search is not None
    assert receipt.applied.search.launched == 4
    assert receipt.applied.steer[0].tokens == receipt.compute.returned_tokens - 1


def test_the_responses_api_takes_it_too(thinker: Steersman, noise: str) -> None:
    answer = thinker.responses.create(
        model=MODEL, input="6+9=?", max_output_tokens=60, control=steer(noise, strength=0.1)
    )

    assert receipt_of(answer).applied.steer[0].tokens > 0


def test_a_strength_out_of_range_is_warned_of(thinker: Steersman) -> None:
    with uploaded(thinker, "narrow", vector(strength_range=(0.1, 0.5))) as name:
        answer = complete(thinker, steer(name, strength=0.7))

    assert "outside the range 0.1 to 0.5" in str(receipt_of(answer).applied.steer[0].warning)


def test_a_vector_deleted_in_use_finishes_its_requests(thinker: Steersman) -> None:
    thinker.control.vectors.upload("brief", vector(), admin_key=ADMIN_KEY)
    stream = complete(
        thinker,
        steer("brief", strength=0.1),
        stream=True,
        max_tokens=300,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))

    assert thinker.control.vectors.delete("brief", admin_key=ADMIN_KEY).deleted
    with pytest.raises(openai.BadRequestError, match="unknown vector 'brief'"):
        complete(thinker, steer("brief"))

    (receipt,) = [chunk.control for chunk in stream if chunk.control is not None]
    assert receipt.applied.steer[0].tokens == 299


def test_a_full_bank_makes_requests_wait_then_refuses(
    thinker: Steersman, reasoner: Server, noise: str
) -> None:
    strengths = [0.1 * number for number in range(1, STEERING_ROWS + 1)]

    def start(strength: float) -> concurrent.futures.Future[Any]:
        return pool.submit(complete, thinker, steer(noise, strength=strength))

    with concurrent.futures.ThreadPoolExecutor() as pool, suspended(reasoner):
        held = [start(strength) for strength in strengths]
        assert reasoner.wait_for_metric(ROWS_IN_USE, STEERING_ROWS, SECONDS)
        with pytest.raises(openai.RateLimitError, match="all 3 steering rows") as caught:
            complete(thinker, steer(noise, strength=0.9))
        same = start(strengths[0])
        time.sleep(1)
        assert not same.done()  # it would have been refused by now

    assert caught.value.response.headers["retry-after"] == "1"
    assert caught.value.param == "control.steer"
    for one in (*held, same):
        assert receipt_of(one.result()).applied.steer[0].tokens == 5
    assert receipt_of(complete(thinker, steer(noise, strength=0.9))).applied.steer[0].tokens == 5


def test_a_stream_that_is_cut_off_frees_its_row(
    thinker: Steersman, reasoner: Server, noise: str
) -> None:
    with suspended(reasoner):
        with complete(thinker, steer(noise, strength=0.7), stream=True):
            assert reasoner.wait_for_metric(ROWS_IN_USE, 1, SECONDS)
        assert reasoner.wait_for_metric(ROWS_IN_USE, 0, SECONDS)


def metric(server: Server, name: str) -> float:
    with server.client() as client:
        found = re.findall(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[0])


def test_metrics_count_steered_tokens(thinker: Steersman, reasoner: Server, noise: str) -> None:
    name = 'steersman_steered_tokens_total{boundary="false",segment="prompt"}'
    before = metric(reasoner, name)
    answer = complete(thinker, steer(noise, strength=0.1, prompt=True))

    assert metric(reasoner, name) - before == answer.usage.prompt_tokens
    assert metric(reasoner, "steersman_vectors") == len(thinker.control.vectors.list())


def test_vectors_travel_as_gguf_too(thinker: Steersman) -> None:
    made = Vector({1: NOISE[1], 3: NOISE[3]}, VectorMetadata(site="layer", method="test"))

    with uploaded(thinker, "gguf", gguf.write(made)):
        (listed,) = (one for one in thinker.control.vectors.list() if one.id == "gguf")
        content = thinker.control.vectors.download("gguf", format="gguf")

    assert listed.layers == (1, 3)
    np.testing.assert_array_equal(gguf.read(content).layers[3], NOISE[3])


def put(server: Server, name: str, content: bytes, key: str | None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        return client.put(f"/v1/control/vectors/{name}", content=content, headers=headers)


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b"nonsense", "vector"),
        (pickle.dumps({"layer.0": [1.0]}), "vector"),
        (vector({0: np.zeros(8, np.float32)}), "vector"),
        (vector({7: NOISE[0]}), "layers[7]"),
        (vector(model_digest="0" * 64), "metadata.model_digest"),
        (
            vector().replace(NOISE[2].tobytes(), np.full(HIDDEN, np.nan, "f4").tobytes()),
            "layers[2]",
        ),
    ],
    ids=["nonsense", "pickle", "hidden size", "layer", "another model", "nan"],
)
def test_a_bad_file_is_refused(reasoner: Server, content: bytes, param: str) -> None:
    answer = put(reasoner, "bad", content, ADMIN_KEY)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("name", ["..%2Fbad", "a%2Fb", "a/b", ".hidden", "x" * 65])
def test_a_bad_name_is_refused(reasoner: Server, name: str) -> None:
    answer = put(reasoner, name, vector(), ADMIN_KEY)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "name"


@pytest.mark.parametrize(
    ("key", "status", "reason"),
    [(None, 401, ""), ("wrong", 401, ""), (API_KEY, 403, "ordinary")],
)
def test_only_the_admin_changes_vectors(
    reasoner: Server, key: str | None, status: int, reason: str
) -> None:
    answer = put(reasoner, "mine", vector(), key)

    assert answer.status_code == status
    assert reason in answer.text


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ([{"vector": "unknown"}], "control.steer[0].vector"),
        ([{"vector": "noise"}, {"vector": "noise", "layers": [4]}], "control.steer[1].layers[0]"),
        ([{"vector": "noise", "strength": float("nan")}], "control.steer[0].strength"),
        ([{"vector": "noise", "strength": float("inf")}], "control.steer[0].strength"),
        ([{"vector": "noise"}] * 17, "control.steer"),
    ],
    ids=["unknown", "layer", "nan", "infinite", "too many"],
)
@pytest.mark.usefixtures("noise")
def test_a_bad_term_is_refused(reasoner: Server, terms: list[Any], param: str) -> None:

    body = {"model": MODEL, "prompt": "6+9=", "control": {"steer": terms}}
    with reasoner.client() as client:
        answer = client.post(
            "/v1/completions",
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_what_only_the_server_may_send_is_refused(thinker: Steersman) -> None:
    with pytest.raises(openai.BadRequestError, match="reserved"):
        complete(thinker, None, extra_body={"vllm_xargs": {"steersman": "mine"}})


def test_two_engines_have_the_same_vectors(two_engines: Server) -> None:
    base_url = f"{two_engines.url}/v1"
    with Steersman(base_url=base_url, api_key=API_KEY, max_retries=0) as client:
        head = load_file(WEIGHTS)["model.embed_tokens.weight"].float().numpy()
        (token,) = _tokens(client, "3")
        with (
            uploaded(client, "threes", vector({LAYERS - 1: head[token]})) as name,
            concurrent.futures.ThreadPoolExecutor(8) as pool,
        ):
            control = steer(name, strength=1000, prompt=True)
            answers = list(pool.map(lambda _: complete(client, control, max_tokens=100), range(16)))

    assert {answer.choices[0].text for answer in answers} == {"3" * 100}
    engines = [
        metric(two_engines, f'vllm:generation_tokens_total{{engine="{i}",model_name="{MODEL}"}}')
        for i in (0, 1)
    ]
    assert min(engines) > 0
