"""Spans, and nothing in their place."""

import asyncio
import logging

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from steersman.tracing import NO_SPAN, Tracing
from tests.unit.spans import Kept

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_without_an_endpoint_nothing_is_made() -> None:
    tracing = Tracing.of_server(None)
    assert not tracing.on
    span = tracing.request("chat", {"traceparent": PARENT}, {})
    assert span is NO_SPAN
    assert span.child("below") is span
    with span.within("below") as below:
        below.set({"a": 1})
        assert below is span
    span.fail("x")
    span.close()
    assert (span.headers, span.trace_id, span.recorded) == (None, None, False)


def test_the_clients_trace_goes_on() -> None:
    kept = Kept()
    span = kept.tracing.request("chat tiny", {"traceparent": PARENT}, {"a": 1, "b": None})
    child = span.child("below")
    assert span.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert child.headers is not None
    made = child.headers["traceparent"].split("-")
    assert (made[1], made[3]) == (span.trace_id, "01")
    span.close()
    below, above = kept.named("below")[0], kept.named("chat tiny")[0]
    assert below.context is not None
    assert made[2] == f"{below.context.span_id:016x}"
    assert above.parent is not None
    assert f"{above.parent.span_id:016x}" == "b7ad6b7169203331"
    assert above.kind is SpanKind.SERVER
    assert dict(above.attributes or {}) == {"a": 1}


def test_without_a_trace_of_the_client_one_begins() -> None:
    kept = Kept()
    for header in ({}, {"traceparent": "nonsense"}):
        kept.tracing.request("chat", header, {}).close()
    assert [span.parent for span in kept.spans] == [None, None]


def test_a_trace_that_is_not_sampled_is_passed_on_as_such() -> None:
    kept = Kept(sampled=False)
    span = kept.tracing.request("chat", {}, {}).child("below")
    assert not span.recorded
    assert span.headers is not None
    flags = int(span.headers["traceparent"].rpartition("-")[2], 16)
    assert not flags & 1
    span.close()
    assert kept.spans == []


def test_errors_without_their_words() -> None:
    """A message may quote the prompt."""
    kept = Kept()
    root = kept.tracing.request("chat", {}, {})
    with pytest.raises(ValueError, match="secret"), root.within("below"):
        raise ValueError("secret")
    root.close()
    (below,) = kept.named("below")
    assert below.status.status_code is StatusCode.ERROR
    assert dict(below.attributes or {}) == {"error.type": "ValueError"}
    assert below.status.description is None
    assert below.events == ()
    assert kept.named("chat")[0].status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
def test_who_was_cancelled_has_not_failed(error: type[BaseException]) -> None:
    kept = Kept()
    with pytest.raises(error), kept.tracing.request("chat", {}, {}).within("below"):
        raise error
    assert kept.named("below")[0].status.status_code is StatusCode.UNSET


def test_a_request_ends_what_is_open_below_it(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    root = kept.tracing.request("chat", {}, {})
    late = root.child("a").child("b")
    done = root.child("c")
    done.end()
    with caplog.at_level(logging.WARNING):
        root.close()
        late.set({"too": "late"})
        late.fail("late")
        late.end()
        done.end()
        root.close()
    assert kept.tree() == [("chat", [("a", ["b"]), "c"])]
    assert caplog.records == []


def test_a_span_may_go_on_from_another_and_begin_earlier() -> None:
    kept = Kept()
    root = kept.tracing.request("chat", {}, {})
    assert root.latest is None
    first = root.child("branch")
    second = root.child("fork", after=first)
    first.end()
    second.end()
    root.child("select", began=root.latest).end()
    root.close()
    branch, fork, select = (kept.named(name)[0] for name in ("branch", "fork", "select"))
    assert [link.context for link in fork.links] == [branch.context]
    assert select.start_time == fork.end_time
