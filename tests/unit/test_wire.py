"""Messages between the processes: whatever one end writes the other reads."""

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.wire import (
    KEY,
    GoverningMessage,
    Law,
    RequestMessage,
    SteeringMessage,
    StepMessage,
    ThinkingMessage,
    listed,
    read,
    unlisted,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
pairs = st.tuples(numbers, numbers)
tokens = st.lists(st.integers(0, 2**31), max_size=4).map(tuple)
laws = st.builds(
    Law,
    kind=st.sampled_from(["proportional", "confidence"]),
    target=numbers,
    gain=numbers,
    integral_gain=numbers,
    base=numbers,
    low=numbers,
    high=numbers,
    confidence=pairs,
    variance=pairs,
)
thinking = st.builds(
    ThinkingMessage,
    budget=st.none() | st.integers(0, 2**24),
    grace=st.integers(0, 4096),
    minimum=st.integers(0, 100),
    nudge=tokens,
    window=st.integers(0, 256),
    entropy_below=numbers,
    on_loop=st.booleans(),
    min_answer=st.integers(0, 100),
    law=st.none() | laws,
)
messages = st.builds(
    RequestMessage,
    key=st.text(max_size=4),
    origin=st.integers(0, 10**6),
    opened=st.booleans(),
    steering=st.none()
    | st.builds(
        SteeringMessage,
        digest=st.text(max_size=4),
        first=st.integers(0, 99),
        sums=st.just((("d", (("v", 1.5, None), ("w", -1.0, (0, 2)))),)),
        rows=st.lists(st.integers(-1, 3), max_size=6).map(tuple),
        edit=st.none() | st.tuples(st.text(max_size=4), numbers),
    ),
    governing=st.none()
    | st.builds(
        GoverningMessage,
        measured=st.booleans(),
        end=st.integers(0, 10**6),
        stops=tokens,
        thinking=st.none() | thinking,
        processed=st.booleans(),
        confidence=st.booleans(),
    ),
)


@given(messages)
def test_a_request_comes_through_vllms_own_encoding(message: RequestMessage) -> None:
    travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(message.encoded()))
    arrived = RequestMessage.decoded(travelled)
    assert msgspec.json.encode(arrived) == msgspec.json.encode(message)
    assert (arrived.key, arrived.origin, arrived.opened) == (
        message.key,
        message.origin,
        message.opened,
    )
    assert (arrived.governing is None) == (message.governing is None)


@pytest.mark.parametrize("params", [None, SimpleNamespace(extra_args=None)])
def test_without_a_message_there_is_none(params: Any) -> None:
    assert read(params) is None
    assert read(SimpleNamespace(extra_args={"other": 1})) is None


def test_a_message_is_decoded_once() -> None:
    params: Any = SimpleNamespace(extra_args={KEY: RequestMessage(origin=3).encoded()})
    first = read(params)
    assert first == RequestMessage(origin=3)
    assert read(params) is first


@pytest.mark.parametrize("content", [{"origin": "3"}, {"steering": {}}, {"governing": 1}, []])
def test_no_message_is_made_of_anything_else(content: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        RequestMessage.decoded(content)


def test_a_steps_tables_are_found_by_request() -> None:
    counts = np.arange(6, dtype=np.int32).reshape(2, 3)
    sent = StepMessage.of(listed(["x", "y"], {"x": "1", "y": "2"}), counts, b"\x90", None)
    arrived = StepMessage.decoded(sent.encoded())
    assert arrived == sent
    places = unlisted(arrived.steered, width=counts.strides[0])
    key, row = places["y"]
    assert key == "2"
    assert np.frombuffer(arrived.counts[row], np.int32).tolist() == [3, 4, 5]
    assert unlisted(arrived.watched, 4) == {}
    assert arrived.track == b""
