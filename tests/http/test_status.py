"""Status endpoints: what the server says of itself."""

import httpx
import openai
from typer.testing import CliRunner

from steersman.cli import app
from steersman_client import Steersman
from tests.http.server import Server


def test_capabilities(client: Steersman) -> None:
    capabilities = client.control.capabilities()
    assert capabilities["model"] == {
        "names": ["smollm2"],
        "architecture": "LlamaForCausalLM",
        "hidden_size": 576,
        "layers": 30,
        "vocabulary": 49152,
        "max_model_len": 8192,
    }
    assert capabilities["thinking_tokens"] is None
    assert capabilities["methods"]["search"] == ["first_finish", "majority", "align"]
    assert capabilities["limits"]["max_branches"] == 16
    assert capabilities["rewards"] == ["likelihood", "verify"]


def test_profiles_are_listed_and_selectable(client: Steersman, sdk: openai.OpenAI) -> None:
    listed = {profile["id"]: profile for profile in client.control.profiles()["data"]}
    assert set(listed) == {"race", "watched"}
    assert listed["race"]["description"] == "The first of four finishers."
    assert {model.id for model in sdk.models.list()} == {
        "smollm2",
        "smollm2:race",
        "smollm2:watched",
    }
    answer = sdk.chat.completions.create(
        model="smollm2:race",
        messages=[{"role": "user", "content": "hi"}],
        temperature=1,
        max_tokens=8,
    )
    receipt = (answer.model_extra or {})["control"]
    assert receipt["applied"]["profile"] == "race"
    assert receipt["applied"]["search"]["launched"] == 4


def test_control_is_typed_in_the_openapi_document(server: Server) -> None:
    with server.client() as http:
        document = http.get("/openapi.json").json()
        assert http.get("/docs").status_code == 200
    schemas = document["components"]["schemas"]
    for name in ("ChatCompletionRequest", "CompletionRequest", "ResponsesRequest"):
        reference = schemas[name]["properties"]["control"]["anyOf"][0]["$ref"]
        assert reference == "#/components/schemas/ControlSpec"
    assert schemas["ControlSpec"]["additionalProperties"] is False
    assert "min_thinking" in schemas["FirstFinish"]["properties"]
    answer = document["paths"]["/v1/responses"]["post"]["responses"]["200"]
    properties = answer["content"]["application/json"]["schema"]["properties"]
    assert properties["control"]["$ref"] == "#/components/schemas/Receipt"
    assert "Compute" in schemas


def test_the_root_names_what_runs_to_those_with_a_key(server: Server) -> None:
    with server.client() as http:
        facts = http.get("/").json()
        page = http.get("/", headers={"Accept": "text/html"})
        assert http.get(facts["links"]["health"]).status_code == 200
        assert http.get(facts["links"]["docs"]).status_code == 200
        assert http.get(facts["links"]["capabilities"]).json()["model"]["names"] == ["smollm2"]
    assert facts["models"] == ["smollm2"]
    assert facts["controls"]["search"] == ["first_finish", "majority", "align"]
    assert set(facts["profiles"]) == {"race", "watched"}
    assert "smollm2:race" in page.text
    for accept in ("*/*", "text/html"):
        stranger = httpx.get(server.url, headers={"Accept": accept})
        assert stranger.status_code == 200
        assert "smollm2" not in stranger.text


def test_the_models_own_generation_settings_are_the_default(server: Server) -> None:
    body = {"model": "smollm2", "prompt": "The capital of France is", "seed": 1, "max_tokens": 24}
    named = {"temperature": 0.2, "top_p": 0.9}
    with server.client() as http:
        answers = [
            http.post("/v1/completions", json=body | fields).json()["choices"][0]["text"]
            for fields in ({}, named, {"temperature": 1.0, "top_p": 1.0})
        ]
    assert answers[0] == answers[1] != answers[2]


def test_metrics_count_by_method(client: Steersman, server: Server) -> None:
    before = {
        (name, key, value): server.metric(name, method="first_finish", **{key: value})
        for name, key, value in (
            ("steersman_requests_total", "outcome", "ok"),
            ("steersman_branches_total", "event", "launched"),
            ("steersman_tokens_total", "kind", "sampled"),
        )
    }
    answer = client.chat.completions.create(
        model="smollm2:race",
        messages=[{"role": "user", "content": "hi"}],
        temperature=1,
        max_tokens=8,
    )
    assert answer.control is not None
    grown = {
        name: server.metric(name, method="first_finish", **{key: value}) - count
        for (name, key, value), count in before.items()
    }
    assert grown == {
        "steersman_requests_total": 1,
        "steersman_branches_total": 4,
        "steersman_tokens_total": answer.control.compute.sampled_tokens,
    }
    assert server.metric("vllm:generation_tokens_total") > 0


def test_the_health_command(server: Server) -> None:
    healthy = CliRunner().invoke(app, ["health", "--url", server.url])
    assert healthy.exit_code == 0
    assert "healthy" in healthy.output
    nobody = CliRunner().invoke(app, ["health", "--url", "http://127.0.0.1:9"])
    assert nobody.exit_code == 1
