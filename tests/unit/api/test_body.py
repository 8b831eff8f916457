"""Taking the control out of a request body."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from steersman.api.body import BodyTooLargeError, Controlled, read, replay, take_control
from steersman.errors import ControlError

NAMES = ("tiny", "org/tiny:v2")


def take(body: object) -> Controlled | None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return take_control(content, NAMES, ["fast"])


class Client:
    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = list(messages)

    async def receive(self) -> Message:
        return self.messages.pop(0)


def test_the_control_leaves_the_body() -> None:
    controlled = take({"model": "tiny", "control": {"search": {}}, "n": 2})
    assert controlled == Controlled({"search": {}}, None, {"model": "tiny", "n": 2})


@pytest.mark.parametrize(
    "body",
    [
        {"model": "tiny", "messages": [{"role": "user", "content": 'say "control"'}]},
        {"model": "tiny", "messages": [{"control": 1}]},
        {"model": "tiny", "control": None},
        {"model": "org/tiny:v2"},
        {"model": "other:fast"},
        {"model": 3, "x": "\u0063"},
        ["control"],
        b'{"control": ',
        b"",
        b'"control"',
        b'{"control": ' + b"[" * 100_000,
    ],
)
def test_nothing_to_take(body: object) -> None:
    assert take(body) is None


@pytest.mark.parametrize(
    "body",
    [
        rb'{"c\u006fntrol": {}}',
        b'{"model" : "tiny:fast"}',
        rb'{"model": "tiny\u003Afast"}',
        b'{"model": "org/tiny:v2:fast"}',
        '{"control": {}}'.encode("utf-16"),
        '{"control": {}}'.encode("utf-32-be"),
        '{"control": {}}'.encode("utf-8-sig"),
        b'{"a": "\xed\xa0\x80", "model": "tiny:fast"}',
    ],
)
def test_no_spelling_is_missed(body: bytes) -> None:
    controlled = take(body)
    assert controlled is not None
    assert controlled.control == {} or controlled.profile_suffix == "fast"


def test_a_served_name_may_need_escapes() -> None:
    content = rb'{"model": "a \"quoted\" name:fast"}'
    controlled = take_control(content, ['a "quoted" name'], ["fast"])
    assert controlled is not None
    assert controlled.profile_suffix == "fast"


def test_two_controls_are_refused() -> None:
    for body in (
        b'{"control": {"search": {}}, "control": null}',
        rb'{"control":{},"c\u006fntrol":1}',
    ):
        with pytest.raises(ControlError, match="more than once") as caught:
            take(body)
        assert caught.value.param == "control"
    nested = take(b'{"a": {"control": 1, "control": 2}, "control": {}}')
    assert nested is not None


# Whatever Python's JSON can hold: all of Unicode with lone surrogates, NaN, integers of any size.
texts = st.text(st.characters(codec=None), max_size=6)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**4000), 2**63]),
    st.floats(),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
bodies = st.dictionaries(texts.filter(lambda name: name not in {"control", "model"}), values)


def same(one: Any, other: Any) -> bool:
    """True if two values are the same to the type, to the sign of zero and to NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return repr(one) == repr(other)
    return bool(one == other)


@given(bodies, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-be"]), st.booleans())
def test_the_rest_of_the_body_means_the_same(
    rest: dict[str, Any], encoding: str, ascii_only: bool
) -> None:
    plain = json.dumps(rest | {"model": "tiny"}, ensure_ascii=ascii_only)
    for model in ("tiny", "tiny:fast"):
        body = rest | {"control": {"profile": "fast"}, "model": model}
        content = json.dumps(body, ensure_ascii=ascii_only).encode(encoding, "surrogatepass")
        controlled = take(content)
        assert controlled is not None
        # What vLLM reads: of the body without a control, and of what it gets instead.
        wanted = json.loads(plain.encode(encoding, "surrogatepass"))
        assert same(json.loads(controlled.written()), wanted)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"NaN", math.nan),
        (b"-Infinity", -math.inf),
        (b"1e400", math.inf),
        (b"-0.0", -0.0),
        (b"0.1", 0.1),
        (b"1.0", 1.0),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud800"', "\ud800"),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        # Two lone surrogates, the first of them not escaped: no JSON reader joins them.
        (b'"\xed\xa0\xbd' + rb'\ude00"', "\ud83d\ude00"),
    ],
)
def test_literals_at_the_edges_of_json(text: bytes, value: Any) -> None:
    assert same(json.loads(text), value)
    controlled = take(b'{"control": {}, "x": ' + text + b"}")
    assert controlled is not None
    assert same(json.loads(controlled.written()), {"x": value})


def test_the_suffix_leaves_the_model_name() -> None:
    controlled = take({"model": "org/tiny:v2:fast", "control": {"profile": "fast"}})
    assert controlled == Controlled({"profile": "fast"}, "fast", {"model": "org/tiny:v2"})


def test_a_served_model_with_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(ControlError, match="tiny:fast") as caught:
        take({"model": "tiny:slow"})
    assert caught.value.param == "model"


@pytest.mark.anyio
async def test_a_body_is_read_to_its_end_and_replayed_once() -> None:
    client = Client(
        [
            {"type": "http.request", "body": b"ab", "more_body": True},
            {"type": "http.request", "body": b"c"},
            {"type": "http.disconnect"},
        ]
    )
    assert await read(client.receive, 3) == b"abc"
    again = replay(b"abc", client.receive)
    assert (await again())["body"] == b"abc"
    assert (await again())["type"] == "http.disconnect"


@pytest.mark.anyio
async def test_a_client_that_hangs_up_and_a_body_that_is_too_large() -> None:
    hung_up = Client(
        [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}]
    )
    assert await read(hung_up.receive, 9) is None
    endless = Client([{"type": "http.request", "body": b"abcd", "more_body": True}])
    with pytest.raises(BodyTooLargeError) as caught:
        await read(endless.receive, 3)
    assert caught.value.status == 413
