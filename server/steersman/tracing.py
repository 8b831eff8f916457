"""Spans of a request, by OpenTelemetry. Without an endpoint for them nothing is made.

vLLM sets up the exporter (`--otlp-traces-endpoint`), and makes spans of its engine requests below
whatever the headers of a call name.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Value = str | bool | int | float | Sequence[str] | Sequence[int]
Attributes = Mapping[str, Value | None]
"""Attributes of a span; None for one that is left out."""

_W3C = TraceContextTextMapPropagator()


class Span:
    """Nothing, in place of a span of a server without traces.

    Attributes:
        recorded: Whether attributes are kept: costly ones need not be found out otherwise.
        headers: W3C trace context for a call that belongs to it; None to leave the call's own.
        trace_id: Id of the trace in hexadecimal digits; None without one.
        latest: The time at which the last of the spans below it ended, in ns since 1970; None
            before any has.

    """

    recorded: bool = False
    headers: Mapping[str, str] | None = None
    trace_id: str | None = None
    latest: int | None = None

    def child(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        began: int | None = None,
        after: "Span | None" = None,
    ) -> "Span":
        """Begin a span below it.

        Args:
            name: What is done, of few different names.
            attributes: Known so far.
            began: Its beginning, in ns since 1970; None for now.
            after: A span that it goes on from, to which it is linked.

        """
        return self

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""

    def fail(self, error: BaseException | str) -> None:
        """Mark it as failed: by an exception, or by a class of errors."""

    def end(self) -> None:
        """End it now, unless it has ended."""

    def close(self) -> None:
        """End it, and all that is still open below it."""

    @contextlib.contextmanager
    def within(
        self, name: str, attributes: Attributes | None = None, *, after: "Span | None" = None
    ) -> Iterator["Span"]:
        """A span below it for the body of the `with`, whose exception it keeps.

        A body that is cancelled has not failed.
        """
        child = self.child(name, attributes, after=after)
        try:
            yield child
        except Exception as error:
            child.fail(error)
            raise
        finally:
            child.end()


NO_SPAN = Span()


class _Clock:
    """Time of one trace: it reads the machine's clock once, and goes on evenly if that jumps."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def now(self) -> int:
        """Nanoseconds since 1970."""
        return self._offset + time.monotonic_ns()


class RecordedSpan(Span):
    """A span of OpenTelemetry.

    Args:
        tracer: Makes the spans below it.
        clock: Of its trace.
        span: The span.
        above: The span above it; None for a request's.

    """

    def __init__(
        self,
        tracer: trace.Tracer,
        clock: _Clock,
        span: trace.Span,
        above: "RecordedSpan | None" = None,
    ) -> None:
        self._tracer = tracer
        self._clock = clock
        self._span = span
        self._above = above
        self._open: dict[RecordedSpan, None] = {}
        self._context = trace.set_span_in_context(span)
        self.span_context = span.get_span_context()
        self._ended = False
        self.recorded = span.is_recording()
        self.trace_id = trace.format_trace_id(self.span_context.trace_id)
        self.latest = None
        headers: dict[str, str] = {}
        _W3C.inject(headers, self._context)
        self.headers = headers

    def child(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        began: int | None = None,
        after: Span | None = None,
    ) -> Span:
        followed = (after,) if isinstance(after, RecordedSpan) else ()
        span = self._tracer.start_span(
            name,
            self._context,
            attributes=_known(attributes or {}),
            links=[trace.Link(one.span_context) for one in followed],
            start_time=self._clock.now() if began is None else began,
        )
        child = RecordedSpan(self._tracer, self._clock, span, self)
        self._open[child] = None
        return child

    def set(self, attributes: Attributes) -> None:
        if not self._ended:
            self._span.set_attributes(_known(attributes))

    def fail(self, error: BaseException | str) -> None:
        kind = error if isinstance(error, str) else type(error).__name__
        # An exception's message is left out: it may quote the prompt.
        if not self._ended:
            self._span.set_attribute("error.type", kind)
            self._span.set_status(trace.StatusCode.ERROR)

    def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        now = self._clock.now()
        self._span.end(now)
        if self._above is not None:
            self._above.forget(self, now)

    def forget(self, child: "RecordedSpan", ended: int) -> None:
        """Keep a span below it no longer, which has ended."""
        self._open.pop(child, None)
        self.latest = ended

    def close(self) -> None:
        for child in [*self._open]:
            child.close()
        self.end()


class Tracing:
    """Spans of requests.

    Args:
        tracer: Makes them; None to make none.

    """

    def __init__(self, tracer: trace.Tracer | None = None) -> None:
        self._tracer = tracer

    @classmethod
    def of_server(cls, endpoint: str | None) -> Self:
        """Spans that vLLM's exporter sends, which is set up with its engine client.

        Args:
            endpoint: Where it sends them; None for nowhere.

        """
        return cls(None if endpoint is None else trace.get_tracer("steersman"))

    @property
    def on(self) -> bool:
        """True if spans are made."""
        return self._tracer is not None

    def request(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> Span:
        """Begin the span of a request.

        Args:
            name: Its name.
            headers: Of the request: a W3C trace context in them is that of its client.
            attributes: Known so far.

        """
        if self._tracer is None:
            return NO_SPAN
        clock = _Clock()
        span = self._tracer.start_span(
            name,
            _W3C.extract(headers),
            kind=trace.SpanKind.SERVER,
            attributes=_known(attributes),
            start_time=clock.now(),
        )
        return RecordedSpan(self._tracer, clock, span)


def _known(attributes: Attributes) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}


NO_TRACING = Tracing()
