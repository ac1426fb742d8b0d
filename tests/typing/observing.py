"""Type-checked, never run: what else is told of a supervisor."""

from typing import assert_type

from opentelemetry.trace import TracerProvider

from supervisor import Incident, Supervisor, Worker
from supervisor.otel import Instrumentation, instrument
from supervisor.systemd import Notifier, notify


async def spans(sup: Supervisor, provider: TracerProvider) -> None:
    assert_type(instrument(sup), Instrumentation)
    assert_type(instrument(sup, tracer_provider=provider).undo(), None)


async def systemd(sup: Supervisor) -> None:
    service = notify(sup)
    assert_type(service, Notifier)
    assert_type(service.active, bool)
    service.ready("listening")
    service.status("3 feeds")


async def handles(sup: Supervisor) -> None:
    worker = sup.worker("feeds/reader")
    assert_type(worker, Worker | None)
    if worker is not None:
        assert_type(worker.started_at, float | None)
        assert_type(worker.beat_at, float | None)
        assert_type(worker.is_ready, bool)
        assert_type(worker.next_step_at, float | None)
        assert_type(worker.restarts_left, int | None)
        assert_type(worker.submitted_from, str | None)
        assert_type(worker.group, str | None)
    assert_type(sup.incidents(), tuple[Incident, ...])
