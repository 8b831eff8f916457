"""Edits of the weights, as users do it: live for all requests, or chosen by one."""

import concurrent.futures
import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

from steersman.edits import file
from steersman.edits.edit import Edit
from steersman_client import (
    ControlSpec,
    FirstFinish,
    Steer,
    Steersman,
    ThinkEdit,
    receipt_of,
)
from tests.engine.edits import random_edit
from tests.http.conftest import EDIT_ROWS
from tests.http.server import ADMIN_KEY, API_KEY, Server

MODEL = "reasoner"
ASK: list[Any] = [{"role": "user", "content": "6+9*3-8=?"}]
EDIT = random_edit({0: (1, 4), 2: (0, 2, 5), 3: (3,)}, weight=14.0)
OTHER = random_edit({0: (0,), 1: (2, 3)}, weight=14.0, seed=1)


@contextlib.contextmanager
def uploaded(client: Steersman, name: str, *, apply: bool) -> Iterator[str]:
    client.control.edits.upload(name, file.write(EDIT), apply=apply, admin_key=ADMIN_KEY)
    try:
        yield name
    finally:
        client.control.edits.delete(name, admin_key=ADMIN_KEY)


@pytest.fixture
def offered(thinker: Steersman) -> Iterator[str]:
    with uploaded(thinker, "offered", apply=False) as name:
        yield name


def ask(client: Steersman, edit: str | None = None, **options: Any) -> Any:
    arguments: dict[str, Any] = {"max_tokens": 24, "temperature": 0, **options}
    control = ControlSpec(thinkedit=ThinkEdit(edit=edit)) if edit else ControlSpec()
    return client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        control=control,
        extra_body={"ignore_eos": True, "include_reasoning": True},
        **arguments,
    )


def text(answer: Any) -> str:
    message = answer.choices[0].message
    return ((message.model_extra or {}).get("reasoning") or "") + (message.content or "")


# A router passes no upload on; stages on a CPU are compiled.
@pytest.mark.scale(not_on={"replicas", "pipeline"})
def test_a_live_edit_changes_every_answer_until_it_is_deleted(thinker: Steersman) -> None:
    before = text(ask(thinker))
    with uploaded(thinker, "live", apply=True) as name:
        edit = thinker.control.edits.retrieve(name)
        during = ask(thinker)
        listed = [entry.id for entry in thinker.control.edits.list() if entry.live]
    after = ask(thinker)

    assert text(during) != before
    assert text(after) == before
    assert listed == ["live"]
    (applied,) = receipt_of(during).applied.edits
    assert applied.model_dump() == {"edit": "live", "digest": edit.digest, "heads": 6}
    assert edit.digest == EDIT.digest[:16]
    assert receipt_of(after).applied.edits == ()


def test_a_request_chooses_an_edit_that_its_neighbours_do_not_have(
    thinker: Steersman, offered: str
) -> None:
    plain = text(ask(thinker))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        names = [offered, None] * 4
        answers = list(pool.map(lambda name: ask(thinker, name), names))

    assert [text(answer) == plain for answer in answers] == [name is None for name in names]
    applied = receipt_of(answers[0]).applied.thinkedit
    assert applied is not None
    # The last token is sampled and not read.
    assert applied.model_dump() == {
        "edit": offered,
        "digest": EDIT.digest[:16],
        "strength": 1.0,
        "heads": 6,
        "tokens": answers[0].usage.prompt_tokens + 23,
    }
    assert receipt_of(answers[1]).applied.thinkedit is None


def test_at_strength_0_nothing_changes(thinker: Steersman, offered: str) -> None:
    answer = thinker.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=24,
        temperature=0,
        control={"thinkedit": {"edit": offered, "strength": 0}},
        extra_body={"ignore_eos": True},
    )
    assert text(answer) == text(ask(thinker))


@pytest.mark.scale(not_on={"replicas"})  # a router passes no upload on
def test_streams_and_searches_are_edited_too(thinker: Steersman, offered: str) -> None:
    whole = ask(thinker, offered)
    chunks = list(ask(thinker, offered, stream=True))
    pieces = [
        (chunk.choices[0].delta.model_extra or {}).get("reasoning")
        or chunk.choices[0].delta.content
        or ""
        for chunk in chunks
        if chunk.choices
    ]
    searched = thinker.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=24,
        control=ControlSpec(
            thinkedit=ThinkEdit(edit=offered), search=FirstFinish(method="first_finish", n=3)
        ),
    )

    assert "".join(pieces) == text(whole)
    streamed = receipt_of(chunks[-1]).applied.thinkedit
    assert streamed == receipt_of(whole).applied.thinkedit
    applied = receipt_of(searched).applied
    assert applied.search is not None
    assert applied.thinkedit is not None
    assert applied.thinkedit.tokens > searched.usage.prompt_tokens


@pytest.mark.scale(not_on={"replicas"})  # a router passes no upload on
def test_every_endpoint_is_edited(thinker: Steersman, offered: str) -> None:
    control = ControlSpec(thinkedit=ThinkEdit(edit=offered))
    completion = thinker.completions.create(
        model=MODEL, prompt="6+9*3-8=?", max_tokens=24, temperature=0, control=control
    )
    response = thinker.responses.create(
        model=MODEL, input="6+9*3-8=?", max_output_tokens=24, temperature=0, control=control
    )

    for answer in (completion, response):
        applied = receipt_of(answer).applied.thinkedit
        assert applied is not None
        assert answer.usage is not None
        assert applied.tokens == answer.usage.total_tokens - 1


def test_an_edit_and_a_vector_in_one_request(thinker: Steersman, offered: str) -> None:
    chosen = ThinkEdit(edit=offered)
    vector = Steer(vector="closing", strength=0.5, at="all", phase="all")
    answers = {
        name: thinker.chat.completions.create(
            model=MODEL,
            messages=ASK,
            max_tokens=24,
            temperature=0,
            control=control,
            logprobs=True,
            extra_body={"ignore_eos": True},
        )
        for name, control in {
            "both": ControlSpec(thinkedit=chosen, steer=(vector,)),
            "edit": ControlSpec(thinkedit=chosen),
            "vector": ControlSpec(steer=(vector,)),
        }.items()
    }

    logprobs = {
        name: tuple(token.logprob for token in answer.choices[0].logprobs.content)
        for name, answer in answers.items()
    }
    assert len(set(logprobs.values())) == 3
    applied = receipt_of(answers["both"]).applied
    assert applied.thinkedit is not None
    assert applied.thinkedit.tokens == answers["both"].usage.prompt_tokens + 23
    assert applied.steer[0].tokens == 23


def test_a_live_edit_cannot_be_chosen(thinker: Steersman, offered: str) -> None:
    with uploaded(thinker, "live", apply=True) as live:
        for name, message in (
            (live, "edit 'live' is live: every request has it"),
            (offered, "edit 'offered' is live as 'live': every request has it"),
        ):
            with pytest.raises(openai.BadRequestError, match=message) as caught:
                ask(thinker, name)
            assert caught.value.param == "control.thinkedit.edit"


def test_a_running_request_outlives_edits_of_the_weights(thinker: Steersman) -> None:
    """It is computed anew with the new weights, and goes on."""
    with ask(thinker, stream=True, max_tokens=600) as stream:
        chunks = iter(stream)
        next(chunks)
        with uploaded(thinker, "meanwhile", apply=True):
            rest = list(chunks)

    assert rest[-1].choices[0].finish_reason == "length"
    assert receipt_of(rest[-1]).compute.sampled_tokens == 600


def test_an_edit_in_use_can_be_deleted(thinker: Steersman, reasoner: Server) -> None:
    offers = reasoner.metric("steersman_edits_offered")
    with uploaded(thinker, "brief", apply=False):
        stream = ask(thinker, "brief", stream=True, max_tokens=300)
        next(iter(stream))
    chunks = list(stream)

    applied = receipt_of(chunks[-1]).applied.thinkedit
    assert applied is not None
    assert applied.tokens > 300
    with pytest.raises(openai.BadRequestError, match="unknown edit 'brief'"):
        ask(thinker, "brief")
    assert reasoner.metric("steersman_edits_offered") == offers


def test_metrics(thinker: Steersman, reasoner: Server, offered: str) -> None:
    before = reasoner.metric("steersman_edited_tokens_total")
    answer = ask(thinker, offered)

    edited = reasoner.metric("steersman_edited_tokens_total") - before
    assert edited == answer.usage.prompt_tokens + 23
    assert reasoner.metric("steersman_edits_offered") == len(thinker.control.edits.list())
    assert reasoner.metric("steersman_edits_live") == 0


def test_the_server_says_what_it_can_do(thinker: Steersman) -> None:
    capabilities = thinker.control.capabilities()

    assert capabilities["methods"]["thinkedit"] == ["project"]
    assert capabilities["steering"]["edit_rows"] == EDIT_ROWS


@pytest.mark.parametrize(
    ("control", "param"),
    [
        ({"thinkedit": {"edit": "nobody"}}, "control.thinkedit.edit"),
        ({"thinkedit": {}}, "control.thinkedit.edit"),
        ({"thinkedit": {"edit": "offered", "strength": "1"}}, "control.thinkedit.strength"),
        ({"thinkedit": {"edit": "offered", "weight": 1}}, "control.thinkedit.weight"),
    ],
)
def test_bad_requests_name_the_field(
    reasoner: Server, offered: str, control: dict[str, Any], param: str
) -> None:
    assert offered == "offered"
    with reasoner.client() as client:
        body = {"model": MODEL, "messages": ASK, "control": control}
        response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_strength_that_is_no_number(reasoner: Server, offered: str) -> None:
    body = {"model": MODEL, "messages": ASK, "control": {"thinkedit": {"edit": offered}}}
    text_of_body = json.dumps(body).replace('"offered"', '"offered", "strength": 1e999')
    with reasoner.client() as client:
        headers = {"content-type": "application/json"}
        response = client.post("/v1/chat/completions", content=text_of_body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "control.thinkedit.strength"


def test_an_edit_that_cannot_be_applied_changes_nothing(thinker: Steersman) -> None:
    before = text(ask(thinker))
    edits = thinker.control.edits
    with uploaded(thinker, "live", apply=True):
        # The same heads once more, and weights that are not this model's.
        for content in (file.write(EDIT), file.write(wrong())):
            with pytest.raises(openai.BadRequestError):
                edits.upload("second", content, admin_key=ADMIN_KEY)
        during = ask(thinker)
        assert [entry.edit for entry in receipt_of(during).applied.edits] == ["live"]
        with pytest.raises(openai.BadRequestError, match="is live: delete it first"):
            edits.upload("live", file.write(EDIT), apply=False, admin_key=ADMIN_KEY)
        edits.upload("beside", file.write(OTHER), admin_key=ADMIN_KEY)
        both = ask(thinker)
        edits.delete("beside", admin_key=ADMIN_KEY)
        assert text(ask(thinker)) == text(during)
    assert len(receipt_of(both).applied.edits) == 2
    assert text(ask(thinker)) == before


def wrong() -> Edit:
    return replace(OTHER, projections={i: 2 * v for i, v in OTHER.projections.items()})


def test_only_the_admin_changes_edits(reasoner: Server) -> None:
    for key, status in ((API_KEY, 403), (ADMIN_KEY, 400)):
        response = httpx.put(
            f"{reasoner.url}/v1/control/edits/calm",
            content=b"no edit",
            headers={"authorization": f"Bearer {key}"},
            timeout=60,
        )
        assert response.status_code == status


def test_two_engines_are_edited_alike(two_engines: Server) -> None:
    base_url = f"{two_engines.url}/v1"
    with (
        Steersman(base_url=base_url, api_key=API_KEY, max_retries=0) as client,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):

        def answers() -> set[str]:
            return set(pool.map(lambda _: text(ask(client)), range(8)))

        before = answers()
        with uploaded(client, "live", apply=True):
            during = answers()
            wrong = replace(OTHER, projections={i: 2 * v for i, v in OTHER.projections.items()})
            with pytest.raises(openai.BadRequestError, match="not those that the edit was made"):
                client.control.edits.upload(
                    "wrong", file.write(wrong), apply=True, admin_key=ADMIN_KEY
                )
            assert answers() == during
        assert answers() == before

    assert len(before) == len(during) == 1
    assert during != before
