"""Cautious sampling on the real engine: what it decides, what it costs, what stands beside it."""

import json
import math
from typing import Any

import httpx
import openai
import pytest

from steersman.sampling.trials import number_of_trials
from steersman_client import Cautious, ControlSpec, Receipt, Steersman, receipt_of
from tests.http.server import API_KEY, RESPONSES, Server
from tests.http.waiting import SOON, impatient

CHAT = "/v1/chat/completions"
PLAN = "/v1/control/plan"
QUESTION = "17+58+26=?"
ASKED: dict[str, Any] = {
    "model": "reasoner",
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 1.0,
    "seed": 3,
    "max_tokens": 160,
}
PROMPT = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
EVERYWHERE = {"max_entropy": 0.02, "max_trial_tokens": 1}
"""A branch point at almost every token, so that every token stands at a seam."""
CLOSE = 2e-3


def cautious(fields: dict[str, Any] | None = None, **control: Any) -> ControlSpec:
    sampler = Cautious(method="cautious", **(fields or {}))
    return ControlSpec.model_validate({"sampler": sampler, **control})


def ask(client: Steersman, control: ControlSpec | None, **fields: Any) -> Any:
    return client.chat.completions.create(**{**ASKED, **fields}, control=control)


def streamed(client: Steersman, control: ControlSpec, **fields: Any) -> tuple[str, Receipt]:
    """All text of a streamed choice, and the receipt."""
    chunks = [*ask(client, control, stream=True, **fields)]
    receipt = chunks[-1].control
    assert receipt is not None
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    return "".join(said(delta) for delta in deltas), receipt


def said(message: Any) -> str:
    return str((message.model_extra or {}).get("reasoning") or "") + (message.content or "")


def texts(answer: Any) -> list[str]:
    return [said(choice.message) for choice in answer.choices]


def repeats(receipt: Receipt) -> dict[str, Any]:
    """The part of a receipt that a seeded request repeats: losers are stopped sooner or later."""
    applied = receipt.model_dump(exclude={"compute", "request_id"})
    del applied["applied"]["sampler"]["lost_tokens"]
    return applied


def add_up(receipt: Receipt) -> None:
    compute, sampler = receipt.compute, receipt.applied.sampler
    assert sampler is not None
    spent = compute.returned_tokens + compute.cancelled_tokens + compute.lost_tokens
    assert compute.sampled_tokens == spent
    assert sampler.lost_tokens is not None
    if receipt.applied.search is None:
        assert sampler.lost_tokens == compute.lost_tokens
    assert 0 < compute.sequential_tokens <= compute.sampled_tokens


@pytest.mark.scale
def test_a_seeded_request_repeats_whole_and_streamed(thinker: Steersman) -> None:
    control = cautious(monitor={"tokens": True})
    first, second = ask(thinker, control), ask(thinker, control)
    text, receipt = streamed(thinker, control)

    assert texts(first) == texts(second) == [text]
    assert repeats(first.control) == repeats(second.control) == repeats(receipt)
    for one in (first.control, second.control, receipt):
        add_up(one)
        assert one.compute.returned_tokens <= one.compute.sequential_tokens
    assert first.usage.completion_tokens == first.control.compute.returned_tokens
    sampler = first.control.applied.sampler
    assert sampler.branch_points > 0
    assert sampler.trials >= 2 * sampler.branch_points
    assert sampler.degraded == 0
    assert sampler.mean_entropy > Cautious(method="cautious").min_entropy
    assert first.control.applied.seeds == (3,)
    assert texts(ask(thinker, None)) != [text]


def test_one_trial_is_plain_sampling(thinker: Steersman) -> None:
    fields = {"logprobs": True, "top_logprobs": 2, "n": 2}
    plain = ask(thinker, ControlSpec(), **fields)
    alone = ask(thinker, cautious({"max_trials": 1}), **fields)
    assert alone.choices == plain.choices
    assert alone.usage == plain.usage
    sampler = alone.control.applied.sampler
    assert (sampler.branch_points, sampler.trials, sampler.lost_tokens) == (0, 0, 0)
    assert sampler.winner_mean_tokens is None


@pytest.mark.parametrize("fields", [{}, EVERYWHERE])
def test_logprobs_are_those_of_a_plain_request_along_the_same_tokens(
    thinker: Steersman, reasoner: Server, fields: dict[str, Any]
) -> None:
    control = cautious(fields, monitor={"tokens": True})
    asked = {"logprobs": True, "top_logprobs": 1, "extra_body": {"return_token_ids": True}}
    answer = ask(thinker, control, **asked)
    (choice,) = answer.choices
    token_ids = (choice.model_extra or {})["token_ids"]
    prompt = (answer.model_extra or {})["prompt_token_ids"]
    given = [entry.logprob for entry in choice.logprobs.content]
    assert len(given) == len(token_ids) == answer.usage.completion_tokens
    assert [token for token, _, _ in answer.control.entropy.tokens] == token_ids
    body = {"model": "reasoner", "prompt": [*prompt, *token_ids], "max_tokens": 1,
            "prompt_logprobs": 0}  # fmt: skip
    with reasoner.client() as http:
        replayed = http.post("/v1/completions", json=body).json()["choices"][0]["prompt_logprobs"]
    wanted = [
        step[str(token)]["logprob"]
        for step, token in zip(replayed[len(prompt) :], token_ids, strict=True)
    ]
    assert given == pytest.approx(wanted, abs=CLOSE)
    watched = [logprob for _, logprob, _ in answer.control.entropy.tokens]
    assert given == pytest.approx(watched, abs=CLOSE)


def trials_of(server: Server, path: str, body: dict[str, Any]) -> tuple[list[Any], list[Any], Any]:
    """The events `trials` and `branches` of a stream, and its receipt."""
    trials: list[Any] = []
    branches: list[Any] = []
    receipt: Any = None
    with server.client() as http, http.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith(": steersman "):
                told = json.loads(line.removeprefix(": steersman "))
            elif line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                told = chunk.get("control", {})
                receipt = chunk.get("response", {}).get("control") or (
                    told if "applied" in told else receipt
                )
            else:
                continue
            trials += told.get("trials", [])
            branches += told.get("branches", [])
    return trials, branches, Receipt.model_validate(receipt)


@pytest.mark.parametrize("schedule", ["code", "paper"])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.4, "top_p": 0.9}])
def test_its_decisions_follow_from_what_was_measured(
    reasoner: Server, schedule: Any, sampling: dict[str, Any]
) -> None:
    spec = Cautious(method="cautious", schedule=schedule, max_trials=6)
    control = ControlSpec.model_validate(
        {
            "sampler": spec,
            "monitor": {"of": "processed", "tokens": True},
            "events": ["trials", "branches"],
        }
    ).model_dump(exclude_unset=True)
    body = {**ASKED, **sampling, "stream": True, "control": control}
    trials, branches, receipt = trials_of(reasoner, CHAT, body)

    assert receipt.entropy is not None
    assert receipt.applied.sampler is not None
    tokens = receipt.entropy.tokens or ()
    at = {one["at"]: one for one in trials}
    assert len(trials) == len(at) == receipt.applied.sampler.branch_points
    place, drawn = 0, 0
    while place < len(tokens):
        _, _, entropy = tokens[place]
        count = number_of_trials(math.nan if entropy is None else entropy, spec)
        if count == 1:
            assert place not in at
            place += 1
            continue
        choice = at[place]
        results = {one["trial"]: one for one in choice["trials"]}
        assert [*results] == [*range(count)]
        best = max(results, key=lambda number: (results[number]["logprob"], -number))
        assert choice["winner"] == best
        end = place + results[best]["tokens"]
        logprobs = [logprob for _, logprob, _ in tokens[place:end]]
        mean = sum(logprobs) / len(logprobs)
        assert results[best]["logprob"] == pytest.approx(mean, abs=CLOSE)
        drawn += count
        place = end
    assert drawn == receipt.applied.sampler.trials
    assert branches[-1]["branch"] == 0
    assert any(one["text"] for one in branches)


@pytest.mark.scale
@pytest.mark.parametrize("endpoint", ["completions", RESPONSES])
def test_it_works_on_every_endpoint(thinker: Steersman, reasoner: Server, endpoint: str) -> None:
    control: dict[str, Any] = {"sampler": {"method": "cautious"}}
    options = {"model": "reasoner", "temperature": 1.0}
    body: dict[str, Any]
    if endpoint == "responses":
        body = {**options, "input": QUESTION, "max_output_tokens": 160}
    else:
        body = {**options, "prompt": PROMPT, "max_tokens": 160, "seed": 3}
    path = f"/v1/{endpoint}"
    with reasoner.client() as http:
        whole = http.post(path, json={**body, "control": control}).json()
    receipt = Receipt.model_validate(whole["control"])
    add_up(receipt)
    usage = whole["usage"]
    said = usage["output_tokens"] if endpoint == "responses" else usage["completion_tokens"]
    assert said == receipt.compute.returned_tokens
    told = {**body, "stream": True, "control": {**control, "events": ["trials"]}}
    trials, _, again = trials_of(reasoner, path, told)
    add_up(again)
    assert again.applied.sampler is not None
    assert len(trials) == again.applied.sampler.branch_points
    if endpoint == "completions":
        assert repeats(again) == repeats(receipt)
        pieces = thinker.completions.create(**body, stream=True, extra_body={"control": control})
        text = "".join(choice.text for piece in pieces for choice in piece.choices)
        assert text == whole["choices"][0]["text"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [{}, EVERYWHERE])
@pytest.mark.parametrize("stop", ["The answer is", "\n\nThe", "boxed"])
def test_stop_strings_are_found_wherever_they_stand(
    thinker: Steersman, fields: dict[str, Any], stop: str, stream: bool
) -> None:
    kept = {"stop": [stop], "extra_body": {"include_stop_str_in_output": True}}
    for options in ({"stop": [stop]}, kept):
        if stream:
            text, receipt = streamed(thinker, cautious(fields), **options)
        else:
            answer = ask(thinker, cautious(fields), **options)
            (text,), receipt = texts(answer), answer.control
            assert answer.choices[0].finish_reason == "stop"
            assert answer.choices[0].model_extra["stop_reason"] == stop
            assert answer.usage.completion_tokens == receipt.compute.returned_tokens
        assert stop in text if "extra_body" in options else stop not in text
        assert receipt.applied.sampler is not None
        assert receipt.applied.sampler.branch_points
        add_up(receipt)


def test_each_choice_is_the_answer_of_its_seed(thinker: Steersman) -> None:
    together = ask(thinker, cautious(), n=3)
    alone = [ask(thinker, cautious(), seed=3 + index) for index in range(3)]
    assert texts(together) == [texts(one)[0] for one in alone]
    assert together.control.applied.seeds == (3, 4, 5)
    samplers = [one.control.applied.sampler for one in alone]
    assert together.control.applied.sampler.trials == sum(one.trials for one in samplers)
    add_up(together.control)


def test_several_prompts_are_sampled_as_each_alone(thinker: Steersman) -> None:
    prompts = [PROMPT, PROMPT.replace("17", "9")]
    fields: dict[str, Any] = {"model": "reasoner", "temperature": 1.0, "seed": 3, "max_tokens": 60}
    both = thinker.completions.create(**fields, prompt=prompts, n=2, control=cautious())
    each = [
        thinker.completions.create(**fields, prompt=prompt, n=2, control=cautious())
        for prompt in prompts
    ]
    assert [one.text for one in both.choices] == [c.text for one in each for c in one.choices]
    assert both.control is not None
    add_up(both.control)
    assert both.usage is not None
    assert both.control.compute.returned_tokens == both.usage.completion_tokens


def test_streams_carry_the_values_of_their_tokens(thinker: Steersman) -> None:
    control = cautious(monitor={"tokens": True, "of": "processed"})
    chunks = [*ask(thinker, control, stream=True)]
    told = [token for chunk in chunks if chunk.live for token in chunk.live.tokens or ()]
    assert tuple(told) == chunks[-1].control.entropy.tokens


@pytest.mark.scale
@pytest.mark.parametrize("method", ["first_finish", "majority"])
def test_searches_run_over_it(thinker: Steersman, method: str) -> None:
    samples = ask(thinker, cautious(), n=3)
    for stream in (False, True):
        control = cautious(search={"method": method, "n": 3})
        if stream:
            text, receipt = streamed(thinker, control)
        else:
            answer = ask(thinker, control)
            (text,), receipt = texts(answer), answer.control
        search = receipt.applied.search
        assert search is not None
        assert search.launched == search.finished + search.cancelled == 3
        assert text == texts(samples)[search.winner or 0]
        add_up(receipt)


def test_limits_of_the_thinking_hold(thinker: Steersman) -> None:
    watched = {"of": "processed", "tokens": True}
    short = ask(thinker, cautious(thinking={"budget": 8}, monitor=watched))
    applied = short.control.applied
    assert (applied.thinking.tokens, applied.thinking.closed_by) == (8, "budget")
    assert applied.thinking.forced_tokens == 1
    forced = [logprob is None for _, logprob, _ in short.control.entropy.tokens]
    assert sum(forced) == 1
    assert applied.sampler.branch_points
    assert short.choices[0].message.content

    nudged = {"min": 100, "nudge": "\n"}
    long = ask(thinker, cautious(thinking=nudged, monitor=watched), max_tokens=400)
    applied = long.control.applied
    assert applied.thinking.tokens >= 100
    assert applied.thinking.forced_tokens >= 1
    nulls = [logprob for _, logprob, _ in long.control.entropy.tokens if logprob is None]
    assert len(nulls) == applied.thinking.forced_tokens
    assert applied.sampler.branch_points
    for one in (short, long):
        add_up(one.control)


@pytest.mark.parametrize("fields", [{}, EVERYWHERE])
def test_steered_tokens_are_those_of_the_response(
    thinker: Steersman, fields: dict[str, Any]
) -> None:
    steer = [{"vector": "onward", "strength": 0.5, "phase": "all", "at": "all"}]
    plain = ask(thinker, ControlSpec.model_validate({"steer": steer}))
    answer = ask(thinker, cautious(fields, steer=steer))
    for one in (plain, answer):  # the last token goes through no layer
        assert one.control.applied.steer[0].tokens == one.usage.completion_tokens - 1
    assert answer.control.applied.sampler.branch_points
    named = ask(thinker, cautious(profile="concise"))
    assert named.control.applied.steer[0].vector == "concise"
    lines = str(named.choices[0].message.model_extra["reasoning"]).count("\n")
    assert named.control.applied.steer[0].tokens == lines


@pytest.mark.parametrize("stream", [False, True])
def test_at_a_limit_it_ends_with_what_there_is(
    thinker: Steersman, reasoner: Server, stream: bool
) -> None:
    control = cautious(EVERYWHERE, limits={"max_sampled_tokens": 60})
    long = {"max_tokens": 400, "extra_body": {"ignore_eos": True}}
    if stream:
        _, receipt = streamed(thinker, control, **long)
    else:
        answer = ask(thinker, control, **long)
        receipt = answer.control
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == receipt.compute.returned_tokens
    assert receipt.applied.stopped_by == "max_sampled_tokens"
    assert 0 < receipt.compute.returned_tokens <= 60
    add_up(receipt)
    assert reasoner.wait_for_metric(RUNNING, 0, SOON)


@pytest.mark.scale
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_leaves_nothing_running(reasoner: Server, stream: bool) -> None:
    before = reasoner.metric("steersman_requests_total", outcome="disconnected")
    control = cautious(EVERYWHERE).model_dump(exclude_unset=True)
    body = {**ASKED, "n": 2, "max_tokens": 900, "ignore_eos": True, "stream": stream,
            "control": control}  # fmt: skip
    with reasoner.client() as http:
        if stream:
            with http.stream("POST", CHAT, json=body) as answer:
                next(answer.iter_raw())
        else:
            with pytest.raises(httpx.ReadTimeout):
                http.post(CHAT, json=body, timeout=impatient(0.5))
    assert reasoner.wait_for_metric(
        "steersman_requests_total", before + 1, SOON, outcome="disconnected"
    )
    assert reasoner.wait_for_metric(RUNNING, 0, SOON)
    assert reasoner.wait_for_metric(WAITING, 0, SOON)


def test_the_metrics_and_the_plan(reasoner: Server) -> None:
    names = ("branch_points", "trials", "lost_tokens", "degraded")

    def counted() -> list[float]:
        return [
            reasoner.metric(f"steersman_sampler_{name}_total", method="cautious") for name in names
        ]

    body = {**ASKED, "control": {"sampler": {"method": "cautious"}}}
    before, generated = counted(), reasoner.metric("vllm:generation_tokens_total")
    with reasoner.client() as http:
        planned = http.post(PLAN, json=body).json()
        limited = {**body["control"], "limits": {"max_sampled_tokens": 77}}
        bounded = http.post(PLAN, json={**body, "control": limited}).json()
        assert reasoner.metric("vllm:generation_tokens_total") == generated
        answer = http.post(CHAT, json=body).json()
        known = http.get("/v1/control/capabilities").json()
    sampler = answer["control"]["applied"]["sampler"]
    moved = [after - old for after, old in zip(counted(), before, strict=True)]
    assert moved == [sampler[name] for name in names]
    assert "cautious" in known["methods"]["sampler"]
    assert (planned["method"], planned["branches"], planned["max_tokens"]) == ("plain", 1, 160)
    # What forks sample is bounded by the server's limit alone, or by the request's own.
    assert planned["max_sampled_tokens"] == known["limits"]["max_control_tokens"]
    assert bounded["max_sampled_tokens"] == 77


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object"}},
}
ALONE = {"sampler": {"method": "cautious"}}


def beside(**control: Any) -> dict[str, Any]:
    return {"control": {**ALONE, **control}}


def of(**fields: Any) -> dict[str, Any]:
    return {"control": {"sampler": {"method": "cautious", **fields}}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"temperature": 0}, "temperature"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"bad_words": ["x"]}, "bad_words"),
        ({"thinking_token_budget": 5}, "thinking_token_budget"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs"),
        ({"use_beam_search": True, "n": 2}, "use_beam_search"),
        (beside(thinking={"exit": {"entropy_below": 0.1}}), "control.thinking.exit"),
        (
            beside(thinking={"balance": {"vector": "concise", "target_entropy": 0.2}}),
            "control.thinking.balance",
        ),
        (beside(thinking={"certainty": {}}), "control.thinking.certainty"),
        (of(min_entropy=1.5), "control.sampler.min_entropy"),
        (of(min_entropy=-1), "control.sampler.min_entropy"),
        (of(max_entropy=101), "control.sampler.max_entropy"),
        (of(max_trials=0), "control.sampler.max_trials"),
        (of(max_trials=65), "control.sampler.max_trials"),
        (of(max_trial_tokens=0), "control.sampler.max_trial_tokens"),
        (of(stop_marks=[""]), "control.sampler.stop_marks[0]"),
        (of(schedule="mine"), "control.sampler.schedule"),
        (of(trials=2), "control.sampler.trials"),
        ({"control": {"sampler": {"method": "careful"}}}, "control.sampler.method"),
        ({"control": {"sampler": {}}}, "control.sampler.method"),
    ],
)
def test_what_is_refused(
    reasoner: Server, changed: dict[str, Any], param: str, stream: bool
) -> None:
    body = {**ASKED, "stream": stream, "control": ALONE, **changed}
    with reasoner.client() as http:
        answer = http.post(CHAT, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "changed", "param"),
    [
        (CHAT, {"control": {"events": ["trials"]}, "stream": True}, "control.events"),
        (CHAT, {"control": {**ALONE, "events": ["trials"]}}, "control.events"),
        ("/v1/completions", {"prompt": None, "prompt_embeds": "AAAA"}, "prompt_embeds"),
        ("/v1/completions", {"prompt": "a", "temperature": 0}, "temperature"),
        ("/v1/responses", {"input": "a", "temperature": 0}, "temperature"),
        ("/v1/completions", {"prompt": "a", "bad_words": ["x"]}, "bad_words"),
        (
            "/v1/responses",
            {"input": "a", "text": {"format": {"type": "json_object"}}, "stream": True},
            "text.format",
        ),
    ],
)
def test_what_is_refused_elsewhere(
    reasoner: Server, path: str, changed: dict[str, Any], param: str
) -> None:
    own = {name: value for name, value in ASKED.items() if name != "messages" or path == CHAT}
    with reasoner.client() as http:
        answer = http.post(path, json={**own, "control": ALONE, **changed})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_the_official_sdk(reasoner: Server) -> None:
    control = {"sampler": {"method": "cautious"}, "monitor": {"of": "processed"}}
    with openai.OpenAI(base_url=f"{reasoner.url}/v1", api_key=API_KEY, max_retries=0) as sdk:
        answer: Any = sdk.chat.completions.create(**ASKED, extra_body={"control": control})
        response = sdk.responses.create(
            model="reasoner", input=QUESTION, temperature=1.0, extra_body={"control": control}
        )
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.chat.completions.create(
                **{**ASKED, "temperature": 0}, extra_body={"control": ALONE}
            )
    add_up(Receipt.model_validate(answer.control))
    found = receipt_of(response)
    assert found is not None
    add_up(found)
    assert caught.value.param == "temperature"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_tool_that_must_be_called_is_a_grammar(client: Steersman, choice: Any) -> None:
    asked = {"model": "smollm2", "tools": [TOOL], "tool_choice": choice}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, cautious(), **asked)
    assert caught.value.param == "tool_choice"


def test_a_strict_tool_is_a_grammar_and_any_other_is_none(client: Steersman) -> None:
    strict = {**TOOL, "function": {**TOOL["function"], "strict": True}}
    assert client.control.capabilities()["tool_grammar"] == "strict"
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, cautious(), model="smollm2", tools=[strict])
    assert caught.value.param == "tools"
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, cautious(), model="smollm2", tools=[TOOL], parallel_tool_calls=False)
    assert caught.value.param == "parallel_tool_calls"
    assert ask(client, cautious(), model="smollm2", tools=[TOOL]).choices
