"""Spans for the runs of a supervisor and for its shutdown, by OpenTelemetry: the extra `stopladder[otel]`.

It needs OpenTelemetry's API alone; what becomes of the spans is the business of the application's SDK.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ._api.ports import integration_of
from ._core.errors import described, text_of, type_name
from ._core.values import printable
from ._loop.clock import monotonic
from ._observe.notices import GroupEnded, LateReturn, Refused, RunSubmitted, ShutdownBegun, ShutdownEnded, StateChanged
from ._observe.span_context import SpanContext
from ._run.names import context_within, qualname

try:
    from opentelemetry import context, trace
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ImportError("supervisor.otel needs opentelemetry-api: install the extra stopladder[otel]") from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context, Token

    from ._api.integration import Integration
    from ._api.supervisor import Supervisor
    from ._core.outcome import Ended, Outcome, Transition
    from ._core.report import ShutdownReport
    from ._observe.notices import Notice
    from ._run.run import Run

__all__ = ["Instrumentation", "instrument"]

ERRORS: frozenset[Ended] = frozenset({"failed", "died", "abandoned"})
"""How a run ends whose span has the status ERROR; to be stopped is none."""


def instrument(supervisor: Supervisor, *, tracer_provider: trace.TracerProvider | None = None) -> Instrumentation:
    """Has each run of a supervisor, and its shutdown, be a span; what it returns undoes that.

    A run's span is a child of the span that was current where `run`, `start` or an executor's `submit` was called, and
    is the current one inside the function, in threads and in processes. It lasts from the call to the end of the run,
    or to its abandonment. Runs and shutdowns that have begun already have none. While it is in force, each call is
    watched, at the cost of about a tenth of a millisecond. May be called before the supervisor's first use, and from
    any thread.

    Args:
        supervisor: The supervisor; its groups are part of it.
        tracer_provider: Where the spans go; None: the global one, also where that is set later.

    Raises:
        TypeError: An argument is wrong.
        ValueError: It is a group: instrument the supervisor that it belongs to.
        RuntimeError: It is instrumented already.

    Example:
        >>> from supervisor import Supervisor
        >>> sup = Supervisor("ingest")
        >>> instrumentation = instrument(sup)
        >>> instrumentation.undo()
    """
    integration = integration_of(
        supervisor,
        "instrument(supervisor={!r})",
        no_group="is a group; instrument the supervisor that it belongs to",
    )
    if tracer_provider is not None and not callable(getattr(tracer_provider, "get_tracer", None)):
        raise TypeError(f"instrument(tracer_provider={tracer_provider!r}): must be a TracerProvider or None")
    present = _in_force.get(supervisor)
    if present is not None and not present.undone:
        raise integration.misused("is instrumented already: undo() that first")
    tracer = trace.get_tracer(__name__, tracer_provider=tracer_provider)
    spans = _in_force[supervisor] = Spans(integration, tracer)
    integration.subscribe(spans.receive)
    return Instrumentation(spans)


_in_force: WeakKeyDictionary[Supervisor, Spans] = WeakKeyDictionary()
"""The spans of each supervisor that is or was instrumented; they know nothing of it but its port."""


class Instrumentation:
    """What `instrument` returns."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def undo(self) -> None:
        """No further span begins; those that have begun still end in their time. Any thread; twice is once."""
        self._spans.undo()

    def __repr__(self) -> str:
        return f"<Instrumentation: {'undone' if self._spans.undone else 'in force'}>"


@dataclass(slots=True)
class Trace:
    """What is kept of a run.

    Attributes:
        span: Its span.
        name: The span's name.
        attributes: Those with which it began.
        given_up_at: When it was abandoned, in nanoseconds of the wall clock.
        within: The Context that the function enters by itself, and what makes the span no longer current in there.
    """

    span: trace.Span
    name: str
    attributes: dict[str, Any]
    given_up_at: int = 0
    within: tuple[Context, Token[context.Context]] | None = None


class Spans:
    """Makes spans of what one supervisor publishes.

    None of this happens in a worker's thread while its function runs: an exception that is injected cannot strike here.

    Attributes:
        undone: No further span begins.
    """

    def __init__(self, integration: Integration, tracer: trace.Tracer) -> None:
        self._integration = integration
        self._supervisor = integration.name
        self._tracer = tracer
        self._open: set[Run] = set()
        self._entered: dict[int, Context] = {}  # those in which a span is the current one, by their ids
        self._shutdowns: dict[str, trace.Span] = {}  # by the name of the group
        self.undone = False

    def undo(self) -> None:
        self.undone = True
        self._leave()

    def _leave(self) -> None:
        """Unsubscribes once there is nothing left to end."""
        if self.undone and not self._open and not self._shutdowns:
            self._integration.unsubscribe(self.receive)

    def receive(self, notice: Notice) -> None:
        match notice:
            case RunSubmitted(run, before):
                if not self.undone and run.context is not None:
                    run.context.run(self._begin, run, before)
            case StateChanged(run, transition, outcome):
                if run not in self._open:
                    pass
                elif outcome is not None:
                    self._close(run, lambda: self._end(run, transition, outcome))
                elif transition.new != "queued":
                    _add_event(run, transition)
            case Refused(run, error):
                if run in self._open:
                    self._close(run, lambda: _refuse(run.trace.span, error))
            case LateReturn(run):
                self._add_the_rest(run)
            case ShutdownBegun(reason, _, group):
                if not self.undone:
                    self._begin_shutdown(reason, group)
            case ShutdownEnded(report, group):
                self._end_shutdown(report, group)
            case GroupEnded():
                pass  # only a group that is shut down has a span

    # -------------------------------------------------------------------------------- runs

    def _begin(self, run: Run, before: Run | None) -> None:
        """Begins the span of a run, in the run's own context variables, where it stays the current one."""
        name, pool = qualname(run.fn), run.kind.settings.name
        attributes = _without_none(
            {
                "supervisor.name": self._supervisor,
                "supervisor.worker": run.name,
                "supervisor.kind": run.kind.name,
                "supervisor.pool": None if run.own or pool == run.kind.name else pool,
                "supervisor.attempt": run.attempt,
            }
        )
        links: list[trace.Link] = []
        if before is not None and isinstance(before.trace, Trace):
            links.append(trace.Link(before.trace.span.get_span_context()))
        span = self._tracer.start_span(name, attributes=attributes, links=links)
        run.trace = Trace(span, name, attributes)
        self._open.add(run)
        inside = trace.set_span_in_context(span)
        context.attach(inside)
        self._enter_within(run)
        if run.kind.name == "process" or run.kind.settings.on is not None:
            headers: dict[str, str] = {}
            TraceContextTextMapPropagator().inject(headers, inside)
            W3CBaggagePropagator().inject(headers, inside)
            run.before_call = SpanContext(headers) if headers else None

    def _enter_within(self, run: Run) -> None:
        """Makes the span the current one where the function enters a Context by itself: asyncio.to_thread has it so."""
        within = context_within(run.fn)
        if within is None or id(within) in self._entered:
            return
        kept: Trace = run.trace
        try:
            token = within.run(lambda: context.attach(trace.set_span_in_context(kept.span)))
        except RuntimeError:
            return  # somebody is in there
        kept.within = within, token
        self._entered[id(within)] = within

    def _leave_within(self, kept: Trace) -> None:
        if kept.within is None:
            return
        within, token = kept.within
        try:
            within.run(context.detach, token)
        except RuntimeError:
            return  # an abandoned run is still in there
        kept.within = None
        self._entered.pop(id(within), None)

    def _close(self, run: Run, finish: Callable[[], object]) -> None:
        try:
            finish()
        finally:
            self._leave_within(run.trace)
            self._open.discard(run)
            self._leave()

    def _end(self, run: Run, transition: Transition, outcome: Outcome) -> None:
        kept: Trace = run.trace
        ended_at = time.time_ns()
        if outcome.ended == "abandoned":
            kept.given_up_at = ended_at
        elif outcome.ended != "cancelled":
            ended_at = _wall_clock(run.ended_at)
        try:
            kept.span.set_attributes(
                _without_none(
                    {
                        "supervisor.ended": outcome.ended,
                        "supervisor.step": outcome.step,
                        "supervisor.reason": transition.reason,
                        "supervisor.seconds": outcome.seconds,
                        "supervisor.stop_seconds": outcome.stop_seconds if outcome.step is not None else None,
                        "supervisor.exit_code": outcome.exit_code,
                        "supervisor.node": outcome.node,
                        "supervisor.limit": outcome.limit,
                        "supervisor.used": outcome.used,
                        "thread.id": transition.ident,
                        "process.pid": transition.pid,
                    }
                )
            )
            if outcome.ended in ERRORS:
                _set_error(kept.span, outcome)
            if outcome.error is not None:
                _record(kept.span, outcome.error, ended_at)
        finally:
            kept.span.end(ended_at)

    def _add_the_rest(self, run: Run) -> None:
        """An abandoned run has ended after all: its span is over, so the rest of the run is a child of it."""
        kept = run.trace
        if isinstance(kept, Trace):
            self._leave_within(kept)
        if self.undone or not isinstance(kept, Trace) or not kept.given_up_at:
            return
        span = self._tracer.start_span(
            f"{kept.name} (abandoned)",
            trace.set_span_in_context(kept.span, context.Context()),
            attributes=kept.attributes,
            start_time=kept.given_up_at,
        )
        span.end(_wall_clock(run.ended_at))

    # -------------------------------------------------------------------------------- shutdowns

    def _begin_shutdown(self, reason: str, group: str) -> None:
        attributes = {
            "supervisor.name": self._supervisor,
            "supervisor.group": group or None,
            "supervisor.reason": reason or None,
        }
        self._shutdowns[group] = self._tracer.start_span("shutdown", attributes=_without_none(attributes))

    def _end_shutdown(self, report: ShutdownReport, group: str) -> None:
        span = self._shutdowns.pop(group, None)
        if span is None:
            return
        counts = {f"supervisor.outcomes.{ended}": number for ended, number in report.counts().items()}
        span.set_attributes({"supervisor.clean": report.clean, **counts})
        if any(outcome.ended in ERRORS for outcome in report.outcomes):
            span.set_status(trace.Status(trace.StatusCode.ERROR, str(report).partition("\n")[0]))
        span.end()
        self._leave()


def _add_event(run: Run, transition: Transition) -> None:
    """A run has been entered, or a step of its ladder begins."""
    attributes: dict[str, Any] = {
        "supervisor.step": transition.step,
        "supervisor.reason": transition.reason,
        "supervisor.node": transition.node,
    }
    at = None
    if transition.new == "running":
        late = 0.0
        if run.started_at:  # when it was entered, whenever the loop hears of it
            at = _wall_clock(run.started_at)
            late = monotonic() - run.started_at
        attributes["supervisor.wait_seconds"] = max(0.0, transition.elapsed - late)
    elif run.climb is not None:
        attributes["code.stacktrace"] = run.climb.stack
    run.trace.span.add_event(transition.event, _without_none(attributes), at)


def _set_error(span: trace.Span, outcome: Outcome) -> None:
    if outcome.error is not None:
        text = printable(described(outcome.error), lines=True)
        span.set_attribute("error.type", _type_of(outcome.error))
    else:
        text = outcome.ended if outcome.exit_code is None else f"{outcome.ended} with exit code {outcome.exit_code}"
        span.set_attribute("error.type", outcome.ended)
    span.set_status(trace.Status(trace.StatusCode.ERROR, text))


def _refuse(span: trace.Span, error: BaseException) -> None:
    try:
        _record(span, error)
        span.set_status(trace.Status(trace.StatusCode.ERROR, printable(described(error), lines=True)))
    finally:
        span.end()


def _record(span: trace.Span, error: BaseException, at: int | None = None) -> None:
    """Does what `Span.record_exception` does, for errors of every sort.

    Where the text of one cannot be encoded, the exporter would lose it, and all that goes out with it.
    """
    attributes = {
        "exception.type": _type_of(error),
        "exception.message": text_of(error),
        "exception.stacktrace": "".join(traceback.format_exception(error)),
        "exception.escaped": "False",
    }
    span.add_event("exception", {key: printable(text, lines=True) for key, text in attributes.items()}, at)


def _type_of(error: BaseException) -> str:
    return printable(f"{type(error).__module__}.{type_name(error)}").removeprefix("builtins.")


def _wall_clock(at: float) -> int:
    """Returns a moment of the monotonic clock in nanoseconds of the wall clock; 0.0, which is none, is now."""
    return time.time_ns() - (int((monotonic() - at) * 1e9) if at else 0)


def _without_none(attributes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if value is not None}
