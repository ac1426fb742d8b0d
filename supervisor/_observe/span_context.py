"""What a worker process needs to know of the span that its call belongs to.

Light: worker processes import it, and OpenTelemetry only for a call that belongs to a span.
"""

from __future__ import annotations

TYPE_CHECKING = False  # light: worker processes import it
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SpanContext"]


class SpanContext:
    """A span, and the baggage with it, as the W3C's headers; makes it the current one in a worker process."""

    __slots__ = ("_headers",)

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def __call__(self) -> Callable[[], object]:
        """Makes it the current one; returns what makes it no longer so."""
        from opentelemetry import context  # noqa: PLC0415  # lean
        from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        theirs = TraceContextTextMapPropagator().extract(self._headers, context.Context())
        token = context.attach(W3CBaggagePropagator().extract(self._headers, theirs))
        return lambda: context.detach(token)
