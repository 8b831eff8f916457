"""Spans of a test, kept in memory."""

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from steersman.tracing import Tracing


class Kept:
    """Makes spans, and keeps those that have ended.

    Args:
        sampled: Whether any are recorded.

    """

    def __init__(self, *, sampled: bool = True) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")
        self.tracing = Tracing(self.tracer)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The spans that have ended, in the order of their beginnings."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def tree(self, above: ReadableSpan | None = None) -> list[Any]:
        """Names of the spans below one, each with its own tree if it has any; by default of those
        that begin a trace here."""
        found: list[Any] = []
        own = {span.context.span_id for span in self.spans if span.context}
        for span in self.spans:
            parent = span.parent.span_id if span.parent else None
            if above is None and parent not in own:
                found.append((span.name, self.tree(span)))
            elif above is not None and above.context and parent == above.context.span_id:
                below = self.tree(span)
                found.append((span.name, below) if below else span.name)
        return found

    def named(self, name: str) -> list[ReadableSpan]:
        """Spans of a name."""
        return [span for span in self.spans if span.name == name]
