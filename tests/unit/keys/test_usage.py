"""The limits of a key."""

import pytest

from steersman.keys.key import Key, KeyLimits
from steersman.keys.usage import LimitError, Pass, Usage
from tests.unit.keys.test_bucket import Clock


def usage(clock: Clock | None = None, **limits: int) -> tuple[Usage, list[str]]:
    """The use of a key with these limits, and the limits that refused something."""
    refused: list[str] = []
    key = Key("alice", b"digest", limits=KeyLimits(**limits))
    return Usage(key, refused.append, clock or Clock()), refused


def test_a_key_without_limits() -> None:
    own, refused = usage()
    own.charge(10**9)
    own.running = 10**9
    own.check()
    Pass(own).check_fan_out(10**9)
    assert refused == []


def test_requests_at_once() -> None:
    own, refused = usage(concurrency=2)
    with Pass(own).held(), Pass(own).held(), pytest.raises(LimitError) as caught:
        own.check()
    own.check()
    assert own.running == 0
    assert refused == ["concurrency"]
    error = caught.value
    assert error.status == 429
    assert error.headers == {"Retry-After": "1"}
    assert error.body()["error"] == {
        "message": "key 'alice' is over its limit concurrency = 2: it has 2 requests in flight",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }


def test_a_request_is_in_flight_until_all_who_hold_it_have_ended() -> None:
    own, _ = usage(concurrency=1)
    admitted = Pass(own)
    with admitted.held():
        beside = admitted.held()
        beside.__enter__()
    assert own.running == 1
    beside.__exit__(None, None, None)
    assert own.running == 0


def test_a_request_that_fails_is_not_in_flight() -> None:
    own, _ = usage(concurrency=1)
    with pytest.raises(ZeroDivisionError), Pass(own).held():
        _ = 1 / 0
    own.check()


def test_tokens_of_a_minute() -> None:
    clock = Clock()
    own, refused = usage(clock, tokens_per_minute=60)
    own.charge(59)
    own.check()
    own.charge(30)  # nobody knew before
    with pytest.raises(LimitError, match="tokens_per_minute = 60") as caught:
        own.check()
    assert caught.value.headers == {"Retry-After": "30"}
    clock.now = 30.0
    own.check()
    assert refused == ["tokens_per_minute"]


def test_branches_of_a_request() -> None:
    own, refused = usage(fan_out=4)
    admitted = Pass(own)
    admitted.check_fan_out(4)
    admitted.started(3)
    with pytest.raises(LimitError, match="fan_out = 4: the request asks for 5 branches") as caught:
        admitted.check_fan_out(2)
    assert caught.value.headers == {"Retry-After": "1", "x-should-retry": "false"}
    assert admitted.refused is caught.value
    admitted.ended(3)
    admitted.check_fan_out(4)
    assert refused == ["fan_out"]
