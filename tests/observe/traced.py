"""Functions that look at the span in which they run; threads and processes alike."""

import os
import sys
import time

from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from supervisor import current_context


def current_span():
    context = trace.get_current_span().get_span_context()
    return context.trace_id, context.span_id


def current_spans_of(ctx):
    return current_span()


def own_span():
    """Starts a span with an SDK of this call alone; returns its trace, and the span that it has as its parent."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("inner"):
        pass
    provider.shutdown()
    (span,) = exporter.get_finished_spans()
    return span.context.trace_id, span.parent.span_id if span.parent is not None else None


def fruit_in_the_baggage():
    return baggage.get_baggage("fruit")


def fails():
    raise ValueError("no")


def waits_for_stop():
    current_context().stop.wait()


def spins():
    while True:
        time.sleep(0.001)


def waits(ctx):
    ctx.stop.wait()


def dies():
    os._exit(7)


def dies_as_worker(ctx):
    dies()


def fails_once(ctx, attempts):
    attempts.append(current_span())
    if len(attempts) == 1:
        raise ValueError("once")
    ctx.stop.wait()


def hides_opentelemetry():
    """From now on it cannot be imported in this process."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        del sys.modules[name]
    sys.modules["opentelemetry"] = None
