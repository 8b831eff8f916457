"""The receipt goes into the last chunk of a stream, however its bytes are cut."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.api.chunks import ChunkHead
from steersman.api.stream import ReceiptStream
from steersman.request import Endpoint
from steersman_client import Compute, Entropy, PhaseEntropy, Receipt

RECEIPT = Receipt(compute=Compute(sampled_tokens=5))


def chunk(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def choice(finish_reason: str | None) -> bytes:
    return chunk(choices=[{"index": 0, "delta": {}, "finish_reason": finish_reason}])


USAGE = chunk(choices=[], usage={"total_tokens": 3})
DONE = b"data: [DONE]\n\n"


def through(stream: bytes, cuts: list[int] | None = None) -> bytes:
    receipts = ReceiptStream(lambda: RECEIPT)
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts or []}), len(stream)]
    parts = [stream[a:b] for a, b in itertools.pairwise(edges)]
    return b"".join(receipts.feed(part) for part in parts) + receipts.close()


def events(stream: bytes) -> list[Any]:
    blocks = [block for block in stream.split(b"\n\n") if block]
    assert blocks[-1] == b"data: [DONE]"
    return [json.loads(block.removeprefix(b"data: ")) for block in blocks[:-1]]


@pytest.mark.parametrize(
    "stream",
    [
        choice(None) + choice("stop") + DONE,
        choice(None) + choice("stop") + USAGE + DONE,
        choice("stop") + choice("length") + DONE,
        choice("stop") + choice(None) + choice("stop") + DONE,
    ],
)
def test_only_the_last_chunk_carries_the_receipt(stream: bytes) -> None:
    before, after = events(stream), events(through(stream))
    assert len(after) == len(before)
    assert after[-1].pop("control")["compute"]["sampled_tokens"] == 5
    assert after == before


@given(st.lists(st.integers(0, 10_000), max_size=8))
def test_the_cuts_of_the_bytes_do_not_matter(cuts: list[int]) -> None:
    stream = choice(None) + b": keep-alive\n\n" + choice("stop") + USAGE + DONE
    assert through(stream, cuts) == through(stream)


@pytest.mark.parametrize("last", [choice("stop"), choice("stop") + USAGE])
def test_what_is_due_at_the_end_comes_before_the_last_chunk(last: bytes) -> None:
    asked: list[int] = []

    def news(created: int) -> bytes:
        asked.append(created)
        return chunk(told=True)

    receipts = ReceiptStream(lambda: RECEIPT, news=news)
    told = events(receipts.feed(choice(None) + last + DONE))
    assert ["told" in one for one in told[-2:]] == [True, False]
    assert "control" in told[-1]
    assert asked == [json.loads(choice(None).removeprefix(b"data: ")).get("created", 0)]
    ended = b'event: response.completed\ndata: {"response":{}}\n\n'
    assert ReceiptStream(lambda: RECEIPT, news=news).feed(ended).startswith(chunk(told=True))
    failed = ReceiptStream(lambda: RECEIPT, news=news)
    assert failed.feed(DONE) == DONE


def test_a_stream_in_which_no_choice_ended_gets_an_end_of_its_own() -> None:
    head = ChunkHead(Endpoint.CHAT, "r", "m")
    receipts = ReceiptStream(lambda: RECEIPT, ending=lambda: head.ending(7, 2))
    begun = choice(None)
    *_, last, done = receipts.feed(begun + DONE).split(b"\n\n")[:-1]
    ended = json.loads(last.removeprefix(b"data: "))
    assert done == b"data: [DONE]"
    assert [one["index"] for one in ended["choices"]] == [0, 1]
    assert {one["finish_reason"] for one in ended["choices"]} == {"length"}
    assert ended["control"] == RECEIPT.model_dump(mode="json", exclude_none=True)
    assert receipts.answered
    # One that ends by itself is left alone.
    whole = ReceiptStream(lambda: RECEIPT, ending=lambda: head.ending(7, 2))
    assert whole.feed(choice("stop") + DONE).count(b"finish_reason") == 1


def test_tokens_are_not_held_back() -> None:
    receipts = ReceiptStream(lambda: RECEIPT)
    assert receipts.feed(choice(None)) == choice(None)
    assert receipts.feed(choice("stop")) == b""
    assert receipts.feed(choice(None)) == choice("stop") + choice(None)


def test_text_that_looks_like_an_end_is_no_end() -> None:
    text = chunk(choices=[{"delta": {"content": '"finish_reason":"stop" "choices":[]'}}])
    assert ReceiptStream(lambda: RECEIPT).feed(text) == text


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_a_responses_stream_carries_it_in_the_response(kind: str) -> None:
    data = {"type": f"response.{kind}", "response": {"id": "r"}}
    stream = f"event: response.{kind}\ndata: {json.dumps(data)}\n\n".encode()
    head, _, body = through(stream).partition(b"data: ")
    assert head == f"event: response.{kind}\n".encode()
    assert body.endswith(b"\n\n")
    assert json.loads(body)["response"]["control"]["compute"]["sampled_tokens"] == 5


def test_an_error_stream_is_left_as_it_is() -> None:
    stream = chunk(error={"message": "no"}) + DONE
    assert through(stream) == stream


def test_only_an_answer_counts_as_one() -> None:
    endings = {
        choice("stop") + DONE: True,
        chunk(error={"message": "no"}) + DONE: False,
        choice("stop"): False,
        b'event: response.completed\ndata: {"response":{}}\n\n': True,
        b'event: response.failed\ndata: {"response":{}}\n\n': False,
    }
    for stream, answered in endings.items():
        receipts = ReceiptStream(lambda: RECEIPT)
        receipts.feed(stream)
        assert receipts.answered is answered, stream


def test_a_stream_without_an_end_loses_nothing() -> None:
    stream = choice(None) + choice("stop") + b"data: {"
    assert through(stream) == stream


def test_a_later_chunk_says_the_same_of_the_beginning() -> None:
    receipts = ReceiptStream(lambda: RECEIPT)
    first = chunk(created=8, choices=[{"finish_reason": None}])
    assert receipts.feed(first) == first
    receipts.created = 7
    stream = first + chunk(error={"message": "no"}) + b": a comment\n\n"
    stream += chunk(created=9, choices=[{"finish_reason": "stop"}]) + DONE
    sent = receipts.feed(stream).split(b"\n\n")
    assert json.loads(sent[0][6:])["created"] == 7
    assert sent[1:3] == [b'data: {"error":{"message":"no"}}', b": a comment"]
    assert json.loads(sent[3][6:])["created"] == 7


def test_what_vllm_wrote_is_kept_though_it_be_no_json() -> None:
    text = b'data: {"a":NaN,"b":"\\ud800","c":"\xc3\xa9","finish_reason":"stop"}\n\n'
    sent = through(text + DONE).split(b"\n\n")[0]
    assert sent.startswith(text.rstrip().removesuffix(b"}"))


@given(
    st.builds(PhaseEntropy, mean=st.floats(), p95=st.floats(), max=st.floats(), tokens=st.just(1))
)
def test_a_receipt_is_json_whatever_was_measured(phase: PhaseEntropy) -> None:
    receipt = Receipt(
        entropy=Entropy(thinking=phase, pear=phase.mean, tokens=((1, phase.max, 0.5),))
    )
    receipts = ReceiptStream(lambda: receipt)
    last = receipts.feed(choice("stop") + DONE).split(b"\n\n")[0]
    in_stream = json.loads(last.removeprefix(b"data: "), parse_constant=pytest.fail)["control"]
    whole = json.loads(receipt.model_dump_json(exclude_none=True), parse_constant=pytest.fail)
    assert in_stream == whole
    assert Receipt.model_validate(whole) == receipt
