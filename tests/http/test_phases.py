"""Bounds of thinking, as vLLM's own parser has them, over HTTP."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from steersman_client import Steersman
from tests.http.conftest import Servers
from tests.http.server import API_KEY, Server

REASONER = Path(__file__).parents[2] / "server/steersman/models/reasoner"
QUESTION = {"role": "user", "content": "6+9*3-8=?"}
CONTINUED = [
    {"role": "user", "content": "What is the <think> tag? 6+9*3-8=?"},
    {"role": "assistant", "content": "The answer is"},
]


@pytest.fixture(scope="session")
def caller_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reasoner, with the tokens of a tool call in rows that it leaves unused."""
    directory = tmp_path_factory.mktemp("models") / "caller"
    directory.mkdir()
    for file in REASONER.iterdir():
        if file.is_file():
            (directory / file.name).write_bytes(file.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens(["<tool_call>", "</tool_call>"], special_tokens=False)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def caller(_servers: Servers, caller_directory: Path) -> Server:
    """A model that can call a tool straight out of its thinking."""
    arguments = (
        "--served-model-name=caller",
        "--max-num-seqs=16",
        "--reasoning-parser=qwen3",
        "--enable-auto-tool-choice",
        "--tool-call-parser=qwen3_xml",
        "--trust-request-chat-template",
    )
    return _servers.get((str(caller_directory), *arguments))


def ask(server: Server, **fields: Any) -> dict[str, Any]:
    """A chat completion."""
    body = {"max_tokens": 40, "seed": 1, "messages": [QUESTION], **fields}
    with server.client() as http:
        response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_users_text_opens_no_thinking(reasoner: Server) -> None:
    turn = {
        "messages": CONTINUED,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }
    governed = ask(reasoner, **turn, control={"thinking": {"budget": 2}})
    assert governed["control"]["applied"]["thinking"]["forced_tokens"] == 0
    plain = ask(reasoner, **turn)
    assert governed["choices"][0]["message"] == plain["choices"][0]["message"]
    search = {"method": "first_finish", "n": 3}
    raced = ask(reasoner, **turn, control={"search": search})["control"]["applied"]["search"]
    assert raced["decided_by"] == "first"


def test_thinking_tokens_are_those_that_vllm_counts(reasoner: Server) -> None:
    for budget in (0, 2, None):
        answer = ask(reasoner, max_tokens=300, control={"thinking": {"budget": budget}})
        applied = answer["control"]["applied"]["thinking"]
        assert applied["closed_by"] == ("model" if budget is None else "budget")
        details = answer["usage"].get("completion_tokens_details") or {}
        assert applied["tokens"] == details.get("reasoning_tokens", applied["tokens"])
        assert budget is None or applied["tokens"] == budget


def test_a_tool_call_out_of_the_thinking_is_left_alone(
    caller: Server, caller_directory: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(caller_directory)
    call = tokenizer.convert_tokens_to_ids("<tool_call>")
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    begun = {
        "messages": [QUESTION, {"role": "assistant", "content": "<think>"}],
        "chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% if not loop.last %}<|im_end|>\n{% endif %}{% endfor %}",
        "add_generation_prompt": False,
        "continue_final_message": True,
        "tools": [tool],
        "temperature": 0,
        "max_tokens": 6,
        "logit_bias": {str(call): 100},
    }
    for thinking in ({}, {"budget": 2}, {"min_answer_tokens": 3}):
        answer = ask(caller, **begun, control={"thinking": thinking, "monitor": {}})
        applied = answer["control"]["applied"]["thinking"]
        assert applied == {
            "tokens": 0,
            "closed_by": "model",
            "closed_at": 0,
            "forced_tokens": 0,
        }
        assert answer["control"]["entropy"]["answer"]["tokens"] == 6
        assert answer["control"]["entropy"].get("pear") is not None
        assert not answer["choices"][0]["message"].get("reasoning")
    # Each branch stops by itself, with a call for its answer.
    stops = {"stop": ["<tool_call><tool_call>"], "include_stop_str_in_output": True}
    search = {"method": "first_finish", "n": 3}
    raced = ask(caller, **{**begun, **stops, "temperature": 1}, control={"search": search})
    assert raced["control"]["applied"]["search"]["decided_by"] == "first"


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"choice": ["yes", "no"]}},
        {"response_format": {"type": "json_object"}},
        {
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
            ],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
        },
    ],
)
def test_a_minimum_yields_to_a_grammar(caller: Server, fields: dict[str, Any]) -> None:
    thinking = {"budget": 2, "min_answer_tokens": 200}
    for stream in (False, True):
        body = {
            "messages": [QUESTION],
            "max_tokens": 260,
            "seed": 1,
            "stream": stream,
            "control": {"thinking": thinking},
            **fields,
        }
        with caller.client() as http:
            response = http.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        if stream:
            events = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
            assert not any("error" in json.loads(event) for event in events)
            receipt = json.loads(events[-1])["control"]
        else:
            receipt = response.json()["control"]
        applied = receipt["applied"]["thinking"]
        if "structured_outputs" in fields:
            assert applied["min_answer_unmet"] is True
        assert applied["closed_by"] == "budget"


def test_a_requests_own_stop_becomes_the_end_of_the_thinking(reasoner: Server) -> None:
    tokenizer = AutoTokenizer.from_pretrained(REASONER)
    newline = tokenizer.encode("\n")
    assert len(newline) == 1
    stop = {"stop_token_ids": newline, "max_tokens": 200, "temperature": 0}
    plain = ask(reasoner, **stop)["choices"][0]
    assert plain["message"]["content"] is None
    governed = ask(reasoner, **stop, control={"thinking": {}})
    assert governed["control"]["applied"]["thinking"]["closed_by"] == "model"
    assert governed["choices"][0]["message"]["content"]


def test_the_client_reads_a_receipt_without_pear(reasoner: Server) -> None:
    with Steersman(base_url=f"{reasoner.url}/v1", api_key=API_KEY) as client:
        answer = client.chat.completions.create(
            model="reasoner",
            messages=[QUESTION],
            temperature=0,
            max_tokens=4,
            control={"monitor": {}},
        )
    assert answer.control.entropy is not None
    assert answer.control.entropy.pear is None
